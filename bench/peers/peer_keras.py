# SPDX-License-Identifier: Apache-2.0
"""The Keras layer itself: `attention` on TensorFlow, the call compiled by tf.function as Keras does for a model."""
import functools
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import tensorflow as tf
from attention import Attention

from protocol import serve, weight_shapes

VARIANTS = {"tf.function": {}, "tf.function, XLA": {"jit_compile": True}}


def training_of(layer, grad_output):
    """Forward and backward, as a training step of a model does both."""
    def both(h):
        with tf.GradientTape() as tape:
            tape.watch(h)
            output = layer(h)
        return [output, *tape.gradient(output, [h, *layer.trainable_weights], output_gradients=grad_output)]
    return both


def compile_variants(case, tensors):
    h = tf.constant(tensors["h"])
    layer = Attention(units=case.units, score=case.score)
    layer.build(h.shape)
    layer(h[:1])  # makes the weights of the sublayers
    layer.set_weights([tensors[name] for name in weight_shapes(case)])
    computed = layer if case.direction == "forward" else training_of(layer, tf.constant(tensors["grad_output"]))
    calls = {}
    for name, options in VARIANTS.items():
        function = tf.function(computed, input_signature=[tf.TensorSpec(h.shape, h.dtype)], **options)
        calls[name] = functools.partial(function.get_concrete_function(), h)
        calls[name]()
    return calls


if __name__ == "__main__":
    threads = int(sys.argv[1])
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    serve("Keras", f"attention 5.0.0, TensorFlow {tf.__version__}", compile_variants)

# SPDX-License-Identifier: Apache-2.0
"""Models saved by Keras 3 itself: with tensorflow-cpu 2.21, keras 3.15 and attention 5.0.0.

    python make_keras3.py OUT

unbuilt: the layer of attention 5.0.0, saved before the model's first call, so without its matrices. port: a layer of the same
structure that runs under Keras 3, in every format, its weights in shards too.
"""
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
import attention
import keras
from keras import layers, ops
from safetensors.numpy import save_file


@keras.saving.register_keras_serializable()
class Attention(layers.Layer):
    def __init__(self, units, score="luong", **kwargs):
        super().__init__(**kwargs)
        self.units, self.score = units, score

    def build(self, shape):
        d = shape[-1]
        self.luong_w = layers.Dense(d, use_bias=False, name="luong_w")
        self.luong_w.build((None, None, d))
        self.w_c = layers.Dense(self.units, use_bias=False, activation="tanh", name="w_c")
        self.w_c.build((None, 2 * d))

    def call(self, h):
        last = h[:, -1]
        weights = ops.softmax(ops.sum(self.luong_w(h) * last[:, None], -1))
        return self.w_c(ops.concatenate([ops.sum(h * weights[..., None], 1), last], -1))

    def compute_output_shape(self, shape):
        return (shape[0], self.units)

    def get_config(self):
        return {**super().get_config(), "units": self.units, "score": self.score}


def model(layer):
    i = keras.Input((5, 2))
    x = layers.LSTM(3, return_sequences=True, name="encoder")(i)
    return keras.Model(i, layers.Dense(1, name="head")(layer(2, score="luong", name="att")(x)))


out = sys.argv[1]
keras.utils.set_random_seed(5)
model(attention.Attention).save(f"{out}/unbuilt_keras3.keras")
port = model(Attention)
port.save(f"{out}/port_keras3.keras")
port.save_weights(f"{out}/port_keras3.weights.h5")
port.save_weights(f"{out}/sharded_keras3.weights.json", max_shard_size=3e-7)
names = {"encoder": ["kernel", "recurrent_kernel", "bias"], "att": ["luong_w", "w_c"], "head": ["kernel", "bias"]}
save_file({f"{n}/{k}": v.copy(order="C") for n in names for k, v in zip(names[n], port.get_layer(n).get_weights())}, f"{out}/expected_keras3.safetensors")

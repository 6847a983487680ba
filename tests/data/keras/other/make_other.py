# SPDX-License-Identifier: Apache-2.0
"""Small models as Keras itself saves them, with the weights they must load to.

    python make_other.py OUT

Run with tensorflow-cpu 2.15.1 and attention 5.0.0 for the files named tf2.15, and with tensorflow-cpu 2.21, tf_keras 2.21 and
attention 5.0.0 under TF_USE_LEGACY_KERAS=1 for those named tf2.21. Each run writes expected_other_tf<version>.safetensors.
"""
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
import h5py
import numpy as np
import tensorflow as tf
from attention import Attention
from safetensors.numpy import save_file

keras = tf.keras
layers = keras.layers
out = sys.argv[1]
os.makedirs(out, exist_ok=True)
version = ".".join(tf.__version__.split(".")[:2])
expected = {}


class Block(layers.Layer):
    """A layer of one's own that holds the attention layer."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.lstm = layers.LSTM(3, return_sequences=True)
        self.attention = Attention(2, score="luong")

    def call(self, x):
        return self.attention(self.lstm(x))


class Chain(keras.Model):
    """A model of one's own class: its configuration lists no layers."""

    def __init__(self):
        super().__init__()
        self.encoder = layers.LSTM(3, return_sequences=True)
        self.attention = Attention(2, score="bahdanau")
        self.head = layers.Dense(1)

    def call(self, x):
        return self.head(self.attention(self.encoder(x)))


def attention_only(score, **kwargs):
    i = layers.Input((5, 2))
    return keras.Model(i, Attention(3, score=score, **kwargs)(i))


def functional(score):
    i = layers.Input((5, 2))
    x = layers.LSTM(3, return_sequences=True)(i)
    return keras.Model(i, layers.Dense(1)(Attention(2, score=score)(x)))


def with_block():
    i = layers.Input((5, 2))
    return keras.Model(i, layers.Dense(1)(Block(name="block")(i)))


def with_assets():
    vectorize = layers.TextVectorization(max_tokens=8, output_sequence_length=5, vocabulary=["one", "two", "three"])
    i = layers.Input((1,), dtype="string")
    x = layers.Embedding(8, 2)(vectorize(i))
    return keras.Model(i, Attention(2, score="luong")(x))


def bfloat16():
    keras.mixed_precision.set_global_policy("bfloat16")
    model = attention_only("luong")
    keras.mixed_precision.set_global_policy("float32")
    return model


NAMES = {"LSTM": ["kernel", "recurrent_kernel", "bias"], "Dense": ["kernel", "bias"], "Embedding": ["embeddings"]}


def expect(name, model):
    for layer in model.layers:
        prefix = f"{name}/{layer.name}"
        if type(layer).__name__ == "Block":
            layer, prefix = layer.attention, f"{prefix}/attention"
        weights = layer.get_weights()
        names = NAMES.get(type(layer).__name__)
        if type(layer).__name__ == "Attention":
            names = ["luong_w", "w_c"] if layer.score == "luong" else ["bahdanau_v", "bahdanau_w1", "bahdanau_w2", "w_c"]
        if names:
            assert len(names) == len(weights), (name, layer.name)
            for key, value in zip(names, weights):
                expected[f"{prefix}/{key}"] = value.copy(order="C")


def save(name, model, kinds):
    for kind in kinds:
        path = f"{out}/{name}_tf{version}.{kind}"
        (model.save_weights if kind == "weights.h5" else model.save)(path)
    expect(name, model)


def as_on_windows(path, to):
    """Keras 2 on Windows joins the names of groups by backslashes: one group at the root for each object (keras#18528)."""
    with h5py.File(path) as source, h5py.File(to, "w") as target:

        def copy(where, item):
            parts = where.split("/")
            if isinstance(item, h5py.Group) and parts[-1] == "vars" and len(parts) > 1:
                group = target.require_group("\\".join(parts[:-1])).create_group("vars")
                for key, data in item.items():
                    group.create_dataset(key, data=data[()])

        source.visititems(copy)


keras.utils.set_random_seed(5)
if version == "2.15":
    save("block", with_block(), ["h5", "keras", "weights.h5"])
    save("assets", with_assets(), ["keras"])
    save("bfloat16", bfloat16(), ["h5", "keras", "weights.h5"])
    model = functional("bahdanau")
    model.save_weights(f"{out}/plain.weights.h5")
    as_on_windows(f"{out}/plain.weights.h5", f"{out}/windows_tf2.15.weights.h5")
    os.remove(f"{out}/plain.weights.h5")
    expect("windows", model)
    keras.backend.clear_session()
    model = Chain()
    model(np.zeros((1, 5, 2), np.float32))
    save("chain", model, ["keras", "weights.h5"])
else:
    save("tf_keras", functional("luong"), ["h5", "keras", "weights.h5"])
save_file(expected, f"{out}/expected_other_tf{version}.safetensors", metadata={"tensorflow": tf.__version__, "layer": "attention 5.0.0"})
print(version, sorted(expected))

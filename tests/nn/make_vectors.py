#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Training steps of upstream's models, small, in the real Keras: tests/data/nn_steps.safetensors.

    python make_vectors.py nn_steps.safetensors        needs tensorflow-cpu 2.15.1, attention 5.0.0, safetensors

For each model and optimiser, one batch and given weights; then
    <case>/x or tokens, <case>/y           the batch
    <case>/initial/<weight>                weights before the first step
    <case>/prediction                      of the initial weights, in inference
    <case>/gradient/<weight>               of the first step
    <case>/error/<weight>                  the largest distance of that from Keras's own gradient in float64
    <case>/loss                            before each of three steps
    <case>/step1/<weight>, step3/<weight>  weights after the first and the third step
Everything is float32, by Keras's compiled training step (train_on_batch). Dropout is replaced by multiplication with the masks
that examples/nn draws for SEED (see examples/nn/random.h, computed here on its own), so that both drop the same elements.
"""
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf
from attention import Attention
from safetensors.numpy import save_file

SEED = 20
BATCH = 19  # a shard of 16, and one of 3
STEPS = 3
MASK64 = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix(state):
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK64
    return state ^ (state >> 31)


def dropout_factors(shape, rate, layer, step):
    """0 or 1 / (1 - rate) for each element of a batch; shape is one item's."""
    count = int(np.prod(shape))
    pairs = (count + 1) // 2
    stream = ((1 << 63) + ((layer + 1) << 40) + step) & MASK64
    key = mix((mix(SEED) + GOLDEN * stream) & MASK64)
    below = round(rate * 2**32)
    factors = np.zeros((BATCH, 2 * pairs), np.float32)
    for item in range(BATCH):
        for pair in range(pairs):
            word = mix((key + GOLDEN * (item * pairs + pair)) & MASK64)
            for half in range(2):
                if (word >> (32 * half)) & 0xFFFFFFFF >= below:
                    factors[item, 2 * pair + half] = np.float32(1 / (1 - rate))
    return factors[:, :count].reshape((BATCH, *shape))


class GivenDropout(tf.keras.layers.Layer):
    """Dropout by factors that are assigned before each step."""

    def __init__(self, rate, **options):
        super().__init__(**options)
        self.rate = rate

    def build(self, shape):
        self.factors = tf.Variable(tf.ones((BATCH, *shape[1:]), self.dtype), trainable=False)

    def call(self, x, training=None):
        return x * self.factors if training else x


def add_two_numbers():
    return [
        tf.keras.layers.LSTM(7, return_sequences=True, name="lstm"),
        Attention(units=5, score="bahdanau", name="attention"),
        GivenDropout(0.2),
        tf.keras.layers.Dense(1, name="dense"),
    ]


def find_max():
    return [
        tf.keras.layers.LSTM(17, return_sequences=True, name="lstm"),
        Attention(units=5, score="luong", name="attention"),
        tf.keras.layers.Dense(1, name="dense"),
    ]


def imdb():
    return [
        tf.keras.layers.Embedding(23, 3, name="embedding"),
        GivenDropout(0.5),
        tf.keras.layers.LSTM(6, return_sequences=True, name="lstm"),
        Attention(units=5, score="luong", name="attention"),
        GivenDropout(0.5),
        tf.keras.layers.Dense(1, activation="sigmoid", name="dense"),
    ]


def imdb_baseline():
    return [
        tf.keras.layers.Embedding(23, 3, name="embedding"),
        GivenDropout(0.5),
        tf.keras.layers.LSTM(6, name="lstm"),
        tf.keras.layers.Dense(9, activation="relu", name="dense"),
        GivenDropout(0.5),
        tf.keras.layers.Dense(1, activation="sigmoid", name="dense_1"),
    ]


# name, layers, timesteps, loss, factor of the last kernel: 400 takes the probabilities to 0 and 1, where a loss computed
# from them differs from one computed from logits.
MODELS = [
    ("add_two_numbers", add_two_numbers, 11, "mae", 1),
    ("find_max", find_max, 10, "mae", 1),
    ("imdb", imdb, 13, "binary_crossentropy", 1),
    ("imdb_baseline", imdb_baseline, 13, "binary_crossentropy", 1),
    ("imdb_saturated", imdb, 13, "binary_crossentropy", 400),
]

WEIGHTS = {
    "Embedding": ["embeddings"],
    "LSTM": ["kernel", "recurrent_kernel", "bias"],
    "Dense": ["kernel", "bias"],
    "luong": ["luong_w", "w_c"],
    "bahdanau": ["bahdanau_v", "bahdanau_w1", "bahdanau_w2", "w_c"],
}


def named_weights(model):
    """(our name, variable) for each weight that is trained."""
    for layer in model.layers:
        kind = type(layer).__name__
        names = WEIGHTS.get(layer.score if kind == "Attention" else kind, [])
        assert len(names) == len(layer.trainable_weights), layer.name
        yield from ((f"{layer.name}/{name}", weight) for name, weight in zip(names, layer.trainable_weights))


def snapshot(model):
    return {name: weight.numpy() for name, weight in named_weights(model)}


def build(layers, x):
    source = out = tf.keras.Input(x.shape[1:], dtype=x.dtype)
    for layer in layers:
        out = layer(out)
    return tf.keras.Model(source, out)


def set_masks(layers, step):
    for index, layer in enumerate(layers):
        if isinstance(layer, GivenDropout):
            layer.factors.assign(dropout_factors(layer.factors.shape[1:], layer.rate, index, step))


def gradients(model, x, y):
    """By our names, of the first step."""
    set_masks(model.layers[1:], 0)
    with tf.GradientTape() as tape:
        value = model.compute_loss(y=tf.constant(y), y_pred=model(x, training=True))
    found = tape.gradient(value, [weight for _, weight in named_weights(model)])
    return {name: tf.convert_to_tensor(g).numpy() for (name, _), g in zip(named_weights(model), found)}


def gradients_in_float64(layers, x, y, initial, loss):
    tf.keras.backend.set_floatx("float64")
    wide = [a.astype(np.float64) if a.dtype == np.float32 else a for a in (x, y)]
    model = build(layers(), wide[0])
    for name, weight in named_weights(model):
        weight.assign(initial[name].astype(np.float64))
    model.compile(loss=loss)
    found = gradients(model, *wide)
    tf.keras.backend.set_floatx("float32")
    return found


def run(tensors, name, layers, timesteps, loss, scale, optimizer):
    tf.keras.utils.set_random_seed(SEED)
    rng = np.random.default_rng(SEED)
    tokens = loss != "mae"
    if tokens:
        x = rng.integers(0, 23, (BATCH, timesteps)).astype(np.int32)
        y = rng.integers(0, 2, (BATCH, 1)).astype(np.float32)
    else:
        x = rng.random((BATCH, timesteps, 1), np.float32)
        y = rng.random((BATCH, 1), np.float32)
    model = build(layers(), x)
    for _, weight in named_weights(model):  # nothing at 0, where a missing factor would not show
        weight.assign(weight + rng.uniform(-0.1, 0.1, weight.shape).astype(np.float32))
    model.layers[-1].kernel.assign(model.layers[-1].kernel * scale)
    model.compile(loss=loss, optimizer=optimizer)

    case = f"{name}_{optimizer}"
    initial = snapshot(model)
    tensors[f"{case}/{'tokens' if tokens else 'x'}"] = x
    tensors[f"{case}/y"] = y
    tensors |= {f"{case}/initial/{k}": v for k, v in initial.items()}
    tensors[f"{case}/prediction"] = model(x, training=False).numpy()
    exact = gradients_in_float64(layers, x, y, initial, loss)
    for weight, gradient in gradients(model, x, y).items():
        tensors[f"{case}/gradient/{weight}"] = gradient
        error = np.abs(gradient - exact[weight]).max()
        tensors[f"{case}/error/{weight}"] = np.array(error, np.float32)
        print(f"{case} {weight}: gradient up to {np.abs(gradient).max():.3g}, error {error:.2g}")
    losses = []
    for step in range(STEPS):
        set_masks(model.layers[1:], step)
        losses.append(model.train_on_batch(x, y))
        if step + 1 in (1, STEPS):
            tensors |= {f"{case}/step{step + 1}/{k}": v for k, v in snapshot(model).items()}
    tensors[f"{case}/loss"] = np.array(losses, np.float32)


def main():
    tensors = {}
    for model in MODELS:
        for optimizer in ("adam", "rmsprop"):
            run(tensors, *model, optimizer)
    versions = {"tensorflow": tf.__version__, "attention": "5.0.0", "seed": str(SEED)}
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, sys.argv[1], versions)


if __name__ == "__main__":
    main()

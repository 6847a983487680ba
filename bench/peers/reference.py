# SPDX-License-Identifier: Apache-2.0
"""Inputs, the layer in float64 straight from its definition, and the bound that an output must keep: docs/numerics.md, "output"."""
import numpy as np

from protocol import tensor_file, tensor_shapes

U = 2.0**-24
ITEMS_AT_ONCE = 16  # bounds the memory of the float64 intermediates


def make_inputs(case, seed):
    """Hidden states in (-1, 1), as an LSTM's are; weights as Keras initialises them (glorot uniform)."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in tensor_shapes(case).items():
        limit = 1.0 if name == "h" else np.sqrt(6 / sum(shape))
        tensors[name] = rng.random(shape, np.float32) * np.float32(2 * limit) - np.float32(limit)
    return tensors


def write_inputs(tensors, directory):
    for name, array in tensors.items():
        array.tofile(tensor_file(directory, name))


def softmax(scores):
    p = np.exp(scores - scores.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def luong_scores(h, last, luong_w):
    scores = np.einsum("btd,bd->bt", h, last @ luong_w.T)
    return scores, np.einsum("btd,bd->bt", np.abs(h), np.abs(last) @ np.abs(luong_w).T)


def bahdanau_scores(h, last, bahdanau_v, bahdanau_w1, bahdanau_w2):
    v = bahdanau_v[:, 0]
    gamma = 4 * np.sqrt(h.shape[2])
    tanh = np.tanh((last @ bahdanau_w1)[:, None] + h @ bahdanau_w2)
    size = (np.abs(last) @ np.abs(bahdanau_w1))[:, None] + np.abs(h) @ np.abs(bahdanau_w2)
    terms = ((1 - tanh**2) * gamma * size + (2 + gamma) * np.abs(tanh)) @ np.abs(v)
    return tanh @ v, terms


SCORES = {"luong": luong_scores, "bahdanau": bahdanau_scores}


def layer(score, h, w_c, **weights):
    """The output, and its bound."""
    last = h[:, -1]
    scores, terms = SCORES[score](h, last, **weights)
    p = softmax(scores)
    output = np.tanh(np.concatenate([np.einsum("bt,btd->bd", p, h), last], 1) @ w_c)
    c = 2 * terms.max(1) + 2 * np.abs(scores).max(1) + np.sqrt(h.shape[1]) + 8
    size = np.concatenate([np.einsum("bt,btd->bd", p, np.abs(h)), np.abs(last)], 1) @ np.abs(w_c)
    longest = max(h.shape[1], w_c.shape[0])
    bound = 2 * U * (c[:, None] + 4 * np.sqrt(longest)) * size * (1 - output**2) + 2 * U * np.abs(output) + 2.0**-126
    return output, bound


def expected(case, tensors):
    weights = {name: array.astype(np.float64) for name, array in tensors.items() if name != "h"}
    blocks = [layer(case.score, tensors["h"][at:at + ITEMS_AT_ONCE].astype(np.float64), **weights)
              for at in range(0, case.batch, ITEMS_AT_ONCE)]
    return tuple(np.concatenate(parts) for parts in zip(*blocks))


def error_over_bound(file, output, bound):
    """The largest error of an element over its bound; infinite where something is not a number."""
    got = np.fromfile(file, np.float32)
    if got.size != output.size:
        return float("inf")
    ratio = np.abs(got.reshape(output.shape) - output) / bound
    return float(ratio.max()) if np.isfinite(ratio).all() else float("inf")

# SPDX-License-Identifier: Apache-2.0
"""Inputs, the layer and its gradients in float64 straight from their definition, and the bounds of docs/numerics.md."""
import numpy as np

from protocol import tensor_file, tensor_shapes, weight_shapes

U = 2.0**-24
ETA = 2.0**-126
ITEMS_AT_ONCE = 16  # bounds the memory of the float64 intermediates


def make_inputs(case, seed):
    """Hidden states in (-1, 1), as an LSTM's are; weights as Keras initialises them (glorot uniform)."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in tensor_shapes(case).items():
        limit = 1.0 if name in ("h", "grad_output") else np.sqrt(6 / sum(shape))
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


def forward(h, last, w_c, scores):
    p = softmax(scores)
    return p, np.tanh(np.concatenate([np.einsum("bt,btd->bd", p, h), last], 1) @ w_c)


def output_bound(h, last, w_c, p, output, c):
    size = np.concatenate([np.einsum("bt,btd->bd", p, np.abs(h)), np.abs(last)], 1) @ np.abs(w_c)
    longest = max(h.shape[1], w_c.shape[0])
    return 2 * U * (c[:, None] + 4 * np.sqrt(longest)) * size * (1 - output**2) + 2 * U * np.abs(output) + ETA


class Exact:
    """The gradients' own factors and differences."""
    factor = staticmethod(np.asarray)
    difference = staticmethod(np.subtract)


class Sizes:
    """Each factor replaced by its absolute value, each difference by a sum: what the bounds are made of."""
    factor = staticmethod(np.abs)
    difference = staticmethod(np.add)


def luong_gradients(of, h, x, ge, luong_w):
    k, hs = of.factor(luong_w), of.factor(h)
    gq = np.einsum("bt,btd->bd", ge, hs)
    return ge[:, :, None] * (x @ k.T)[:, None], gq @ k, [gq.T @ x]


def bahdanau_gradients(of, h, x, ge, bahdanau_v, bahdanau_w1, bahdanau_w2):
    w1, w2, hs = of.factor(bahdanau_w1), of.factor(bahdanau_w2), of.factor(h)
    t = np.tanh((h[:, -1] @ bahdanau_w1)[:, None] + h @ bahdanau_w2)
    gt = ge[:, :, None] * of.factor(bahdanau_v[:, 0]) * of.difference(1, t**2)
    gu = gt.sum(1)
    v = np.einsum("bt,btd->d", ge, of.factor(t))[:, None]
    return gt @ w2.T, gu @ w1.T, [v, x.T @ gu, np.tensordot(hs, gt, ((0, 1), (0, 1)))]


GRADIENTS = {"luong": luong_gradients, "bahdanau": bahdanau_gradients}


def backward(of, score, h, p, output, grad_output, w_c, weights):
    """The gradients by h and by the weights; those of the weights are sums over the items given."""
    features = h.shape[2]
    x, hs = of.factor(h[:, -1]), of.factor(h)
    gz = of.factor(grad_output) * of.difference(1, output**2)
    both = gz @ of.factor(w_c).T
    gc, gx = both[:, :features], both[:, features:]
    gp = np.einsum("btd,bd->bt", hs, gc)
    ge = p * of.difference(gp, (p * gp).sum(1, keepdims=True))
    gh, gx_score, by_weights = GRADIENTS[score](of, h, x, ge, **weights)
    gh += p[:, :, None] * gc[:, None]
    gh[:, -1] += gx + gx_score
    by_w_c = np.concatenate([np.einsum("bt,btd->bd", p, hs), x], 1).T @ gz
    return [gh, *by_weights, by_w_c]


def blocks_of(case, tensors):
    """What is needed to judge some items at a time."""
    weights = {name: tensors[name].astype(np.float64) for name in weight_shapes(case)}
    w_c = weights.pop("w_c")
    for at in range(0, case.batch, ITEMS_AT_ONCE):
        h = tensors["h"][at:at + ITEMS_AT_ONCE].astype(np.float64)
        scores, terms = SCORES[case.score](h, h[:, -1], **weights)
        c = 2 * terms.max(1) + 2 * np.abs(scores).max(1) + np.sqrt(h.shape[1]) + 8
        p, output = forward(h, h[:, -1], w_c, scores)
        block = [output], [output_bound(h, h[:, -1], w_c, p, output, c)]
        if case.direction == "training":
            given = case.score, h, p, output, tensors["grad_output"][at:at + ITEMS_AT_ONCE].astype(np.float64), w_c, weights
            for of, results in zip((Exact, Sizes), block):
                results += backward(of, *given)
        yield c, *block


def gradient_bounds(case, sizes, c):
    """From the gradients' sizes; n is the longest sum inside each."""
    inner = max(2 * case.features, case.units)
    rows = case.batch * case.timesteps
    factor = lambda scale, longest: 2 * U * (scale + 4 * np.sqrt(max(inner, longest)))
    by_h, *by_weights, by_w_c = sizes
    return [by_h * factor(c, case.timesteps)[:, None, None] + ETA,
            *(size * factor(c.max(), rows) + ETA for size in by_weights), by_w_c * factor(c.max(), case.batch) + ETA]


def expected(case, tensors):
    """The results in float64, and the bound of each element."""
    scales, values, bounds = zip(*blocks_of(case, tensors))

    def join(blocks):  # the output and the gradient by h are an item's, those of the weights a sum over all
        return [np.concatenate(parts) if index < 2 else sum(parts) for index, parts in enumerate(zip(*blocks))]
    values, bounds = join(values), join(bounds)
    if case.direction == "training":
        bounds[1:] = gradient_bounds(case, bounds[1:], np.concatenate(scales))
    return values, bounds


def error_over_bound(file, values, bounds):
    """The largest error of an element over its bound; infinite where something is not a number."""
    got = np.fromfile(file, np.float32)
    if got.size != sum(value.size for value in values):
        return float("inf")
    worst, at = 0.0, 0
    for value, bound in zip(values, bounds):
        ratio = np.abs(got[at:at + value.size].reshape(value.shape) - value) / bound
        worst = max(worst, float(ratio.max())) if np.isfinite(ratio).all() else float("inf")
        at += value.size
    return worst

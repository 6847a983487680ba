# SPDX-License-Identifier: Apache-2.0
"""The layer written in PyTorch: as the Keras layer computes it, and as somebody who cares for speed would; each eager and compiled."""
import contextlib
import functools
import sys

import torch

from protocol import argument_shapes, serve


def finish(h, last, scores, w_c):
    p = torch.softmax(scores, 1)
    context = torch.bmm(p.unsqueeze(1), h).squeeze(1)
    return torch.tanh(torch.cat([context, last], 1) @ w_c)


def finish_by_sums(h, last, scores, w_c):
    """The same with the context as a sum of products, which torch.compile turns into one loop; a call of bmm it cannot."""
    p = torch.softmax(scores, 1)
    context = (h * p.unsqueeze(2)).sum(1)
    return torch.tanh(torch.cat([context, last], 1) @ w_c)


def luong(h, luong_w, w_c):
    last = h[:, -1]
    return finish(h, last, torch.bmm(h @ luong_w, last.unsqueeze(2)).squeeze(2), w_c)


def luong_folded(h, luong_w, w_c):
    last = h[:, -1]
    return finish_by_sums(h, last, (h * (last @ luong_w.t()).unsqueeze(1)).sum(2), w_c)


def bahdanau(h, bahdanau_v, bahdanau_w1, bahdanau_w2, w_c):
    last = h[:, -1]
    hidden = torch.tanh((last @ bahdanau_w1).unsqueeze(1) + h @ bahdanau_w2)
    return finish(h, last, (hidden @ bahdanau_v).squeeze(2), w_c)


def bahdanau_by_sums(h, bahdanau_v, bahdanau_w1, bahdanau_w2, w_c):
    last = h[:, -1]
    hidden = torch.tanh((last @ bahdanau_w1).unsqueeze(1) + h @ bahdanau_w2)
    return finish_by_sums(h, last, (hidden * bahdanau_v.view(-1)).sum(2), w_c)


LAYERS = {"luong": {"as upstream": luong, "folded": luong_folded},
          "bahdanau": {"as upstream": bahdanau, "by sums": bahdanau_by_sums}}


def train(layer, grad_output, *arguments):
    output = layer(*arguments)
    return [output.detach(), *torch.autograd.grad(output, arguments, grad_output)]


def compile_variants(case, tensors):
    torch.compiler.reset()
    tensors = {name: torch.from_numpy(array).clone() for name, array in tensors.items()}
    arguments = [tensors[name] for name in argument_shapes(case)]
    training = case.direction == "training"
    for argument in arguments:
        argument.requires_grad_(training)
    calls = {}
    for way, layer in LAYERS[case.score].items():
        compiled = torch.compile(layer, fullgraph=True, dynamic=False)
        for how, function in (("eager", layer), ("compiled", compiled)):
            call = functools.partial(train, function, tensors["grad_output"]) if training else function
            calls[f"{how}, {way}"] = functools.partial(call, *arguments)
    for call in calls.values():
        call()
    return calls


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]))
    torch.set_num_interop_threads(int(sys.argv[1]))
    serve("PyTorch", torch.__version__, compile_variants,
          mode=lambda case: torch.inference_mode() if case.direction == "forward" else contextlib.nullcontext())

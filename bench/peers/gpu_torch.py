# SPDX-License-Identifier: Apache-2.0
"""The attention layer in PyTorch on the GPU, beside what attention-bench-gpu wrote: the same rows, and how many times libattention's time each takes.

float32 with TF32 off, as libattention computes; eager and compiled, each as upstream computes it and rewritten (peer_torch.py).
"forward" runs under inference_mode, "both" is a forward pass that keeps what the backward pass needs, and that. Times are of calls one
behind the other, by CUDA events, against libattention's "warm". Before anything is timed its results are compared with a float64
computation under the bounds of docs/numerics.md.
"""
import argparse
import contextlib
import functools
import re
import sys
import time

import numpy as np
import torch

from peer_torch import LAYERS, train
from protocol import Case, argument_shapes
from reference import expected, make_inputs

DISTINCT = 8  # items; larger batches repeat them, which keeps the float64 computation cheap
BATCHES = (64, 1024, 4096, 1)
SIZES, SMALL_SIZES = (500, 100, 128), (5, 4, 3)
ROUND_SECONDS = 0.04
WANTED = {"both": 5}
DIRECTIONS = {"forward": "forward", "training": "both"}


def sums_before(case):
    """How many results are of items; the others are sums over all items."""
    return 1 if case.direction == "forward" else 2


def error_over_bound(case, results, tensors):
    """The largest error of an element over its bound; infinite where something is not a number. Of a sum over repeated items both the value and its
    terms' sizes are multiples, and the bound's factor grows at most as the root of their number."""
    distinct = tensors["h"].shape[0]
    copies = case.batch // distinct
    worst = 0.0
    for index, (result, value, bound) in enumerate(zip(results, *expected(case._replace(batch=distinct), tensors))):
        if index >= sums_before(case):
            value, bound = value * copies, bound * copies**1.5
        value, bound = (torch.from_numpy(np.ascontiguousarray(array)).to(result.device) for array in (value, bound))
        for part in result.split(distinct) if index < sums_before(case) else [result]:
            ratio = ((part.double() - value).abs() / bound).max().item()
            worst = max(worst, ratio) if np.isfinite(ratio) else float("inf")
    return worst


def seconds_of(call, runs, device):
    if device == "cpu":
        start = time.perf_counter()
        for _ in range(runs):
            call()
        return (time.perf_counter() - start) / runs
    events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
    events[0].record()
    for _ in range(runs):
        call()
    events[1].record()
    events[1].synchronize()
    return events[0].elapsed_time(events[1]) / 1e3 / runs


def warm_microseconds(call, device):
    one = min(seconds_of(call, 1, device) for _ in range(3))
    return 1e6 * seconds_of(call, min(200, max(5, int(ROUND_SECONDS / max(one, 1e-6)))), device)


def functions(case, compiles):
    """Name and layer, those that take no time to make first."""
    for way, layer in LAYERS[case.score].items():
        yield f"PyTorch eager, {way}", layer
    for way, layer in LAYERS[case.score].items() if compiles else ():
        yield f"PyTorch compiled, {way}", torch.compile(layer, fullgraph=True, dynamic=False)


def variants(case, tensors, options):
    """Each with its name, and its call."""
    copies = case.batch // tensors["h"].shape[0]
    device = {name: torch.from_numpy(array).to(options.device) for name, array in tensors.items()}
    for name in ("h", "grad_output"):
        if name in device:
            device[name] = device[name].repeat(copies, *[1] * (device[name].dim() - 1))
    arguments = [device[name].requires_grad_(case.direction == "training") for name in argument_shapes(case)]
    for name, layer in functions(case, options.compile):
        if case.direction == "training":
            yield name, functools.partial(train, layer, device["grad_output"], *arguments)
        else:
            yield name, functools.partial(lambda layer: [layer(*arguments)], layer)


def read_ours(file):
    """libattention's best warm time of each row."""
    row = re.compile(r"(\w+ \w+ \d+ x \d+ f32) +cuda:\S+ +([\d.]+) ")
    ours = {}
    for line in open(file) if file else ():
        found = row.match(line)
        if found:
            ours[found[1]] = min(ours.get(found[1], float("inf")), float(found[2]))
    return ours


def describe_ratio(what, microseconds, ours):
    return f"{microseconds / ours[what]:.2f} times libattention's" if what in ours else ""


def measure(case, options, ours, say):
    """Prints a row for each variant, and which is the fastest. False where one is wrong."""
    direction = DIRECTIONS[case.direction]
    what = f"{case.score} {direction} {case.batch} x {case.timesteps} f32"
    tensors = make_inputs(case._replace(batch=min(case.batch, DISTINCT)), seed=1)
    found, right = {}, True
    torch.compiler.reset()
    with torch.inference_mode() if case.direction == "forward" else contextlib.nullcontext():
        for name, call in variants(case, tensors, options):
            if "compiled" in name and time.monotonic() > options.deadline:
                say(f"{what:34} {name:34} left out: its time is over")
                continue
            try:
                error = error_over_bound(case, call(), tensors)
            except Exception as problem:
                say(f"{what:34} {name:34} {type(problem).__name__}: {problem}".splitlines()[0])
                continue
            right = right and error <= 1
            if error > 1:
                say(f"{what:34} {name:34} wrong: error over its bound {error:.3g}")
                continue
            found[name] = warm_microseconds(call, options.device)
            say(f"{what:34} {name:34} {found[name]:9.2f} {'':37} {error:7.3f}  {describe_ratio(what, found[name], ours)}".rstrip())
    if found and what in ours:
        best = min(found, key=found.get)
        wanted = WANTED.get(direction)
        reached = "" if wanted is None else f", {wanted} wanted, {'reached' if found[best] >= wanted * ours[what] else 'missed'}"
        say(f"{what:34} fastest: {best}: {describe_ratio(what, found[best], ours)}{reached}")
    return right


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--small", action="store_true", help="sizes of a check")
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    parser.add_argument("--beside", metavar="FILE", help="what attention-bench-gpu wrote; the rows are added to it")
    parser.add_argument("--seconds", type=float, default=150, help="what would be compiled later is left out")
    options = parser.parse_args()
    options.deadline = time.monotonic() + options.seconds
    return options


def main():
    options = parse()
    ours = read_ours(options.beside)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    with contextlib.ExitStack() as files:
        out = files.enter_context(open(options.beside, "a")) if options.beside else None

        def say(line):
            for to in filter(None, (sys.stdout, out)):
                print(line, file=to, flush=True)

        say(f"\nPyTorch {torch.__version__} on {torch.cuda.get_device_name() if options.device == 'cuda' else 'the CPU'}; microseconds, warm")
        right = True
        for batch in (1, 16) if options.small else BATCHES:
            for score in LAYERS:
                for direction in DIRECTIONS:
                    case = Case(score, direction, batch, *(SMALL_SIZES if options.small else SIZES))
                    right = measure(case, options, ours, say) and right
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())

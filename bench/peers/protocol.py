# SPDX-License-Identifier: Apache-2.0
"""How a worker is driven by compare.py. Each software runs in a process of its own; ours.c speaks the same in C.

A worker first says {"software": ..., "version": ..., "directions": [...]}. Then each request is one line of words, each answer one JSON object:

    case SCORE DIRECTION B T D U DIRECTORY   reads the inputs there and compiles: {"variants": [name, ...]}
    output I FILE                            runs variant I once and writes its results, raw float32: {}
    time I SECONDS COUNT                     runs variant I for SECONDS untimed, then COUNT times: {"seconds": of the COUNT runs}

A request that fails answers {"error": message}. The end of the input ends the worker.

Directions: "forward" gives the layer's output; "training" a forward pass that keeps what the backward pass needs, and that: the output, then
the gradients by h and by each weight, from grad_output, that by the output. Results are written one after another. Of the whole model
(model.py) "epoch" is a training step, "test" a batch's prediction; their results are all reviews' probabilities.
"""
import contextlib
import itertools
import json
import os
import sys
import time
from collections import namedtuple

import numpy as np

Case = namedtuple("Case", "score direction batch timesteps features units")


def weight_shapes(case):
    """The layer's weights in Keras's order and layout."""
    D, U = case.features, case.units
    score = {"luong": {"luong_w": (D, D)}, "bahdanau": {"bahdanau_v": (D, 1), "bahdanau_w1": (D, D), "bahdanau_w2": (D, D)}}
    return {**score[case.score], "w_c": (2 * D, U)}


def argument_shapes(case):
    return {"h": (case.batch, case.timesteps, case.features), **weight_shapes(case)}


def tensor_shapes(case):
    given = {"grad_output": (case.batch, case.units)} if case.direction == "training" else {}
    return {**argument_shapes(case), **given}


def result_shapes(case):
    gradients = argument_shapes(case) if case.direction == "training" else {}
    return {"output": (case.batch, case.units), **gradients}


def tensor_file(directory, name):
    return os.path.join(directory, name + ".f32")


def read_tensors(case, directory):
    return {name: np.fromfile(tensor_file(directory, name), np.float32).reshape(shape)
            for name, shape in tensor_shapes(case).items()}


def run_timed(call, warm_seconds, count):
    clock = time.perf_counter
    end = clock() + warm_seconds
    call()
    while clock() < end:
        call()
    start = clock()
    for _ in itertools.repeat(None, count):
        call()
    return clock() - start


class Worker:
    def __init__(self, compile_variants, mode, read):
        self.compile_variants, self.mode, self.read = compile_variants, mode, read
        self.calls = []

    def case(self, score, direction, *rest):
        self.current = Case(score, direction, *map(int, rest[:4]))
        self.calls.clear()  # the last case's memory goes before this one's comes
        with self.mode(self.current):
            variants = self.compile_variants(self.current, self.read(self.current, rest[4]))
        self.calls = list(variants.values())
        return {"variants": list(variants)}

    def output(self, index, file):
        with self.mode(self.current):
            call = self.calls[int(index)]
            results = getattr(call, "results", call)()
        with open(file, "wb") as out:
            for result in results if self.current.direction == "training" else [results]:
                np.asarray(result, np.float32).tofile(out)
        return {}

    def time(self, index, warm_seconds, count):
        with self.mode(self.current):
            return {"seconds": run_timed(self.calls[int(index)], float(warm_seconds), int(count))}


def serve(software, version, compile_variants, directions=("forward", "training"), mode=lambda case: contextlib.nullcontext(),
          read=read_tensors):
    """Answers requests until they end. compile_variants(case, tensors) returns {variant name: function of no argument}, which
    are called as the software's users would call them, inside mode(case), and return the results, unless they have a method that does."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not mix with the answers
    worker = Worker(compile_variants, mode, read)
    requests = {"case": worker.case, "output": worker.output, "time": worker.time}

    def answer(message):
        print(json.dumps(message), file=answers, flush=True)

    answer({"software": software, "version": version, "directions": directions})
    for line in sys.stdin:
        request, *words = line.split()
        try:
            answer(requests[request](*words))
        except Exception as error:  # whatever went wrong belongs in the table, not in a dead worker
            answer({"error": f"{type(error).__name__}: {error}".splitlines()[0]})

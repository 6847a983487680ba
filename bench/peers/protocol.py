# SPDX-License-Identifier: Apache-2.0
"""How a worker is driven by compare.py. Each software runs in a process of its own; ours.c speaks the same in C.

A worker first says {"software": ..., "version": ...}. Then each request is one line of words, each answer one JSON object:

    case SCORE DIRECTION B T D U DIRECTORY   reads the inputs there and compiles: {"variants": [name, ...]}
    output I FILE                            runs variant I once and writes its output, raw float32: {}
    time I SECONDS COUNT                     runs variant I for SECONDS untimed, then COUNT times: {"seconds": of the COUNT runs}

A request that fails answers {"error": message}. The end of the input ends the worker.
"""
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


def tensor_shapes(case):
    return {"h": (case.batch, case.timesteps, case.features), **weight_shapes(case)}


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
    def __init__(self, compile_variants):
        self.compile_variants = compile_variants
        self.calls = []

    def case(self, score, direction, *rest):
        case = Case(score, direction, *map(int, rest[:4]))
        self.calls.clear()  # the last case's memory goes before this one's comes
        variants = self.compile_variants(case, read_tensors(case, rest[4]))
        self.calls = list(variants.values())
        return {"variants": list(variants)}

    def output(self, index, file):
        np.asarray(self.calls[int(index)](), np.float32).tofile(file)
        return {}

    def time(self, index, warm_seconds, count):
        return {"seconds": run_timed(self.calls[int(index)], float(warm_seconds), int(count))}


def serve(software, version, compile_variants):
    """Answers requests until they end. compile_variants(case, tensors) returns {variant name: function of no argument}, which
    are called as the software's users would call them and return the output."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not mix with the answers
    worker = Worker(compile_variants)
    requests = {"case": worker.case, "output": worker.output, "time": worker.time}

    def answer(message):
        print(json.dumps(message), file=answers, flush=True)

    answer({"software": software, "version": version})
    for line in sys.stdin:
        request, *words = line.split()
        try:
            answer(requests[request](*words))
        except Exception as error:  # whatever went wrong belongs in the table, not in a dead worker
            answer({"error": f"{type(error).__name__}: {error}".splitlines()[0]})

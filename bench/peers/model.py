# SPDX-License-Identifier: Apache-2.0
"""Upstream's IMDB model: one epoch of training and one pass over the test reviews, from the 256 reviews and the trained weights in bench/data.

What a pass takes is extrapolated from batches of 64 of these reviews, again and again: the work of a batch does not depend on which words
are in it, for padding is computed like words. Both softwares start from the same trained weights, and must give the reviews the
probabilities that Keras recorded for them."""
import json
import os
import shutil
import struct

from protocol import Case, tensor_file

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, "..", "data")
REVIEWS = 25000  # of an epoch, and of a test pass
GATE = 1e-4  # between probabilities, docs/numerics.md
DIRECTIONS = {"epoch": "one epoch of training", "test": "one pass over the test reviews"}
SHAPE = (64, 500, 100, 128)  # batch, timesteps, LSTM's units, attention's units
WEIGHTS = ("embedding/embeddings", "lstm/kernel", "lstm/recurrent_kernel", "lstm/bias", "attention/luong_w", "attention/w_c",
           "dense/kernel", "dense/bias")  # in the order of Keras's model


def read_safetensors(file):
    import numpy as np
    types = {"F32": np.float32, "U16": np.uint16, "U8": np.uint8}
    with open(file, "rb") as opened:
        content = opened.read()
    begin = 8 + struct.unpack("<Q", content[:8])[0]
    for name, entry in json.loads(content[8:begin]).items():
        if entry.get("dtype") in types:
            first, last = (begin + offset for offset in entry["data_offsets"])
            yield name, np.frombuffer(content[first:last], types[entry["dtype"]]).reshape(entry["shape"])


def write_inputs(directory):
    """What the workers read; answers Keras's probabilities."""
    import numpy as np
    weights = os.path.join(DATA, "imdb_luong.safetensors")
    shutil.copy(weights, os.path.join(directory, "model.safetensors"))
    for name, array in read_safetensors(weights):
        array.tofile(tensor_file(directory, name.replace("/", ".")))
    reviews = dict(read_safetensors(os.path.join(DATA, "imdb_reviews.safetensors")))
    reviews["tokens"].astype(np.int32).tofile(os.path.join(directory, "tokens.i32"))
    reviews["label"].astype(np.float32).tofile(tensor_file(directory, "label"))
    probabilities = reviews["probability"].astype(np.float64).reshape(-1)
    return [probabilities], [np.full_like(probabilities, GATE)]


def case(direction):
    return Case("luong", direction, *SHAPE)


def passes(row, batches):
    """The row of a batch's times as one of whole passes."""
    for contestant in row["contestants"]:
        for of in ("minimum", "median"):
            if of in contestant:
                contestant[of] *= REVIEWS / SHAPE[0]
    row["extrapolated"] = f"{DIRECTIONS[row['direction']]}, {REVIEWS} reviews, extrapolated from {batches} batches of {SHAPE[0]} a round"
    return row

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the files of this folder from a folder of reference results of the trained IMDB model.

    make_data.py SOURCE

SOURCE holds imdb_luong.safetensors (the weights), imdb_luong_reviews.safetensors (tokens, labels and what Keras
computed) and vocab.txt. The weights and the words are copied as they are; of the reviews' tensors those are kept that
the benchmark compares with, so that the folder stays small (the hidden states are the benchmark's own to compute).
Needs Python's standard library alone.
"""
import json
import pathlib
import shutil
import struct
import sys

KEPT = ("tokens", "label", "probability", "attention_weights", "context", "attention_output")
HERE = pathlib.Path(__file__).resolve().parent


def read(path):
    """The metadata and the tensors {name: (dtype, shape, bytes)} of a safetensors file."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    body = data[8 + length :]
    return metadata, {
        name: (entry["dtype"], entry["shape"], body[slice(*entry["data_offsets"])]) for name, entry in header.items()
    }


def write(path, metadata, tensors):
    """Widest elements first, so that every tensor is aligned to its element."""
    header, body = {"__metadata__": metadata}, b""
    width = {"F32": 4, "U16": 2, "U8": 1}
    for name, (dtype, shape, data) in sorted(tensors.items(), key=lambda item: (-width[item[1][0]], item[0])):
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__.strip())
    source = pathlib.Path(sys.argv[1])
    metadata, tensors = read(source / "imdb_luong_reviews.safetensors")
    write(HERE / "imdb_reviews.safetensors", metadata, {name: tensors[name] for name in KEPT})
    for name, copy in (("imdb_luong.safetensors", "imdb_luong.safetensors"), ("vocab.txt", "imdb_vocab.txt")):
        shutil.copyfile(source / name, HERE / copy)


if __name__ == "__main__":
    main()

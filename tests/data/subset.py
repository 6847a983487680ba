#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the small case files of this folder from the full ones: whole cases up to a size, larger ones without gradients,
the largest left out.

usage: subset.py FULL.safetensors SMALL.safetensors WHOLE FORWARD
  WHOLE     bytes up to which a case keeps all its tensors
  FORWARD   bytes up to which what is left of a larger case without its gradients is kept
"""
import json
import struct
import sys


def read(path):
    with open(path, "rb") as file:
        data = file.read()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    body = data[8 + length :]
    return metadata, {name: (t["dtype"], t["shape"], body[slice(*t["data_offsets"])]) for name, t in header.items()}


def write(path, metadata, tensors):
    widths = {"F64": 8, "F32": 4, "I32": 4, "BOOL": 1}
    header, body = {"__metadata__": metadata}, b""
    for name, (dtype, shape, data) in sorted(tensors.items(), key=lambda item: (-widths[item[1][0]], item[0])):
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + body)


def size(tensors):
    return sum(len(data) for _, _, data in tensors.values())


def choose(case, whole, forward):
    if size(case) <= whole:
        return case
    case = {name: t for name, t in case.items() if not name.split("/", 1)[1].startswith("grad_")}
    return case if size(case) <= forward else {}


def main(source, target, whole, forward):
    metadata, tensors = read(source)
    kept = {}
    for case in sorted({name.split("/", 1)[0] for name in tensors}):
        members = {name: t for name, t in tensors.items() if name.split("/", 1)[0] == case}
        kept.update(choose(members, int(whole), int(forward)))
    write(target, metadata, kept)
    print(target, len({name.split("/", 1)[0] for name in kept}), "cases", size(kept), "bytes")


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])

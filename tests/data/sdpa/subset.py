#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the cases of IN that take at most LIMIT bytes without what nothing here compares: gradients, ONNX's present keys and
values, and its scores before they are weights.

Usage: subset.py IN.safetensors LIMIT OUT.safetensors
"""
import json
import struct
import sys


def main(source, limit, target):
    with open(source, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(size))
        data = file.read()
    metadata = header.pop("__metadata__", {})

    def content(name):
        begin, end = header[name]["data_offsets"]
        return data[begin:end]

    def mode(case):
        name = case + "/attr/qk_matmul_output_mode"
        return struct.unpack("<q", content(name))[0] if name in header else 0

    cases = {}
    for name in header:
        case, tensor = name.split("/", 1)
        compared = not (tensor.startswith("grad_") or tensor.startswith("output/present_"))
        if compared and (tensor != "output/qk_matmul_output" or mode(case) == 3):
            cases.setdefault(case, []).append(name)
    kept, blob = {}, b""
    for case in sorted(cases):
        if sum(len(content(name)) for name in cases[case]) > limit:
            continue
        for name in sorted(cases[case], key=lambda name: (-len(content(name)) % 8 != 0, name)):
            kept[name] = {k: header[name][k] for k in ("dtype", "shape")}
            kept[name]["data_offsets"] = [len(blob), len(blob) + len(content(name))]
            blob += content(name)
    metadata["subset"] = f"cases of at most {limit} bytes, by subset.py"
    text = json.dumps({"__metadata__": metadata, **kept}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(target, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + blob)


main(sys.argv[1], int(sys.argv[2]), sys.argv[3])

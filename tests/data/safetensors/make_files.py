#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the files of this folder with the format's reference implementation:

    pip install safetensors==0.8.0 && python3 make_files.py

Tensor number i of a file holds the bytes 16 i + 1, 16 i + 2, ..., so that the test can tell them apart."""
import ctypes
import pathlib

import safetensors

assert safetensors.__version__ == "0.8.0", safetensors.__version__
FOLDER = pathlib.Path(__file__).parent

# The bits of an element.
READ = {"bool": 8, "uint8": 8, "int8": 8, "uint16": 16, "int16": 16, "uint32": 32, "int32": 32, "uint64": 64,
        "int64": 64, "float16": 16, "bfloat16": 16, "float32": 32, "float64": 64}
LISTED = {"complex64": 64, "float8_e4m3fn": 8, "float8_e5m2": 8, "float8_e8m0fnu": 8, "float8_e4m3fnuz": 8,
          "float8_e5m2fnuz": 8, "float4_e2m1fn_x2": 4}  # F6 can be read, but has no name for the writer


def write(name, tensors, metadata=None):
    """tensors: (name, dtype, shape, bits of an element as the caller of the writer counts them)."""
    buffers, specs = [], {}
    for i, (tensor, dtype, shape, bits) in enumerate(tensors):
        elements = 1
        for size in shape:
            elements *= size
        count = elements * bits // 8
        buffers.append(ctypes.create_string_buffer(bytes((16 * i + 1 + k) % 256 for k in range(count)), max(count, 1)))
        specs[tensor] = safetensors.TensorSpec(dtype=dtype, shape=shape, data_ptr=ctypes.addressof(buffers[-1]),
                                               data_len=count)
    (FOLDER / name).write_bytes(safetensors.serialize(specs, metadata=metadata))


# Two of every dtype that the library writes, by names in an order of their own; one without elements, one scalar.
mixture = [(f"{'zab'[i % 3]}{i:02}", dtype, [1, 2], bits) for i, (dtype, bits) in enumerate(READ.items())]
mixture += [(f"{'bza'[i % 3]}{i:02}", dtype, [3], bits) for i, (dtype, bits) in enumerate(READ.items())]
mixture += [("é/\"\\u001F\\\x1f\t\x7f\b\n\u2028/", "uint8", [1], 8), ("none", "float32", [0, 3], 32),
            ("scalar", "int8", [], 8)]
write("mixture.safetensors", mixture, {"k\x0b": "v\x1bé"})

# All that is listed alone, beside a layer. The writer doubles the last dimension of a packed F4: [2, 3] is [2, 6] in the file.
listed = [("layer/luong_w", "float32", [2, 2], 32)]
listed += [(dtype, dtype, [4, 3], 8 if dtype == "float4_e2m1fn_x2" else bits) for dtype, bits in LISTED.items()]
write("listed.safetensors", listed)

write("empty_name.safetensors", [("", "float32", [1], 32)])
write("nul_in_name.safetensors", [("a\0b", "float32", [1], 32)])
write("nul_in_metadata.safetensors", [("a", "float32", [1], 32)], {"k": "a\0b"})
write("nothing.safetensors", [])

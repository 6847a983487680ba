#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes cpu/vec_math_tables.h: the polynomials behind the vector layer's exp and tanh. Needs mpmath.

expm1(r) = r + r^2 p(r) on |r| <= ln(2)/2, p by Chebyshev fit.
tanh, float32: TANH_INTERVALS intervals, four to an octave; on each tanh(left + t) is a polynomial in t of degree 6. The
first interval starts at 0 and has no constant term, which keeps the relative error near 0.
"""
import struct
import mpmath as mp

mp.mp.prec = 200
TANH_INTERVALS, TANH_DEGREE, TANH_STEPS = 32, 6, 4
TANH_LAST_OCTAVE = 3  # the last interval is [8, 10)


def float32(x):
    return struct.unpack("f", struct.pack("f", float(x)))[0]


def fit(f, low, high, degree):
    return list(reversed(mp.chebyfit(f, [low, high], degree + 1)))  # lowest power first


def expm1_polynomial(degree):
    half = mp.log(2) / 2 * mp.mpf("1.001")

    def p(r):
        if abs(r) < mp.mpf(10) ** -12:
            return mp.mpf(1) / 2 + r / 6 + r * r / 24
        return (mp.expm1(r) - r) / (r * r)

    return fit(p, -half, half, degree)


def tanh_left(index):
    """The left edge of interval index; index 0 reaches down to 0."""
    if index == 0:
        return mp.mpf(0)
    step = TANH_STEPS * TANH_LAST_OCTAVE - (TANH_INTERVALS - 1) + index
    return mp.mpf(2) ** (step // TANH_STEPS) * (1 + mp.mpf(step % TANH_STEPS) / TANH_STEPS)


def tanh_polynomial(index):
    left, right = tanh_left(index), tanh_left(index + 1)
    if index == 0:
        series = lambda t: mp.tanh(t) / t if t > mp.mpf(10) ** -20 else mp.mpf(1)
        return [mp.mpf(0)] + fit(series, left, right, TANH_DEGREE - 1)
    return fit(lambda t: mp.tanh(left + t), mp.mpf(0), right - left, TANH_DEGREE)


def array(ctype, name, values, show):
    print("static const %s %s[%d] = {" % (ctype, name, len(values)))
    for i in range(0, len(values), 4):
        print("    " + ", ".join(show(v) for v in values[i : i + 4]) + ",")
    print("};")


def main():
    print("/* Written by tools/make-math-tables.py. */")
    print("/* SPDX-License-Identifier: Apache-2.0 */")
    print("#ifndef ATTN_CPU_VEC_MATH_TABLES_H")
    print("#define ATTN_CPU_VEC_MATH_TABLES_H")
    print()
    print("/* expm1(r) = r + r^2 p(r), lowest power first. */")
    show32 = lambda v: float.hex(float32(v)) + "f"
    show64 = lambda v: float.hex(float(v))
    array("float", "attn_expm1_f32", expm1_polynomial(4), show32)
    array("double", "attn_expm1_f64", expm1_polynomial(10), show64)
    print()
    print("/* The bits of an interval's left edge, shifted down to the two upper mantissa bits, less TANH_FIRST: its index. */")
    print("#define ATTN_TANH_SHIFT 21")
    print("#define ATTN_TANH_FIRST %d" % ((127 + TANH_LAST_OCTAVE) * TANH_STEPS - (TANH_INTERVALS - 1)))
    print("/* tanh(left + t) on interval i: the sum over k of attn_tanh_f32[k][i] t^k. */")
    print("static const float attn_tanh_f32[%d][%d] __attribute__((aligned(64), unused)) = {" % (TANH_DEGREE + 1, TANH_INTERVALS))
    rows = [tanh_polynomial(i) for i in range(TANH_INTERVALS)]
    for k in range(TANH_DEGREE + 1):
        values = [show32(row[k]) for row in rows]
        print("    {" + ",\n     ".join(", ".join(values[i : i + 4]) for i in range(0, TANH_INTERVALS, 4)) + "},")
    print("};")
    print()
    print("#endif")


main()

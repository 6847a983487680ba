/* The names of the vector layer, one set for each dtype.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Kernel sources are templates: kernels.c includes them once with REAL_BITS 32 and SUFFIX f32, once with 64 and f64. A function
 * declared as NAMED(dot_rows) becomes dot_rows_f32 and dot_rows_f64; the names below do so by themselves, because a macro
 * expands where it is used.
 *
 *   real                 float or double
 *   vec                  VEC_LANES reals, VEC_BITS wide
 *   v_zero()             all lanes 0
 *   v_set1(x)            all lanes x
 *   v_load(p), v_store(p, v)          any alignment
 *   v_load_n(p, n), v_store_n(p, v, n)  the first n lanes, 0 <= n <= VEC_LANES; the rest is 0, or not touched, and never faults
 *   v_keep_n(a, n, b)    the first n lanes of a, then lanes of b
 *   v_load_fours(p)      lane i: p[i % 4]
 *   v_put_four(a, b, i)  lanes 4i to 4i + 3 of b, the others of a
 *   v_add v_sub v_mul v_div
 *   v_fma(a, b, c)       a b + c, rounded once where the instruction set has it
 *   v_fnma(a, b, c)      c - a b
 *   v_max(a, b), v_min(a, b)          b where either is NaN
 *   v_abs(a), v_copysign(magnitude, sign)
 *   v_select_gt(x, y, a, b)           a where x > y, else b
 *   v_any_gt(x, y)       whether x > y in any lane
 *   v_sum(a)             the lanes' sum, always in the same order
 *   v_max_lanes(a)       the largest lane; NaN lanes may be lost
 *   v_sum_each(v)        lane i: the sum of the lanes of v[i], for VEC_LANES vectors, each summed in the same order
 *   v_join, v_fold       v_sum_each in two steps, which keeps fewer registers: v_fold makes one vector of V_FOLD, v_join takes
 *                        VEC_LANES / V_FOLD of those
 *   v_even(a, b), v_odd(a, b)  lanes 0, 2, … (1, 3, …) of a, then of b; AVX-512 only
 *   v_scale(a, n)        a 2^n for integral n up to twice the exponent's range; rounds once
 *   v_exp v_tanh         vec_math.h
 */
#ifndef ATTN_CPU_VEC_NAMES_H
#define ATTN_CPU_VEC_NAMES_H

#include "cpu/arithmetic.h"

#define NAMED(name) NAMED_AS(name, SUFFIX)
#define NAMED_AS(name, suffix) NAMED_PASTE(name, suffix)
#define NAMED_PASTE(name, suffix) name##_##suffix

#define VEC_LANES (VEC_BITS / REAL_BITS)
#define V_FOLD (VEC_LANES < 4 ? VEC_LANES : 4)

/* A function called with constants becomes a kernel of that size; a short loop over registers must leave no loop behind.
 * HIDE keeps the compiler from tracing a pointer back to where it came from, and from making a register of each of its
 * offsets. */
#define HIDE(pointer) __asm__("" : "+r"(pointer))
#define ALWAYS_INLINE inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#define ROLLED _Pragma("nounroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#define ROLLED _Pragma("GCC unroll 1")
#endif

#define real NAMED(real)
#define vec NAMED(vec)
#define v_zero NAMED(v_zero)
#define v_set1 NAMED(v_set1)
#define v_load NAMED(v_load)
#define v_load_n NAMED(v_load_n)
#define v_store NAMED(v_store)
#define v_store_n NAMED(v_store_n)
#define v_keep_n NAMED(v_keep_n)
#define v_load_fours NAMED(v_load_fours)
#define v_put_four NAMED(v_put_four)
#define v_add NAMED(v_add)
#define v_sub NAMED(v_sub)
#define v_mul NAMED(v_mul)
#define v_div NAMED(v_div)
#define v_fma NAMED(v_fma)
#define v_fnma NAMED(v_fnma)
#define v_max NAMED(v_max)
#define v_min NAMED(v_min)
#define v_abs NAMED(v_abs)
#define v_copysign NAMED(v_copysign)
#define v_select_gt NAMED(v_select_gt)
#define v_any_gt NAMED(v_any_gt)
#define v_sum NAMED(v_sum)
#define v_max_lanes NAMED(v_max_lanes)
#define v_fold NAMED(v_fold)
#define v_join NAMED(v_join)
#define v_sum_each NAMED(v_sum_each)
#define v_even NAMED(v_even)
#define v_odd NAMED(v_odd)
#define v_scale NAMED(v_scale)
#define v_pow2 NAMED(v_pow2)
#define v_exp NAMED(v_exp)
#define v_tanh NAMED(v_tanh)

#endif

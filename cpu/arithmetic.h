/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernels count on in the compiler's arithmetic: IEC 60559, each operation rounded once to its own type, nothing left out, joined or put in
 * another order. A build that breaks it computes wrong numbers without a word, so it fails here. Every kernel includes this, and what stands
 * around the kernels does. The rounding mode is no matter of the build: float_environment.h. */
#ifndef ATTN_CPU_ARITHMETIC_H
#define ATTN_CPU_ARITHMETIC_H

#include <float.h>

#ifdef __FAST_MATH__
#error "libattention can't be built with -ffast-math or -Ofast: hidden keys are -inf, and sums have an order"
#endif

#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#error "libattention can't be built with -ffinite-math-only: hidden keys are -inf, and NaN must reach the result"
#endif

#ifdef __ASSOCIATIVE_MATH__
#error "libattention can't be built with -fassociative-math: exp rounds by adding and taking away a large number"
#endif

#ifdef __RECIPROCAL_MATH__
#error "libattention can't be built with -freciprocal-math: a quotient is rounded once"
#endif

#ifdef __NO_SIGNED_ZEROS__
#error "libattention can't be built with -fno-signed-zeros: tanh is odd down to -0"
#endif

#if !defined(FLT_EVAL_METHOD) || FLT_EVAL_METHOD != 0
#error "libattention needs float and double in their own precision: on x86 -msse2 -mfpmath=sse, not the x87 unit"
#endif

#if FLT_RADIX != 2 || FLT_MANT_DIG != 24 || FLT_MAX_EXP != 128 || FLT_MIN_EXP != -125 || DBL_MANT_DIG != 53 ||         \
    DBL_MAX_EXP != 1024 || DBL_MIN_EXP != -1021
#error "libattention needs float and double to be the binary32 and binary64 of IEC 60559"
#endif

/* gcc clears this for -ffp-contract=fast, its default outside ISO C, and for whatever else breaks IEC 60559. clang's flags of that kind leave no trace
 * that a preprocessor sees: there the pragma has the last word on sums and products. */
#if defined(__clang__)
#pragma clang fp contract(off) reassociate(off)
#else
/* Not by its type, which stays double. */
_Static_assert(1.0 + 0x1p-40 != 1.0, "libattention can't be built with -fsingle-precision-constant");
#endif
#if !defined(__clang__) && defined(__GCC_IEC_559) && __GCC_IEC_559 < 1
#error "libattention needs -ffp-contract=off, and no other flag that breaks IEC 60559"
#endif

#endif

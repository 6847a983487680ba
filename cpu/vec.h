/* The vector layer for one dtype on the instruction set that this object is built for. A template, see vec_names.h. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/vec_names.h"

#undef REAL_MANTISSA_BITS
#undef REAL_EXPONENT_BIAS
#undef REAL_ROUNDER
#if REAL_BITS == 32
typedef float real;
#define REAL_MANTISSA_BITS 23
#define REAL_EXPONENT_BIAS 127
#define REAL_ROUNDER 0x1.8p23f /* x + this - this rounds x to an integer */
#else
typedef double real;
#define REAL_MANTISSA_BITS 52
#define REAL_EXPONENT_BIAS 1023
#define REAL_ROUNDER 0x1.8p52
#endif

#if defined(ATTN_ISA_AVX512)
#include "cpu/vec_avx512.h"
#elif defined(ATTN_ISA_AVX2)
#include "cpu/vec_avx2.h"
#else
#include "cpu/vec_scalar.h"
#endif

#include "cpu/vec_math.h"

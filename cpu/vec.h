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
#define REAL_ROUNDER 0x1.8p23f /* x + this - this rounds x to an integer, for a run rounds to nearest (float_environment.h) */
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

static inline vec v_sum_each(const vec *v) {
    vec folded[VEC_LANES / V_FOLD];
    UNROLL for (size_t i = 0; i < VEC_LANES; i += V_FOLD) folded[i / V_FOLD] = v_fold(v + i);
    return v_join(folded);
}

#include "cpu/vec_math.h"

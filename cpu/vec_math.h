/* exp and tanh over the vector layer. A template, see vec_names.h.
 *
 * Largest errors found over all 2^32 floats (float64: over samples) stand in docs/numerics.md.
 *   v_exp: NaN stays NaN, overflow gives inf, -inf gives 0, results below the normal numbers round once; exp(0) = 1.
 *   v_tanh: odd, NaN stays NaN, +-1 from saturation on, never beyond; the relative error holds down to 0. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/vec_math_tables.h"

#undef LN2_HIGH
#undef LN2_LOW
#undef EXP_LOWEST
#undef EXP_HIGHEST
#undef TANH_SATURATION
#if REAL_BITS == 32
#define LN2_HIGH 0x1.62e4p-1f /* few enough bits that its product with an exponent is exact */
#define LN2_LOW 0x1.7f7d1cp-20f
#define EXP_LOWEST (-104.0f) /* rounds to 0 */
#define EXP_HIGHEST 89.0f    /* overflows */
#define TANH_SATURATION 9.9f
#else
#define LN2_HIGH 0x1.62e42fefa38p-1
#define LN2_LOW 0x1.ef35793c7673p-45
#define EXP_LOWEST (-746.0)
#define EXP_HIGHEST 710.0
#define TANH_SATURATION 20.0
#endif

/* x = n ln 2 + r; answers expm1(r), with n in *n. |x| stays below 2^(REAL_MANTISSA_BITS - 2). */
static inline vec NAMED(v_reduced_expm1)(vec x, vec *n) {
    const real *p = NAMED(attn_expm1);
    vec rounder = v_set1(REAL_ROUNDER);
    *n = v_sub(v_fma(x, v_set1((real)0x1.71547652b82fep+0), rounder), rounder);
    vec r = v_fnma(*n, v_set1(LN2_LOW), v_fnma(*n, v_set1(LN2_HIGH), x));
    enum { degree = (int)(sizeof(NAMED(attn_expm1)) / sizeof(real)) - 1 };
    vec sum = v_set1(p[degree]);
    for (int k = degree; k-- > 0;) sum = v_fma(sum, r, v_set1(p[k]));
    return v_fma(v_mul(r, r), sum, r);
}

static inline vec v_exp(vec x) {
    x = v_min(v_set1(EXP_HIGHEST), v_max(v_set1(EXP_LOWEST), x));
    vec n, e = NAMED(v_reduced_expm1)(x, &n);
    return v_scale(v_add(e, v_set1(1)), n);
}

#if REAL_BITS == 32 && VEC_BITS == 512
static inline vec NAMED(v_entry)(const float *row, __m512i index) {
    return _mm512_permutex2var_ps(_mm512_load_ps(row), index, _mm512_load_ps(row + 16));
}

/* By table: the interval's coefficients come from two registers through one permutation each. */
static inline vec v_tanh(vec x) {
    vec y = v_min(v_set1(TANH_SATURATION), v_abs(x));
    __m512i first = _mm512_set1_epi32(ATTN_TANH_FIRST),
            steps = _mm512_srli_epi32(_mm512_castps_si512(y), ATTN_TANH_SHIFT);
    __mmask16 inner = _mm512_cmpgt_epi32_mask(steps, first);
    __m512i index = _mm512_maskz_sub_epi32(inner, steps, first);
    __m512i left = _mm512_maskz_slli_epi32(inner, steps, ATTN_TANH_SHIFT);
    vec t = v_sub(y, _mm512_castsi512_ps(left)), sum = NAMED(v_entry)(attn_tanh_f32[6], index);
    for (int k = 5; k >= 0; k--) sum = v_fma(sum, t, NAMED(v_entry)(attn_tanh_f32[k], index));
    return v_copysign(sum, x);
}
#else
/* expm1(2|x|) / (expm1(2|x|) + 2). */
static inline vec v_tanh(vec x) {
    vec y = v_min(v_set1(2 * TANH_SATURATION), v_mul(v_set1(2), v_abs(x)));
    vec n, e = NAMED(v_reduced_expm1)(y, &n), one = v_set1(1);
    vec scale = v_scale(one, n);
    e = v_fma(scale, e, v_sub(scale, one));
    return v_copysign(v_div(e, v_add(e, v_set1(2))), x);
}
#endif

/* The vector layer on AVX-512: 512 bits. A template, see vec_names.h. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/intrinsics_avx512.h"

#undef VEC_BITS
#define VEC_BITS 512

#undef MM
#undef MM_MASK
#undef V_GT
#if REAL_BITS == 32
typedef __m512 vec;
#define MM(operation) _mm512_##operation##_ps
#define MM_MASK(x) ((__mmask16)(x))
#define V_GT(x, y) _mm512_cmp_ps_mask(x, y, _CMP_GT_OQ)

static inline real v_sum(vec a) {
    __m256 y = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

static inline real v_max_lanes(vec a) {
    __m256 y = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

static inline vec v_load_fours(const real *p) { return _mm512_broadcast_f32x4(_mm_loadu_ps(p)); }

/* Each 128-bit quarter k holds, for i < 4, the sum of quarter k of v[i]. */
static inline vec v_fold(const vec *v) {
    vec a = _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
    vec b = _mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
    return _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xee));
}

static inline vec v_join(const vec *v) {
    vec x = _mm512_add_ps(_mm512_shuffle_f32x4(v[0], v[1], 0x88), _mm512_shuffle_f32x4(v[0], v[1], 0xdd));
    vec y = _mm512_add_ps(_mm512_shuffle_f32x4(v[2], v[3], 0x88), _mm512_shuffle_f32x4(v[2], v[3], 0xdd));
    return _mm512_add_ps(_mm512_shuffle_f32x4(x, y, 0x88), _mm512_shuffle_f32x4(x, y, 0xdd));
}

static inline vec v_even(vec a, vec b) {
    return _mm512_permutex2var_ps(a, _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30), b);
}
static inline vec v_odd(vec a, vec b) {
    return _mm512_permutex2var_ps(a, _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31), b);
}
#else
typedef __m512d vec;
#define MM(operation) _mm512_##operation##_pd
#define MM_MASK(x) ((__mmask8)(x))
#define V_GT(x, y) _mm512_cmp_pd_mask(x, y, _CMP_GT_OQ)

static inline real v_sum(vec a) {
    __m256d y = _mm256_add_pd(_mm512_castpd512_pd256(a), _mm512_extractf64x4_pd(a, 1));
    __m128d x = _mm_add_pd(_mm256_castpd256_pd128(y), _mm256_extractf128_pd(y, 1));
    return _mm_cvtsd_f64(_mm_add_sd(x, _mm_unpackhi_pd(x, x)));
}

static inline real v_max_lanes(vec a) {
    __m256d y = _mm256_max_pd(_mm512_castpd512_pd256(a), _mm512_extractf64x4_pd(a, 1));
    __m128d x = _mm_max_pd(_mm256_castpd256_pd128(y), _mm256_extractf128_pd(y, 1));
    return _mm_cvtsd_f64(_mm_max_sd(x, _mm_unpackhi_pd(x, x)));
}

static inline vec v_load_fours(const real *p) { return _mm512_broadcast_f64x4(_mm256_loadu_pd(p)); }

/* Each 256-bit half k holds, for i < 4, the sum of half k of v[i]. */
static inline vec v_fold(const vec *v) {
    vec a = _mm512_add_pd(_mm512_unpacklo_pd(v[0], v[1]), _mm512_unpackhi_pd(v[0], v[1]));
    vec b = _mm512_add_pd(_mm512_unpacklo_pd(v[2], v[3]), _mm512_unpackhi_pd(v[2], v[3]));
    const __m512i even = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13),
                  odd = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
    return _mm512_add_pd(_mm512_permutex2var_pd(a, even, b), _mm512_permutex2var_pd(a, odd, b));
}

static inline vec v_join(const vec *v) {
    return _mm512_add_pd(_mm512_shuffle_f64x2(v[0], v[1], 0x44), _mm512_shuffle_f64x2(v[0], v[1], 0xee));
}

static inline vec v_even(vec a, vec b) {
    return _mm512_permutex2var_pd(a, _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14), b);
}
static inline vec v_odd(vec a, vec b) {
    return _mm512_permutex2var_pd(a, _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15), b);
}
#endif

#undef V_FIRST
#define V_FIRST(n) MM_MASK((1U << (n)) - 1U)

static inline vec v_zero(void) { return MM(setzero)(); }
static inline vec v_set1(real x) { return MM(set1)(x); }
static inline vec v_load(const real *p) { return MM(loadu)(p); }
static inline vec v_load_n(const real *p, size_t n) { return MM(maskz_loadu)(V_FIRST(n), p); }
static inline void v_store(real *p, vec a) { MM(storeu)(p, a); }
static inline void v_store_n(real *p, vec a, size_t n) { MM(mask_storeu)(p, V_FIRST(n), a); }
static inline vec v_keep_n(vec a, size_t n, vec b) { return MM(mask_mov)(b, V_FIRST(n), a); }
static inline vec v_put_four(vec a, vec b, int i) { return MM(mask_mov)(a, MM_MASK(0xfU << (4 * i)), b); }
static inline vec v_add(vec a, vec b) { return MM(add)(a, b); }
static inline vec v_sub(vec a, vec b) { return MM(sub)(a, b); }
static inline vec v_mul(vec a, vec b) { return MM(mul)(a, b); }
static inline vec v_div(vec a, vec b) { return MM(div)(a, b); }
static inline vec v_fma(vec a, vec b, vec c) { return MM(fmadd)(a, b, c); }
static inline vec v_fnma(vec a, vec b, vec c) { return MM(fnmadd)(a, b, c); }
static inline vec v_max(vec a, vec b) { return MM(max)(a, b); }
static inline vec v_min(vec a, vec b) { return MM(min)(a, b); }
static inline vec v_abs(vec a) { return MM(andnot)(MM(set1)((real)-0.0), a); }
static inline vec v_copysign(vec magnitude, vec sign) {
    vec bit = MM(set1)((real)-0.0);
    return MM(or)(MM(andnot)(bit, magnitude), MM(and)(bit, sign));
}
static inline vec v_select_gt(vec x, vec y, vec a, vec b) { return MM(mask_mov)(b, V_GT(x, y), a); }
static inline int v_any_gt(vec x, vec y) { return V_GT(x, y) != 0; }
static inline vec v_scale(vec a, vec n) { return MM(scalef)(a, n); }

/* The vector layer on AVX2 and FMA: 256 bits. A template, see vec_names.h. */
/* SPDX-License-Identifier: Apache-2.0 */
#if !defined(__AVX2__) || !defined(__FMA__)
#error "vec_avx2.h needs -mavx2 -mfma"
#endif

#include <immintrin.h>

#undef VEC_BITS
#define VEC_BITS 256

#undef MM
#undef MM_SI
#undef MM_CAST_SI
#if REAL_BITS == 32
typedef __m256 vec;
#define MM(operation) _mm256_##operation##_ps
#define MM_SI(operation) _mm256_##operation##_epi32
#define MM_CAST_SI _mm256_castps_si256

/* Lanes below n have their sign bit set. */
static inline __m256i NAMED(v_first)(size_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static inline real v_sum(vec a) {
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

static inline real v_max_lanes(vec a) {
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

static inline vec v_load_fours(const real *p) { return _mm256_broadcast_ps((const __m128 *)p); }
static inline vec v_put_four(vec a, vec b, int i) {
    return i == 0 ? _mm256_blend_ps(a, b, 0x0f) : _mm256_blend_ps(a, b, 0xf0);
}

/* Each 128-bit half k holds, for i < 4, the sum of half k of v[i]. */
static inline vec v_fold(const vec *v) {
    return _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
}

static inline vec v_join(const vec *v) {
    return _mm256_add_ps(_mm256_permute2f128_ps(v[0], v[1], 0x20), _mm256_permute2f128_ps(v[0], v[1], 0x31));
}
#else
typedef __m256d vec;
#define MM(operation) _mm256_##operation##_pd
#define MM_SI(operation) _mm256_##operation##_epi64
#define MM_CAST_SI _mm256_castpd_si256

static inline __m256i NAMED(v_first)(size_t n) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x((long long)n), _mm256_setr_epi64x(0, 1, 2, 3));
}

static inline real v_sum(vec a) {
    __m128d x = _mm_add_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));
    return _mm_cvtsd_f64(_mm_add_sd(x, _mm_unpackhi_pd(x, x)));
}

static inline real v_max_lanes(vec a) {
    __m128d x = _mm_max_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));
    return _mm_cvtsd_f64(_mm_max_sd(x, _mm_unpackhi_pd(x, x)));
}

static inline vec v_load_fours(const real *p) { return _mm256_loadu_pd(p); }
static inline vec v_put_four(vec a, vec b, int i) { return i == 0 ? b : a; }

static inline vec v_fold(const vec *v) {
    vec a = _mm256_hadd_pd(v[0], v[1]), b = _mm256_hadd_pd(v[2], v[3]);
    return _mm256_add_pd(_mm256_permute2f128_pd(a, b, 0x20), _mm256_permute2f128_pd(a, b, 0x31));
}

static inline vec v_join(const vec *v) { return *v; }
#endif

static inline vec v_zero(void) { return MM(setzero)(); }
static inline vec v_set1(real x) { return MM(set1)(x); }
static inline vec v_load(const real *p) { return MM(loadu)(p); }
static inline vec v_load_n(const real *p, size_t n) { return MM(maskload)(p, NAMED(v_first)(n)); }
static inline void v_store(real *p, vec a) { MM(storeu)(p, a); }
static inline void v_store_n(real *p, vec a, size_t n) { MM(maskstore)(p, NAMED(v_first)(n), a); }
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
static inline vec v_select_gt(vec x, vec y, vec a, vec b) { return MM(blendv)(b, a, MM(cmp)(x, y, _CMP_GT_OQ)); }
static inline int v_any_gt(vec x, vec y) { return MM(movemask)(MM(cmp)(x, y, _CMP_GT_OQ)) != 0; }

/* 2^k for integral k of a normal result: adding REAL_ROUNDER leaves k in the low bits. */
static inline vec v_pow2(vec k) {
    __m256i bits = MM_CAST_SI(v_add(k, v_set1(REAL_ROUNDER)));
#if REAL_BITS == 32
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(REAL_EXPONENT_BIAS)), REAL_MANTISSA_BITS));
#else
    return _mm256_castsi256_pd(
        _mm256_slli_epi64(_mm256_add_epi64(bits, _mm256_set1_epi64x(REAL_EXPONENT_BIAS)), REAL_MANTISSA_BITS));
#endif
}

/* In two steps, so that neither factor leaves the range of normal numbers. */
static inline vec v_scale(vec a, vec n) {
    vec rounder = v_set1(REAL_ROUNDER);
    vec half = v_sub(v_fma(n, v_set1((real)0.5), rounder), rounder);
    return v_mul(v_mul(a, v_pow2(half)), v_pow2(v_sub(n, half)));
}

static inline vec v_keep_n(vec a, size_t n, vec b) {
#if REAL_BITS == 32
    return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(NAMED(v_first)(n)));
#else
    return _mm256_blendv_pd(b, a, _mm256_castsi256_pd(NAMED(v_first)(n)));
#endif
}

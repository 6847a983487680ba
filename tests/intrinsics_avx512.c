/* SPDX-License-Identifier: Apache-2.0 */
/* The intrinsics of AVX-512 that the kernels use, lane by lane against their definitions: what the tests' emulation makes of
 * them on machines without AVX-512, and on the others the processor itself. */
#include "tests/intrinsics_avx512.h"

#include "cpu/intrinsics_avx512.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Lanes that tell one another apart, and the values at which operations differ. */
static const float singles[2][16] = {
    {1, -2, 3.5f, -0.0f, 0.0f, INFINITY, -INFINITY, NAN, 7, 0x1p-149f, -0x1.fffffep127f, 11, 0x1.000002p0f, 0x1p-126f,
     15, -16},
    {1, 3, NAN, 0.0f, -0.0f, 1, -INFINITY, 2, NAN, 0x1p-149f, 0x1.fffffep127f, -5, 0x1.000002p0f, -0x1p-126f, 15.5f,
     17},
};
static const double doubles[4][8] = {
    {1, -2, -0.0, INFINITY, NAN, 0x1p-1074, 0x1.0000000000001p0, -16},
    {3, -2, 0.0, 1, 2, -0x1p-1074, 0x1.0000000000001p0, 17},
    {-INFINITY, 0.0, DBL_MAX, 5, 6, 7, DBL_MIN, 9},
    {NAN, -0.0, DBL_MAX, -5, 6.5, NAN, -DBL_MIN, 10},
};

/* The same bits, or both NaN: which of two NaN comes through is no matter here. */
static bool same_ps(const float *a, const float *b, int n) {
    for (int i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], sizeof *a) && !(isnan(a[i]) && isnan(b[i]))) return false;
    return true;
}

static bool same_pd(const double *a, const double *b, int n) {
    for (int i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], sizeof *a) && !(isnan(a[i]) && isnan(b[i]))) return false;
    return true;
}

/* ---- float32 ----------------------------------------------------------------------------------------------------------- */

/* What is to be after `expression`, lane i. */
#define EACH_PS(name, result, expected)                                                                                \
    do {                                                                                                               \
        float got_[16], want_[16];                                                                                     \
        _mm512_storeu_ps(got_, result);                                                                                \
        for (int i = 0; i < 16; i++) want_[i] = (expected);                                                            \
        if (!same_ps(got_, want_, 16)) return name;                                                                    \
    } while (0)

static uint32_t bits_ps(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float from_bits_ps(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static const char *check_arithmetic_ps(void) {
    const float *p = singles[0], *q = singles[1];
    const __m512 a = _mm512_loadu_ps(p), b = _mm512_loadu_ps(q);
    EACH_PS("loadu_ps", a, p[i]);
    EACH_PS("setzero_ps", _mm512_setzero_ps(), 0);
    EACH_PS("set1_ps", _mm512_set1_ps(-3.5f), -3.5f);
    EACH_PS("add_ps", _mm512_add_ps(a, b), p[i] + q[i]);
    EACH_PS("sub_ps", _mm512_sub_ps(a, b), p[i] - q[i]);
    EACH_PS("mul_ps", _mm512_mul_ps(a, b), p[i] * q[i]);
    EACH_PS("div_ps", _mm512_div_ps(a, b), p[i] / q[i]);
    EACH_PS("max_ps", _mm512_max_ps(a, b), p[i] > q[i] ? p[i] : q[i]);
    EACH_PS("min_ps", _mm512_min_ps(a, b), p[i] < q[i] ? p[i] : q[i]);
    EACH_PS("and_ps", _mm512_and_ps(a, b), from_bits_ps(bits_ps(p[i]) & bits_ps(q[i])));
    EACH_PS("or_ps", _mm512_or_ps(a, b), from_bits_ps(bits_ps(p[i]) | bits_ps(q[i])));
    EACH_PS("andnot_ps", _mm512_andnot_ps(a, b), from_bits_ps(~bits_ps(p[i]) & bits_ps(q[i])));
    /* 1 + 2^-23 squared ends in 2^-46, which a product rounded by itself loses. */
    const __m512 near_one = _mm512_set1_ps(0x1.000002p0f), one = _mm512_set1_ps(1);
    EACH_PS("fmadd_ps", _mm512_fmadd_ps(near_one, near_one, _mm512_sub_ps(_mm512_setzero_ps(), one)), 0x1.000001p-22f);
    EACH_PS("fnmadd_ps", _mm512_fnmadd_ps(near_one, near_one, one), -0x1.000001p-22f);
    EACH_PS("fmadd_ps", _mm512_fmadd_ps(a, b, one), fmaf(p[i], q[i], 1));
    EACH_PS("fnmadd_ps", _mm512_fnmadd_ps(a, b, one), fmaf(-p[i], q[i], 1));
    const __mmask16 greater = _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ);
    for (int i = 0; i < 16; i++)
        if ((greater >> i & 1) != (p[i] > q[i])) return "cmp_ps_mask";
    EACH_PS("mask_mov_ps", _mm512_mask_mov_ps(a, 0x8f3c, b), 0x8f3c >> i & 1 ? q[i] : p[i]);
    return NULL;
}

/* a 2^floor(n), rounded once, whatever either is. */
static const char *check_scale_ps(void) {
    static const float values[] = {1,    -1.5f, 0x1.fffffep127f, 0x1p-126f, 0x1.8p-149f, 0x1.fffffep-127f,
                                   0.0f, -0.0f, INFINITY,        -INFINITY, NAN,         0x1.555556p0f};
    static const float powers[] = {0,    1,    -1,   127,   128,  150,      254,       -126, -127,  -130,   -149,
                                   -150, -151, -252, -1000, 1000, INFINITY, -INFINITY, NAN,  0.75f, -0.25f, -0.0f};
    for (size_t v = 0; v < sizeof values / sizeof *values; v++)
        for (size_t n = 0; n < sizeof powers / sizeof *powers; n++) {
            const float x = values[v], power = powers[n];
            float want;
            if (isnan(x) || isnan(power))
                want = isnan(x) && isinf(power) ? power > 0 ? INFINITY : 0.0f : NAN;
            else if (isinf(power))
                want = power > 0 ? x * INFINITY : isinf(x) ? NAN : copysignf(0, x);
            else
                want = (float)((long double)x * exp2l(floorl((long double)power)));
            EACH_PS("scalef_ps", _mm512_scalef_ps(_mm512_set1_ps(x), _mm512_set1_ps(power)), want);
        }
    return NULL;
}

/* The lanes of a are 0 to 15, those of b 16 to 31: a lane's value says where it came from. */
static const char *check_moves_ps(void) {
    float p[16], half[8], four[4] = {3, 1, 4, 2};
    for (int i = 0; i < 16; i++) p[i] = (float)i;
    const __m512 a = _mm512_loadu_ps(p), b = _mm512_add_ps(a, _mm512_set1_ps(16));
    EACH_PS("unpacklo_ps", _mm512_unpacklo_ps(a, b), (float)(i / 4 * 4 + i % 4 / 2 + i % 2 * 16));
    EACH_PS("unpackhi_ps", _mm512_unpackhi_ps(a, b), (float)(i / 4 * 4 + i % 4 / 2 + 2 + i % 2 * 16));
    EACH_PS("shuffle_ps", _mm512_shuffle_ps(a, b, 0x44), (float)(i / 4 * 4 + (0x44 >> i % 4 * 2 & 3) + i % 4 / 2 * 16));
    EACH_PS("shuffle_ps", _mm512_shuffle_ps(a, b, 0xee), (float)(i / 4 * 4 + (0xee >> i % 4 * 2 & 3) + i % 4 / 2 * 16));
    EACH_PS("shuffle_f32x4", _mm512_shuffle_f32x4(a, b, 0x88),
            (float)((0x88 >> i / 4 * 2 & 3) * 4 + i % 4 + i / 8 * 16));
    EACH_PS("shuffle_f32x4", _mm512_shuffle_f32x4(a, b, 0xdd),
            (float)((0xdd >> i / 4 * 2 & 3) * 4 + i % 4 + i / 8 * 16));
    EACH_PS("broadcast_f32x4", _mm512_broadcast_f32x4(_mm_loadu_ps(four)), four[i % 4]);
    _mm256_storeu_ps(half, _mm512_castps512_ps256(a));
    if (!same_ps(half, p, 8)) return "castps512_ps256";
    _mm256_storeu_ps(half, _mm512_extractf32x8_ps(a, 1));
    if (!same_ps(half, p + 8, 8)) return "extractf32x8_ps";
    const __m512i index =
        _mm512_setr_epi32(31, 0, 16, 15, 2, 4, 6, 8, 17, 19, 21, 23, 30, 1, 47, 5); /* 47: 15, mod 32 */
    static const float taken[16] = {31, 0, 16, 15, 2, 4, 6, 8, 17, 19, 21, 23, 30, 1, 15, 5};
    EACH_PS("permutex2var_ps", _mm512_permutex2var_ps(a, index, b), taken[i]);
    return NULL;
}

static const char *check_integers(void) {
    static const uint32_t p[16] = {0, 1, 0x80000000, 0x7fffffff, 0xffffffff, 5,  6,  0x12345678,
                                   8, 9, 10,         11,         12,         13, 14, 15};
    _Alignas(64) float floats[16];
    memcpy(floats, p, sizeof floats);
    const __m512i a = _mm512_castps_si512(_mm512_load_ps(floats)), five = _mm512_set1_epi32(5);
    EACH_PS("srli_epi32", _mm512_castsi512_ps(_mm512_srli_epi32(a, 7)), from_bits_ps(p[i] >> 7));
    const __mmask16 greater = _mm512_cmpgt_epi32_mask(a, five);
    for (int i = 0; i < 16; i++)
        if ((greater >> i & 1) != ((int32_t)p[i] > 5)) return "cmpgt_epi32_mask";
    EACH_PS("maskz_sub_epi32", _mm512_castsi512_ps(_mm512_maskz_sub_epi32(0x35ca, a, five)),
            from_bits_ps(0x35ca >> i & 1 ? p[i] - 5 : 0));
    EACH_PS("maskz_slli_epi32", _mm512_castsi512_ps(_mm512_maskz_slli_epi32(0x35ca, a, 7)),
            from_bits_ps(0x35ca >> i & 1 ? p[i] << 7 : 0));
    return NULL;
}

/* The first n lanes end where the page does, so that a load or a store of one more would fault; and lanes between. */
static const char *check_memory_ps(char *page) {
    const __m512 a = _mm512_loadu_ps(singles[0]);
    for (unsigned n = 0; n <= 16; n++) {
        float *p = (float *)(void *)page - n;
        memcpy(p, singles[1], n * sizeof *p);
        const unsigned mask = (1U << n) - 1, sparse = mask & 0xa5c9;
        EACH_PS("maskz_loadu_ps", _mm512_maskz_loadu_ps((__mmask16)mask, p), i < (int)n ? singles[1][i] : 0);
        EACH_PS("maskz_loadu_ps", _mm512_maskz_loadu_ps((__mmask16)sparse, p), sparse >> i & 1 ? singles[1][i] : 0);
        _mm512_mask_storeu_ps(p, (__mmask16)sparse, a);
        for (int i = 0; i < (int)n; i++)
            if (!same_ps(&p[i], &singles[!(sparse >> i & 1)][i], 1)) return "mask_storeu_ps";
        _mm512_mask_storeu_ps(p, (__mmask16)mask, a);
        if (!same_ps(p, singles[0], (int)n)) return "mask_storeu_ps";
    }
    return NULL;
}

/* ---- float64 ----------------------------------------------------------------------------------------------------------- */

#define EACH_PD(name, result, expected)                                                                                \
    do {                                                                                                               \
        double got_[8], want_[8];                                                                                      \
        _mm512_storeu_pd(got_, result);                                                                                \
        for (int i = 0; i < 8; i++) want_[i] = (expected);                                                             \
        if (!same_pd(got_, want_, 8)) return name;                                                                     \
    } while (0)

static uint64_t bits_pd(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static double from_bits_pd(uint64_t bits) {
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static const char *check_arithmetic_pd(const double *p, const double *q) {
    const __m512d a = _mm512_loadu_pd(p), b = _mm512_loadu_pd(q);
    EACH_PD("loadu_pd", a, p[i]);
    EACH_PD("setzero_pd", _mm512_setzero_pd(), 0);
    EACH_PD("set1_pd", _mm512_set1_pd(-3.5), -3.5);
    EACH_PD("add_pd", _mm512_add_pd(a, b), p[i] + q[i]);
    EACH_PD("sub_pd", _mm512_sub_pd(a, b), p[i] - q[i]);
    EACH_PD("mul_pd", _mm512_mul_pd(a, b), p[i] * q[i]);
    EACH_PD("div_pd", _mm512_div_pd(a, b), p[i] / q[i]);
    EACH_PD("max_pd", _mm512_max_pd(a, b), p[i] > q[i] ? p[i] : q[i]);
    EACH_PD("min_pd", _mm512_min_pd(a, b), p[i] < q[i] ? p[i] : q[i]);
    EACH_PD("and_pd", _mm512_and_pd(a, b), from_bits_pd(bits_pd(p[i]) & bits_pd(q[i])));
    EACH_PD("or_pd", _mm512_or_pd(a, b), from_bits_pd(bits_pd(p[i]) | bits_pd(q[i])));
    EACH_PD("andnot_pd", _mm512_andnot_pd(a, b), from_bits_pd(~bits_pd(p[i]) & bits_pd(q[i])));
    const __m512d near_one = _mm512_set1_pd(0x1.0000000000001p0), one = _mm512_set1_pd(1);
    EACH_PD("fmadd_pd", _mm512_fmadd_pd(near_one, near_one, _mm512_sub_pd(_mm512_setzero_pd(), one)),
            0x1.00000000000008p-51);
    EACH_PD("fnmadd_pd", _mm512_fnmadd_pd(near_one, near_one, one), -0x1.00000000000008p-51);
    EACH_PD("fmadd_pd", _mm512_fmadd_pd(a, b, one), fma(p[i], q[i], 1));
    EACH_PD("fnmadd_pd", _mm512_fnmadd_pd(a, b, one), fma(-p[i], q[i], 1));
    const __mmask8 greater = _mm512_cmp_pd_mask(a, b, _CMP_GT_OQ);
    for (int i = 0; i < 8; i++)
        if ((greater >> i & 1) != (p[i] > q[i])) return "cmp_pd_mask";
    EACH_PD("mask_mov_pd", _mm512_mask_mov_pd(a, 0xb2, b), 0xb2 >> i & 1 ? q[i] : p[i]);
    return NULL;
}

static const char *check_scale_pd(void) {
    static const double values[] = {1,   -1.5, DBL_MAX,  DBL_MIN,   0x1.8p-1074, 0x1.fffffffffffffp-1023,
                                    0.0, -0.0, INFINITY, -INFINITY, NAN,         0x1.5555555555555p0};
    static const double powers[] = {0,     1,     -1,    1023,   1024,  1100,     2046,      -1022, -1023, -1030, -1074,
                                    -1075, -1076, -2044, -10000, 10000, INFINITY, -INFINITY, NAN,   0.75,  -0.25, -0.0};
    for (size_t v = 0; v < sizeof values / sizeof *values; v++)
        for (size_t n = 0; n < sizeof powers / sizeof *powers; n++) {
            const double x = values[v], power = powers[n];
            double want;
            if (isnan(x) || isnan(power))
                want = isnan(x) && isinf(power) ? power > 0 ? INFINITY : 0.0 : NAN;
            else if (isinf(power))
                want = power > 0 ? x * (double)INFINITY : isinf(x) ? (double)NAN : copysign(0, x);
            else
                want = (double)((long double)x * exp2l(floorl((long double)power)));
            EACH_PD("scalef_pd", _mm512_scalef_pd(_mm512_set1_pd(x), _mm512_set1_pd(power)), want);
        }
    return NULL;
}

static const char *check_moves_pd(void) {
    double p[8], half[4], four[4] = {3, 1, 4, 2};
    for (int i = 0; i < 8; i++) p[i] = i;
    const __m512d a = _mm512_loadu_pd(p), b = _mm512_add_pd(a, _mm512_set1_pd(8));
    EACH_PD("unpacklo_pd", _mm512_unpacklo_pd(a, b), i / 2 * 2 + i % 2 * 8);
    EACH_PD("unpackhi_pd", _mm512_unpackhi_pd(a, b), i / 2 * 2 + 1 + i % 2 * 8);
    EACH_PD("shuffle_f64x2", _mm512_shuffle_f64x2(a, b, 0x44), (0x44 >> i / 2 * 2 & 3) * 2 + i % 2 + i / 4 * 8);
    EACH_PD("shuffle_f64x2", _mm512_shuffle_f64x2(a, b, 0xee), (0xee >> i / 2 * 2 & 3) * 2 + i % 2 + i / 4 * 8);
    EACH_PD("broadcast_f64x4", _mm512_broadcast_f64x4(_mm256_loadu_pd(four)), four[i % 4]);
    _mm256_storeu_pd(half, _mm512_castpd512_pd256(a));
    if (!same_pd(half, p, 4)) return "castpd512_pd256";
    _mm256_storeu_pd(half, _mm512_extractf64x4_pd(a, 1));
    if (!same_pd(half, p + 4, 4)) return "extractf64x4_pd";
    static const double taken[8] = {15, 0, 8, 7, 2, 9, 14, 5};
    const __m512i index = _mm512_setr_epi64(15, 0, 8, 7, 2, 9, 14, 21); /* 21: 5, mod 16 */
    EACH_PD("permutex2var_pd", _mm512_permutex2var_pd(a, index, b), taken[i]);
    return NULL;
}

static const char *check_memory_pd(char *page) {
    const __m512d a = _mm512_loadu_pd(doubles[0]);
    for (unsigned n = 0; n <= 8; n++) {
        double *p = (double *)(void *)page - n;
        memcpy(p, doubles[1], n * sizeof *p);
        const unsigned mask = (1U << n) - 1, sparse = mask & 0xa9;
        EACH_PD("maskz_loadu_pd", _mm512_maskz_loadu_pd((__mmask8)mask, p), i < (int)n ? doubles[1][i] : 0);
        EACH_PD("maskz_loadu_pd", _mm512_maskz_loadu_pd((__mmask8)sparse, p), sparse >> i & 1 ? doubles[1][i] : 0);
        _mm512_mask_storeu_pd(p, (__mmask8)sparse, a);
        for (int i = 0; i < (int)n; i++)
            if (!same_pd(&p[i], &doubles[!(sparse >> i & 1)][i], 1)) return "mask_storeu_pd";
        _mm512_mask_storeu_pd(p, (__mmask8)mask, a);
        if (!same_pd(p, doubles[0], (int)n)) return "mask_storeu_pd";
    }
    return NULL;
}

const char *attn_check_intrinsics(char *page) {
    const char *wrong = check_arithmetic_ps();
    if (!wrong) wrong = check_scale_ps();
    if (!wrong) wrong = check_moves_ps();
    if (!wrong) wrong = check_integers();
    if (!wrong) wrong = check_memory_ps(page);
    for (int i = 0; i < 4 && !wrong; i += 2) wrong = check_arithmetic_pd(doubles[i], doubles[i + 1]);
    if (!wrong) wrong = check_scale_pd();
    if (!wrong) wrong = check_moves_pd();
    if (!wrong) wrong = check_memory_pd(page);
    return wrong;
}

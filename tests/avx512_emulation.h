/* AVX-512 on machines that have AVX2 and FMA alone, for tests: the intrinsics that the kernels use come from SIMDe, and from
 * here where it has none or another meaning. suite_intrinsics holds each to its definition.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_AVX512_EMULATION_H
#define TESTS_AVX512_EMULATION_H

#if !defined(__AVX2__) || !defined(__FMA__)
#error "the emulation needs -mavx2 -mfma: a product and a sum are rounded once by the latter alone"
#endif

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

#include <math.h>

/* Not inlined, or the kernels, which repeat what they call in each of their sizes, take the compiler minutes. */
#define EMULATED static __attribute__((noinline, unused))

/* No register holds a vector here. */
#define KEEP_LOADED(vector) __asm__("" : "+m"(vector))

/* ---- Memory: what the mask leaves out is not touched ------------------------------------------------------------------- */

EMULATED __m512 emulated_maskz_loadu_ps(__mmask16 mask, const float *p) {
    __m512 r = simde_mm512_setzero_ps();
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1) r[i] = p[i];
    return r;
}

EMULATED __m512d emulated_maskz_loadu_pd(__mmask8 mask, const double *p) {
    __m512d r = simde_mm512_setzero_pd();
    for (int i = 0; i < 8; i++)
        if (mask >> i & 1) r[i] = p[i];
    return r;
}

EMULATED void emulated_mask_storeu_ps(float *p, __mmask16 mask, __m512 a) {
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1) p[i] = a[i];
}

EMULATED void emulated_mask_storeu_pd(double *p, __mmask8 mask, __m512d a) {
    for (int i = 0; i < 8; i++)
        if (mask >> i & 1) p[i] = a[i];
}

/* ---- Arithmetic -------------------------------------------------------------------------------------------------------- */

/* a 2^floor(n), rounded once. SIMDe's takes subnormal numbers for 0, and a factor that overflows for the result. */
static inline double emulated_scale(double a, double n) {
    if (isnan(a) && isinf(n)) return n > 0 ? (double)INFINITY : 0; /* which the instruction makes of quiet NaN */
    if (isnan(a) || isnan(n)) return a + n;
    if (isinf(n)) return n > 0 ? a * (double)INFINITY : a / (double)INFINITY;
    const double limit = 5000; /* beyond every exponent's range, subnormal numbers to the largest */
    return scalbn(a, (int)floor(n < -limit ? -limit : n > limit ? limit : n));
}

/* In double precision the product is exact, so that the conversion rounds once: no exponent of a float needs more than 600. */
static inline float emulated_scale_single(float a, float n) {
    const float limit = 600;
    if (isnan(a) || isnan(n) || isinf(n)) return (float)emulated_scale((double)a, (double)n);
    return (float)emulated_scale((double)a, (double)(n < -limit ? -limit : n > limit ? limit : n));
}

EMULATED __m512 emulated_scalef_ps(__m512 a, __m512 n) {
    for (int i = 0; i < 16; i++) a[i] = emulated_scale_single(a[i], n[i]);
    return a;
}

EMULATED __m512d emulated_scalef_pd(__m512d a, __m512d n) {
    for (int i = 0; i < 8; i++) a[i] = emulated_scale(a[i], n[i]);
    return a;
}

/* Differences wrap; SIMDe's are of signed numbers, whose overflow is undefined. */
EMULATED __m512i emulated_maskz_sub_epi32(__mmask16 mask, __m512i a, __m512i b) {
    simde__m512i_private r = simde__m512i_to_private(a);
    const simde__m512i_private less = simde__m512i_to_private(b);
    for (int i = 0; i < 16; i++) r.u32[i] = mask >> i & 1 ? r.u32[i] - less.u32[i] : 0;
    return simde__m512i_from_private(r);
}

/* Shifted left lane by lane, 0 where the mask has none. */
EMULATED __m512i emulated_maskz_slli_epi32(__mmask16 mask, __m512i a, unsigned count) {
    simde__m512i_private r = simde__m512i_to_private(a);
    for (int i = 0; i < 16; i++) r.u32[i] = (mask >> i & 1) && count < 32 ? r.u32[i] << count : 0;
    return simde__m512i_from_private(r);
}

/* ---- Lanes moved ------------------------------------------------------------------------------------------------------- */

static inline __m256 emulated_extractf32x8_ps(__m512 a, int which) { return simde__m512_to_private(a).m256[which & 1]; }

/* Quarters of 128 bits: two of a, then two of b, each by two bits of the choice. */
EMULATED __m512 emulated_shuffle_f32x4(__m512 a, __m512 b, int choice) {
    __m512 r = a;
    for (int i = 0; i < 16; i++) {
        const int from = (choice >> (2 * (i / 4)) & 3) * 4 + i % 4;
        r[i] = i < 8 ? a[from] : b[from];
    }
    return r;
}

EMULATED __m512d emulated_shuffle_f64x2(__m512d a, __m512d b, int choice) {
    __m512d r = a;
    for (int i = 0; i < 8; i++) {
        const int from = (choice >> (2 * (i / 2)) & 3) * 2 + i % 2;
        r[i] = i < 4 ? a[from] : b[from];
    }
    return r;
}

#undef _mm512_maskz_loadu_ps
#undef _mm512_maskz_loadu_pd
#undef _mm512_mask_storeu_ps
#undef _mm512_mask_storeu_pd
#undef _mm512_scalef_ps
#undef _mm512_scalef_pd
#undef _mm512_maskz_sub_epi32
#undef _mm512_maskz_slli_epi32
#undef _mm512_extractf32x8_ps
#undef _mm512_shuffle_f32x4
#undef _mm512_shuffle_f64x2
#define _mm512_maskz_loadu_ps emulated_maskz_loadu_ps
#define _mm512_maskz_loadu_pd emulated_maskz_loadu_pd
#define _mm512_mask_storeu_ps emulated_mask_storeu_ps
#define _mm512_mask_storeu_pd emulated_mask_storeu_pd
#define _mm512_scalef_ps emulated_scalef_ps
#define _mm512_scalef_pd emulated_scalef_pd
#define _mm512_maskz_sub_epi32 emulated_maskz_sub_epi32
#define _mm512_maskz_slli_epi32 emulated_maskz_slli_epi32
#define _mm512_extractf32x8_ps emulated_extractf32x8_ps
#define _mm512_shuffle_f32x4 emulated_shuffle_f32x4
#define _mm512_shuffle_f64x2 emulated_shuffle_f64x2

#endif

/* The vector layer in plain C: one lane. A template, see vec_names.h. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ATTN_ISA_SCALAR
#error "vec_scalar.h is for the scalar kernels"
#endif

#undef VEC_BITS
#define VEC_BITS REAL_BITS

typedef real vec;

static inline vec v_zero(void) { return 0; }
static inline vec v_set1(real x) { return x; }
static inline vec v_load(const real *p) { return *p; }
static inline vec v_load_n(const real *p, size_t n) { return n ? *p : 0; }
static inline void v_store(real *p, vec a) { *p = a; }
static inline void v_store_n(real *p, vec a, size_t n) {
    if (n) *p = a;
}
static inline vec v_keep_n(vec a, size_t n, vec b) { return n ? a : b; }
static inline vec v_load_fours(const real *p) { return *p; }
static inline vec v_put_four(vec a, vec b, int i) { return i == 0 ? b : a; }
static inline vec v_add(vec a, vec b) { return a + b; }
static inline vec v_sub(vec a, vec b) { return a - b; }
static inline vec v_mul(vec a, vec b) { return a * b; }
static inline vec v_div(vec a, vec b) { return a / b; }
static inline vec v_fma(vec a, vec b, vec c) { return a * b + c; }
static inline vec v_fnma(vec a, vec b, vec c) { return c - a * b; }
static inline vec v_max(vec a, vec b) { return a > b ? a : b; }
static inline vec v_min(vec a, vec b) { return a < b ? a : b; }
#if REAL_BITS == 32
static inline vec v_abs(vec a) { return __builtin_fabsf(a); }
static inline vec v_copysign(vec magnitude, vec sign) { return __builtin_copysignf(magnitude, sign); }
#else
static inline vec v_abs(vec a) { return __builtin_fabs(a); }
static inline vec v_copysign(vec magnitude, vec sign) { return __builtin_copysign(magnitude, sign); }
#endif
static inline vec v_select_gt(vec x, vec y, vec a, vec b) { return x > y ? a : b; }
static inline int v_any_gt(vec x, vec y) { return x > y; }
static inline real v_sum(vec a) { return a; }
static inline real v_max_lanes(vec a) { return a; }
static inline vec v_fold(const vec *v) { return *v; }
static inline vec v_join(const vec *v) { return *v; }

/* 2^k for integral k of a normal result: adding REAL_ROUNDER leaves k in the low bits. */
static inline vec v_pow2(vec k) {
    union {
        real value;
#if REAL_BITS == 32
        uint32_t bits;
#else
        uint64_t bits;
#endif
    } u = {k + REAL_ROUNDER};
    u.bits = (u.bits + REAL_EXPONENT_BIAS) << REAL_MANTISSA_BITS;
    return u.value;
}

/* In two steps, so that neither factor leaves the range of normal numbers. */
static inline vec v_scale(vec a, vec n) {
    vec half = (n * (real)0.5 + REAL_ROUNDER) - REAL_ROUNDER;
    return a * v_pow2(half) * v_pow2(n - half);
}

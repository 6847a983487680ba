/* Long sums over the lanes of vectors. A template, see vec_names.h.
 *
 * A chain of additions of n terms of one size gathers an error that grows with n; every sum of the
 * kernels that may be long is one of chains of SUM_PART vectors from zero, whose results are added
 * up as halves of halves: that error grows with the logarithm of n. */
/* SPDX-License-Identifier: Apache-2.0 */

#undef SUM_PART
#define SUM_PART 16

/* Of n elements, more than one chain's, how many the first half takes: whole chains. */
static inline size_t NAMED(first_half)(size_t n) {
    const size_t chain = SUM_PART * VEC_LANES;
    return (n / 2 + chain - 1) / chain * chain;
}

/* Lane by lane, the sum of x y. */
static vec NAMED(dot_lanes)(const real *x, const real *y, size_t n) {
    if (n > SUM_PART * VEC_LANES) {
        const size_t half = NAMED(first_half)(n);
        return v_add(NAMED(dot_lanes)(x, y, half), NAMED(dot_lanes)(x + half, y + half, n - half));
    }
    vec sum = v_zero();
    size_t i = 0;
    for (; i + VEC_LANES <= n; i += VEC_LANES) sum = v_fma(v_load(x + i), v_load(y + i), sum);
    return v_fma(v_load_n(x + i, n - i), v_load_n(y + i, n - i), sum);
}

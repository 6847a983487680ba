/* What a composition does between the matrix products of a backward pass. A template, see vec_names.h. */
/* SPDX-License-Identifier: Apache-2.0 */

/* t = tanh(z + qw), and lane by lane the sum of v t. */
static vec NAMED(keep_lanes)(const real *z, const real *query, const real *weight, real *t, size_t width) {
    if (width > SUM_PART * VEC_LANES) {
        const size_t half = NAMED(first_half)(width);
        const vec first = NAMED(keep_lanes)(z, query, weight, t, half);
        return v_add(first, NAMED(keep_lanes)(z + half, query + half, weight + half, t + half, width - half));
    }
    vec sum = v_zero();
    size_t k = 0;
    for (; k + VEC_LANES <= width; k += VEC_LANES) {
        const vec e = v_tanh(v_add(v_load(z + k), v_load(query + k)));
        v_store(t + k, e);
        sum = v_fma(v_load(weight + k), e, sum);
    }
    const size_t rest = width - k;
    const vec e = v_tanh(v_add(v_load_n(z + k, rest), v_load_n(query + k, rest)));
    v_store_n(t + k, e, rest);
    return v_fma(v_load_n(weight + k, rest), e, sum);
}

/* t[r][k] = tanh(z[r][k] + qw[k]), and scores[r] as tanh_scores. t may be z. */
static void NAMED(tanh_keep)(size_t rows, size_t width, const void *z, ptrdiff_t z_row, const void *qw, const void *v,
                             void *t, ptrdiff_t t_row, void *scores, int accumulate) {
    const real *query = qw, *weight = v;
    for (size_t r = 0; r < rows; r++) {
        const real *from = (const real *)z + (ptrdiff_t)r * z_row;
        real *to = (real *)t + (ptrdiff_t)r * t_row, *score = (real *)scores + r;
        *score = v_sum(NAMED(keep_lanes)(from, query, weight, to, width)) + (accumulate ? *score : 0);
    }
}

/* scores[r] = sum of t[r][k] v[k] */
static void NAMED(row_scores)(size_t rows, size_t width, const void *t, ptrdiff_t t_row, const void *v, void *scores) {
    const real *weight = v;
    for (size_t r = 0; r < rows; r++) {
        const real *row = (const real *)t + (ptrdiff_t)r * t_row;
        ((real *)scores)[r] = v_sum(NAMED(dot_lanes)(weight, row, width));
    }
}

/* The two change places; lane by lane, the sum of what weights becomes. */
static vec NAMED(gradient_lanes)(real *p, real *g, size_t n, vec by, vec low) {
    if (n > SUM_PART * VEC_LANES) {
        const size_t half = NAMED(first_half)(n);
        const vec first = NAMED(gradient_lanes)(p, g, half, by, low);
        return v_add(first, NAMED(gradient_lanes)(p + half, g + half, n - half, by, low));
    }
    vec sum = v_zero();
    for (size_t i = 0; i < n; i += VEC_LANES) {
        const size_t lanes = n - i < VEC_LANES ? n - i : VEC_LANES;
        const vec weight = v_load_n(p + i, lanes), gradient = v_load_n(g + i, lanes);
        const vec score = v_mul(weight, v_add(v_add(gradient, by), low));
        sum = v_add(sum, v_keep_n(score, lanes, v_zero()));
        v_store_n(p + i, score, lanes);
        v_store_n(g + i, weight, lanes);
    }
    return sum;
}

/* The two change places: gradients becomes weights, and weights the scores' gradient weights (gradients + shift), whose sum is returned. */
static double NAMED(softmax_gradient)(void *weights, size_t n, double shift, void *gradients) {
    const vec by = v_set1((real)shift), low = v_set1((real)(shift - (double)(real)shift));
    return (double)v_sum(NAMED(gradient_lanes)(weights, gradients, n, by, low));
}

/* One vector of columns, all rows: the first `lanes` of them. */
static inline void NAMED(tanh_gradient_columns)(size_t rows, size_t lanes, const real *t, ptrdiff_t t_row,
                                                const real *scores, const real *v, real *z, ptrdiff_t z_row,
                                                int accumulate, real *query, real *weight) {
    const vec one = v_set1(1), by = v_load_n(v, lanes);
    vec sum = v_zero(), moment = v_zero();
    for (size_t r = 0; r < rows; r++) {
        const vec e = v_load_n(t + (ptrdiff_t)r * t_row, lanes), s = v_set1(scores[r]);
        const vec g = v_mul(v_mul(s, by), v_fnma(e, e, one));
        real *to = z + (ptrdiff_t)r * z_row;
        v_store_n(to, accumulate ? v_add(v_load_n(to, lanes), g) : g, lanes);
        sum = v_add(sum, g);
        moment = v_fma(s, e, moment);
    }
    v_store_n(query, v_add(v_load_n(query, lanes), sum), lanes);
    v_store_n(weight, v_add(v_load_n(weight, lanes), moment), lanes);
}

/* With g[r][k] = scores[r] v[k] (1 - t[r][k]^2): z = g, or z += g when accumulate; query[k] += sum of g[r][k];
 * weight[k] += sum of scores[r] t[r][k]. z may be t. */
static void NAMED(tanh_gradient)(size_t rows, size_t width, const void *t, ptrdiff_t t_row, const void *scores,
                                 const void *v, void *z, ptrdiff_t z_row, int accumulate, void *query, void *weight) {
    for (size_t k = 0; k < width; k += VEC_LANES) {
        const size_t lanes = width - k < VEC_LANES ? width - k : VEC_LANES;
        NAMED(tanh_gradient_columns)
        (rows, lanes, (const real *)t + k, t_row, scores, (const real *)v + k, (real *)z + k, z_row, accumulate,
         (real *)query + k, (real *)weight + k);
    }
}

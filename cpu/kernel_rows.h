/* What stands between the matrix products of a composition, and of a backward pass. A template, see vec_names.h. */
/* SPDX-License-Identifier: Apache-2.0 */

/* Scores less `shift` to their exponentials in place, and lane by lane the sum of these. Where they are few, the
 * chains lie beside each other, so that the exponential's constants are loaded once for all. */
static vec NAMED(exp_lanes)(real *s, size_t n, vec shift) {
    enum { MOST_CHAINS = 16, CHAIN = SUM_PART * VEC_LANES };
    if (n > (size_t)MOST_CHAINS * CHAIN) {
        const size_t half = NAMED(first_half)(n);
        const vec first = NAMED(exp_lanes)(s, half, shift);
        return v_add(first, NAMED(exp_lanes)(s + half, n - half, shift));
    }
    vec sums[MOST_CHAINS];
    size_t chains = 0, i = 0;
    vec total = v_zero();
    for (size_t end = CHAIN; i + VEC_LANES <= n; i += VEC_LANES) {
        if (i == end) {
            sums[chains++] = total;
            total = v_zero();
            end += CHAIN;
        }
        const vec p = v_exp(v_sub(v_load(s + i), shift));
        v_store(s + i, p);
        total = v_add(total, p);
    }
    /* A 0 in the lanes left over would overflow where the largest is far below it. */
    const size_t rest = n - i;
    if (rest) {
        const vec p = v_exp(v_sub(v_keep_n(v_load_n(s + i, rest), rest, v_set1(-(real)INFINITY)), shift));
        v_store_n(s + i, p, rest);
        total = v_add(total, p);
    }
    sums[chains++] = total;
    for (size_t step = 1; step < chains; step *= 2)
        for (size_t to = 0; to + step < chains; to += 2 * step) sums[to] = v_add(sums[to], sums[to + step]);
    return sums[0];
}

/* A row without any score above -inf is shifted by 0: exp(-inf) is 0, and a NaN, which no maximum shows, still
 * reaches the sum. */
static void NAMED(softmax_row)(void *scores, size_t n, void *maximum, void *sum) {
    real *s = scores;
    vec lowest = v_set1(-(real)INFINITY), largest = lowest;
    size_t i = 0;
    for (; i + VEC_LANES <= n; i += VEC_LANES) largest = v_max(v_load(s + i), largest);
    size_t rest = n - i;
    largest = v_max(v_keep_n(v_load_n(s + i, rest), rest, lowest), largest);
    real top = v_max_lanes(largest);
    *(real *)maximum = top;
    *(real *)sum = v_sum(NAMED(exp_lanes)(s, n, v_set1(top > -(real)INFINITY ? top : 0)));
}

/* Lane by lane, the sum of v tanh(z + qw). */
static vec NAMED(tanh_lanes)(const real *z, const real *query, const real *weight, size_t width) {
    if (width > SUM_PART * VEC_LANES) {
        const size_t half = NAMED(first_half)(width);
        const vec first = NAMED(tanh_lanes)(z, query, weight, half);
        return v_add(first, NAMED(tanh_lanes)(z + half, query + half, weight + half, width - half));
    }
    vec sum = v_zero();
    size_t k = 0;
    for (; k + VEC_LANES <= width; k += VEC_LANES)
        sum = v_fma(v_load(weight + k), v_tanh(v_add(v_load(z + k), v_load(query + k))), sum);
    const size_t rest = width - k;
    const vec last = v_tanh(v_add(v_load_n(z + k, rest), v_load_n(query + k, rest)));
    return v_fma(v_load_n(weight + k, rest), last, sum);
}

/* Lanes of a register sum the columns of one row; v_sum_each then turns as many rows' registers into their scores. */
static void NAMED(tanh_scores)(size_t rows, size_t width, const void *z, ptrdiff_t z_row, const void *qw, const void *v,
                               void *scores, int accumulate) {
    const real *query = qw, *weight = v;
    for (size_t r = 0; r < rows; r += VEC_LANES) {
        size_t count = rows - r < VEC_LANES ? rows - r : VEC_LANES;
        vec sums[VEC_LANES];
        for (size_t i = 0; i < VEC_LANES; i++) sums[i] = v_zero();
        for (size_t i = 0; i < count; i++) {
            const real *row = (const real *)z + (ptrdiff_t)(r + i) * z_row;
            sums[i] = NAMED(tanh_lanes)(row, query, weight, width);
        }
        real *to = (real *)scores + r;
        vec before = accumulate ? v_load_n(to, count) : v_zero();
        v_store_n(to, v_add(before, v_sum_each(sums)), count);
    }
}

static void NAMED(tanh_row)(const void *from, void *to, size_t n) {
    const real *x = from;
    real *y = to;
    size_t i = 0;
    for (; i + VEC_LANES <= n; i += VEC_LANES) v_store(y + i, v_tanh(v_load(x + i)));
    v_store_n(y + i, v_tanh(v_load_n(x + i, n - i)), n - i);
}

/* to = grad (1 - y^2), y being a tanh. */
static void NAMED(tanh_gradient_row)(const void *y, const void *grad, void *to, size_t n) {
    const real *from = y, *factor = grad;
    real *result = to;
    for (size_t i = 0; i < n; i += VEC_LANES) {
        size_t count = n - i < VEC_LANES ? n - i : VEC_LANES;
        vec a = v_load_n(from + i, count), g = v_load_n(factor + i, count);
        v_store_n(result + i, v_mul(g, v_mul(v_sub(v_set1(1), a), v_add(v_set1(1), a))), count);
    }
}

static void NAMED(add_to)(const void *from, void *to, size_t n) {
    const real *x = from;
    real *y = to;
    size_t i = 0;
    for (; i + VEC_LANES <= n; i += VEC_LANES) v_store(y + i, v_add(v_load(y + i), v_load(x + i)));
    v_store_n(y + i, v_add(v_load_n(y + i, n - i), v_load_n(x + i, n - i)), n - i);
}

static void NAMED(dot_less)(const void *a, const void *b, size_t n, const void *less, double *to) {
    *to = (double)v_sum(NAMED(dot_lanes)(a, b, n)) - (less ? (double)*(const real *)less : 0);
}

static void NAMED(mean_less)(const double *moments, const void *less, double *to) {
    const double mean = moments[1] == 0 ? 0 : moments[0] / moments[1];
    *to = mean - (less ? (double)*(const real *)less : 0);
}

static void NAMED(take_times)(const void *factor, const void *less, const void *from, void *to, size_t n) {
    const real *x = from;
    real *y = to;
    const vec by = v_set1(*(const real *)factor - (less ? *(const real *)less : 0));
    size_t i = 0;
    for (; i + VEC_LANES <= n; i += VEC_LANES) v_store(y + i, v_fnma(by, v_load(x + i), v_load(y + i)));
    v_store_n(y + i, v_fnma(by, v_load_n(x + i, n - i), v_load_n(y + i, n - i)), n - i);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/gates.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

typedef struct row_sizes {
    double a, s, attended; /* A, S and how many keys are attended */
} row_sizes;

/* |x| |K| for luong, |x| for dot, |x| |W1| for bahdanau; `z` receives x W1, bahdanau only. */
static void fold_query(const reference_input *in, const double *x, double *folded, double *z) {
    const size_t D = in->features, Dq = in->query_features, A = in->score_width;
    for (size_t j = 0; j < Dq; j++) {
        if (in->score == ATTN_SCORE_DOT) folded[j] = fabs(x[j]);
        if (in->score == ATTN_SCORE_LUONG)
            for (size_t d = 0; d < D; d++) {
                folded[d] += fabs(in->luong_w[d * Dq + j] * x[j]);
                z[d] += in->luong_w[d * Dq + j] * x[j];
            }
        if (in->score == ATTN_SCORE_BAHDANAU)
            for (size_t k = 0; k < A; k++) {
                const double term = in->bahdanau_w1[j * A + k] * x[j];
                folded[k] += fabs(term);
                z[k] += term;
            }
    }
    if (in->score == ATTN_SCORE_DOT)
        for (size_t d = 0; d < D; d++) z[d] = x[d];
}

/* The score of one row and the size of its terms, from the folded query. */
static void dot_terms(const reference_input *in, const double *h, const double *folded, const double *q, double *a,
                      double *e) {
    *a = *e = 0;
    for (size_t d = 0; d < in->features; d++) {
        *a += fabs(h[d]) * folded[d];
        *e += h[d] * q[d];
    }
}

static void additive_terms(const reference_input *in, const double *h, const double *folded, const double *q,
                           double *scratch, double u, double *a, double *e) {
    const size_t D = in->features, A = in->score_width;
    double *z = scratch, *size = scratch + A;
    for (size_t k = 0; k < A; k++) z[k] = q[k], size[k] = 0;
    for (size_t d = 0; d < D; d++)
        for (size_t k = 0; k < A; k++) {
            const double term = h[d] * in->bahdanau_w2[d * A + k];
            z[k] += term;
            size[k] += fabs(term);
        }
    const double root_d = sqrt((double)D), root_dq = sqrt((double)in->query_features), root_a = sqrt((double)A);
    double error = 0;
    *e = 0;
    for (size_t k = 0; k < A; k++) {
        const double t = tanh(z[k]), v = fabs(in->bahdanau_v[k]);
        error += v * ((1 - t * t) * 4 * u * (root_d * size[k] + root_dq * folded[k]) + 4 * u * fabs(t));
        error += 4 * root_a * u * v * fabs(t);
        *e += in->bahdanau_v[k] * t;
    }
    *a = error / u;
}

/* A and S of one query row; a NaN score makes them NaN. */
static row_sizes measure_row(const reference_input *in, size_t item, size_t i, const double *x, double u) {
    const size_t width = in->score == ATTN_SCORE_BAHDANAU ? in->score_width : in->features;
    double *folded = calloc(4 * width + 1, sizeof *folded), *q = folded + width, *scratch = q + width;
    row_sizes row = {0, 0, 0};
    fold_query(in, x, folded, q);
    for (size_t s = 0; s < in->timesteps; s++) {
        if (!reference_attended(in, item, i, s)) continue;
        const double *h = in->h + (item * in->timesteps + s) * in->features;
        double a, e;
        if (in->score == ATTN_SCORE_BAHDANAU)
            additive_terms(in, h, folded, q, scratch, u, &a, &e);
        else
            dot_terms(in, h, folded, q, &a, &e);
        row.attended++;
        row.a = isnan(a) || a > row.a ? a : row.a;
        row.s = isnan(e) || fabs(e) > row.s ? fabs(e) : row.s;
    }
    free(folded);
    return row;
}

static double scale_of(const row_sizes *sizes) { return 2 * sizes->a + 2 * sizes->s + sqrt(sizes->attended) + 8; }

double gates_scale(const reference_input *input, size_t item, size_t query, double u) {
    const double *given = reference_query(input, item, query);
    double *x = calloc(input->query_features, sizeof *x);
    for (size_t j = 0; j < input->query_features && given; j++) x[j] = given[j];
    const row_sizes sizes = measure_row(input, item, query, x, u);
    free(x);
    return scale_of(&sizes);
}

static void gate_row(const reference_input *in, const reference_result *result, size_t item, size_t i, attn_dtype dtype,
                     const gates *out) {
    const size_t T = in->timesteps, D = in->features, Dq = in->query_features, U = in->units;
    const double u = dtype == ATTN_FLOAT32 ? 0x1p-24 : 0x1p-53, eta = dtype == ATTN_FLOAT32 ? FLT_MIN : DBL_MIN;
    const size_t row = item * in->queries + i;
    const double *given = reference_query(in, item, i);
    double *x = calloc(Dq + D, sizeof *x), *m = x + Dq;
    for (size_t j = 0; j < Dq && given; j++) x[j] = given[j];
    const row_sizes sizes = measure_row(in, item, i, x, u);
    const double c = scale_of(&sizes);

    for (size_t s = 0; s < T; s++) {
        const double p = (double)result->attention_weights[row * T + s];
        out->attention_weights[row * T + s] = reference_attended(in, item, i, s) ? 2 * u * c * p + eta : 0;
    }
    for (size_t d = 0; d < D; d++) {
        double largest = 0;
        for (size_t s = 0; s < T; s++) {
            if (!reference_attended(in, item, i, s)) continue;
            const double h = fabs(in->h[(item * T + s) * D + d]);
            m[d] += (double)result->attention_weights[row * T + s] * h;
            largest = h > largest ? h : largest;
        }
        out->context[row * D + d] = u * c * m[d] + eta * largest;
    }
    out->lse[row] = u * (2 * sizes.a + 2 * sizes.s + 2 * log(fmax(sizes.attended, 1)) + 8);
    for (size_t k = 0; k < U; k++) {
        double g = 0;
        for (size_t d = 0; d < D; d++) g += m[d] * fabs(in->w_c[d * U + k]);
        for (size_t j = 0; j < Dq; j++) g += fabs(x[j] * in->w_c[(D + j) * U + k]);
        const double a = (double)result->output[row * U + k];
        out->output[row * U + k] = 2 * u * (c + 4 * sqrt((double)(D + Dq))) * (1 - a * a) * g + 2 * u * fabs(a);
    }
    free(x);
}

void gates_layer(const reference_input *in, const reference_result *result, attn_dtype dtype, const gates *out) {
    for (size_t item = 0; item < in->batch; item++)
        for (size_t i = 0; i < in->queries; i++) gate_row(in, result, item, i, dtype, out);
}

double gates_error(long double value, long double expected, double gate) {
    if (isnan(value) || isnan(expected)) return isnan(value) && isnan(expected) ? 0 : INFINITY;
    if (isinf(value) || isinf(expected)) return value == expected ? 0 : INFINITY;
    const double error = (double)fabsl(value - expected);
    return error == 0 ? 0 : gate > 0 ? error / gate : INFINITY;
}

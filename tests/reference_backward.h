/* SPDX-License-Identifier: Apache-2.0 */
/* The layer's gradients in one precision, after reference_layer.h with the same definitions. With `sizes` every factor is replaced by
 * its absolute value and every difference by a sum: the size of the terms, of which the gates are made. */

static REAL LAYER(factor)(bool sizes, REAL x) { return sizes && x < 0 ? -x : x; }
static REAL LAYER(difference)(bool sizes, REAL x, REAL y) { return sizes ? x + y : x - y; }

typedef struct LAYER(row_gradients) {
    REAL *x, *c, *gz, *gc, *gx, *gp; /* widths Dq, D, U, D, Dq, T */
} LAYER(row_gradients);

/* Through the output: gz, gc, gx, and w_c's gradient. */
static void LAYER(outer)(const reference_input *in, const reference_result *forward, const reference_incoming *incoming,
                         const reference_gradients *out, size_t row, REAL copies, bool sizes,
                         const LAYER(row_gradients) * r) {
    const size_t D = in->features, Dq = in->query_features, U = in->units;
    for (size_t d = 0; d < D && incoming->context; d++)
        r->gc[d] = LAYER(factor)(sizes, (REAL)incoming->context[row * D + d]);
    for (size_t u = 0; u < U && incoming->output; u++) {
        const REAL a = (REAL)forward->output[row * U + u];
        r->gz[u] = LAYER(factor)(sizes, (REAL)incoming->output[row * U + u]) * LAYER(difference)(sizes, 1, a * a);
        for (size_t j = 0; j < D + Dq; j++) {
            const REAL w = LAYER(factor)(sizes, (REAL)in->w_c[j * U + u]);
            *(j < D ? &r->gc[j] : &r->gx[j - D]) += r->gz[u] * w;
            out->w_c[j * U + u] += (long double)(copies * r->gz[u] * (j < D ? r->c[j] : r->x[j - D]));
        }
    }
}

/* ge[s] into r->gp, from the gradients of the weights. */
static void LAYER(through_softmax)(const reference_input *in, const reference_result *forward,
                                   const reference_incoming *incoming, size_t item, size_t i, bool sizes,
                                   const LAYER(row_gradients) * r) {
    const size_t T = in->timesteps, D = in->features, row = item * in->queries + i;
    const REAL gl = incoming->lse ? LAYER(factor)(sizes, (REAL)incoming->lse[row]) : 0;
    REAL mean = 0;
    for (size_t s = 0; s < T; s++) {
        if (!reference_attended(in, item, i, s)) continue;
        if (incoming->attention_weights)
            r->gp[s] = LAYER(factor)(sizes, (REAL)incoming->attention_weights[row * T + s]);
        for (size_t d = 0; d < D; d++) r->gp[s] += r->gc[d] * LAYER(factor)(sizes, (REAL)in->h[(item * T + s) * D + d]);
        mean += (REAL)forward->attention_weights[row * T + s] * r->gp[s];
    }
    for (size_t s = 0; s < T; s++)
        if (reference_attended(in, item, i, s))
            r->gp[s] = (REAL)forward->attention_weights[row * T + s] * (LAYER(difference)(sizes, r->gp[s], mean) + gl);
}

static void LAYER(multiplicative_gradients)(const reference_input *in, const reference_gradients *out, size_t item,
                                            size_t i, REAL copies, bool sizes, const LAYER(row_gradients) * r) {
    const size_t T = in->timesteps, D = in->features, Dq = in->query_features;
    const bool luong = in->score == ATTN_SCORE_LUONG;
    REAL *q = calloc(2 * D, sizeof *q), *gq = q + D;
    for (size_t d = 0; d < D; d++)
        for (size_t j = 0; luong && j < Dq; j++) q[d] += LAYER(factor)(sizes, (REAL)in->luong_w[d * Dq + j]) * r->x[j];
    for (size_t s = 0; s < T; s++) {
        if (!reference_attended(in, item, i, s)) continue;
        for (size_t d = 0; d < D; d++) {
            const size_t at = (item * T + s) * D + d;
            gq[d] += r->gp[s] * LAYER(factor)(sizes, (REAL)in->h[at]);
            out->h[at] += (long double)(r->gp[s] * (luong ? q[d] : r->x[d]));
        }
    }
    for (size_t d = 0; d < D; d++) {
        if (!luong) r->gx[d] += gq[d];
        for (size_t j = 0; luong && j < Dq; j++) {
            out->luong_w[d * Dq + j] += (long double)(copies * gq[d] * r->x[j]);
            r->gx[j] += LAYER(factor)(sizes, (REAL)in->luong_w[d * Dq + j]) * gq[d];
        }
    }
    free(q);
}

static void LAYER(additive_step)(const reference_input *in, const reference_gradients *out, size_t item, size_t s,
                                 REAL copies, bool sizes, REAL ge, const REAL *u, REAL *z, REAL *gu) {
    const size_t D = in->features, A = in->score_width, first = (item * in->timesteps + s) * D;
    for (size_t k = 0; k < A; k++) z[k] = u[k];
    for (size_t d = 0; d < D; d++)
        for (size_t k = 0; k < A; k++) z[k] += (REAL)in->h[first + d] * (REAL)in->bahdanau_w2[d * A + k];
    for (size_t k = 0; k < A; k++) {
        const REAL t = TANH(z[k]);
        out->bahdanau_v[k] += (long double)(copies * ge * LAYER(factor)(sizes, t));
        z[k] = ge * LAYER(factor)(sizes, (REAL)in->bahdanau_v[k]) * LAYER(difference)(sizes, 1, t * t);
        gu[k] += z[k];
    }
    for (size_t d = 0; d < D; d++) {
        const REAL h = LAYER(factor)(sizes, (REAL)in->h[first + d]);
        REAL sum = 0;
        for (size_t k = 0; k < A; k++) {
            sum += z[k] * LAYER(factor)(sizes, (REAL)in->bahdanau_w2[d * A + k]);
            out->bahdanau_w2[d * A + k] += (long double)(copies * h * z[k]);
        }
        out->h[first + d] += (long double)sum;
    }
}

static void LAYER(additive_gradients)(const reference_input *in, const reference_gradients *out, size_t item, size_t i,
                                      REAL copies, bool sizes, const double *query, const LAYER(row_gradients) * r) {
    const size_t T = in->timesteps, Dq = in->query_features, A = in->score_width;
    REAL *u = calloc(3 * A, sizeof *u), *gu = u + A, *z = u + 2 * A;
    for (size_t j = 0; j < Dq && query; j++)
        for (size_t k = 0; k < A; k++) u[k] += (REAL)query[j] * (REAL)in->bahdanau_w1[j * A + k];
    for (size_t s = 0; s < T; s++)
        if (reference_attended(in, item, i, s))
            LAYER(additive_step)(in, out, item, s, copies, sizes, r->gp[s], u, z, gu);
    for (size_t j = 0; j < Dq; j++)
        for (size_t k = 0; k < A; k++) {
            out->bahdanau_w1[j * A + k] += (long double)(copies * r->x[j] * gu[k]);
            r->gx[j] += gu[k] * LAYER(factor)(sizes, (REAL)in->bahdanau_w1[j * A + k]);
        }
    free(u);
}

static void LAYER(row_backward)(const reference_input *in, const reference_result *forward,
                                const reference_incoming *incoming, const reference_gradients *out, size_t item,
                                size_t i, bool sizes) {
    const size_t T = in->timesteps, D = in->features, Dq = in->query_features, U = in->units;
    const size_t row = item * in->queries + i;
    const REAL copies = incoming->copies ? (REAL)incoming->copies[item] : 1;
    REAL *memory = calloc(2 * D + 2 * Dq + U + T, sizeof *memory);
    const LAYER(row_gradients) r = {.x = memory,
                                    .gx = memory + Dq,
                                    .c = memory + 2 * Dq,
                                    .gc = memory + 2 * Dq + D,
                                    .gz = memory + 2 * Dq + 2 * D,
                                    .gp = memory + 2 * Dq + 2 * D + U};
    const double *query = reference_query(in, item, i);
    for (size_t j = 0; j < Dq && query; j++) r.x[j] = LAYER(factor)(sizes, (REAL)query[j]);
    for (size_t s = 0; s < T; s++)
        for (size_t d = 0; d < D && reference_attended(in, item, i, s); d++)
            r.c[d] += (REAL)forward->attention_weights[row * T + s] *
                      LAYER(factor)(sizes, (REAL)in->h[(item * T + s) * D + d]);
    LAYER(outer)(in, forward, incoming, out, row, copies, sizes, &r);
    LAYER(through_softmax)(in, forward, incoming, item, i, sizes, &r);
    for (size_t s = 0; s < T; s++)
        for (size_t d = 0; d < D && reference_attended(in, item, i, s); d++)
            out->h[(item * T + s) * D + d] += (long double)((REAL)forward->attention_weights[row * T + s] * r.gc[d]);
    if (in->score == ATTN_SCORE_BAHDANAU)
        LAYER(additive_gradients)(in, out, item, i, copies, sizes, query, &r);
    else
        LAYER(multiplicative_gradients)(in, out, item, i, copies, sizes, &r);
    size_t start, end;
    reference_range(in, item, &start, &end);
    for (size_t j = 0; j < Dq; j++) {
        if (in->given_query) out->query[row * Dq + j] = (long double)r.gx[j];
        if (!in->given_query && start < end) out->h[(item * T + end - 1) * D + j] += (long double)r.gx[j];
    }
    free(memory);
}

void LAYER(backward)(const reference_input *in, const reference_result *forward, const reference_incoming *incoming,
                     bool sizes, const reference_gradients *out) {
    for (size_t item = 0; item < in->batch; item++)
        for (size_t i = 0; i < in->queries; i++) LAYER(row_backward)(in, forward, incoming, out, item, i, sizes);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The layer in one precision. Defined before inclusion: REAL, LAYER (makes a function name), EXP, TANH, LOG. */

static void LAYER(scores)(const reference_input *in, size_t item, size_t i, const REAL *x, REAL *e) {
    const size_t D = in->features, Dq = in->query_features, A = in->score_width;
    const double *h = in->h + item * in->timesteps * D;
    const size_t width = in->score == ATTN_SCORE_BAHDANAU ? A : D;
    REAL *q = calloc(width ? width : 1, sizeof *q), *z = calloc(width ? width : 1, sizeof *z);
    if (in->score == ATTN_SCORE_DOT)
        for (size_t d = 0; d < D; d++) q[d] = x[d];
    if (in->score == ATTN_SCORE_LUONG)
        for (size_t d = 0; d < D; d++)
            for (size_t j = 0; j < Dq; j++) q[d] += (REAL)in->luong_w[d * Dq + j] * x[j];
    if (in->score == ATTN_SCORE_BAHDANAU)
        for (size_t j = 0; j < Dq; j++)
            for (size_t k = 0; k < A; k++) q[k] += x[j] * (REAL)in->bahdanau_w1[j * A + k];
    for (size_t s = 0; s < in->timesteps; s++) {
        if (!reference_attended(in, item, i, s)) continue;
        e[s] = 0;
        if (in->score != ATTN_SCORE_BAHDANAU) {
            for (size_t d = 0; d < D; d++) e[s] += (REAL)h[s * D + d] * q[d];
            continue;
        }
        for (size_t k = 0; k < A; k++) z[k] = q[k];
        for (size_t d = 0; d < D; d++) {
            const REAL value = (REAL)h[s * D + d];
            for (size_t k = 0; k < A; k++) z[k] += value * (REAL)in->bahdanau_w2[d * A + k];
        }
        for (size_t k = 0; k < A; k++) e[s] += (REAL)in->bahdanau_v[k] * TANH(z[k]);
    }
    free(q);
    free(z);
}

static void LAYER(row)(const reference_input *in, const reference_result *out, size_t item, size_t i) {
    const size_t T = in->timesteps, D = in->features, Dq = in->query_features, U = in->units;
    const size_t row = item * in->queries + i;
    REAL *x = calloc(Dq, sizeof *x), *e = calloc(T ? T : 1, sizeof *e), *c = calloc(D, sizeof *c);
    const double *query = reference_query(in, item, i);
    for (size_t j = 0; j < Dq && query; j++) x[j] = (REAL)query[j];
    LAYER(scores)(in, item, i, x, e);

    bool any = false, nan = false;
    REAL maximum = 0, sum = 0;
    for (size_t s = 0; s < T; s++) {
        if (!reference_attended(in, item, i, s)) continue;
        nan = nan || e[s] != e[s];
        if (!any || e[s] > maximum) maximum = e[s];
        any = true;
    }
    for (size_t s = 0; s < T; s++) {
        const bool attended = reference_attended(in, item, i, s);
        e[s] = attended ? EXP(e[s] - maximum) : (REAL)0;
        sum += e[s];
    }
    for (size_t s = 0; s < T; s++) {
        if (!reference_attended(in, item, i, s)) {
            out->attention_weights[row * T + s] = 0;
            continue;
        }
        const REAL p = nan ? (REAL)NAN : e[s] / sum;
        out->attention_weights[row * T + s] = (long double)p;
        for (size_t d = 0; d < D; d++) c[d] += p * (REAL)in->h[(item * T + s) * D + d];
    }
    out->lse[row] = nan ? (long double)NAN : any ? (long double)(maximum + LOG(sum)) : -(long double)INFINITY;
    for (size_t d = 0; d < D; d++) out->context[row * D + d] = (long double)c[d];
    for (size_t u = 0; u < U; u++) {
        REAL a = 0;
        for (size_t d = 0; d < D; d++) a += c[d] * (REAL)in->w_c[d * U + u];
        for (size_t j = 0; j < Dq; j++) a += x[j] * (REAL)in->w_c[(D + j) * U + u];
        out->output[row * U + u] = (long double)TANH(a);
    }
    free(x);
    free(e);
    free(c);
}

void LAYER(layer)(const reference_input *in, const reference_result *out) {
    for (size_t item = 0; item < in->batch; item++)
        for (size_t i = 0; i < in->queries; i++) LAYER(row)(in, out, item, i);
}

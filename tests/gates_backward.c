/* SPDX-License-Identifier: Apache-2.0 */
/* The error bounds of gradients. */
#include "tests/gates.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

static double largest(double a, double b) { return isnan(b) || b > a ? b : a; }

static void scale(const long double *sizes, size_t count, double by, double eta, double *gate) {
    for (size_t i = 0; i < count; i++) gate[i] = by * (double)sizes[i] + eta;
}

void gates_backward(const reference_input *in, const reference_result *forward, const reference_incoming *incoming,
                    attn_dtype dtype, const reference_gradients *sizes, const gates_gradients *out) {
    const double u = dtype == ATTN_FLOAT32 ? 0x1p-24 : 0x1p-53, eta = dtype == ATTN_FLOAT32 ? FLT_MIN : DBL_MIN;
    const size_t B = in->batch, T = in->timesteps, D = in->features, Tq = in->queries, Dq = in->query_features,
                 A = in->score_width, U = in->units;
    const bool luong = in->score == ATTN_SCORE_LUONG, additive = in->score == ATTN_SCORE_BAHDANAU;
    double all = 0, terms = 0;
    const double inner = largest(largest((double)(D + Dq), (double)U), additive ? (double)A : 0);
    reference_backward_float64(in, forward, incoming, true, sizes);
    for (size_t item = 0; item < B; item++) {
        double most = 0;
        for (size_t i = 0; i < Tq; i++) {
            const double c = gates_scale(in, item, i, u), one = 2 * u * (c + 4 * sqrt(largest(inner, (double)T)));
            most = largest(most, c);
            if (in->given_query)
                scale(sizes->query + (item * Tq + i) * Dq, Dq, one, eta, out->query + (item * Tq + i) * Dq);
        }
        const double longest = largest(inner, largest((double)T, (double)Tq));
        scale(sizes->h + item * T * D, T * D, 2 * u * (most + 4 * sqrt(longest)), eta, out->h + item * T * D);
        all = largest(all, most);
        terms += incoming->copies ? (double)incoming->copies[item] : 1;
    }
    const double queries = terms * (double)Tq, rows = queries * (double)T;
    const double narrow = 2 * u * (all + 4 * sqrt(largest(inner, queries))),
                 wide = 2 * u * (all + 4 * sqrt(largest(inner, rows)));
    scale(sizes->luong_w, luong ? D * Dq : 0, wide, eta, out->luong_w);
    scale(sizes->bahdanau_w1, additive ? Dq * A : 0, wide, eta, out->bahdanau_w1);
    scale(sizes->bahdanau_w2, additive ? D * A : 0, wide, eta, out->bahdanau_w2);
    scale(sizes->bahdanau_v, additive ? A : 0, wide, eta, out->bahdanau_v);
    scale(sizes->w_c, (D + Dq) * U, narrow, eta, out->w_c);
}

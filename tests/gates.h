/* SPDX-License-Identifier: Apache-2.0 */
/* The error bounds that results must keep, element by element, and the measure of an error in them.
 *
 * u = 2^-24 (float32) or 2^-53 (float64), eta the smallest normal number of the type. For a query row over its T attended keys,
 * with p its attention weights:
 *     M_d = sum of p[s] |H[s][d]|         S = the largest |e[s]|
 *     A   = the size of the terms that a score is summed from:
 *           dot        the largest sum of |H[s]| |x|
 *           luong      the largest |H[s]| |K| |x|, absolute values throughout
 *           bahdanau   the largest |de[s]| / u, where
 *                      |de| = sum over k of |v_k| ((1 - t_k^2) (g_D |H W2|_k + g_Dq |x W1|_k) + 4u |t_k|) + g_A sum of |v_k t_k|,
 *                      t = tanh(x W1 + H[s] W2), |H W2| and |x W1| of absolute values, g_n = 4 sqrt(n) u, and 4u the
 *                      relative error granted to tanh
 *     C   = 2A + 2S + sqrt(T) + 8
 * and the gates
 *     attention weights   2u C p + eta
 *     context             u C M_d + eta max|H[s][d]|
 *     lse                 u (2A + 2S + 2 log T + 8): of T equal scores it is log T, and has its last place there
 *     output a            2u (C + 4 sqrt(D + Dq)) (1 - a^2) (M |w_c| + |x| |w_c|) + 2u |a|
 *
 * A gradient's gate is 2u (C_max + 4 sqrt(n)) G + eta, with G the gradient's definition evaluated with absolute values in
 * place of its factors and sums in place of its differences, n the longest sum in it, and C_max the largest C of the queries that
 * it sums up.
 */
#ifndef ATTN_TESTS_GATES_H
#define ATTN_TESTS_GATES_H

#include "tests/reference.h"

typedef struct gates {
    double *output, *context, *attention_weights, *lse; /* shaped as the results */
} gates;

/* The gates of every element, given the reference results. */
void gates_layer(const reference_input *input, const reference_result *result, attn_dtype dtype, const gates *out);

/* C of one query; u as above. */
double gates_scale(const reference_input *input, size_t item, size_t query, double u);

typedef struct gates_gradients {
    double *h, *query, *luong_w, *bahdanau_w1, *bahdanau_w2, *bahdanau_v, *w_c; /* shaped as the gradients */
} gates_gradients;

/* The gates of every gradient. `sizes` has room for one more set of gradients, zeroed. */
void gates_backward(const reference_input *input, const reference_result *forward, const reference_incoming *incoming,
                    attn_dtype dtype, const reference_gradients *sizes, const gates_gradients *out);

/* |value - expected| / gate. NaN and infinity must match: 0 when they do, infinity when they do not. */
double gates_error(long double value, long double expected, double gate);

#endif

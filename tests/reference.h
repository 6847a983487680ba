/* SPDX-License-Identifier: Apache-2.0 */
/* The oracle: the attention layer straight from its definition, in float64 or quadruple precision, one item after the
 * other, sharing no code with the library. Everything is dense and widened; results are long double, so that what quadruple
 * precision computed keeps more bits than a float64 kernel has. */
#ifndef ATTN_TESTS_REFERENCE_H
#define ATTN_TESTS_REFERENCE_H

#include "attention/attention.h"

#include <stdbool.h>

typedef struct reference_input {
    attn_score score;
    bool given_query; /* else queries is 1 and query_features is features */
    size_t batch, timesteps, features, queries, query_features, score_width, units;
    const double *h;                                                /* (B, T, D) */
    const double *query;                                            /* (B, Tq, Dq) */
    const double *luong_w, *bahdanau_w1, *bahdanau_w2, *bahdanau_v; /* (D, Dq), (Dq, A), (D, A), (A) */
    const double *w_c;                                              /* (D + Dq, U) */
    const int32_t *starts, *lengths;                                /* (B), or NULL */
    const uint8_t *mask; /* (B, T), (B, Tq, T) when mask_per_query, or NULL */
    bool mask_per_query;
} reference_input;

typedef struct reference_result {
    long double *output;            /* (B, Tq, U) */
    long double *context;           /* (B, Tq, D) */
    long double *attention_weights; /* (B, Tq, T) */
    long double *lse;               /* (B, Tq) */
} reference_result;

/* The valid range of an item, as start and one past the end. */
void reference_range(const reference_input *input, size_t item, size_t *start, size_t *end);

/* Whether time step s of an item is attended by query i. */
bool reference_attended(const reference_input *input, size_t item, size_t i, size_t s);

/* The query row: the given one, or h_t; NULL where there is no last step, which stands for zeros. */
const double *reference_query(const reference_input *input, size_t item, size_t i);

/* Results for all items; every array of `result` has its full size. */
void reference_layer_float64(const reference_input *input, const reference_result *result);
void reference_layer_quad(const reference_input *input, const reference_result *result);

#endif

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

/* Gradients of a loss by the results, shaped as these; NULL: none. */
typedef struct reference_incoming {
    const double *output, *context, *attention_weights, *lse;
    const size_t *copies; /* (B): how often an item counts in the sums over items; NULL: once */
} reference_incoming;

/* Gradients by the inputs, shaped as these; query only where one is given, weights only those of the score. */
typedef struct reference_gradients {
    long double *h, *query, *luong_w, *bahdanau_w1, *bahdanau_w2, *bahdanau_v, *w_c;
} reference_gradients;

/* Added to what `gradients` holds (query: written); forward holds the results of the same input. With sizes: instead the
 * size of the terms of each, from absolute values. */
void reference_backward_float64(const reference_input *input, const reference_result *forward,
                                const reference_incoming *incoming, bool sizes, const reference_gradients *gradients);
void reference_backward_quad(const reference_input *input, const reference_result *forward,
                             const reference_incoming *incoming, bool sizes, const reference_gradients *gradients);

#endif

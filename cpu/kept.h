/* What a forward pass in training keeps, the same for every implementation of the CPU backend: a forward pass of one
 * feeds the backward pass of another.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * For each query, item after item. Rows of context and output begin at a multiple of ATTN_WORKSPACE_ALIGNMENT; what
 * lies behind a row's elements is anything. Rows of tanh lie one behind the other without gaps. */
#ifndef ATTN_CPU_KEPT_H
#define ATTN_CPU_KEPT_H

#include "lib/backend.h"
#include "lib/carve.h"

typedef struct attn_kept {
    void *maximum, *sum; /* (B, Tq): of the softmax; -inf and 0 where nothing is attended, a NaN sum where a NaN is */
    void *context;       /* (B, Tq, context_row): divided by the sum; 0 where nothing is attended */
    void *output;        /* (B, Tq, output_row); NULL without units */
    void *tanh; /* (B, Tq, T, A): tanh(x W1 + H[s] W2) of the attended steps, others anything; NULL: computed again */
    size_t context_row, output_row; /* elements */
} attn_kept;

/* A tanh of an array is cheaper to keep than to compute again while one query shares the product H W2: a CPU writes and reads
 * it in the time of a few of the 2D operations an element that the product takes. Given queries share the product, and what
 * they would keep grows with their number. */
static inline bool attn_kept_has_tanh(const attn_layer_problem *problem) {
    return problem->score == ATTN_SCORE_BAHDANAU && !problem->given_query && !problem->recompute;
}

/* Hands out the backend's bytes at memory, or with NULL counts them; by the sizes of the run. */
static inline size_t attn_kept_carve(const attn_layer_problem *problem, void *memory, attn_kept *kept) {
    const size_t element = problem->dtype == ATTN_FLOAT32 ? sizeof(float) : sizeof(double);
    const size_t lanes = ATTN_WORKSPACE_ALIGNMENT / element, queries = problem->batch * problem->queries;
    attn_carver carver = {.base = memory};
    kept->context_row = (problem->features + lanes - 1) / lanes * lanes;
    kept->output_row = (problem->units + lanes - 1) / lanes * lanes;
    kept->maximum = attn_carve(&carver, queries, element);
    kept->sum = attn_carve(&carver, queries, element);
    kept->context = attn_carve(&carver, queries, kept->context_row * element);
    kept->output = problem->units ? attn_carve(&carver, queries, kept->output_row * element) : NULL;
    kept->tanh = attn_kept_has_tanh(problem)
                     ? attn_carve(&carver, queries, problem->timesteps * problem->score_width * element)
                     : NULL;
    return attn_carved_size(&carver);
}

static inline size_t attn_kept_size(const attn_layer_problem *problem) {
    return attn_kept_carve(problem, NULL, &(attn_kept){.maximum = NULL});
}

#endif

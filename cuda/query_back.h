/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of the backward pass that go query by query, before and after the pass over H; and rows of zeros. */
#ifndef ATTN_CUDA_QUERY_BACK_H
#define ATTN_CUDA_QUERY_BACK_H

#include "cuda/items.h"

/* z = given (1 - output^2), dense; zeros when nothing is given. */
struct attn_through_tanh {
    const float *output, *given;
    std::ptrdiff_t given_batch, given_row;
    std::size_t count, queries, units;
    float *z;
};
cudaError_t attn_through_tanh_launch(const attn_through_tanh &through, cudaStream_t stream);

/* Completes the context's gradient, and sums up what the scores' gradients have in common:
 * shift = grad_lse - grad_context . context - the chunks' part_mean. Anything where nothing is attended: nothing reads it there. */
struct attn_shift {
    const float *context;          /* kept */
    const float *given, *grad_lse; /* either may be NULL */
    const float *part_mean;        /* may be NULL */
    std::ptrdiff_t given_batch, given_row, lse_batch;
    std::size_t count, queries, features, query_features, chunks;
    bool through_output; /* grad_context and grad_query hold what came through the output; else they are set */
    float *grad_context, *grad_query; /* dense */
    float *shift;
};
cudaError_t attn_shift_launch(const attn_shift &shift, cudaStream_t stream);

/* sum[r] = part[r][0] + part[r][1] + ..., rows of a width. */
struct attn_merge_parts {
    const float *part; /* (count, chunks, width) */
    std::size_t count, chunks, width;
    float *sum;
    bool add; /* to what stands there */
};
cudaError_t attn_merge_parts_launch(const attn_merge_parts &merge, cudaStream_t stream);

/* The queries' gradients go where the queries came from: to grad_query, or to the rows of h_t in grad_h, where they are added. */
struct attn_hand_back {
    attn_items items;
    const float *gradient, *more; /* dense; their sum; more may be NULL */
    attn_rows to;                 /* as the queries, of the gradients; its base is written */
    std::size_t count, width;
    bool add;
};
cudaError_t attn_hand_back_launch(const attn_hand_back &hand_back, cudaStream_t stream);

/* Zeros: rows of a matrix for each item, all or those outside the items' ranges. */
struct attn_clear {
    attn_items items;
    float *rows;
    std::ptrdiff_t batch, row;
    std::size_t count, width; /* count: items */
    bool all;
};
cudaError_t attn_clear_launch(const attn_clear &clear, cudaStream_t stream);

#endif

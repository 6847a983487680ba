/* SPDX-License-Identifier: Apache-2.0 */
/* The backward pass over H for scores that are dot products: one pass, in the forward pass's chunks. A block takes a chunk of an item and goes
 * through the item's queries one after the other, so that a row of grad_h has one writer:
 *
 *     p = exp(q . h - maximum) / sum      ge = p (grad_context . h + given + shift)      grad_h += p grad_context + ge q      gq += ge h
 *
 * The chunks' sums gq are left to be merged in order. */
#ifndef ATTN_CUDA_ATTEND_BACK_H
#define ATTN_CUDA_ATTEND_BACK_H

#include "cuda/items.h"

struct attn_attend_back {
    attn_items items;
    const void *h;
    attn_dtype stored; /* how */
    std::ptrdiff_t h_batch, h_time;
    std::size_t features, batch;
    attn_rows queries; /* as the scores have them: folded */
    std::size_t steps, chunks;
    const float *maximum, *sum, *shift; /* a query each */
    const float *grad_context;          /* dense */
    const float *grad_weights;          /* may be NULL */
    std::ptrdiff_t weights_batch, weights_row;
    float *grad_h; /* NULL: not wanted */
    std::ptrdiff_t grad_h_batch, grad_h_time;
    bool add_h;
    float *part_query; /* (queries of all items, chunks, features) */
    float *part_mean;  /* (queries of all items, chunks): sum of p times the given gradient */
};

/* Only part_mean, from the given gradients of the weights; shift and grad_context are not read. */
cudaError_t attn_attend_back_means(const attn_attend_back &back, cudaStream_t stream);

/* All the rest. Rows of grad_h outside the items' ranges are left alone. */
cudaError_t attn_attend_back_launch(const attn_attend_back &back, cudaStream_t stream);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* From scores to the gradients of scores, for the additive score: the attention weights p, their gradients
 *     gradient = grad_context . h + given
 * and what the scores' gradients p (gradient + shift) have in common,
 *     shift = grad_lse - (sum of p gradient) / (sum of p),
 * from the same rows that are multiplied by it later, so that the scores' gradients sum up to grad_lse within rounding. Blocks have chunks of steps, as in the forward pass. */
#ifndef ATTN_CUDA_MOMENTS_H
#define ATTN_CUDA_MOMENTS_H

#include "cuda/items.h"

struct attn_moments {
    attn_items items;
    const void *h;
    attn_dtype stored; /* how */
    std::ptrdiff_t h_batch, h_time;
    std::size_t features, count; /* count: queries of all items */
    std::size_t steps, chunks;
    const float *scores, *maximum, *sum;  /* of the forward pass: (count, timesteps), (count), (count) */
    const float *grad_context;            /* dense */
    const float *grad_weights, *grad_lse; /* given; either may be NULL */
    std::ptrdiff_t weights_batch, weights_row, lse_batch;
    float *weights, *gradients; /* (count, timesteps): zeros where not attended; only steps in range are written */
    float *part_product, *part_weight; /* (count, chunks) */
    float *shift;                      /* (count); anything where nothing is attended */
};

cudaError_t attn_moments_launch(const attn_moments &moments, cudaStream_t stream);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The additive score's backward pass over H. With t = tanh(projected + h W2), p the attention weights and ge the scores' gradients,
 *
 *     ge = p (gradient + shift)      dz = sum over queries of ge v (1 - t^2)
 *     grad_h = p grad_context + dz W2^T      gw2 = sum of h^T dz      gv = sum of ge t      gu = sum over steps of ge v (1 - t^2)
 *
 * Each query's range is cut into chunks of steps, counted from its start, and chunks into tiles of a few rows. A block goes through a
 * group of chunks: it makes a tile of H W2 again, and its dz, which never leaves shared memory, goes into the products of the other two. Its rows of grad_h
 * have no other writer. Its sums of gw2 and gv, and each chunk's of gu, are left to be merged in order. */
#ifndef ATTN_CUDA_ADDITIVE_BACK_H
#define ATTN_CUDA_ADDITIVE_BACK_H

#include "cuda/additive.h"

struct attn_additive_back {
    attn_additive in;
    std::size_t steps, chunks; /* of an item */
    const float *weights, *gradients,
        *shift;                /* (queries of all items, timesteps), zeros where not attended; a query each */
    const float *grad_context; /* dense */
    float *grad_h;             /* NULL: not wanted */
    std::ptrdiff_t grad_h_batch, grad_h_time;
    bool add_h;
    float *part_query; /* (queries of all items, chunks, width) */
    float *part_v;     /* (groups, width) */
    float *part_w2;    /* (groups of W2, features, width); NULL: not wanted */
};

/* Groups of so many chunks of all items: never more for fewer. Those of W2 are fewer where their sums would take much memory. */
std::size_t attn_additive_groups(std::size_t chunks);
std::size_t attn_additive_w2_groups(std::size_t chunks, std::size_t features, std::size_t width);

/* Rows of grad_h outside the items' ranges are left alone. */
cudaError_t attn_additive_back_launch(attn_multiplied by, const attn_additive_back &back, cudaStream_t stream);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The additive (Bahdanau) attention: e[s] = v . tanh(projected + H[s] W2) for each query. A block takes a chunk of an item's range, counted from its
 * start; the product H W2 is made tile by tile, stays in registers, and serves all queries of the item. While the rows of H are at hand the block leaves its part of the
 * softmax, to be merged with the others' in order. */
#ifndef ATTN_CUDA_ADDITIVE_H
#define ATTN_CUDA_ADDITIVE_H

#include "cuda/items.h"

/* What both passes take. */
struct attn_additive {
    attn_items items;
    const void *h;
    attn_dtype stored; /* how */
    std::ptrdiff_t h_batch, h_time;
    std::size_t features, width, batch;
    const float *w2, *v;    /* (features, width), (width) */
    const float *projected; /* (queries of all items, width): query . W1 */
};

struct attn_additive_scores {
    attn_additive in;
    std::size_t steps, chunks; /* of an item */
    float *scores;             /* (queries of all items, timesteps); only steps in range are written */
    float *part_maximum, *part_sum, *part_context; /* see attn_attend; NULL: scores are all that is wanted */
    float *weights;                                /* scores of attended steps too; may be NULL */
    std::ptrdiff_t weights_batch, weights_row;
};

enum : unsigned { ATTN_ADDITIVE_ROWS = 64 /* of the largest tile: a chunk is a multiple of it */ };

/* Steps of a chunk, for the largest T of a plan. */
std::size_t attn_additive_steps(std::size_t timesteps);

/* How products with W2 are made. Tensor cores need an architecture of ATTN_MMA_ARCHITECTURE or later. */
enum class attn_multiplied { by_plain_code, by_tensor_cores };

cudaError_t attn_additive_launch(attn_multiplied by, const attn_additive_scores &scores, cudaStream_t stream);

#endif

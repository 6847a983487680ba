/* SPDX-License-Identifier: Apache-2.0 */
/* Scores of the additive (Bahdanau) attention: e[s] = v . tanh(projected + H[s] W2) for each query. A block takes a few rows of an item's range; the product
 * H W2 is made tile by tile, stays in registers, and serves all queries of the item. */
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
    float *scores; /* (queries of all items, timesteps); only steps in range are written */
};

/* How products with W2 are made. Tensor cores need an architecture of ATTN_MMA_ARCHITECTURE or later. */
enum class attn_multiplied { by_plain_code, by_tensor_cores };

/* The most blocks that the scores need, by either. */
std::size_t attn_additive_most_blocks(std::size_t batch, std::size_t timesteps);
cudaError_t attn_additive_launch(attn_multiplied by, const attn_additive_scores &scores, cudaStream_t stream);

#endif

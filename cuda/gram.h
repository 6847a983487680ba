/* SPDX-License-Identifier: Apache-2.0 */
/* Gradients of weights: sums over all queries of products of their rows. */
#ifndef ATTN_CUDA_GRAM_H
#define ATTN_CUDA_GRAM_H

#include "cuda/items.h"

/* result[i][j] = sum over queries r of left[r][i] right[r][j], dense, of shape (left's width, right's width). A block has a tile of the result and goes
 * through its share of the queries in order; shares are summed up in order, too. */
struct attn_gram {
    attn_items items;
    attn_joined left, right; /* one of them may have a second part */
    std::size_t count;       /* queries */
    float *result;
    bool add;    /* to what stands there */
    float *part; /* (shares, left's width, right's width); unused when there is one share */
};

/* Shares of so many queries: never more for fewer. */
std::size_t attn_gram_shares(std::size_t count, std::size_t rows, std::size_t columns);

cudaError_t attn_gram_launch(const attn_gram &gram, cudaStream_t stream);

#endif

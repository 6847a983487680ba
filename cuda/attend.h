/* SPDX-License-Identifier: Apache-2.0 */
/* Softmax attention of queries to the rows of H by dot products, in one pass over H: each query's range is cut into chunks of `steps`, counted
 * from its start; a block takes one and leaves its part (maximum, sum, context); the parts are merged in order. */
#ifndef ATTN_CUDA_ATTEND_H
#define ATTN_CUDA_ATTEND_H

#include "cuda/items.h"

enum : unsigned { ATTN_ATTEND_WIDEST = 1024 }; /* features */

struct attn_attend {
    attn_items items;
    const void *h;
    attn_dtype stored; /* how */
    std::ptrdiff_t h_batch, h_time;
    std::size_t features, count; /* count: queries of all items */
    attn_rows queries;           /* unused with scores */
    const float *scores;         /* (count, timesteps), in place of the products with the queries; may be NULL */
    std::size_t steps, chunks;
    float *part_maximum, *part_sum, *part_context; /* (count, chunks), the context (count, chunks, features) */
    float *context_rows;                           /* dense; NULL: not asked for, as the rest */
    float *maximum, *sum;                          /* of the softmax, a query each; both or neither */
    float *context, *weights, *lse;
    std::ptrdiff_t context_batch, context_row, weights_batch, weights_row, lse_batch;
};

/* Steps of a chunk, for the largest T of a plan. */
std::size_t attn_attend_steps(std::size_t timesteps);
cudaError_t attn_attend_launch(const attn_attend &attend, cudaStream_t stream);

/* Asks the runtime for this device's code of the kernels. */
cudaError_t attn_attend_probe();

#endif

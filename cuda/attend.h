/* SPDX-License-Identifier: Apache-2.0 */
/* Softmax attention of queries to the rows of H by dot products, in one pass over H: each query's range is cut into chunks of `steps`, counted
 * from its start; a block takes one and leaves its part (maximum, sum, context); the parts are merged in order. The
 * output of the layer, a product with the merged context, is made on the way. */
#ifndef ATTN_CUDA_ATTEND_H
#define ATTN_CUDA_ATTEND_H

#include "cuda/items.h"

enum : unsigned { ATTN_ATTEND_WIDEST = 1024 /* features */, ATTN_ATTEND_MOST_CHUNKS = 64 /* of a query */ };

/* tanh([context ; query] . weights), a row each query. */
struct attn_attend_output {
    attn_rows queries;
    std::size_t query_width, units; /* units 0: not asked for */
    const float *weights;
    float *result, *copy; /* the copy is dense; either may be NULL */
    std::ptrdiff_t batch, row;
};

struct attn_attend {
    attn_items items;
    const void *h;
    attn_dtype stored; /* how */
    std::ptrdiff_t h_batch, h_time;
    std::size_t features, count; /* count: queries of all items */
    attn_rows queries;
    std::size_t steps, chunks;
    float *part_maximum, *part_sum, *part_context; /* (count, chunks), the context (count, chunks, features) */
    float *maximum, *sum;                          /* of the softmax, a query each */
    float *context_rows, *context, *weights, *lse; /* NULL: not asked for; the first is dense */
    std::ptrdiff_t context_batch, context_row, weights_batch, weights_row, lse_batch;
    attn_attend_output output;
};

/* Steps of a chunk, for the largest T of a plan. */
std::size_t attn_attend_steps(std::size_t timesteps);
/* The pass over H. */
cudaError_t attn_attend_launch(const attn_attend &attend, cudaStream_t stream);

/* What follows it, or another that leaves parts and scores: the chunks merged, what was asked for written (attend_finish.cu). */
cudaError_t attn_attend_finish(const attn_attend &attend, cudaStream_t stream);

/* Whether that needs more blocks than a grid has. */
bool attn_attend_too_large(std::size_t count, std::size_t timesteps, std::size_t units);

/* Asks the runtime for this device's code of the kernels. */
cudaError_t attn_attend_probe();

#endif

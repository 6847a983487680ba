/* SPDX-License-Identifier: Apache-2.0 */
/* What a forward pass in training keeps, for each query, item after item. */
#ifndef ATTN_CUDA_KEPT_H
#define ATTN_CUDA_KEPT_H

#include "cuda/call.h"

struct attn_cuda_kept {
    float *maximum, *sum; /* of the softmax; sum is 0 where nothing is attended */
    float *context;       /* dense, divided by the sum; 0 where nothing is attended */
    float *output;        /* dense */
    float *scores;        /* a row of T each, of the additive score alone; NULL with ATTN_LAYER_RECOMPUTE */
};

/* Hands out the backend's bytes at memory, or with NULL counts them; by the sizes of the run. */
static inline std::size_t attn_cuda_kept_carve(const attn_layer_problem *sizes, void *memory, attn_cuda_kept *kept) {
    attn_carver carver = {static_cast<char *>(memory), 0, false};
    const std::size_t count = sizes->batch * sizes->queries;
    kept->maximum = attn_carve_floats(&carver, count, 1);
    kept->sum = attn_carve_floats(&carver, count, 1);
    kept->context = attn_carve_floats(&carver, count, sizes->features);
    kept->output = attn_carve_floats(&carver, count, sizes->units);
    const bool scores = sizes->score == ATTN_SCORE_BAHDANAU && !sizes->recompute;
    kept->scores = scores ? attn_carve_floats(&carver, count, sizes->timesteps) : nullptr;
    return attn_carved_size(&carver);
}

#endif

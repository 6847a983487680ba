/* SPDX-License-Identifier: Apache-2.0 */
/* The additive score's share of a backward run: from the gradients of the contexts to those of H, of W2, of v, and of the projected queries. */
#ifndef ATTN_CUDA_BACKWARD_ADDITIVE_H
#define ATTN_CUDA_BACKWARD_ADDITIVE_H

#include "cuda/call.h"
#include "cuda/kept.h"

/* Its pieces of the workspace. */
struct attn_additive_pieces {
    float *projected;                  /* (B, Tq, A) */
    float *scores;                     /* (B, Tq, T); NULL where they are kept */
    float *weights, *gradients;        /* (B, Tq, T), see attn_moments */
    float *part_product, *part_weight; /* likewise */
    float *part_v, *part_w2;           /* see attn_additive_back */
};

void attn_additive_carve(const attn_layer_problem *planned, const attn_layer_problem *sizes, attn_carver *carver,
                         attn_additive_pieces *pieces);

struct attn_backward_additive {
    attn_multiplied by;
    const attn_layer_problem *planned;
    const attn_layer_call *call;
    const attn_additive_pieces *pieces;
    const attn_cuda_kept *kept;
    const float *grad_context; /* complete; dense */
    float *shift;              /* a query each; written here */
    float *part_projected;     /* (B, Tq, chunks, A): their sum is the gradient of the projected queries */
};

cudaError_t attn_backward_additive_run(const attn_backward_additive &run, cudaStream_t stream);

#endif

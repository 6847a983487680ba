/* SPDX-License-Identifier: Apache-2.0 */
/* Scaled-dot-product attention by composition: as an operation, and as a part of what has more to compute. */
#ifndef ATTN_CUDA_SDPA_H
#define ATTN_CUDA_SDPA_H

#include "cuda/cublas.h"
#include "cuda/sdpa_tile.h"
#include "lib/backend.h"

extern const attn_implementation attn_cuda_sdpa_implementations[];
extern const size_t attn_cuda_sdpa_implementations_count;

/* A call, and what the operation itself does not have. */
struct attn_composed {
    attn_sdpa_call call;        /* its workspace: attn_compose_size of what is planned */
    const std::int32_t *starts; /* see attn_view; may be NULL */
    float *maximum, *sum;       /* see attn_sdpa_tile */
    /* The tile's scores, in place of products with the queries: once, and `again` for its attention weights. NULL: products. */
    attn_status (*scores)(const void *scorer, const attn_sdpa_tile &tile, bool again, attn_cublas_run *blas);
    const void *scorer;
};

std::size_t attn_compose_size(const attn_sdpa_problem *planned);

/* NULL, or why it can't be, cuBLAS apart. */
const char *attn_compose_refusal(const attn_sdpa_problem *problem);

attn_status attn_compose(const attn_composed &composed, attn_cublas_run *blas, cudaStream_t stream);

#endif

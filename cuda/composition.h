/* SPDX-License-Identifier: Apache-2.0 */
/* The layer by composition: products by cuBLAS and kernels between them, for any number of features. */
#ifndef ATTN_CUDA_COMPOSITION_H
#define ATTN_CUDA_COMPOSITION_H

#include "cuda/call.h"
#include "cuda/cublas.h"

extern const attn_implementation attn_cuda_composition_forward_implementations[];
extern const size_t attn_cuda_composition_forward_implementations_count;
extern const attn_implementation attn_cuda_composition_backward_implementations[];
extern const size_t attn_cuda_composition_backward_implementations_count;

/* A dense matrix, as wide as its rows are apart. */
struct attn_matrix {
    const void *data;
    std::size_t width;
};

/* C = or += A op(B), of so many rows, columns and terms, all in float32. Batches are to be set where there are several. */
attn_gemm attn_matrix_product(std::size_t rows, std::size_t columns, std::size_t depth);

/* One run: what both passes share. */
struct attn_composition {
    const attn_layer_call *call;
    attn_cublas_run *blas;
    cudaStream_t stream;

    const attn_layer_problem &sizes() const { return call->sizes; }
    std::size_t count() const { return call->sizes.batch * call->sizes.queries; } /* queries of all items */
    bool additive() const { return call->sizes.score == ATTN_SCORE_BAHDANAU; }

    /* Rows to dense ones. */
    attn_status collect(const attn_rows &rows, std::size_t width, float *to) const;
    /* to = or += rows . weights, one a query; weights are stored (columns, rows' width) where transposed. */
    attn_status multiply(const attn_matrix &rows, const void *weights, bool transposed, std::size_t columns, float *to,
                         bool add) const;
    /* What the scores are made from: the collected queries by K or by W1; as they are for the dot score, which leaves `folded` alone. */
    attn_status fold(const float *queries, float *folded) const;
};

/* Elements of what the scores are made from. */
std::size_t attn_composition_width(const attn_layer_problem *sizes);

#endif

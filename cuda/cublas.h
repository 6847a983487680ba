/* SPDX-License-Identifier: Apache-2.0 */
/* cuBLAS, loaded at run time when a plan first asks for it: a handle of the context's own, or one that the caller brought. */
#ifndef ATTN_CUDA_CUBLAS_H
#define ATTN_CUDA_CUBLAS_H

#include "lib/backend.h"

#include <cstddef>
#include <cstdint>
#include <cuda_runtime.h>
#include <pthread.h>

struct cublasContext;

/* The functions that are used, with the arguments that cublas_v2.h declares; its enumerations are ints. */
struct attn_cublas_functions {
    int (*get_property)(int property, int *value);
    int (*create)(cublasContext **handle);
    int (*destroy)(cublasContext *handle);
    int (*set_stream)(cublasContext *handle, cudaStream_t stream);
    int (*get_stream)(cublasContext *handle, cudaStream_t *stream);
    int (*set_workspace)(cublasContext *handle, void *workspace, std::size_t size);
    int (*set_math_mode)(cublasContext *handle, int mode);
    int (*get_math_mode)(cublasContext *handle, int *mode);
    int (*set_pointer_mode)(cublasContext *handle, int mode);
    int (*get_pointer_mode)(cublasContext *handle, int *mode);
    int (*set_atomics_mode)(cublasContext *handle, int mode);
    int (*get_atomics_mode)(cublasContext *handle, int *mode);
    int (*gemm)(cublasContext *handle, int transpose_a, int transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
                const void *alpha, const void *a, int a_type, std::int64_t lda, long long a_stride, const void *b,
                int b_type, std::int64_t ldb, long long b_stride, const void *beta, void *c, int c_type,
                std::int64_t ldc, long long c_stride, std::int64_t count, int compute_type, int algorithm);
};

/* Of one context. The lock is held while the handle is made and while a run puts its products on the stream. */
struct attn_cublas {
    pthread_mutex_t lock;
    attn_cublas_functions call;
    cublasContext *handle; /* NULL: none was needed yet */
    bool loaded, foreign;
    char text[160]; /* "cuBLAS 13.1.0", or why there is none */
};

void attn_cublas_open(attn_cublas *blas, cublasContext *foreign);
void attn_cublas_close(attn_cublas *blas, bool same_process);

/* Loads the library and makes the handle where that was not done: NULL, or why there is none. */
const char *attn_cublas_refusal(const attn_device *device);

/* What context_blas tells; loads the library. */
const char *attn_cublas_text(const attn_device *device);

/* Bytes of workspace for the products of a run. */
std::size_t attn_cublas_workspace_size(const attn_device *device);

enum : std::size_t { ATTN_LEAST_PART = 32 /* terms of a product that is a part of another, if that has more */ };

/* Batches of products: steps of A, B and C along a dimension, in elements. */
struct attn_gemm_batch {
    std::size_t count;
    std::ptrdiff_t a, b, c;
};

/* C = alpha op(A) op(B) + beta C, row-major, C (rows, columns), for each of the batches, outermost first. Rows are as far apart as they are long
 * or farther. Every size is at least 1. */
struct attn_gemm {
    attn_dtype stored, result; /* of A and B, of C */
    bool transpose_a, transpose_b;
    std::size_t rows, columns, depth;
    float alpha, beta;
    const void *a, *b;
    void *c;
    std::ptrdiff_t a_row, b_row, c_row;
    attn_gemm_batch batches[3];
};

/* The handle, for the products of one run: on the context's stream, in float32 without TF32, without atomics. What was set on a handle that
 * the caller brought is put back at the end, its workspace where it was on this stream already. */
class attn_cublas_run {
  public:
    attn_cublas_run(const attn_device *device, void *workspace);
    ~attn_cublas_run();
    attn_cublas_run(const attn_cublas_run &) = delete;
    attn_cublas_run &operator=(const attn_cublas_run &) = delete;

    attn_status multiply(const attn_gemm &gemm);
    /* The same in products of some terms, added up in order: what cuBLAS sums is taken for a chain in any order.
     * `length`: of the whole sums, of which these may be a part. With the root of it as terms, the chain in a product and
     * the chain of products are off by less than that root together. C is float32. */
    attn_status multiply_in_parts(const attn_gemm &gemm, std::size_t length);
    attn_status status; /* of the preparation */

  private:
    int borrow();
    attn_cublas *blas;
    cudaStream_t stream, previous_stream;
    int previous_math, previous_pointer, previous_atomics;
    bool borrowed;
};

#endif

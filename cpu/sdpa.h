/* Scaled-dot-product attention by composition: a product, a softmax, a product, for some queries and keys at a time.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Who multiplies is the implementation's choice: OpenBLAS (sdpa_openblas.c) or the library's own kernels (sdpa_own.c). */
#ifndef ATTN_CPU_SDPA_H
#define ATTN_CPU_SDPA_H

#include "cpu/device.h"
#include "cpu/kernels.h"

/* Row-major products with row strides of at most INT_MAX; every size >= 1. */
typedef struct attn_products {
    const attn_openblas *blas;        /* NULL: the kernels' own */
    const attn_kernels_real *kernels; /* for what stands between the products too */
    /* C (m, n) = A (m, k) B^T, B (n, k) */
    void (*nt)(const struct attn_products *products, attn_dtype dtype, size_t m, size_t n, size_t k, const void *a,
               size_t lda, const void *b, size_t ldb, void *c, size_t ldc);
    /* C (m, n) = A (m, k) B (k, n) */
    void (*nn)(const struct attn_products *products, attn_dtype dtype, size_t m, size_t n, size_t k, const void *a,
               size_t lda, const void *b, size_t ldb, void *c, size_t ldc);
} attn_products;

/* Bytes of workspace for a problem on the device's threads. */
size_t attn_sdpa_workspace_size(const attn_device *device, const attn_sdpa_problem *problem);

void attn_sdpa_compose(attn_device *device, const attn_products *products, const attn_sdpa_call *call);

extern const attn_implementation attn_sdpa_openblas_implementations[];
extern const size_t attn_sdpa_openblas_implementations_count; /* 0 in a build without OpenBLAS */
extern const attn_implementation attn_sdpa_own_implementations[];
extern const size_t attn_sdpa_own_implementations_count;

#endif

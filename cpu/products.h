/* SPDX-License-Identifier: Apache-2.0 */
/* Who multiplies for a composition: OpenBLAS, or the library's own kernels. */
#ifndef ATTN_CPU_PRODUCTS_H
#define ATTN_CPU_PRODUCTS_H

#include "cpu/device.h"
#include "cpu/kernels.h"

typedef struct attn_products attn_products;

/* Row-major, with row strides no shorter than a row and, for OpenBLAS, at most INT_MAX; every size >= 1. */
typedef void (*attn_product)(const attn_products *products, attn_dtype dtype, size_t m, size_t n, size_t k,
                             const void *a, size_t lda, const void *b, size_t ldb, void *c, size_t ldc);

struct attn_products {
    const attn_openblas *blas;        /* NULL: the kernels' own */
    const attn_kernels_real *kernels; /* for what stands between the products too */
    attn_product nn;                  /* C (m, n) = A (m, k) B (k, n) */
    attn_product exact;               /* the same, of weights and values: by shorter chains */
    attn_product nt;                  /* C (m, n) = A (m, k) B^T, B (n, k) */
    attn_product tn;                  /* C (m, n) = A^T B, A (k, m) */
};

attn_products attn_own_products(const attn_kernels_real *kernels);

/* With the kernels of the device's instruction set; only in a build with OpenBLAS. */
attn_products attn_openblas_products(const attn_device *device, attn_dtype dtype);

/* NULL, or why OpenBLAS can't multiply here; a hard reason. longest: the longest row. */
const char *attn_openblas_refusal(const attn_device *device, size_t longest);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/composition_parts.h"
#include "cpu/products.h"

#include <limits.h>

static void openblas_nn(const attn_products *products, attn_dtype dtype, size_t m, size_t n, size_t k, const void *a,
                        size_t lda, const void *b, size_t ldb, void *c, size_t ldc) {
    attn_openblas_gemm(products->blas, dtype, m, n, k, a, lda, b, ldb, c, ldc, false);
}

static void openblas_exact(const attn_products *products, attn_dtype dtype, size_t m, size_t n, size_t k, const void *a,
                           size_t lda, const void *b, size_t ldb, void *c, size_t ldc) {
    attn_openblas_gemm_exact(products->blas, dtype, m, n, k, a, lda, b, ldb, c, ldc, false);
}

static void openblas_nt(const attn_products *products, attn_dtype dtype, size_t m, size_t n, size_t k, const void *a,
                        size_t lda, const void *b, size_t ldb, void *c, size_t ldc) {
    attn_openblas_gemm_nt_exact(products->blas, dtype, m, n, k, a, lda, b, ldb, c, ldc, false);
}

static void openblas_tn(const attn_products *products, attn_dtype dtype, size_t m, size_t n, size_t k, const void *a,
                        size_t lda, const void *b, size_t ldb, void *c, size_t ldc) {
    attn_openblas_gemm_tn(products->blas, dtype, m, n, k, a, lda, b, ldb, c, ldc, false);
}

attn_products attn_openblas_products(const attn_device *device, attn_dtype dtype) {
    return (attn_products){.blas = attn_cpu_openblas(device),
                           .kernels = attn_composition_kernels(device, dtype),
                           .nn = openblas_nn,
                           .exact = openblas_exact,
                           .nt = openblas_nt,
                           .tn = openblas_tn};
}

const char *attn_openblas_refusal(const attn_device *device, size_t longest) {
    if (longest > INT_MAX) return "OpenBLAS counts in int: a row is too long";
    const attn_openblas *blas = attn_cpu_openblas(device);
    return blas->usable ? NULL : blas->text;
}

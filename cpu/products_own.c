/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/products.h"

static void own_nn(const attn_products *products, attn_dtype dtype, size_t m, size_t n, size_t k, const void *a,
                   size_t lda, const void *b, size_t ldb, void *c, size_t ldc) {
    (void)dtype;
    products->kernels->gemm(m, n, k, a, (ptrdiff_t)lda, b, (ptrdiff_t)ldb, c, (ptrdiff_t)ldc, false, false);
}

static void own_exact(const attn_products *products, attn_dtype dtype, size_t m, size_t n, size_t k, const void *a,
                      size_t lda, const void *b, size_t ldb, void *c, size_t ldc) {
    (void)dtype;
    products->kernels->gemm_exact(m, n, k, a, (ptrdiff_t)lda, b, (ptrdiff_t)ldb, c, (ptrdiff_t)ldc);
}

static void own_nt(const attn_products *products, attn_dtype dtype, size_t m, size_t n, size_t k, const void *a,
                   size_t lda, const void *b, size_t ldb, void *c, size_t ldc) {
    (void)dtype;
    products->kernels->gemm_nt(m, n, k, a, (ptrdiff_t)lda, b, (ptrdiff_t)ldb, c, (ptrdiff_t)ldc);
}

static void own_tn(const attn_products *products, attn_dtype dtype, size_t m, size_t n, size_t k, const void *a,
                   size_t lda, const void *b, size_t ldb, void *c, size_t ldc) {
    (void)dtype;
    products->kernels->gemm_tn(m, n, k, a, (ptrdiff_t)lda, b, (ptrdiff_t)ldb, c, (ptrdiff_t)ldc, false);
}

attn_products attn_own_products(const attn_kernels_real *kernels) {
    return (attn_products){.kernels = kernels, .nn = own_nn, .exact = own_exact, .nt = own_nt, .tn = own_tn};
}

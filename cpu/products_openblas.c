/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/composition_parts.h"
#include "cpu/products.h"

#include <limits.h>

/* Terms of a score that one call sums: OpenBLAS adds them one after the other, and long chains gather more rounding
 * error than large scores are allowed: 1.09 gates with 64 terms at scores of 200, 0.69 with 32. */
enum { LONGEST_CHAIN = 40 };

static void openblas_nn(const attn_products *products, attn_dtype dtype, size_t m, size_t n, size_t k, const void *a,
                        size_t lda, const void *b, size_t ldb, void *c, size_t ldc) {
    attn_openblas_gemm(products->blas, dtype, m, n, k, a, lda, b, ldb, c, ldc, false);
}

static void openblas_nt(const attn_products *products, attn_dtype dtype, size_t m, size_t n, size_t k, const void *a,
                        size_t lda, const void *b, size_t ldb, void *c, size_t ldc) {
    const size_t size = dtype == ATTN_FLOAT32 ? sizeof(float) : sizeof(double);
    const size_t chain = divide_up(k, divide_up(k, LONGEST_CHAIN));
    for (size_t first = 0; first < k; first += chain)
        attn_openblas_gemm_nt(products->blas, dtype, m, n, least(chain, k - first), (const char *)a + first * size, lda,
                              (const char *)b + first * size, ldb, c, ldc, first > 0);
}

static void openblas_tn(const attn_products *products, attn_dtype dtype, size_t m, size_t n, size_t k, const void *a,
                        size_t lda, const void *b, size_t ldb, void *c, size_t ldc) {
    attn_openblas_gemm_tn(products->blas, dtype, m, n, k, a, lda, b, ldb, c, ldc, false);
}

attn_products attn_openblas_products(const attn_device *device, attn_dtype dtype) {
    return (attn_products){.blas = attn_cpu_openblas(device),
                           .kernels = attn_composition_kernels(device, dtype),
                           .nn = openblas_nn,
                           .nt = openblas_nt,
                           .tn = openblas_tn};
}

const char *attn_openblas_refusal(const attn_device *device, size_t longest) {
    if (longest > INT_MAX) return "OpenBLAS counts in int: a row is too long";
    const attn_openblas *blas = attn_cpu_openblas(device);
    return blas->usable ? NULL : blas->text;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Scaled-dot-product attention on OpenBLAS's products. */
#include "cpu/composition_parts.h"
#include "cpu/sdpa.h"

#include <limits.h>

/* Terms of a score that one call sums: OpenBLAS adds them one after the other, and long chains gather more rounding
 * error than large scores are allowed. */
enum { LONGEST_CHAIN = 40 };

static void openblas_nt(const attn_products *products, attn_dtype dtype, size_t m, size_t n, size_t k, const void *a,
                        size_t lda, const void *b, size_t ldb, void *c, size_t ldc) {
    const size_t size = dtype == ATTN_FLOAT32 ? sizeof(float) : sizeof(double);
    const size_t chain = divide_up(k, divide_up(k, LONGEST_CHAIN));
    for (size_t first = 0; first < k; first += chain)
        attn_openblas_gemm_nt(products->blas, dtype, m, n, least(chain, k - first), (const char *)a + first * size, lda,
                              (const char *)b + first * size, ldb, c, ldc, first > 0);
}

static void openblas_nn(const attn_products *products, attn_dtype dtype, size_t m, size_t n, size_t k, const void *a,
                        size_t lda, const void *b, size_t ldb, void *c, size_t ldc) {
    attn_openblas_gemm(products->blas, dtype, m, n, k, a, lda, b, ldb, c, ldc, false);
}

/* As with the layer's dot score: GEMV's chains of sums leave the bound where the terms have one sign. */
static const size_t longest_exact_row = 512;

static const char *refuse(const attn_implementation *implementation, const attn_device *device,
                          const attn_sdpa_problem *problem, bool *hard) {
    (void)implementation;
    *hard = true;
    if (!device->openblas.library) return device->openblas.text;
    if (problem->head_dim > INT_MAX || problem->value_dim > INT_MAX) return "OpenBLAS counts in int: a row is too long";
    if (problem->dtype == ATTN_FLOAT64 && problem->head_dim > longest_exact_row)
        return "OpenBLAS sums long rows of float64 with more error than is promised";
    return NULL;
}

static size_t workspace_size(const attn_implementation *implementation, const attn_device *device,
                             const attn_sdpa_problem *planned) {
    (void)implementation;
    return attn_sdpa_workspace_size(device, planned);
}

static attn_status run(const attn_implementation *implementation, attn_device *device, const attn_sdpa_call *call) {
    const attn_products products = {.blas = &device->openblas,
                                    .kernels = attn_composition_kernels(device, implementation->dtype),
                                    .nt = openblas_nt,
                                    .nn = openblas_nn};
    attn_sdpa_compose(device, &products, call);
    return ATTN_OK;
}

static const attn_sdpa_functions functions = {refuse, workspace_size, run};

#define OPENBLAS(type_name, type_value)                                                                                \
    {                                                                                                                  \
        .name = "cpu:openblas:sdpa:forward:" #type_name, .operation = ATTN_OPERATION_SDPA_FORWARD,                     \
        .dtype = type_value, .sdpa = &functions                                                                        \
    }

const attn_implementation attn_sdpa_openblas_implementations[] = {OPENBLAS(f32, ATTN_FLOAT32),
                                                                  OPENBLAS(f64, ATTN_FLOAT64)};
const size_t attn_sdpa_openblas_implementations_count =
    sizeof attn_sdpa_openblas_implementations / sizeof *attn_sdpa_openblas_implementations;

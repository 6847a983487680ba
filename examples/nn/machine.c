/* SPDX-License-Identifier: Apache-2.0 */
#include "examples/nn/machine.h"

#include "cpu/kernels.h"

#include <cblas.h>
#include <string.h>

static void blas_multiply(size_t rows, size_t columns, size_t depth, const float *a, const float *b, float *c) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, (int)columns, (int)depth, 1, a, (int)depth, b,
                (int)columns, 0, c, (int)columns);
}

static void blas_add_transposed(size_t rows, size_t columns, size_t depth, const float *a, const float *b, float *c) {
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)rows, (int)columns, (int)depth, 1, a, (int)rows, b,
                (int)columns, 1, c, (int)columns);
}

extern const nn_cells nn_cells_scalar, nn_cells_avx2, nn_cells_avx512;

#define PRODUCTS(isa)                                                                                                  \
    static void isa##_multiply(size_t rows, size_t columns, size_t depth, const float *a, const float *b, float *c) {  \
        attn_kernels_##isa.f32.gemm(rows, columns, depth, a, (ptrdiff_t)depth, b, (ptrdiff_t)columns, c,               \
                                    (ptrdiff_t)columns, 0, 0);                                                         \
    }                                                                                                                  \
    static void isa##_add_transposed(size_t rows, size_t columns, size_t depth, const float *a, const float *b,        \
                                     float *c) {                                                                       \
        attn_kernels_##isa.f32.gemm_tn(rows, columns, depth, a, (ptrdiff_t)rows, b, (ptrdiff_t)columns, c,             \
                                       (ptrdiff_t)columns, 1);                                                         \
    }

#if defined(__x86_64__)
PRODUCTS(avx2)
PRODUCTS(avx512)
#endif

const nn_machine *nn_machine_for(const char *isa) {
    static const nn_machine scalar = {&nn_cells_scalar, blas_multiply, blas_add_transposed};
#if defined(__x86_64__)
    static const nn_machine avx2 = {&nn_cells_avx2, avx2_multiply, avx2_add_transposed};
    static const nn_machine avx512 = {&nn_cells_avx512, avx512_multiply, avx512_add_transposed};
    if (!strcmp(isa, "avx512")) return &avx512;
    if (!strcmp(isa, "avx2")) return &avx2;
#endif
    (void)isa;
    return &scalar;
}

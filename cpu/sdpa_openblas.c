/* SPDX-License-Identifier: Apache-2.0 */
/* Scaled-dot-product attention on OpenBLAS's products. */
#include "cpu/sdpa.h"
#include "cpu/sizes.h"

/* As with the layer's dot score: GEMV's chains of sums leave the bound where the terms have one sign. */
static const size_t longest_exact_row = 512;

static const char *refuse(const attn_implementation *implementation, const attn_device *device,
                          const attn_sdpa_problem *problem, bool *hard) {
    (void)implementation;
    *hard = true;
    if (problem->dtype == ATTN_FLOAT64 && problem->head_dim > longest_exact_row)
        return "OpenBLAS sums long rows of float64 with more error than is promised";
    *hard = device->isa != ATTN_CPU_AVX512 || device->options.blas_forced;
    if (!*hard) return "slower than the library's own products on AVX-512"; /* without loading it */
    return attn_openblas_refusal(device, most(problem->head_dim, problem->value_dim));
}

static attn_status run(const attn_implementation *implementation, attn_device *device, const attn_sdpa_call *call) {
    const attn_products products = attn_openblas_products(device, implementation->dtype);
    attn_sdpa_compose(device, &products, call);
    return ATTN_OK;
}

static const attn_sdpa_functions functions = {refuse, attn_sdpa_workspace_size, run};

#define OPENBLAS(type_name, type_value)                                                                                \
    {                                                                                                                  \
        .name = "cpu:openblas:sdpa:forward:" #type_name, .operation = ATTN_OPERATION_SDPA_FORWARD,                     \
        .dtype = type_value, .sdpa = &functions                                                                        \
    }

const attn_implementation attn_sdpa_openblas_implementations[] = {OPENBLAS(f32, ATTN_FLOAT32),
                                                                  OPENBLAS(f64, ATTN_FLOAT64)};
const size_t attn_sdpa_openblas_implementations_count =
    sizeof attn_sdpa_openblas_implementations / sizeof *attn_sdpa_openblas_implementations;

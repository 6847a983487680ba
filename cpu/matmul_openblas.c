/* SPDX-License-Identifier: Apache-2.0 */
/* The batched matrix product on OpenBLAS. */
#include "cpu/blocks.h"
#include "cpu/composition_parts.h"

#include <limits.h>

static const char *refuse(const attn_implementation *implementation, const attn_device *device,
                          const attn_matmul_problem *problem, bool *hard) {
    (void)implementation;
    *hard = true;
    return attn_openblas_refusal(device, most(most(problem->rows, problem->columns), problem->depth));
}

/* Rows further apart than OpenBLAS can count go to the own kernels. */
static attn_status run(const attn_implementation *implementation, attn_device *device, const attn_matmul_call *call) {
    const bool far = call->a_strides.row > INT_MAX || call->b_strides.row > INT_MAX;
    const attn_products products = far ? attn_own_products(attn_composition_kernels(device, implementation->dtype))
                                       : attn_openblas_products(device, implementation->dtype);
    attn_matmul_compose(device, &products, call);
    return ATTN_OK;
}

static const attn_matmul_functions functions = {refuse, attn_matmul_workspace_size, run};

#define OPENBLAS(type_name, type_value)                                                                                \
    {                                                                                                                  \
        .name = "cpu:openblas:matmul:forward:" #type_name, .operation = ATTN_OPERATION_MATMUL, .dtype = type_value,    \
        .matmul = &functions                                                                                           \
    }

const attn_implementation attn_matmul_openblas_implementations[] = {OPENBLAS(f32, ATTN_FLOAT32),
                                                                    OPENBLAS(f64, ATTN_FLOAT64)};
const size_t attn_matmul_openblas_implementations_count =
    sizeof attn_matmul_openblas_implementations / sizeof *attn_matmul_openblas_implementations;

/* SPDX-License-Identifier: Apache-2.0 */
/* The building blocks on the library's own kernels. */
#include "cpu/blocks.h"
#include "cpu/fused_kind.h"

static const char *refuse_matmul(const attn_implementation *implementation, const attn_device *device,
                                 const attn_matmul_problem *problem, bool *hard) {
    (void)problem;
    *hard = true;
    return attn_cpu_refuse_isa(device, kind_of(implementation)->isa);
}

static attn_status run_matmul(const attn_implementation *implementation, attn_device *device,
                              const attn_matmul_call *call) {
    const attn_products products = attn_own_products(kernels_of(implementation));
    attn_matmul_compose(device, &products, call);
    return ATTN_OK;
}

static const char *refuse_softmax(const attn_implementation *implementation, const attn_device *device,
                                  const attn_softmax_problem *problem, bool *hard) {
    (void)problem;
    *hard = true;
    return attn_cpu_refuse_isa(device, kind_of(implementation)->isa);
}

static const attn_matmul_functions matmul = {refuse_matmul, attn_matmul_workspace_size, run_matmul};
static const attn_softmax_functions softmax = {refuse_softmax, attn_softmax_workspace_size, attn_softmax_run};

#define OWN(isa, block, pass, operation_value, type_name, type_value)                                                  \
    {                                                                                                                  \
        .name = "cpu:" #isa ":" #block ":" #pass ":" #type_name, .operation = operation_value, .dtype = type_value,    \
        .batch_invariant = true, .data = &attn_fused_##isa, .block = &block                                            \
    }
#define OWN_TYPE(isa, type_name, type_value)                                                                           \
    OWN(isa, matmul, forward, ATTN_OPERATION_MATMUL, type_name, type_value),                                           \
        OWN(isa, softmax, forward, ATTN_OPERATION_SOFTMAX_FORWARD, type_name, type_value),                             \
        OWN(isa, softmax, backward, ATTN_OPERATION_SOFTMAX_BACKWARD, type_name, type_value)
#define OWN_TYPES(isa) OWN_TYPE(isa, f32, ATTN_FLOAT32), OWN_TYPE(isa, f64, ATTN_FLOAT64)

const attn_implementation attn_blocks_implementations[] = {
#if defined(__x86_64__)
    OWN_TYPES(avx512), OWN_TYPES(avx2),
#endif
    OWN_TYPES(scalar)};
const size_t attn_blocks_implementations_count =
    sizeof attn_blocks_implementations / sizeof *attn_blocks_implementations;

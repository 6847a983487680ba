/* SPDX-License-Identifier: Apache-2.0 */
/* Scaled-dot-product attention on the library's own products: where there is no OpenBLAS, and where an item's bits
 * must not depend on the batch. */
#include "cpu/fused_kind.h"
#include "cpu/sdpa.h"

static const char *refuse(const attn_implementation *implementation, const attn_device *device,
                          const attn_sdpa_problem *problem, bool *hard) {
    (void)problem;
    *hard = true;
    return attn_cpu_refuse_isa(device, kind_of(implementation)->isa);
}

static attn_status run(const attn_implementation *implementation, attn_device *device, const attn_sdpa_call *call) {
    const attn_products products = attn_own_products(kernels_of(implementation));
    attn_sdpa_compose(device, &products, call);
    return ATTN_OK;
}

static const attn_sdpa_functions functions = {refuse, attn_sdpa_workspace_size, run};

#define OWN(isa, type_name, type_value)                                                                                \
    {                                                                                                                  \
        .name = "cpu:" #isa ":sdpa:forward:" #type_name, .operation = ATTN_OPERATION_SDPA_FORWARD,                     \
        .dtype = type_value, .batch_invariant = true, .data = &attn_fused_##isa, .sdpa = &functions                    \
    }
#define OWN_TYPES(isa) OWN(isa, f32, ATTN_FLOAT32), OWN(isa, f64, ATTN_FLOAT64)

const attn_implementation attn_sdpa_own_implementations[] = {
#if defined(__x86_64__)
    OWN_TYPES(avx512), OWN_TYPES(avx2),
#endif
    OWN_TYPES(scalar)};
const size_t attn_sdpa_own_implementations_count =
    sizeof attn_sdpa_own_implementations / sizeof *attn_sdpa_own_implementations;

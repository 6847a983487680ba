/* What tells the fused implementations of one instruction set from those of another: their data points to it. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ATTN_CPU_FUSED_KIND_H
#define ATTN_CPU_FUSED_KIND_H

#include "cpu/features.h"
#include "cpu/kernels.h"
#include "lib/backend.h"

typedef struct attn_fused_kind {
    const attn_kernels *kernels;
    attn_cpu_isa isa;
} attn_fused_kind;

extern const attn_fused_kind attn_fused_scalar;
#if defined(__x86_64__)
extern const attn_fused_kind attn_fused_avx2, attn_fused_avx512;
#endif

static inline const attn_fused_kind *kind_of(const attn_implementation *implementation) { return implementation->data; }

static inline const attn_kernels_real *kernels_of(const attn_implementation *implementation) {
    const attn_kernels *kernels = kind_of(implementation)->kernels;
    return implementation->dtype == ATTN_FLOAT32 ? &kernels->f32 : &kernels->f64;
}

#endif

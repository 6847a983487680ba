/* Scaled-dot-product attention by composition: a product, a softmax, a product, for some queries and keys at a time.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Who multiplies is the implementation's choice: OpenBLAS (sdpa_openblas.c) or the library's own kernels (sdpa_own.c). */
#ifndef ATTN_CPU_SDPA_H
#define ATTN_CPU_SDPA_H

#include "cpu/products.h"

size_t attn_sdpa_workspace_size(const attn_implementation *implementation, const attn_device *device,
                                const attn_sdpa_problem *planned);

void attn_sdpa_compose(attn_device *device, const attn_products *products, const attn_sdpa_call *call);

extern const attn_implementation attn_sdpa_openblas_implementations[];
extern const size_t attn_sdpa_openblas_implementations_count; /* 0 in a build without OpenBLAS */
extern const attn_implementation attn_sdpa_own_implementations[];
extern const size_t attn_sdpa_own_implementations_count;

#endif

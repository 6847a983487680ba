/* SPDX-License-Identifier: Apache-2.0 */
/* The building blocks: the batched matrix product and the masked softmax. */
#ifndef ATTN_CPU_BLOCKS_H
#define ATTN_CPU_BLOCKS_H

#include "cpu/products.h"

/* What every implementation of the product counts and runs; whose products they are is its choice. */
size_t attn_matmul_workspace_size(const attn_implementation *implementation, const attn_device *device,
                                  const attn_matmul_problem *planned);
void attn_matmul_compose(attn_device *device, const attn_products *products, const attn_matmul_call *call);

extern const attn_implementation attn_matmul_openblas_implementations[];
extern const size_t attn_matmul_openblas_implementations_count; /* 0 in a build without OpenBLAS */
extern const attn_implementation attn_blocks_implementations[]; /* on the library's own kernels */
extern const size_t attn_blocks_implementations_count;

/* Of the implementations on the library's own kernels. */
size_t attn_softmax_workspace_size(const attn_implementation *implementation, const attn_device *device,
                                   const attn_softmax_problem *planned);
attn_status attn_softmax_run(const attn_implementation *implementation, attn_device *device,
                             const attn_softmax_call *call);

#endif

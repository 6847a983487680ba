/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ATTN_CUDA_MATMUL_H
#define ATTN_CUDA_MATMUL_H

#include "lib/backend.h"

extern const attn_implementation attn_cuda_matmul_implementations[];
extern const size_t attn_cuda_matmul_implementations_count;

#endif

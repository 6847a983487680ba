/* SPDX-License-Identifier: Apache-2.0 */
/* The layer's forward pass by kernels of our own, float32. */
#ifndef ATTN_CUDA_FORWARD_H
#define ATTN_CUDA_FORWARD_H

#include "lib/backend.h"

extern const attn_implementation attn_cuda_forward_implementations[];
extern const size_t attn_cuda_forward_implementations_count;

#endif

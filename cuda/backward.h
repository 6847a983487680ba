/* SPDX-License-Identifier: Apache-2.0 */
/* The layer's backward pass by kernels of our own, for scores that are dot products: luong and dot, float32. */
#ifndef ATTN_CUDA_BACKWARD_H
#define ATTN_CUDA_BACKWARD_H

#include "lib/backend.h"

extern const attn_implementation attn_cuda_backward_implementations[];
extern const size_t attn_cuda_backward_implementations_count;

/* See attn_backend. */
attn_status attn_cuda_clear_gradients(attn_device *device, const attn_layer_call *call);

#endif

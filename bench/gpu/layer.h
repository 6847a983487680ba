/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of the attention layer, many to one: every implementation of both passes, and the pair of a training step. */
#ifndef ATTN_BENCH_GPU_LAYER_H
#define ATTN_BENCH_GPU_LAYER_H

#include "attention/attention_cuda.h"

#include <stdbool.h>

typedef struct layer_sizes {
    int64_t batch, timesteps, features, units;
} layer_sizes;

/* H stored as 0 (float32), or in 16 bits, which the forward pass alone takes. The limit is what the bytes of H, and of its gradient, take at
 * so many GB/s. */
void layer_rows(const char *module, attn_score score, attn_dtype stored, layer_sizes sizes, double bandwidth);

#endif

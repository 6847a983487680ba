/* SPDX-License-Identifier: Apache-2.0 */
/* What the device can do at best, measured in the same run. */
#ifndef ATTN_BENCH_GPU_PEAKS_H
#define ATTN_BENCH_GPU_PEAKS_H

#include "attention/attention_cuda.h"

#include <stdbool.h>

/* GB/s of a copy within the device's memory, its bytes counted as read and as written. */
double peaks_copy(bool small);

/* TFLOP/s of a large matrix product of the library's (attention/blocks.h), in float32 without TF32 or in bfloat16 on tensor cores; NaN where it is
 * refused. */
double peaks_product(attn_context *context, attn_dtype dtype, bool small);

#endif

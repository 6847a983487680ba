/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of attention by composition, and of the masked softmax. */
#ifndef ATTN_BENCH_GPU_BLOCKS_H
#define ATTN_BENCH_GPU_BLOCKS_H

#include "attention/attention_cuda.h"

/* bfloat16. The limit is the time of the two products alone and of writing and reading the scores twice, at so many GB/s. */
void blocks_attention_row(attn_context *context, int64_t heads, int64_t length, int64_t width, double bandwidth);

/* Of square matrices, every other key hidden by one mask for all heads. The limit is the time to read the scores and to write the weights. */
void blocks_softmax_row(attn_context *context, attn_dtype dtype, int64_t heads, int64_t length, double bandwidth);

#endif

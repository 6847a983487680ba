/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ATTN_CUDA_SDPA_H
#define ATTN_CUDA_SDPA_H

#include "lib/backend.h"

extern const attn_implementation attn_cuda_sdpa_implementations[];
extern const size_t attn_cuda_sdpa_implementations_count;

#endif

/* The fused implementations: cpu:{avx512,avx2,scalar}:{luong,dot,bahdanau}:forward:{f32,f64}. One pass over H, no array of scores
 * unless the caller asks for the attention weights.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef ATTN_CPU_FUSED_H
#define ATTN_CPU_FUSED_H

#include "lib/backend.h"

extern const attn_implementation attn_fused_implementations[];
extern const size_t attn_fused_implementations_count;

#endif

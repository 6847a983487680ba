/* The fused implementations of the backward pass: cpu:{avx512,avx2,scalar}:{luong,dot,bahdanau}:backward:{f32,f64}. One pass over
 * H and its gradient.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef ATTN_CPU_FUSED_BACKWARD_H
#define ATTN_CPU_FUSED_BACKWARD_H

#include "lib/backend.h"

extern const attn_implementation attn_fused_backward_implementations[];
extern const size_t attn_fused_backward_implementations_count;

#endif

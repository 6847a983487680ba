/* SPDX-License-Identifier: Apache-2.0 */
/* The masked softmax's arguments, checked and resolved. */
#ifndef ATTN_LIB_SOFTMAX_H
#define ATTN_LIB_SOFTMAX_H

#include "lib/plan.h"

attn_status attn_softmax_resolve_forward(const attn_plan *plan, const attn_softmax_forward_args *args,
                                         attn_softmax_call *call);
attn_status attn_softmax_resolve_backward(const attn_plan *plan, const attn_softmax_backward_args *args,
                                          attn_softmax_call *call);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The attention layer's descriptors and arguments, checked and resolved. */
#ifndef ATTN_LIB_LAYER_H
#define ATTN_LIB_LAYER_H

#include "lib/plan.h"

/* The problem of a descriptor, its defaults filled in and every size known to fit. */
attn_status attn_layer_resolve_problem(const attn_layer_desc *given, attn_operation operation,
                                       attn_layer_problem *problem);

/* The call of a run's arguments: everything checked, nothing written. Tensors without elements and outputs not asked for come as NULL. */
attn_status attn_layer_resolve_call(const attn_plan *plan, const attn_layer_forward_args *args, attn_layer_call *call);

/* The same for the backward pass. */
attn_status attn_layer_resolve_gradients(const attn_plan *plan, const attn_layer_backward_args *args,
                                         attn_layer_call *call);

/* What a backward run without items or queries writes: zeros, unless it accumulates. */
void attn_layer_clear_gradients(const attn_layer_call *call);

/* The weights alone, and the buffer that attn_layer_prepare is to fill. */
attn_status attn_layer_resolve_weights(const attn_plan *plan, const attn_layer_weights *weights, const void *prepared,
                                       size_t size, attn_layer_call *call);

#endif

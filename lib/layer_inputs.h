/* SPDX-License-Identifier: Apache-2.0 */
/* What the forward and the backward pass take alike: sizes, ranges, inputs, weights, workspace. The backward pass hands its own in
 * attn_layer_forward_args, of which only these fields are looked at. */
#ifndef ATTN_LIB_LAYER_INPUTS_H
#define ATTN_LIB_LAYER_INPUTS_H

#include "lib/plan.h"
#include "lib/tensor.h"

attn_status attn_layer_resolve_sizes(const attn_layer_problem *planned, const attn_layer_forward_args *args,
                                     attn_layer_problem *sizes);
attn_status attn_layer_check_workspace(const attn_plan *plan, const attn_layer_forward_args *args);
attn_status attn_layer_check_ranges(const attn_layer_call *call);

/* Each adds tensors to the list, and to the call those that are sound. */
void attn_layer_take_weights(attn_tensors *tensors, const attn_layer_problem *p, const attn_layer_weights *weights,
                             attn_layer_call *call);
void attn_layer_take_inputs(attn_tensors *tensors, const attn_layer_forward_args *args, attn_layer_call *call);
void attn_layer_take_workspace(attn_tensors *tensors, const attn_plan *plan, const attn_layer_forward_args *args,
                               attn_layer_call *call);

/* Adds a tensor that is contiguous. Its pointer, or NULL when it has no elements, was not given, or is at fault. */
const void *attn_layer_take_dense(attn_tensors *tensors, const attn_tensor_kind *kind, const void *pointer,
                                  size_t element, size_t count);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* What a forward pass in training keeps for the backward pass: the front-end's header, then the backend's bytes. */
#ifndef ATTN_LIB_LAYER_KEPT_H
#define ATTN_LIB_LAYER_KEPT_H

#include "lib/plan.h"
#include "lib/tensor.h"

/* Checks the caller's buffer and adds it: the place of the backend's bytes. NULL where the plan or the run's sizes need none, or it
 * is at fault. */
void *attn_layer_take_kept(attn_tensors *tensors, const attn_plan *plan, const attn_layer_problem *sizes,
                           const void *kept, size_t size, bool written);

/* Before a forward run, so that what a failed one left is never taken for sound, and after it. */
void attn_layer_open_kept(void *kept);
void attn_layer_seal_kept(const attn_plan *plan, const attn_layer_problem *sizes, void *kept);

/* Whether a forward pass of this backend and of these sizes filled the buffer. */
attn_status attn_layer_check_kept(const attn_plan *plan, const attn_layer_problem *sizes, const void *kept);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* From the arguments of a forward run to a call. */
#include "lib/layer.h"
#include "lib/layer_inputs.h"
#include "lib/layer_kept.h"
#include "lib/names.h"
#include "lib/status.h"

static const attn_tensor_kind prepared_kind = {
    .name = "prepared", .alignment = ATTN_WORKSPACE_ALIGNMENT, .required = true};
static const attn_tensor_kind prepared_output_kind = {
    .name = "prepared", .alignment = ATTN_WORKSPACE_ALIGNMENT, .required = true, .written = true};
static const attn_tensor_kind output_kind = {
    .name = "output", .strides = {"output_batch_stride", "output_row_stride"}, .required = true, .written = true};
static const attn_tensor_kind context_kind = {
    .name = "context", .strides = {"context_batch_stride", "context_row_stride"}, .written = true};
static const attn_tensor_kind attention_weights_kind = {
    .name = "attention_weights",
    .strides = {"attention_weights_batch_stride", "attention_weights_row_stride"},
    .written = true};
static const attn_tensor_kind lse_kind = {.name = "lse", .strides = {"lse_batch_stride"}, .written = true};
static void take_outputs(attn_tensors *tensors, const attn_layer_forward_args *args, attn_layer_call *call) {
    const attn_layer_problem *s = &call->sizes;
    const size_t element = attn_dtype_size(s->dtype);
    const attn_tensor *t;
    if ((t = attn_tensors_add(tensors, &output_kind, args->output, element,
                              &(attn_tensor_shape){{s->batch, s->queries, s->units},
                                                   {args->output_batch_stride, args->output_row_stride}})))
        call->output = args->output, call->output_batch = t->stride[0], call->output_row = t->stride[1];
    if ((t = attn_tensors_add(tensors, &context_kind, args->context, element,
                              &(attn_tensor_shape){{s->batch, s->queries, s->features},
                                                   {args->context_batch_stride, args->context_row_stride}})))
        call->context = args->context, call->context_batch = t->stride[0], call->context_row = t->stride[1];
    if ((t = attn_tensors_add(
             tensors, &attention_weights_kind, args->attention_weights, element,
             &(attn_tensor_shape){{s->batch, s->queries, s->timesteps},
                                  {args->attention_weights_batch_stride, args->attention_weights_row_stride}})))
        call->attention_weights = args->attention_weights, call->weights_batch = t->stride[0],
        call->weights_row = t->stride[1];
    if ((t = attn_tensors_add(tensors, &lse_kind, args->lse, element,
                              &(attn_tensor_shape){{s->batch, 1, s->queries}, {args->lse_batch_stride}})))
        call->lse = args->lse, call->lse_batch = t->stride[0];
}

static attn_status check_presence(const attn_plan *plan, const attn_layer_problem *sizes,
                                  const attn_layer_forward_args *args) {
    if (args->query && !sizes->given_query)
        return attn_fail(ATTN_ERROR_INVALID_ARGUMENT,
                         "query: is given, want NULL, for the plan's query is h_t (desc.queries)");
    if (args->prepared && plan->prepared_size == 0)
        return attn_fail(ATTN_ERROR_INVALID_ARGUMENT,
                         "prepared: is given, want NULL, for this plan has nothing to prepare");
    const bool rows = sizes->batch > 0 && sizes->queries > 0;
    if (rows && sizes->units == 0 && !args->context && !args->attention_weights && !args->lse && !sizes->training)
        return attn_fail(ATTN_ERROR_INVALID_ARGUMENT,
                         "context, attention_weights, lse: are NULL and units is 0, want something to compute");
    return ATTN_OK;
}

attn_status attn_layer_resolve_weights(const attn_plan *plan, const attn_layer_weights *weights, const void *prepared,
                                       size_t size, attn_layer_call *call) {
    if (size < plan->prepared_size)
        return attn_fail(ATTN_ERROR_WORKSPACE, "size: is %zu, want at least %zu (attn_plan_prepared_size)", size,
                         plan->prepared_size);
    attn_tensors tensors;
    tensors.count = 0, tensors.status = ATTN_OK;
    attn_layer_take_weights(&tensors, &plan->problem, weights, call);
    attn_layer_take_dense(&tensors, &prepared_output_kind, prepared, 1, plan->prepared_size);
    return attn_tensors_check(&tensors);
}

attn_status attn_layer_resolve_call(const attn_plan *plan, const attn_layer_forward_args *args, attn_layer_call *call) {
    *call = (attn_layer_call){0};
    attn_status status = attn_layer_resolve_sizes(&plan->problem, args, &call->sizes);
    if (!status) status = check_presence(plan, &call->sizes, args);
    if (!status) status = attn_layer_check_workspace(plan, args);
    if (status) return status;
    attn_tensors tensors; /* the list is filled as it grows: clearing it would take longer than all the checks */
    tensors.count = 0, tensors.status = ATTN_OK;
    if (!args->prepared)
        attn_layer_take_weights(&tensors, &plan->problem, &args->weights, call);
    else if (attn_layer_take_dense(&tensors, &prepared_kind, args->prepared, 1, plan->prepared_size))
        call->prepared = (const char *)args->prepared + ATTN_PREPARED_HEADER_SIZE;
    attn_layer_take_inputs(&tensors, args, call);
    take_outputs(&tensors, args, call);
    attn_layer_take_workspace(&tensors, plan, args, call);
    call->kept = attn_layer_take_kept(&tensors, plan, &call->sizes, args->kept, args->kept_size, true);
    status = attn_tensors_check(&tensors);
    return status || plan->context->backend->device_memory ? status : attn_layer_check_ranges(call);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* From the arguments of a softmax to a call. */
#include "lib/names.h"
#include "lib/sdpa.h"
#include "lib/sizes.h"
#include "lib/softmax.h"
#include "lib/status.h"
#include "lib/tensor.h"

#define STRIDES(name)                                                                                                  \
    { #name "_batch_stride", #name "_head_stride", #name "_row_stride" }
static const attn_tensor_kind scores_kind = {.name = "scores", .strides = STRIDES(scores), .required = true};
static const attn_tensor_kind lengths_kind = {.name = "key_lengths"};
static const attn_tensor_kind mask_kind = {
    .name = "mask", .strides = {"mask_batch_stride", "mask_head_stride", "mask_query_stride", "mask_key_stride"}};
static const attn_tensor_kind weights_kind = {
    .name = "attention_weights", .strides = STRIDES(attention_weights), .required = true, .written = true};
static const attn_tensor_kind given_weights_kind = {
    .name = "attention_weights", .strides = STRIDES(attention_weights), .required = true};
static const attn_tensor_kind lse_kind = {
    .name = "lse", .strides = {"lse_batch_stride", "lse_head_stride"}, .written = true};
static const attn_tensor_kind grad_weights_kind = {
    .name = "grad_attention_weights", .strides = STRIDES(grad_attention_weights), .required = true};
static const attn_tensor_kind grad_lse_kind = {.name = "grad_lse",
                                               .strides = {"grad_lse_batch_stride", "grad_lse_head_stride"}};
static const attn_tensor_kind grad_scores_kind = {
    .name = "grad_scores", .strides = STRIDES(grad_scores), .required = true, .written = true};
static const attn_tensor_kind workspace_kind = {
    .name = "workspace", .alignment = ATTN_WORKSPACE_ALIGNMENT, .required = true, .written = true};

static attn_status resolve_sizes(int64_t batch, int64_t queries, int64_t keys, attn_softmax_problem *sizes) {
    attn_status status = attn_resolve_size("batch", batch, &sizes->batch);
    if (!status) status = attn_resolve_size("queries", queries, &sizes->queries);
    return status ? status : attn_resolve_size("keys", keys, &sizes->keys);
}

static attn_heads_shape like_scores(const attn_softmax_problem *s, int64_t batch, int64_t head, int64_t row) {
    return (attn_heads_shape){{s->batch, s->heads, s->queries, s->keys}, {batch, head, row}, 0};
}

static attn_heads_shape like_lse(const attn_softmax_problem *s, int64_t batch, int64_t head) {
    return (attn_heads_shape){{s->batch, s->heads, 1, s->queries}, {batch, head}, 0};
}

static bool same_strides(const attn_strides *a, const attn_strides *b) {
    return a->batch == b->batch && a->head == b->head && a->row == b->row;
}

/* An input that an output takes the place of is no overlap: it leaves the list, in which the last one is the latest taken. */
static void allow_in_place(attn_tensors *tensors, const void *input, const attn_strides *input_strides,
                           const void *output, const attn_heads_shape *shape, size_t element) {
    attn_tensors scratch;
    scratch.count = 0, scratch.status = ATTN_OK;
    attn_strides strides;
    if (input != output || !attn_take_heads(&scratch, &scores_kind, output, element, shape, &strides)) return;
    if (same_strides(input_strides, &strides)) tensors->count--;
}

static attn_status check_lengths(const attn_softmax_call *call) {
    for (size_t b = 0; call->key_lengths && b < call->sizes.batch; b++)
        if (call->key_lengths[b] < 0 || (size_t)call->key_lengths[b] > call->sizes.keys)
            return attn_fail(ATTN_ERROR_RANGE, "key_lengths[%zu]: is %d, want 0 to %zu", b, (int)call->key_lengths[b],
                             call->sizes.keys);
    return ATTN_OK;
}

attn_status attn_softmax_resolve_forward(const attn_plan *plan, const attn_softmax_forward_args *args,
                                         attn_softmax_call *call) {
    *call = (attn_softmax_call){.sizes = plan->softmax};
    attn_status status = resolve_sizes(args->batch, args->queries, args->keys, &call->sizes);
    if (!status) status = attn_check_offset(args->query_offset, &call->query_offset);
    if (!status) status = attn_plan_check_workspace(plan, args->workspace, args->workspace_size);
    if (status) return status;
    const attn_softmax_problem *s = &call->sizes;
    const size_t element = attn_dtype_size(s->dtype);
    const attn_heads_shape scores =
        like_scores(s, args->scores_batch_stride, args->scores_head_stride, args->scores_row_stride);
    const attn_heads_shape weights =
        like_scores(s, args->attention_weights_batch_stride, args->attention_weights_head_stride,
                    args->attention_weights_row_stride);
    const attn_heads_shape lse = like_lse(s, args->lse_batch_stride, args->lse_head_stride);
    attn_heads_shape mask = like_scores(s, args->mask_batch_stride, args->mask_head_stride, args->mask_query_stride);
    mask.given[3] = args->mask_key_stride, mask.repeating = 4;
    attn_tensors tensors;
    tensors.count = 0, tensors.status = ATTN_OK;
    call->scores = attn_take_heads(&tensors, &scores_kind, args->scores, element, &scores, &call->scores_strides);
    if (call->scores)
        allow_in_place(&tensors, call->scores, &call->scores_strides, args->attention_weights, &weights, element);
    call->key_lengths =
        attn_take_dense(&tensors, &lengths_kind, args->key_lengths, sizeof *args->key_lengths, s->batch);
    call->mask = attn_take_heads(&tensors, &mask_kind, args->mask, sizeof *args->mask, &mask, &call->mask_strides);
    if (attn_take_heads(&tensors, &weights_kind, args->attention_weights, element, &weights, &call->weights_strides))
        call->weights = args->attention_weights;
    if (attn_take_heads(&tensors, &lse_kind, args->lse, attn_number_size(s->dtype), &lse, &call->lse_strides))
        call->lse = args->lse;
    if (attn_take_dense(&tensors, &workspace_kind, args->workspace, 1, plan->workspace_size))
        call->workspace = args->workspace;
    status = attn_tensors_check(&tensors);
    return status || plan->context->backend->device_memory ? status : check_lengths(call);
}

attn_status attn_softmax_resolve_backward(const attn_plan *plan, const attn_softmax_backward_args *args,
                                          attn_softmax_call *call) {
    *call = (attn_softmax_call){.sizes = plan->softmax};
    attn_status status = resolve_sizes(args->batch, args->queries, args->keys, &call->sizes);
    if (!status) status = attn_plan_check_workspace(plan, args->workspace, args->workspace_size);
    if (status) return status;
    const attn_softmax_problem *s = &call->sizes;
    const size_t element = attn_dtype_size(s->dtype);
    const attn_heads_shape weights =
        like_scores(s, args->attention_weights_batch_stride, args->attention_weights_head_stride,
                    args->attention_weights_row_stride);
    const attn_heads_shape grad_weights =
        like_scores(s, args->grad_attention_weights_batch_stride, args->grad_attention_weights_head_stride,
                    args->grad_attention_weights_row_stride);
    const attn_heads_shape grad_lse = like_lse(s, args->grad_lse_batch_stride, args->grad_lse_head_stride);
    const attn_heads_shape grad_scores =
        like_scores(s, args->grad_scores_batch_stride, args->grad_scores_head_stride, args->grad_scores_row_stride);
    attn_tensors tensors;
    tensors.count = 0, tensors.status = ATTN_OK;
    call->given_weights = attn_take_heads(&tensors, &given_weights_kind, args->attention_weights, element, &weights,
                                          &call->weights_strides);
    if (call->given_weights)
        allow_in_place(&tensors, call->given_weights, &call->weights_strides, args->grad_scores, &grad_scores, element);
    call->grad_weights = attn_take_heads(&tensors, &grad_weights_kind, args->grad_attention_weights, element,
                                         &grad_weights, &call->grad_weights_strides);
    if (call->grad_weights)
        allow_in_place(&tensors, call->grad_weights, &call->grad_weights_strides, args->grad_scores, &grad_scores,
                       element);
    call->grad_lse = attn_take_heads(&tensors, &grad_lse_kind, args->grad_lse, attn_number_size(s->dtype), &grad_lse,
                                     &call->grad_lse_strides);
    if (attn_take_heads(&tensors, &grad_scores_kind, args->grad_scores, element, &grad_scores,
                        &call->grad_scores_strides))
        call->grad_scores = args->grad_scores;
    if (attn_take_dense(&tensors, &workspace_kind, args->workspace, 1, plan->workspace_size))
        call->workspace = args->workspace;
    return attn_tensors_check(&tensors);
}

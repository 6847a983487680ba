/* SPDX-License-Identifier: Apache-2.0 */
/* From the arguments of a run to a call. */
#include "lib/names.h"
#include "lib/sdpa.h"
#include "lib/sizes.h"
#include "lib/status.h"
#include "lib/tensor.h"

#define STRIDES(name)                                                                                                  \
    { #name "_batch_stride", #name "_head_stride", #name "_row_stride" }
static const attn_tensor_kind q_kind = {.name = "q", .strides = STRIDES(q), .required = true};
static const attn_tensor_kind k_kind = {.name = "k", .strides = STRIDES(k), .required = true};
static const attn_tensor_kind v_kind = {.name = "v", .strides = STRIDES(v), .required = true};
static const attn_tensor_kind key_lengths_kind = {.name = "key_lengths"};
static const attn_tensor_kind mask_kind = {
    .name = "mask", .strides = {"mask_batch_stride", "mask_head_stride", "mask_query_stride", "mask_key_stride"}};
static const attn_tensor_kind bias_kind = {
    .name = "bias", .strides = {"bias_batch_stride", "bias_head_stride", "bias_query_stride", "bias_key_stride"}};
static const attn_tensor_kind alibi_kind = {.name = "alibi_slopes"}, sinks_kind = {.name = "sinks"};
static const attn_tensor_kind output_kind = {
    .name = "output", .strides = STRIDES(output), .required = true, .written = true};
static const attn_tensor_kind lse_kind = {
    .name = "lse", .strides = {"lse_batch_stride", "lse_head_stride"}, .written = true};
static const attn_tensor_kind weights_kind = {
    .name = "attention_weights", .strides = STRIDES(attention_weights), .written = true};
static const attn_tensor_kind workspace_kind = {
    .name = "workspace", .alignment = ATTN_WORKSPACE_ALIGNMENT, .required = true, .written = true};

/* ---- Sizes ------------------------------------------------------------------------------------------ */

attn_status attn_check_offset(int64_t given, ptrdiff_t *offset) {
    if (given > ATTN_SDPA_FARTHEST || given < -ATTN_SDPA_FARTHEST)
        return attn_fail(ATTN_ERROR_RANGE, "args.query_offset: is %lld, want at most %lld in magnitude",
                         (long long)given, (long long)ATTN_SDPA_FARTHEST);
    *offset = (ptrdiff_t)given;
    return ATTN_OK;
}

static attn_status resolve_sizes(const attn_sdpa_forward_args *args, attn_sdpa_call *call) {
    attn_status status = attn_resolve_size("batch", args->batch, &call->sizes.batch);
    if (!status) status = attn_resolve_size("queries", args->queries, &call->sizes.queries);
    if (!status) status = attn_resolve_size("keys", args->keys, &call->sizes.keys);
    if (status) return status;
    return attn_check_offset(args->query_offset, &call->query_offset);
}

/* ---- Tensors ---------------------------------------------------------------------------------------- */

static void take_inputs(attn_tensors *tensors, const attn_sdpa_forward_args *args, attn_sdpa_call *call) {
    const attn_sdpa_problem *s = &call->sizes;
    const size_t element = attn_dtype_size(s->dtype);
    const attn_heads_shape q = {{s->batch, s->query_heads, s->queries, s->head_dim},
                                {args->q_batch_stride, args->q_head_stride, args->q_row_stride},
                                0},
                           k = {{s->batch, s->key_heads, s->keys, s->head_dim},
                                {args->k_batch_stride, args->k_head_stride, args->k_row_stride},
                                0},
                           v = {{s->batch, s->key_heads, s->keys, s->value_dim},
                                {args->v_batch_stride, args->v_head_stride, args->v_row_stride},
                                0};
    call->q = attn_take_heads(tensors, &q_kind, args->q, element, &q, &call->q_strides);
    call->k = attn_take_heads(tensors, &k_kind, args->k, element, &k, &call->k_strides);
    call->v = attn_take_heads(tensors, &v_kind, args->v, element, &v, &call->v_strides);
}

static void take_options(attn_tensors *tensors, const attn_sdpa_forward_args *args, attn_sdpa_call *call) {
    const attn_sdpa_problem *s = &call->sizes;
    const size_t element = attn_dtype_size(s->dtype);
    const attn_heads_shape mask = {
        {s->batch, s->query_heads, s->queries, s->keys},
        {args->mask_batch_stride, args->mask_head_stride, args->mask_query_stride, args->mask_key_stride},
        4};
    const attn_heads_shape bias = {
        {s->batch, s->query_heads, s->queries, s->keys},
        {args->bias_batch_stride, args->bias_head_stride, args->bias_query_stride, args->bias_key_stride},
        4};
    call->key_lengths =
        attn_take_dense(tensors, &key_lengths_kind, args->key_lengths, sizeof *args->key_lengths, s->batch);
    call->mask = attn_take_heads(tensors, &mask_kind, args->mask, sizeof *args->mask, &mask, &call->mask_strides);
    call->bias = attn_take_heads(tensors, &bias_kind, args->bias, element, &bias, &call->bias_strides);
    call->alibi_slopes =
        attn_take_dense(tensors, &alibi_kind, args->alibi_slopes, attn_number_size(s->dtype), s->query_heads);
    call->sinks = attn_take_dense(tensors, &sinks_kind, args->sinks, attn_number_size(s->dtype), s->query_heads);
}

static void take_outputs(attn_tensors *tensors, const attn_sdpa_forward_args *args, attn_sdpa_call *call) {
    const attn_sdpa_problem *s = &call->sizes;
    const size_t element = attn_dtype_size(s->dtype);
    const attn_heads_shape output = {{s->batch, s->query_heads, s->queries, s->value_dim},
                                     {args->output_batch_stride, args->output_head_stride, args->output_row_stride},
                                     0},
                           lse = {{s->batch, s->query_heads, 1, s->queries},
                                  {args->lse_batch_stride, args->lse_head_stride},
                                  0},
                           weights = {{s->batch, s->query_heads, s->queries, s->keys},
                                      {args->attention_weights_batch_stride, args->attention_weights_head_stride,
                                       args->attention_weights_row_stride},
                                      0};
    if (attn_take_heads(tensors, &output_kind, args->output, element, &output, &call->output_strides))
        call->output = args->output;
    if (attn_take_heads(tensors, &lse_kind, args->lse, attn_number_size(s->dtype), &lse, &call->lse_strides))
        call->lse = args->lse;
    if (attn_take_heads(tensors, &weights_kind, args->attention_weights, element, &weights, &call->weights_strides))
        call->attention_weights = args->attention_weights;
}

/* ---- What the plan knows of --------------------------------------------------------------------------- */

static attn_status check_flags(const attn_plan *plan, const attn_sdpa_forward_args *args) {
    const struct {
        const void *given;
        uint64_t flag;
        const char *name, *flag_name;
    } options[] = {{args->mask, ATTN_SDPA_MASK, "mask", "ATTN_SDPA_MASK"},
                   {args->bias, ATTN_SDPA_BIAS, "bias", "ATTN_SDPA_BIAS"},
                   {args->key_lengths, ATTN_SDPA_KEY_LENGTHS, "key_lengths", "ATTN_SDPA_KEY_LENGTHS"},
                   {args->alibi_slopes, ATTN_SDPA_ALIBI, "alibi_slopes", "ATTN_SDPA_ALIBI"},
                   {args->sinks, ATTN_SDPA_SINKS, "sinks", "ATTN_SDPA_SINKS"},
                   {args->attention_weights, ATTN_SDPA_WEIGHTS, "attention_weights", "ATTN_SDPA_WEIGHTS"}};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (options[i].given && !(plan->sdpa.flags & options[i].flag))
            return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "%s: is given, want NULL, for the plan's flags lack %s",
                             options[i].name, options[i].flag_name);
    return ATTN_OK;
}

static attn_status check_lengths(const attn_sdpa_call *call) {
    for (size_t b = 0; call->key_lengths && b < call->sizes.batch; b++)
        if (call->key_lengths[b] < 0 || (size_t)call->key_lengths[b] > call->sizes.keys)
            return attn_fail(ATTN_ERROR_RANGE, "key_lengths[%zu]: is %d, want 0 to %zu", b, (int)call->key_lengths[b],
                             call->sizes.keys);
    return ATTN_OK;
}

attn_status attn_sdpa_resolve_call(const attn_plan *plan, const attn_sdpa_forward_args *args, attn_sdpa_call *call) {
    *call = (attn_sdpa_call){.planned = plan->sdpa, .sizes = plan->sdpa};
    attn_status status = resolve_sizes(args, call);
    if (!status) status = check_flags(plan, args);
    if (!status) status = attn_plan_check_workspace(plan, args->workspace, args->workspace_size);
    if (status) return status;
    attn_tensors tensors;
    tensors.count = 0, tensors.status = ATTN_OK;
    take_inputs(&tensors, args, call);
    take_options(&tensors, args, call);
    take_outputs(&tensors, args, call);
    if (attn_take_dense(&tensors, &workspace_kind, args->workspace, 1, plan->workspace_size))
        call->workspace = args->workspace;
    status = attn_tensors_check(&tensors);
    return status || plan->context->backend->device_memory ? status : check_lengths(call);
}

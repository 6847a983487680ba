/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/layer_inputs.h"

#include "lib/names.h"
#include "lib/status.h"

/* ---- The tensors ---------------------------------------------------------------------------------- */

static const attn_tensor_kind h_kind = {.name = "h", .strides = {"h_batch_stride", "h_time_stride"}, .required = true};
static const attn_tensor_kind query_kind = {
    .name = "query", .strides = {"query_batch_stride", "query_row_stride"}, .required = true};
static const attn_tensor_kind starts_kind = {.name = "starts"}, lengths_kind = {.name = "lengths"};
static const attn_tensor_kind mask_kind = {
    .name = "mask", .strides = {"mask_batch_stride", "mask_query_stride", "mask_time_stride"}, .rows_touch = true};
static const attn_tensor_kind luong_w_kind = {.name = "weights.luong_w", .required = true};
static const attn_tensor_kind bahdanau_w1_kind = {.name = "weights.bahdanau_w1", .required = true};
static const attn_tensor_kind bahdanau_w2_kind = {.name = "weights.bahdanau_w2", .required = true};
static const attn_tensor_kind bahdanau_v_kind = {.name = "weights.bahdanau_v", .required = true};
static const attn_tensor_kind w_c_kind = {.name = "weights.w_c", .required = true};
static const attn_tensor_kind workspace_kind = {
    .name = "workspace", .alignment = ATTN_WORKSPACE_ALIGNMENT, .required = true, .written = true};

const void *attn_layer_take_dense(attn_tensors *tensors, const attn_tensor_kind *kind, const void *pointer,
                                  size_t element, size_t count) {
    return attn_tensors_add(tensors, kind, pointer, element, &(attn_tensor_shape){.count = {1, 1, count}}) ? pointer
                                                                                                           : NULL;
}

void attn_layer_take_weights(attn_tensors *tensors, const attn_layer_problem *p, const attn_layer_weights *weights,
                             attn_layer_call *call) {
    const size_t element = attn_dtype_size(p->dtype), d = p->features, dq = p->query_features, a = p->score_width;
    if (p->score == ATTN_SCORE_LUONG)
        call->luong_w = attn_layer_take_dense(tensors, &luong_w_kind, weights->luong_w, element, d * dq);
    if (p->score == ATTN_SCORE_BAHDANAU) {
        call->bahdanau_w1 = attn_layer_take_dense(tensors, &bahdanau_w1_kind, weights->bahdanau_w1, element, dq * a);
        call->bahdanau_w2 = attn_layer_take_dense(tensors, &bahdanau_w2_kind, weights->bahdanau_w2, element, d * a);
        call->bahdanau_v = attn_layer_take_dense(tensors, &bahdanau_v_kind, weights->bahdanau_v, element, a);
    }
    call->w_c = attn_layer_take_dense(tensors, &w_c_kind, weights->w_c, element, (d + dq) * p->units);
}

void attn_layer_take_inputs(attn_tensors *tensors, const attn_layer_forward_args *args, attn_layer_call *call) {
    const attn_layer_problem *s = &call->sizes;
    const size_t element = attn_dtype_size(s->dtype);
    const attn_tensor *t;
    if ((t = attn_tensors_add(
             tensors, &h_kind, args->h, attn_dtype_size(s->h_dtype),
             &(attn_tensor_shape){{s->batch, s->timesteps, s->features}, {args->h_batch_stride, args->h_time_stride}})))
        call->h = args->h, call->h_batch = t->stride[0], call->h_time = t->stride[1];
    if (s->given_query &&
        (t = attn_tensors_add(tensors, &query_kind, args->query, element,
                              &(attn_tensor_shape){{s->batch, s->queries, s->query_features},
                                                   {args->query_batch_stride, args->query_row_stride}})))
        call->query = args->query, call->query_batch = t->stride[0], call->query_row = t->stride[1];
    call->starts = attn_layer_take_dense(tensors, &starts_kind, args->starts, sizeof *args->starts, s->batch);
    call->lengths = attn_layer_take_dense(tensors, &lengths_kind, args->lengths, sizeof *args->lengths, s->batch);
    const size_t masks = args->mask_query_stride ? s->queries : 1;
    if ((t = attn_tensors_add(
             tensors, &mask_kind, args->mask, sizeof *args->mask,
             &(attn_tensor_shape){{s->batch, masks, s->timesteps},
                                  {args->mask_batch_stride, args->mask_query_stride, args->mask_time_stride}})))
        call->mask = args->mask, call->mask_batch = t->stride[0], call->mask_query = masks > 1 ? t->stride[1] : 0,
        call->mask_time = t->stride[2];
}

void attn_layer_take_workspace(attn_tensors *tensors, const attn_plan *plan, const attn_layer_forward_args *args,
                               attn_layer_call *call) {
    if (attn_layer_take_dense(tensors, &workspace_kind, args->workspace, 1, plan->workspace_size))
        call->workspace = args->workspace;
}

/* ---- Sizes and ranges ----------------------------------------------------------------------------- */

static attn_status resolve_size(const char *name, int64_t given, size_t planned, size_t *size) {
    *size = planned;
    if (given == ATTN_PLANNED) return ATTN_OK;
    if (given < 0)
        return attn_fail(ATTN_ERROR_SHAPE, "args.%s: is %lld, want 0 or more, or ATTN_PLANNED", name, (long long)given);
    if ((uint64_t)given > planned)
        return attn_fail(ATTN_ERROR_RANGE, "args.%s: is %lld, want at most the planned %zu", name, (long long)given,
                         planned);
    *size = (size_t)given;
    return ATTN_OK;
}

attn_status attn_layer_resolve_sizes(const attn_layer_problem *planned, const attn_layer_forward_args *args,
                                     attn_layer_problem *sizes) {
    *sizes = *planned;
    attn_status status = resolve_size("batch", args->batch, planned->batch, &sizes->batch);
    if (!status) status = resolve_size("timesteps", args->timesteps, planned->timesteps, &sizes->timesteps);
    if (!status) status = resolve_size("queries", args->queries, planned->queries, &sizes->queries);
    if (status) return status;
    if (!planned->given_query && sizes->queries != 1)
        return attn_fail(ATTN_ERROR_SHAPE, "args.queries: is %lld, want 1 or ATTN_PLANNED when the query is h_t",
                         (long long)args->queries);
    return ATTN_OK;
}

attn_status attn_layer_check_workspace(const attn_plan *plan, const attn_layer_forward_args *args) {
    if (args->workspace_size < plan->workspace_size)
        return attn_fail(ATTN_ERROR_WORKSPACE, "workspace_size: is %zu, want at least %zu (attn_plan_workspace_size)",
                         args->workspace_size, plan->workspace_size);
    if ((uintptr_t)args->workspace % ATTN_WORKSPACE_ALIGNMENT != 0 && plan->workspace_size > 0)
        return attn_fail(ATTN_ERROR_ALIGNMENT, "workspace: is %p, want %zu bytes aligned to %d", args->workspace,
                         plan->workspace_size, ATTN_WORKSPACE_ALIGNMENT);
    return ATTN_OK;
}

attn_status attn_layer_check_ranges(const attn_layer_call *call) {
    const int64_t timesteps = (int64_t)call->sizes.timesteps;
    const int32_t *starts = call->starts, *lengths = call->lengths;
    if (!starts && !lengths) return ATTN_OK;
    for (size_t i = 0; i < call->sizes.batch; i++) {
        const int64_t start = starts ? starts[i] : 0;
        if (start < 0 || start > timesteps)
            return attn_fail(ATTN_ERROR_RANGE, "starts[%zu]: is %lld, want 0 to %lld (timesteps)", i, (long long)start,
                             (long long)timesteps);
        if (lengths && (lengths[i] < 0 || lengths[i] > timesteps - start))
            return attn_fail(ATTN_ERROR_RANGE, "lengths[%zu]: is %lld, want 0 to %lld (timesteps less the start)", i,
                             (long long)lengths[i], (long long)(timesteps - start));
    }
    return ATTN_OK;
}

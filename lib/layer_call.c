/* SPDX-License-Identifier: Apache-2.0 */
/* From a run's arguments to a call. */
#include "lib/layer.h"
#include "lib/names.h"
#include "lib/status.h"
#include "lib/tensor.h"

enum {
    LUONG_W,
    BAHDANAU_W1,
    BAHDANAU_W2,
    BAHDANAU_V,
    W_C,
    PREPARED,
    H,
    QUERY,
    STARTS,
    LENGTHS,
    MASK,
    OUTPUT,
    CONTEXT,
    ATTENTION_WEIGHTS,
    LSE,
    WORKSPACE,
    TENSORS
};

static attn_tensor dense(const char *name, const void *pointer, size_t element, size_t count) {
    return (attn_tensor){
        .name = name, .pointer = pointer, .element = element, .alignment = element, .count = {1, 1, count}};
}

/* Bytes of the library's own layout: a workspace or prepared weights. */
static attn_tensor block(const char *name, const void *pointer, size_t size) {
    attn_tensor tensor = dense(name, pointer, 1, size);
    tensor.alignment = ATTN_WORKSPACE_ALIGNMENT;
    tensor.required = true;
    return tensor;
}

/* The first five tensors; those of another score have no elements. */
static void list_weights(const attn_layer_problem *p, const attn_layer_weights *weights, bool required,
                         attn_tensor *tensors) {
    const size_t element = attn_dtype_size(p->dtype);
    const bool luong = p->score == ATTN_SCORE_LUONG, additive = p->score == ATTN_SCORE_BAHDANAU;
    tensors[LUONG_W] = dense("weights.luong_w", weights->luong_w, element, luong ? p->features * p->query_features : 0);
    tensors[BAHDANAU_W1] =
        dense("weights.bahdanau_w1", weights->bahdanau_w1, element, additive ? p->query_features * p->score_width : 0);
    tensors[BAHDANAU_W2] =
        dense("weights.bahdanau_w2", weights->bahdanau_w2, element, additive ? p->features * p->score_width : 0);
    tensors[BAHDANAU_V] = dense("weights.bahdanau_v", weights->bahdanau_v, element, additive ? p->score_width : 0);
    tensors[W_C] = dense("weights.w_c", weights->w_c, element, (p->features + p->query_features) * p->units);
    for (int i = LUONG_W; i <= W_C; i++) {
        tensors[i].required = required;
        if (!required) tensors[i].pointer = NULL;
    }
}

static attn_status resolve_all(attn_tensor *tensors, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const attn_status status = attn_tensor_resolve(&tensors[i]);
        if (status) return status;
    }
    return ATTN_OK;
}

static void take_weights(const attn_tensor *tensors, attn_layer_call *call) {
    call->luong_w = tensors[LUONG_W].pointer;
    call->bahdanau_w1 = tensors[BAHDANAU_W1].pointer;
    call->bahdanau_w2 = tensors[BAHDANAU_W2].pointer;
    call->bahdanau_v = tensors[BAHDANAU_V].pointer;
    call->w_c = tensors[W_C].pointer;
}

attn_status attn_layer_resolve_weights(const attn_plan *plan, const attn_layer_weights *weights, const void *prepared,
                                       size_t size, attn_layer_call *call) {
    attn_tensor tensors[PREPARED + 1];
    if (size < plan->prepared_size)
        return attn_fail(ATTN_ERROR_WORKSPACE, "size: is %zu, want at least %zu (attn_plan_prepared_size)", size,
                         plan->prepared_size);
    list_weights(&plan->problem, weights, true, tensors);
    tensors[PREPARED] = block("prepared", prepared, plan->prepared_size);
    tensors[PREPARED].written = true;
    attn_status status = resolve_all(tensors, PREPARED + 1);
    if (!status) status = attn_tensors_check_overlap(tensors, PREPARED + 1);
    take_weights(tensors, call);
    return status;
}

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

static attn_status resolve_sizes(const attn_layer_problem *planned, const attn_layer_forward_args *args,
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

static attn_status check_presence(const attn_plan *plan, const attn_layer_problem *sizes,
                                  const attn_layer_forward_args *args) {
    if (args->query && !sizes->given_query)
        return attn_fail(ATTN_ERROR_INVALID_ARGUMENT,
                         "query: is given, want NULL, for the plan's query is h_t (desc.queries)");
    if (args->prepared && plan->prepared_size == 0)
        return attn_fail(ATTN_ERROR_INVALID_ARGUMENT,
                         "prepared: is given, want NULL, for this plan has nothing to prepare");
    const bool rows = sizes->batch > 0 && sizes->queries > 0;
    if (rows && sizes->units == 0 && !args->context && !args->attention_weights && !args->lse)
        return attn_fail(ATTN_ERROR_INVALID_ARGUMENT,
                         "context, attention_weights, lse: are NULL and units is 0, want something to compute");
    return ATTN_OK;
}

static void list_inputs(const attn_layer_problem *s, const attn_layer_forward_args *args, attn_tensor *tensors) {
    const size_t element = attn_dtype_size(s->dtype);
    tensors[H] =
        (attn_tensor){.name = "h",
                      .pointer = args->h,
                      .element = element,
                      .alignment = element,
                      .count = {s->batch, s->timesteps, s->features},
                      .given = {{"h_batch_stride", args->h_batch_stride}, {"h_time_stride", args->h_time_stride}},
                      .required = true};
    tensors[QUERY] = (attn_tensor){
        .name = "query",
        .pointer = args->query,
        .element = element,
        .alignment = element,
        .count = {s->given_query ? s->batch : 0, s->queries, s->query_features},
        .given = {{"query_batch_stride", args->query_batch_stride}, {"query_row_stride", args->query_row_stride}},
        .required = true};
    tensors[STARTS] = dense("starts", args->starts, sizeof *args->starts, s->batch);
    tensors[LENGTHS] = dense("lengths", args->lengths, sizeof *args->lengths, s->batch);
    tensors[MASK] = (attn_tensor){.name = "mask",
                                  .pointer = args->mask,
                                  .element = 1,
                                  .alignment = 1,
                                  .count = {s->batch, args->mask_query_stride ? s->queries : 1, s->timesteps},
                                  .given = {{"mask_batch_stride", args->mask_batch_stride},
                                            {"mask_query_stride", args->mask_query_stride},
                                            {"mask_time_stride", args->mask_time_stride}},
                                  .rows_touch = true};
}

static void list_outputs(const attn_layer_problem *s, const attn_layer_forward_args *args, attn_tensor *tensors) {
    const size_t element = attn_dtype_size(s->dtype);
    tensors[OUTPUT] = (attn_tensor){
        .name = "output",
        .pointer = args->output,
        .count = {s->batch, s->queries, s->units},
        .given = {{"output_batch_stride", args->output_batch_stride}, {"output_row_stride", args->output_row_stride}},
        .required = true};
    tensors[CONTEXT] = (attn_tensor){.name = "context",
                                     .pointer = args->context,
                                     .count = {s->batch, s->queries, s->features},
                                     .given = {{"context_batch_stride", args->context_batch_stride},
                                               {"context_row_stride", args->context_row_stride}}};
    tensors[ATTENTION_WEIGHTS] =
        (attn_tensor){.name = "attention_weights",
                      .pointer = args->attention_weights,
                      .count = {s->batch, s->queries, s->timesteps},
                      .given = {{"attention_weights_batch_stride", args->attention_weights_batch_stride},
                                {"attention_weights_row_stride", args->attention_weights_row_stride}}};
    tensors[LSE] = (attn_tensor){.name = "lse",
                                 .pointer = args->lse,
                                 .count = {s->batch, 1, s->queries},
                                 .given = {{"lse_batch_stride", args->lse_batch_stride}}};
    for (int i = OUTPUT; i <= LSE; i++) {
        tensors[i].element = tensors[i].alignment = element;
        tensors[i].written = true;
    }
}

static attn_status check_workspace(const attn_plan *plan, const attn_layer_forward_args *args) {
    if (args->workspace_size < plan->workspace_size)
        return attn_fail(ATTN_ERROR_WORKSPACE, "workspace_size: is %zu, want at least %zu (attn_plan_workspace_size)",
                         args->workspace_size, plan->workspace_size);
    if ((uintptr_t)args->workspace % ATTN_WORKSPACE_ALIGNMENT != 0 && plan->workspace_size > 0)
        return attn_fail(ATTN_ERROR_ALIGNMENT, "workspace: is %p, want %zu bytes aligned to %d", args->workspace,
                         plan->workspace_size, ATTN_WORKSPACE_ALIGNMENT);
    return ATTN_OK;
}

static attn_status check_ranges(const attn_layer_problem *sizes, const int32_t *starts, const int32_t *lengths) {
    const int64_t timesteps = (int64_t)sizes->timesteps;
    if (!starts && !lengths) return ATTN_OK;
    for (size_t i = 0; i < sizes->batch; i++) {
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

static void take_tensors(const attn_tensor *t, const attn_layer_forward_args *args, attn_layer_call *call) {
    take_weights(t, call);
    call->prepared = t[PREPARED].pointer ? (const char *)args->prepared + ATTN_PREPARED_HEADER_SIZE : NULL;
    call->h = t[H].pointer, call->h_batch = t[H].stride[0], call->h_time = t[H].stride[1];
    call->query = t[QUERY].pointer, call->query_batch = t[QUERY].stride[0], call->query_row = t[QUERY].stride[1];
    call->starts = t[STARTS].pointer, call->lengths = t[LENGTHS].pointer;
    call->mask = t[MASK].pointer, call->mask_batch = t[MASK].stride[0], call->mask_time = t[MASK].stride[2];
    call->mask_query = t[MASK].count[1] > 1 ? t[MASK].stride[1] : 0;
    /* The four outputs lie where the caller may write: he handed their pointers over without const. */
    call->output = t[OUTPUT].pointer ? args->output : NULL;
    call->output_batch = t[OUTPUT].stride[0], call->output_row = t[OUTPUT].stride[1];
    call->context = t[CONTEXT].pointer ? args->context : NULL;
    call->context_batch = t[CONTEXT].stride[0], call->context_row = t[CONTEXT].stride[1];
    call->attention_weights = t[ATTENTION_WEIGHTS].pointer ? args->attention_weights : NULL;
    call->weights_batch = t[ATTENTION_WEIGHTS].stride[0], call->weights_row = t[ATTENTION_WEIGHTS].stride[1];
    call->lse = t[LSE].pointer ? args->lse : NULL;
    call->lse_batch = t[LSE].stride[0];
    call->workspace = t[WORKSPACE].pointer ? args->workspace : NULL;
}

attn_status attn_layer_resolve_call(const attn_plan *plan, const attn_layer_forward_args *args, attn_layer_call *call) {
    attn_tensor tensors[TENSORS];
    *call = (attn_layer_call){0};
    attn_status status = resolve_sizes(&plan->problem, args, &call->sizes);
    if (!status) status = check_presence(plan, &call->sizes, args);
    if (!status) status = check_workspace(plan, args);
    if (status) return status;
    list_weights(&plan->problem, &args->weights, !args->prepared, tensors);
    tensors[PREPARED] = block("prepared", args->prepared, args->prepared ? plan->prepared_size : 0);
    list_inputs(&call->sizes, args, tensors);
    list_outputs(&call->sizes, args, tensors);
    tensors[WORKSPACE] = block("workspace", args->workspace, plan->workspace_size);
    tensors[WORKSPACE].written = true;
    status = resolve_all(tensors, TENSORS);
    if (!status) status = attn_tensors_check_overlap(tensors, TENSORS);
    take_tensors(tensors, args, call);
    return status ? status : check_ranges(&call->sizes, call->starts, call->lengths);
}

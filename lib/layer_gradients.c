/* SPDX-License-Identifier: Apache-2.0 */
/* From the arguments of a backward run to a call. */
#include "lib/layer.h"
#include "lib/layer_inputs.h"
#include "lib/layer_kept.h"
#include "lib/names.h"
#include "lib/status.h"

#include <string.h>

/* ---- The tensors ---------------------------------------------------------------------------------- */

static const attn_tensor_kind output_kind = {.name = "grad_output",
                                             .strides = {"grad_output_batch_stride", "grad_output_row_stride"}};
static const attn_tensor_kind context_kind = {.name = "grad_context",
                                              .strides = {"grad_context_batch_stride", "grad_context_row_stride"}};
static const attn_tensor_kind attention_weights_kind = {
    .name = "grad_attention_weights",
    .strides = {"grad_attention_weights_batch_stride", "grad_attention_weights_row_stride"}};
static const attn_tensor_kind lse_kind = {.name = "grad_lse", .strides = {"grad_lse_batch_stride"}};
static const attn_tensor_kind h_kind = {
    .name = "grad_h", .strides = {"grad_h_batch_stride", "grad_h_time_stride"}, .written = true};
static const attn_tensor_kind query_kind = {
    .name = "grad_query", .strides = {"grad_query_batch_stride", "grad_query_row_stride"}, .written = true};
static const attn_tensor_kind luong_w_kind = {.name = "gradients.luong_w", .written = true};
static const attn_tensor_kind bahdanau_w1_kind = {.name = "gradients.bahdanau_w1", .written = true};
static const attn_tensor_kind bahdanau_w2_kind = {.name = "gradients.bahdanau_w2", .written = true};
static const attn_tensor_kind bahdanau_v_kind = {.name = "gradients.bahdanau_v", .written = true};
static const attn_tensor_kind w_c_kind = {.name = "gradients.w_c", .written = true};

static void take_incoming(attn_tensors *tensors, const attn_layer_backward_args *args, attn_layer_call *call) {
    const attn_layer_problem *s = &call->sizes;
    attn_layer_call_gradients *grad = &call->grad;
    const size_t element = attn_dtype_size(s->dtype);
    const attn_tensor *t;
    if ((t = attn_tensors_add(tensors, &output_kind, args->grad_output, element,
                              &(attn_tensor_shape){{s->batch, s->queries, s->units},
                                                   {args->grad_output_batch_stride, args->grad_output_row_stride}})))
        grad->output = args->grad_output, grad->output_batch = t->stride[0], grad->output_row = t->stride[1];
    if ((t = attn_tensors_add(tensors, &context_kind, args->grad_context, element,
                              &(attn_tensor_shape){{s->batch, s->queries, s->features},
                                                   {args->grad_context_batch_stride, args->grad_context_row_stride}})))
        grad->context = args->grad_context, grad->context_batch = t->stride[0], grad->context_row = t->stride[1];
    if ((t = attn_tensors_add(tensors, &attention_weights_kind, args->grad_attention_weights, element,
                              &(attn_tensor_shape){{s->batch, s->queries, s->timesteps},
                                                   {args->grad_attention_weights_batch_stride,
                                                    args->grad_attention_weights_row_stride}})))
        grad->attention_weights = args->grad_attention_weights, grad->weights_batch = t->stride[0],
        grad->weights_row = t->stride[1];
    if ((t = attn_tensors_add(tensors, &lse_kind, args->grad_lse, element,
                              &(attn_tensor_shape){{s->batch, 1, s->queries}, {args->grad_lse_batch_stride}})))
        grad->lse = args->grad_lse, grad->lse_batch = t->stride[0];
}

static void take_rows(attn_tensors *tensors, const attn_layer_backward_args *args, attn_layer_call *call) {
    const attn_layer_problem *s = &call->sizes;
    attn_layer_call_gradients *grad = &call->grad;
    const size_t element = attn_dtype_size(s->dtype);
    const attn_tensor *t;
    if ((t = attn_tensors_add(tensors, &h_kind, args->grad_h, element,
                              &(attn_tensor_shape){{s->batch, s->timesteps, s->features},
                                                   {args->grad_h_batch_stride, args->grad_h_time_stride}})))
        grad->h = args->grad_h, grad->h_batch = t->stride[0], grad->h_time = t->stride[1];
    if (s->given_query &&
        (t = attn_tensors_add(tensors, &query_kind, args->grad_query, element,
                              &(attn_tensor_shape){{s->batch, s->queries, s->query_features},
                                                   {args->grad_query_batch_stride, args->grad_query_row_stride}})))
        grad->query = args->grad_query, grad->query_batch = t->stride[0], grad->query_row = t->stride[1];
}

/* Takes a weight's gradient, as wide as the weight. */
static void *take_weight(attn_tensors *tensors, const attn_tensor_kind *kind, void *pointer, size_t element,
                         size_t count) {
    return attn_layer_take_dense(tensors, kind, pointer, element, count) ? pointer : NULL;
}

static void take_weights(attn_tensors *tensors, const attn_layer_gradients *to, attn_layer_call *call) {
    const attn_layer_problem *p = &call->sizes;
    attn_layer_call_gradients *grad = &call->grad;
    const size_t element = attn_dtype_size(p->dtype), d = p->features, dq = p->query_features, a = p->score_width;
    const bool luong = p->score == ATTN_SCORE_LUONG;
    grad->luong_w = take_weight(tensors, &luong_w_kind, to->luong_w, element, luong ? d * dq : 0);
    grad->bahdanau_w1 = take_weight(tensors, &bahdanau_w1_kind, to->bahdanau_w1, element, dq * a);
    grad->bahdanau_w2 = take_weight(tensors, &bahdanau_w2_kind, to->bahdanau_w2, element, d * a);
    grad->bahdanau_v = take_weight(tensors, &bahdanau_v_kind, to->bahdanau_v, element, a);
    grad->w_c = take_weight(tensors, &w_c_kind, to->w_c, element, (d + dq) * p->units);
}

/* ---- Presence ------------------------------------------------------------------------------------- */

/* A gradient that this score does not have would be left unwritten in silence. */
static attn_status check_scores(attn_score score, const attn_layer_gradients *to) {
    const bool luong = score == ATTN_SCORE_LUONG, bahdanau = score == ATTN_SCORE_BAHDANAU;
    const struct {
        const char *name;
        bool given;
    } foreign[] = {{"luong_w", to->luong_w && !luong},
                   {"bahdanau_w1", to->bahdanau_w1 && !bahdanau},
                   {"bahdanau_w2", to->bahdanau_w2 && !bahdanau},
                   {"bahdanau_v", to->bahdanau_v && !bahdanau}};
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        if (foreign[i].given)
            return attn_fail(ATTN_ERROR_INVALID_ARGUMENT,
                             "gradients.%s: is given, want NULL, for the %s score has no such weight", foreign[i].name,
                             attn_score_name(score));
    return ATTN_OK;
}

static attn_status check_presence(const attn_layer_problem *sizes, const attn_layer_backward_args *args) {
    const attn_layer_gradients *to = &args->gradients;
    const uint64_t unknown = args->accumulate & ~(ATTN_ACCUMULATE_H | ATTN_ACCUMULATE_QUERY | ATTN_ACCUMULATE_WEIGHTS);
    if (unknown)
        return attn_fail(ATTN_ERROR_UNSUPPORTED, "accumulate: has unknown bits 0x%llx", (unsigned long long)unknown);
    const void *const queries[] = {args->query, args->grad_query};
    for (int i = 0; i < 2; i++)
        if (queries[i] && !sizes->given_query)
            return attn_fail(ATTN_ERROR_INVALID_ARGUMENT,
                             "%s: is given, want NULL, for the plan's query is h_t (desc.queries)",
                             i ? "grad_query" : "query");
    const attn_status status = check_scores(sizes->score, to);
    if (status) return status;
    const bool incoming = args->grad_output || args->grad_context || args->grad_attention_weights || args->grad_lse;
    const bool outgoing = args->grad_h || args->grad_query || to->luong_w || to->bahdanau_w1 || to->bahdanau_w2 ||
                          to->bahdanau_v || to->w_c;
    const bool elements = sizes->batch > 0 && sizes->queries > 0 && sizes->timesteps > 0;
    if (elements && !incoming)
        return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "grad_output, grad_context, grad_attention_weights, grad_lse: "
                                                      "are NULL, want an incoming gradient");
    if (elements && !outgoing)
        return attn_fail(ATTN_ERROR_INVALID_ARGUMENT,
                         "grad_h, grad_query, gradients: are NULL, want something to compute");
    return ATTN_OK;
}

/* ---- The whole ------------------------------------------------------------------------------------ */

/* What both passes take, as the forward pass has it. */
static attn_layer_forward_args shared_args(const attn_layer_backward_args *args) {
    attn_layer_forward_args shared = ATTN_LAYER_FORWARD_ARGS_INIT;
    shared.batch = args->batch, shared.timesteps = args->timesteps, shared.queries = args->queries;
    shared.h = args->h, shared.h_batch_stride = args->h_batch_stride, shared.h_time_stride = args->h_time_stride;
    shared.query = args->query;
    shared.query_batch_stride = args->query_batch_stride, shared.query_row_stride = args->query_row_stride;
    shared.starts = args->starts, shared.lengths = args->lengths, shared.mask = args->mask;
    shared.mask_batch_stride = args->mask_batch_stride, shared.mask_query_stride = args->mask_query_stride;
    shared.mask_time_stride = args->mask_time_stride;
    shared.workspace = args->workspace, shared.workspace_size = args->workspace_size;
    return shared;
}

attn_status attn_layer_resolve_gradients(const attn_plan *plan, const attn_layer_backward_args *args,
                                         attn_layer_call *call) {
    const attn_layer_forward_args shared = shared_args(args);
    *call = (attn_layer_call){.grad = {.add_h = args->accumulate & ATTN_ACCUMULATE_H,
                                       .add_query = args->accumulate & ATTN_ACCUMULATE_QUERY,
                                       .add_weights = args->accumulate & ATTN_ACCUMULATE_WEIGHTS}};
    attn_status status = attn_layer_resolve_sizes(&plan->problem, &shared, &call->sizes);
    if (!status) status = check_presence(&call->sizes, args);
    if (!status) status = attn_layer_check_workspace(plan, &shared);
    if (status) return status;
    attn_tensors tensors;
    tensors.count = 0, tensors.status = ATTN_OK;
    attn_layer_take_weights(&tensors, &call->sizes, &args->weights, call);
    attn_layer_take_inputs(&tensors, &shared, call);
    take_incoming(&tensors, args, call);
    take_rows(&tensors, args, call);
    take_weights(&tensors, &args->gradients, call);
    attn_layer_take_workspace(&tensors, plan, &shared, call);
    call->kept = attn_layer_take_kept(&tensors, plan, &call->sizes, args->kept, args->kept_size, false);
    status = attn_tensors_check(&tensors);
    if (status || plan->context->backend->device_memory) return status;
    if (call->kept) status = attn_layer_check_kept(plan, &call->sizes, args->kept);
    return status ? status : attn_layer_check_ranges(call);
}

void attn_layer_clear_gradients(const attn_layer_call *call) {
    const attn_layer_problem *p = &call->sizes;
    const attn_layer_call_gradients *grad = &call->grad;
    const size_t element = attn_dtype_size(p->dtype), d = p->features, dq = p->query_features, a = p->score_width;
    const struct {
        void *to;
        size_t count;
    } weights[] = {{grad->luong_w, d * dq},
                   {grad->bahdanau_w1, dq * a},
                   {grad->bahdanau_w2, d * a},
                   {grad->bahdanau_v, a},
                   {grad->w_c, (d + dq) * p->units}};
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++)
        if (weights[i].to && !grad->add_weights) memset(weights[i].to, 0, weights[i].count * element);
    for (size_t item = 0; grad->h && !grad->add_h && item < p->batch; item++)
        for (size_t step = 0; step < p->timesteps; step++) {
            const ptrdiff_t row = (ptrdiff_t)item * grad->h_batch + (ptrdiff_t)step * grad->h_time;
            memset((char *)grad->h + row * (ptrdiff_t)element, 0, d * element);
        }
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The attention layer's entry points, each checked and handed on. */
#include "lib/layer.h"

#include "lib/layer_kept.h"
#include "lib/process.h"
#include "lib/status.h"
#include "lib/structs.h"

#include <string.h>

/* "attnprep", so that no other memory passes for a prepared buffer. */
static const uint64_t prepared_mark = UINT64_C(0x706572706e747461);

static attn_status make_plan(attn_context *context, attn_operation operation, const attn_layer_desc *desc,
                             attn_plan **plan) {
    if (!plan) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "plan: is NULL, want where to put the plan");
    *plan = NULL;
    if (!context) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "context: is NULL, want a context");
    attn_layer_problem problem;
    const attn_status status = attn_layer_resolve_problem(desc, operation, &problem);
    return status ? status : attn_plan_create(context, &(attn_question){operation, .layer = &problem}, plan);
}

attn_status attn_layer_forward_plan(attn_context *context, const attn_layer_desc *desc, attn_plan **plan) {
    return make_plan(context, ATTN_OPERATION_LAYER_FORWARD, desc, plan);
}

attn_status attn_layer_backward_plan(attn_context *context, const attn_layer_desc *desc, attn_plan **plan) {
    return make_plan(context, ATTN_OPERATION_LAYER_BACKWARD, desc, plan);
}

static attn_status explain_choice(const attn_context *context, attn_operation operation, const attn_layer_desc *desc,
                                  attn_explain explain, void *user) {
    if (!context || !explain)
        return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "%s: is NULL", context ? "explain" : "context");
    attn_layer_problem problem;
    const attn_status status = attn_layer_resolve_problem(desc, operation, &problem);
    const attn_implementation *chosen;
    return status ? status
                  : attn_select(context, &(attn_question){operation, .layer = &problem}, explain, user, &chosen);
}

attn_status attn_layer_forward_explain(attn_context *context, const attn_layer_desc *desc, attn_explain explain,
                                       void *user) {
    return explain_choice(context, ATTN_OPERATION_LAYER_FORWARD, desc, explain, user);
}

attn_status attn_layer_backward_explain(attn_context *context, const attn_layer_desc *desc, attn_explain explain,
                                        void *user) {
    return explain_choice(context, ATTN_OPERATION_LAYER_BACKWARD, desc, explain, user);
}

static attn_prepared_header header_for(const attn_plan *plan) {
    return (attn_prepared_header){.mark = prepared_mark,
                                  .implementation = plan->implementation,
                                  .features = plan->problem.features,
                                  .query_features = plan->problem.query_features,
                                  .score_width = plan->problem.score_width,
                                  .units = plan->problem.units,
                                  .size = plan->prepared_size};
}

attn_status attn_layer_prepare(const attn_plan *plan, const attn_layer_weights *given, void *prepared, size_t size) {
    if (!plan || !given) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "%s: is NULL", plan ? "weights" : "plan");
    attn_layer_weights weights = ATTN_LAYER_WEIGHTS_INIT;
    attn_layer_call call = {.sizes = plan->problem};
    attn_status status = attn_read_struct("weights", &weights, sizeof weights, sizeof weights, given);
    if (!status) status = attn_layer_resolve_weights(plan, &weights, prepared, size, &call);
    if (status || plan->prepared_size == 0) return status;
    const attn_prepared_header header = header_for(plan);
    memset(prepared, 0, ATTN_PREPARED_HEADER_SIZE);
    memcpy(prepared, &header, sizeof header);
    attn_plan_enter(plan);
    plan->implementation->prepare(plan->implementation, &plan->problem, &call,
                                  (char *)prepared + ATTN_PREPARED_HEADER_SIZE);
    attn_plan_leave(plan);
    return ATTN_OK;
}

static attn_status check_prepared(const attn_plan *plan, const void *prepared) {
    const attn_prepared_header wanted = header_for(plan);
    attn_prepared_header found;
    memcpy(&found, prepared, sizeof found);
    if (found.mark != wanted.mark)
        return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "prepared: was not filled by attn_layer_prepare");
    if (memcmp(&found, &wanted, sizeof found) != 0)
        return attn_fail(ATTN_ERROR_INVALID_ARGUMENT,
                         "prepared: was filled for another implementation or other weight shapes, want %s, features "
                         "%zu, query features %zu, "
                         "score width %zu, units %zu",
                         plan->implementation->name, wanted.features, wanted.query_features, wanted.score_width,
                         wanted.units);
    return ATTN_OK;
}

static attn_status report(const attn_plan *plan, attn_status status) {
    if (!status) return ATTN_OK;
    const bool refused = status == ATTN_ERROR_PENDING || status == ATTN_ERROR_FORKED;
    return attn_fail(status, "%s: %s; %s", plan->implementation->name, attn_status_string(status),
                     refused ? "nothing was computed" : "outputs may be partly written");
}

static attn_status run(const attn_plan *plan, const attn_layer_call *call) {
    ATTN_WITHOUT_CANCELLATION;
    attn_plan_enter(plan);
    const attn_status status =
        plan->implementation->run(plan->implementation, plan->context->device, &plan->problem, call);
    attn_plan_leave(plan);
    return report(plan, status);
}

static bool has_output(const attn_layer_call *call) {
    return call->output || call->context || call->attention_weights || call->lse || call->kept;
}

attn_status attn_layer_forward(const attn_plan *plan, const attn_layer_forward_args *given) {
    static const attn_embedded embedded[] = {
        {"args.weights", offsetof(attn_layer_forward_args, weights), sizeof(attn_layer_weights)}};
    if (!plan || !given) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "%s: is NULL", plan ? "args" : "plan");
    attn_layer_forward_args args = ATTN_LAYER_FORWARD_ARGS_INIT;
    attn_layer_call call;
    attn_status status = attn_plan_check_operation(plan, ATTN_OPERATION_LAYER_FORWARD);
    if (!status) status = attn_read_args(&args, sizeof args, embedded, 1, given);
    if (!status) status = attn_layer_resolve_call(plan, &args, &call);
    if (!status && call.prepared) status = check_prepared(plan, args.prepared);
    if (status || !has_output(&call)) return status;
    const bool sealed = call.kept && !plan->context->backend->device_memory;
    if (sealed) attn_layer_open_kept(args.kept);
    status = run(plan, &call);
    if (!status && sealed) attn_layer_seal_kept(plan, &call.sizes, args.kept);
    return status;
}

static bool has_gradient(const attn_layer_call *call) {
    const attn_layer_call_gradients *grad = &call->grad;
    return grad->h || grad->query || grad->luong_w || grad->bahdanau_w1 || grad->bahdanau_w2 || grad->bahdanau_v ||
           grad->w_c;
}

attn_status attn_layer_backward(const attn_plan *plan, const attn_layer_backward_args *given) {
    static const attn_embedded embedded[] = {
        {"args.weights", offsetof(attn_layer_backward_args, weights), sizeof(attn_layer_weights)},
        {"args.gradients", offsetof(attn_layer_backward_args, gradients), sizeof(attn_layer_gradients)}};
    if (!plan || !given) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "%s: is NULL", plan ? "args" : "plan");
    attn_layer_backward_args args = ATTN_LAYER_BACKWARD_ARGS_INIT;
    attn_layer_call call;
    attn_status status = attn_plan_check_operation(plan, ATTN_OPERATION_LAYER_BACKWARD);
    if (!status) status = attn_read_args(&args, sizeof args, embedded, 2, given);
    if (!status) status = attn_layer_resolve_gradients(plan, &args, &call);
    if (status || !has_gradient(&call)) return status;
    if (call.sizes.batch > 0 && call.sizes.queries > 0) return run(plan, &call);
    const attn_backend *backend = plan->context->backend;
    if (backend->device_memory) return report(plan, backend->clear_gradients(plan->context->device, &call));
    attn_layer_clear_gradients(&call);
    return ATTN_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The attention layer's entry points. */
#include "lib/layer.h"

#include "lib/dispatch.h"
#include "lib/status.h"
#include "lib/structs.h"

#include <string.h>

/* "attnprep", so that no other memory passes for a prepared buffer. */
static const uint64_t prepared_mark = UINT64_C(0x706572706e747461);

attn_status attn_layer_forward_plan(attn_context *context, const attn_layer_desc *desc, attn_plan **plan) {
    if (!plan) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "plan: is NULL, want where to put the plan");
    *plan = NULL;
    if (!context) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "context: is NULL, want a context");
    attn_layer_problem problem;
    const attn_status status = attn_layer_resolve_problem(desc, &problem);
    return status ? status : attn_plan_create(context, ATTN_OPERATION_LAYER_FORWARD, &problem, plan);
}

attn_status attn_layer_forward_explain(attn_context *context, const attn_layer_desc *desc, attn_explain explain,
                                       void *user) {
    if (!context || !explain)
        return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "%s: is NULL", context ? "explain" : "context");
    attn_layer_problem problem;
    const attn_status status = attn_layer_resolve_problem(desc, &problem);
    const attn_implementation *chosen;
    return status ? status : attn_select(context, ATTN_OPERATION_LAYER_FORWARD, &problem, explain, user, &chosen);
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
    plan->implementation->prepare(plan->implementation, &plan->problem, &call,
                                  (char *)prepared + ATTN_PREPARED_HEADER_SIZE);
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

static bool has_output(const attn_layer_call *call) {
    return call->output || call->context || call->attention_weights || call->lse;
}

attn_status attn_layer_forward(const attn_plan *plan, const attn_layer_forward_args *given) {
    if (!plan || !given) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "%s: is NULL", plan ? "args" : "plan");
    attn_layer_forward_args args = ATTN_LAYER_FORWARD_ARGS_INIT;
    attn_layer_call call;
    attn_status status = attn_read_forward_args(&args, given);
    if (!status) status = attn_layer_resolve_call(plan, &args, &call);
    if (!status && call.prepared) status = check_prepared(plan, args.prepared);
    if (status || !has_output(&call)) return status;
    status = plan->implementation->run(plan->implementation, plan->context->device, &plan->problem, &call);
    return status ? attn_fail(status, "%s: failed while running; outputs may be partly written",
                              plan->implementation->name)
                  : ATTN_OK;
}

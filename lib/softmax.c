/* SPDX-License-Identifier: Apache-2.0 */
/* The masked softmax, forward and backward: descriptor and entry points. */
#include "lib/softmax.h"

#include "lib/process.h"
#include "lib/sizes.h"
#include "lib/status.h"
#include "lib/structs.h"

static attn_status check_values(const attn_softmax_desc *desc) {
    if (desc->flags)
        return attn_fail(ATTN_ERROR_UNSUPPORTED, "desc.flags: has unknown bits 0x%llx",
                         (unsigned long long)desc->flags);
    const attn_status status = attn_check_dtype(desc->dtype);
    if (status) return status;
    const int causal = (int)desc->causal;
    if (causal < ATTN_CAUSAL_NONE || causal > ATTN_CAUSAL_BOTTOM_RIGHT)
        return attn_fail(ATTN_ERROR_UNSUPPORTED, "desc.causal: is %d, want a value of attn_causal", causal);
    const attn_status scale = attn_check_factor("desc.scale", desc->scale, desc->dtype);
    if (scale) return scale;
    const attn_size_rule rules[] = {
        {"batch", desc->batch, 0}, {"heads", desc->heads, 0}, {"queries", desc->queries, 0}, {"keys", desc->keys, 0}};
    return attn_check_sizes(rules, sizeof rules / sizeof *rules);
}

static attn_status resolve_problem(const attn_softmax_desc *given, attn_softmax_problem *p) {
    if (!given) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "desc: is NULL, want a descriptor");
    attn_softmax_desc desc = ATTN_SOFTMAX_DESC_INIT;
    attn_status status = attn_read_struct("desc", &desc, sizeof desc, sizeof desc, given);
    if (!status) status = check_values(&desc);
    if (status) return status;
    *p = (attn_softmax_problem){.dtype = desc.dtype,
                                .causal = desc.causal,
                                .batch = (size_t)desc.batch,
                                .heads = (size_t)desc.heads,
                                .queries = (size_t)desc.queries,
                                .keys = (size_t)desc.keys,
                                .scale = desc.scale != 0 ? desc.scale : 1};
    const attn_product_rule rule = {"batch * heads * queries * keys", {p->batch, p->heads, p->queries, p->keys}};
    return attn_check_products(p->dtype, &rule, 1);
}

static attn_status make_plan(attn_context *context, attn_operation operation, const attn_softmax_desc *desc,
                             attn_plan **plan) {
    if (!plan) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "plan: is NULL, want where to put the plan");
    *plan = NULL;
    if (!context) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "context: is NULL, want a context");
    attn_softmax_problem problem;
    const attn_status status = resolve_problem(desc, &problem);
    return status ? status : attn_plan_create(context, &(attn_question){operation, .softmax = &problem}, plan);
}

attn_status attn_softmax_forward_plan(attn_context *context, const attn_softmax_desc *desc, attn_plan **plan) {
    return make_plan(context, ATTN_OPERATION_SOFTMAX_FORWARD, desc, plan);
}

attn_status attn_softmax_backward_plan(attn_context *context, const attn_softmax_desc *desc, attn_plan **plan) {
    return make_plan(context, ATTN_OPERATION_SOFTMAX_BACKWARD, desc, plan);
}

static attn_status explain_choice(attn_context *context, attn_operation operation, const attn_softmax_desc *desc,
                                  attn_explain explain, void *user) {
    if (!context || !explain)
        return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "%s: is NULL", context ? "explain" : "context");
    attn_softmax_problem problem;
    const attn_status status = resolve_problem(desc, &problem);
    const attn_implementation *chosen;
    return status ? status
                  : attn_select(context, &(attn_question){operation, .softmax = &problem}, explain, user, &chosen);
}

attn_status attn_softmax_forward_explain(attn_context *context, const attn_softmax_desc *desc, attn_explain explain,
                                         void *user) {
    return explain_choice(context, ATTN_OPERATION_SOFTMAX_FORWARD, desc, explain, user);
}

attn_status attn_softmax_backward_explain(attn_context *context, const attn_softmax_desc *desc, attn_explain explain,
                                          void *user) {
    return explain_choice(context, ATTN_OPERATION_SOFTMAX_BACKWARD, desc, explain, user);
}

static attn_status run(const attn_plan *plan, const attn_softmax_call *call) {
    ATTN_WITHOUT_CANCELLATION;
    attn_plan_enter(plan);
    const attn_status status = plan->implementation->softmax->run(plan->implementation, plan->context->device, call);
    attn_plan_leave(plan);
    return status ? attn_fail(status, "%s: failed while running; outputs may be partly written",
                              plan->implementation->name)
                  : ATTN_OK;
}

attn_status attn_softmax_forward(const attn_plan *plan, const attn_softmax_forward_args *given) {
    if (!plan || !given) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "%s: is NULL", plan ? "args" : "plan");
    attn_softmax_forward_args args = ATTN_SOFTMAX_FORWARD_ARGS_INIT;
    attn_softmax_call call;
    attn_status status = attn_plan_check_operation(plan, ATTN_OPERATION_SOFTMAX_FORWARD);
    if (!status) status = attn_read_struct("args", &args, sizeof args, sizeof args, given);
    if (!status) status = attn_softmax_resolve_forward(plan, &args, &call);
    return status || (!call.weights && !call.lse) ? status : run(plan, &call);
}

attn_status attn_softmax_backward(const attn_plan *plan, const attn_softmax_backward_args *given) {
    if (!plan || !given) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "%s: is NULL", plan ? "args" : "plan");
    attn_softmax_backward_args args = ATTN_SOFTMAX_BACKWARD_ARGS_INIT;
    attn_softmax_call call;
    attn_status status = attn_plan_check_operation(plan, ATTN_OPERATION_SOFTMAX_BACKWARD);
    if (!status) status = attn_read_struct("args", &args, sizeof args, sizeof args, given);
    if (!status) status = attn_softmax_resolve_backward(plan, &args, &call);
    return status || !call.grad_scores ? status : run(plan, &call);
}

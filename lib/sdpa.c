/* SPDX-License-Identifier: Apache-2.0 */
/* The entry points of scaled-dot-product attention, each checked and handed on. */
#include "lib/sdpa.h"

#include "lib/process.h"
#include "lib/status.h"
#include "lib/structs.h"

attn_status attn_sdpa_forward_plan(attn_context *context, const attn_sdpa_desc *desc, attn_plan **plan) {
    if (!plan) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "plan: is NULL, want where to put the plan");
    *plan = NULL;
    if (!context) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "context: is NULL, want a context");
    attn_sdpa_problem problem;
    const attn_status status = attn_sdpa_resolve_problem(desc, &problem);
    return status ? status
                  : attn_plan_create(context, &(attn_question){ATTN_OPERATION_SDPA_FORWARD, .sdpa = &problem}, plan);
}

attn_status attn_sdpa_forward_explain(attn_context *context, const attn_sdpa_desc *desc, attn_explain explain,
                                      void *user) {
    if (!context || !explain)
        return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "%s: is NULL", context ? "explain" : "context");
    attn_sdpa_problem problem;
    const attn_status status = attn_sdpa_resolve_problem(desc, &problem);
    const attn_implementation *chosen;
    return status ? status
                  : attn_select(context, &(attn_question){ATTN_OPERATION_SDPA_FORWARD, .sdpa = &problem}, explain, user,
                                &chosen);
}

attn_status attn_sdpa_forward(const attn_plan *plan, const attn_sdpa_forward_args *given) {
    ATTN_WITHOUT_CANCELLATION;
    if (!plan || !given) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "%s: is NULL", plan ? "args" : "plan");
    attn_sdpa_forward_args args = ATTN_SDPA_FORWARD_ARGS_INIT;
    attn_sdpa_call call;
    attn_status status = attn_plan_check_operation(plan, ATTN_OPERATION_SDPA_FORWARD);
    if (!status) status = attn_read_struct("args", &args, sizeof args, sizeof args, given);
    if (!status) status = attn_sdpa_resolve_call(plan, &args, &call);
    if (status || (!call.output && !call.lse && !call.attention_weights)) return status;
    attn_plan_enter(plan);
    status = plan->implementation->sdpa->run(plan->implementation, plan->context->device, &call);
    attn_plan_leave(plan);
    return status ? attn_fail(status, "%s: failed while running; outputs may be partly written",
                              plan->implementation->name)
                  : ATTN_OK;
}

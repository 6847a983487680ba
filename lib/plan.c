/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/plan.h"

#include "lib/names.h"
#include "lib/status.h"

#include <stdio.h>

/* A count that does not fit comes as SIZE_MAX; a size that no pointer difference can span is of no more use. */
static bool usable_size(size_t size) { return size <= PTRDIFF_MAX - ATTN_KEPT_HEADER_SIZE; }

static void count_layer(attn_plan *plan) {
    const attn_implementation *implementation = plan->implementation;
    const attn_layer_problem *problem = &plan->problem;
    if (problem->batch > 0 && problem->queries > 0)
        plan->workspace_size = implementation->workspace_size(implementation, plan->context->device, problem);
    if (implementation->prepared_size) plan->prepared_size = implementation->prepared_size(implementation, problem);
    if (problem->training && problem->batch > 0 && problem->queries > 0)
        plan->kept_size = plan->context->backend->kept_size(problem);
}

static void count_sdpa(attn_plan *plan) {
    const attn_sdpa_problem *problem = &plan->sdpa;
    if (problem->batch > 0 && problem->query_heads > 0 && problem->queries > 0)
        plan->workspace_size =
            plan->implementation->sdpa->workspace_size(plan->implementation, plan->context->device, problem);
}

static attn_status size_plan(attn_plan *plan) {
    if (plan->implementation->operation == ATTN_OPERATION_SDPA_FORWARD)
        count_sdpa(plan);
    else
        count_layer(plan);
    if (!usable_size(plan->workspace_size) || !usable_size(plan->prepared_size) || !usable_size(plan->kept_size))
        return attn_fail(ATTN_ERROR_OVERFLOW,
                         "desc: the workspace of %s for these sizes does not fit the address space",
                         plan->implementation->name);
    if (plan->prepared_size > 0) plan->prepared_size += ATTN_PREPARED_HEADER_SIZE;
    if (plan->problem.training) plan->kept_size += ATTN_KEPT_HEADER_SIZE;
    return ATTN_OK;
}

/* What follows the operation's name: the problem. */
static void describe_layer(const attn_plan *plan, char *text, size_t room) {
    const attn_layer_problem *p = &plan->problem;
    snprintf(text, room,
             "layer %s %s %s batch=%zu timesteps=%zu features=%zu queries=%zu%s query_features=%zu score_width=%zu "
             "units=%zu",
             plan->implementation->operation == ATTN_OPERATION_LAYER_BACKWARD ? "backward" : "forward",
             attn_score_name(p->score), attn_dtype_name(p->dtype), p->batch, p->timesteps, p->features, p->queries,
             p->given_query ? "" : " (h_t)", p->query_features, p->score_width, p->units);
}

static void describe_sdpa(const attn_plan *plan, char *text, size_t room) {
    const attn_sdpa_problem *p = &plan->sdpa;
    snprintf(text, room,
             "sdpa forward %s batch=%zu query_heads=%zu key_heads=%zu queries=%zu keys=%zu head_dim=%zu value_dim=%zu "
             "causal=%d flags=%llu",
             attn_dtype_name(p->dtype), p->batch, p->query_heads, p->key_heads, p->queries, p->keys, p->head_dim,
             p->value_dim, (int)p->causal, (unsigned long long)p->flags);
}

static void log_plan(const attn_plan *plan) {
    const attn_context_options *options = &plan->context->options;
    if (!options->log) return;
    char problem[256], line[384];
    if (plan->implementation->operation == ATTN_OPERATION_SDPA_FORWARD)
        describe_sdpa(plan, problem, sizeof problem);
    else
        describe_layer(plan, problem, sizeof problem);
    snprintf(line, sizeof line, "plan %s: %s, workspace %zu bytes, kept %zu bytes", problem, plan->implementation->name,
             plan->workspace_size, plan->kept_size);
    options->log(options->log_user, line);
}

attn_status attn_plan_create(attn_context *context, const attn_question *question, attn_plan **created) {
    attn_plan draft = {.context = context};
    if (question->layer) draft.problem = *question->layer;
    if (question->sdpa) draft.sdpa = *question->sdpa;
    attn_status status = attn_select(context, question, NULL, NULL, &draft.implementation);
    if (!status) status = size_plan(&draft);
    if (status) return status;
    attn_plan *plan = attn_context_allocate(context, sizeof *plan);
    if (!plan) return attn_fail(ATTN_ERROR_OUT_OF_MEMORY, "plan: no memory for %zu bytes", sizeof *plan);
    *plan = draft;
    attn_context_retain(context);
    log_plan(plan);
    *created = plan;
    return ATTN_OK;
}

attn_status attn_plan_check_operation(const attn_plan *plan, attn_operation operation) {
    if (plan->implementation->operation == operation) return ATTN_OK;
    return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "plan: is one of the %s pass, want one of the %s pass",
                     attn_operation_name(plan->implementation->operation), attn_operation_name(operation));
}

void attn_plan_destroy(attn_plan *plan) {
    if (!plan) return;
    attn_context *context = plan->context;
    attn_context_release(context, plan);
    attn_context_destroy(context);
}

const char *attn_plan_implementation(const attn_plan *plan) { return plan ? plan->implementation->name : ""; }

size_t attn_plan_workspace_size(const attn_plan *plan) { return plan ? plan->workspace_size : 0; }

size_t attn_plan_prepared_size(const attn_plan *plan) { return plan ? plan->prepared_size : 0; }

size_t attn_plan_kept_size(const attn_plan *plan) { return plan ? plan->kept_size : 0; }

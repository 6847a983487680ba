/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/plan.h"

#include "lib/dispatch.h"
#include "lib/names.h"
#include "lib/status.h"

#include <stdio.h>

/* A count that does not fit comes as SIZE_MAX; a size that no pointer difference can span is of no more use. */
static bool usable_size(size_t size) { return size <= PTRDIFF_MAX - ATTN_KEPT_HEADER_SIZE; }

static attn_status size_plan(attn_plan *plan) {
    const attn_implementation *implementation = plan->implementation;
    const attn_layer_problem *problem = &plan->problem;
    if (problem->batch > 0 && problem->queries > 0)
        plan->workspace_size = implementation->workspace_size(implementation, plan->context->device, problem);
    if (implementation->prepared_size) plan->prepared_size = implementation->prepared_size(implementation, problem);
    if (problem->training && problem->batch > 0 && problem->queries > 0)
        plan->kept_size = plan->context->backend->kept_size(problem);
    if (!usable_size(plan->workspace_size) || !usable_size(plan->prepared_size) || !usable_size(plan->kept_size))
        return attn_fail(ATTN_ERROR_OVERFLOW,
                         "desc: the workspace of %s for these sizes does not fit the address space",
                         implementation->name);
    if (plan->prepared_size > 0) plan->prepared_size += ATTN_PREPARED_HEADER_SIZE;
    if (problem->training) plan->kept_size += ATTN_KEPT_HEADER_SIZE;
    return ATTN_OK;
}

static void log_plan(const attn_plan *plan) {
    const attn_context_options *options = &plan->context->options;
    if (!options->log) return;
    const attn_layer_problem *p = &plan->problem;
    char line[320];
    snprintf(line, sizeof line,
             "plan layer %s %s %s batch=%zu timesteps=%zu features=%zu queries=%zu%s query_features=%zu "
             "score_width=%zu units=%zu: "
             "%s, workspace %zu bytes, kept %zu bytes",
             attn_operation_name(plan->implementation->operation), attn_score_name(p->score), attn_dtype_name(p->dtype),
             p->batch, p->timesteps, p->features, p->queries, p->given_query ? "" : " (h_t)", p->query_features,
             p->score_width, p->units, plan->implementation->name, plan->workspace_size, plan->kept_size);
    options->log(options->log_user, line);
}

attn_status attn_plan_create(attn_context *context, attn_operation operation, const attn_layer_problem *problem,
                             attn_plan **created) {
    attn_plan draft = {.context = context, .problem = *problem};
    attn_status status = attn_select(context, operation, problem, NULL, NULL, &draft.implementation);
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

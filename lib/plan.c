/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/plan.h"

#include "lib/names.h"
#include "lib/process.h"
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

/* Of what has elements. */
static size_t count_other(const attn_plan *plan) {
    const attn_implementation *implementation = plan->implementation;
    const attn_device *device = plan->context->device;
    if (implementation->sdpa && plan->sdpa.batch && plan->sdpa.query_heads && plan->sdpa.queries)
        return implementation->sdpa->workspace_size(implementation, device, &plan->sdpa);
    if (implementation->matmul && plan->matmul.batch && plan->matmul.heads && plan->matmul.rows && plan->matmul.columns)
        return implementation->matmul->workspace_size(implementation, device, &plan->matmul);
    if (implementation->softmax && plan->softmax.batch && plan->softmax.heads && plan->softmax.queries)
        return implementation->softmax->workspace_size(implementation, device, &plan->softmax);
    return 0;
}

static bool is_layer(const attn_plan *plan) {
    const attn_operation operation = plan->implementation->operation;
    return operation == ATTN_OPERATION_LAYER_FORWARD || operation == ATTN_OPERATION_LAYER_BACKWARD;
}

static attn_status size_plan(attn_plan *plan) {
    if (is_layer(plan))
        count_layer(plan);
    else
        plan->workspace_size = count_other(plan);
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

static void describe_other(const attn_plan *plan, char *text, size_t room) {
    const char *operation = attn_operation_name(plan->implementation->operation),
               *dtype = attn_dtype_name(plan->implementation->dtype);
    const attn_sdpa_problem *s = &plan->sdpa;
    const attn_matmul_problem *m = &plan->matmul;
    const attn_softmax_problem *x = &plan->softmax;
    if (plan->implementation->sdpa)
        snprintf(text, room,
                 "%s %s batch=%zu query_heads=%zu key_heads=%zu queries=%zu keys=%zu head_dim=%zu value_dim=%zu "
                 "causal=%d flags=%llu",
                 operation, dtype, s->batch, s->query_heads, s->key_heads, s->queries, s->keys, s->head_dim,
                 s->value_dim, (int)s->causal, (unsigned long long)s->flags);
    else if (plan->implementation->matmul)
        snprintf(text, room, "%s %s batch=%zu heads=%zu rows=%zu columns=%zu depth=%zu transpose_a=%d transpose_b=%d",
                 operation, dtype, m->batch, m->heads, m->rows, m->columns, m->depth, m->transpose_a, m->transpose_b);
    else
        snprintf(text, room, "%s %s batch=%zu heads=%zu queries=%zu keys=%zu causal=%d", operation, dtype, x->batch,
                 x->heads, x->queries, x->keys, (int)x->causal);
}

static void log_plan(const attn_plan *plan) {
    const attn_context_options *options = &plan->context->options;
    if (!options->log) return;
    char problem[256], line[384];
    (is_layer(plan) ? describe_layer : describe_other)(plan, problem, sizeof problem);
    snprintf(line, sizeof line, "plan %s: %s, workspace %zu bytes, kept %zu bytes", problem, plan->implementation->name,
             plan->workspace_size, plan->kept_size);
    options->log(options->log_user, line);
}

attn_status attn_plan_create(attn_context *context, const attn_question *question, attn_plan **created) {
    ATTN_WITHOUT_CANCELLATION;
    attn_plan draft = {.context = context};
    if (question->layer) draft.problem = *question->layer;
    if (question->sdpa) draft.sdpa = *question->sdpa;
    if (question->matmul) draft.matmul = *question->matmul;
    if (question->softmax) draft.softmax = *question->softmax;
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

attn_status attn_plan_check_workspace(const attn_plan *plan, const void *workspace, size_t size) {
    if (size < plan->workspace_size)
        return attn_fail(ATTN_ERROR_WORKSPACE, "workspace_size: is %zu, want at least %zu (attn_plan_workspace_size)",
                         size, plan->workspace_size);
    if ((uintptr_t)workspace % ATTN_WORKSPACE_ALIGNMENT != 0 && plan->workspace_size > 0)
        return attn_fail(ATTN_ERROR_ALIGNMENT, "workspace: is %p, want %zu bytes aligned to %d", workspace,
                         plan->workspace_size, ATTN_WORKSPACE_ALIGNMENT);
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

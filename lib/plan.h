/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ATTN_LIB_PLAN_H
#define ATTN_LIB_PLAN_H

#include "lib/context.h"
#include "lib/dispatch.h"

/* What the front-end keeps in front of an implementation's prepared bytes, to tell a buffer that fits a plan from any other. */
typedef struct attn_prepared_header {
    uint64_t mark;
    const attn_implementation *implementation;
    size_t features, query_features, score_width, units;
    size_t size; /* header included */
} attn_prepared_header;

enum { ATTN_PREPARED_HEADER_SIZE = ATTN_WORKSPACE_ALIGNMENT };
_Static_assert(sizeof(attn_prepared_header) <= ATTN_PREPARED_HEADER_SIZE,
               "the header keeps the bytes behind it aligned");

/* What the front-end puts in front of what a forward pass kept, to tell it from any other memory. Words of 64 bits alone: no padding. */
enum { ATTN_KEPT_FIELDS = 11 };
typedef struct attn_kept_header {
    uint64_t mark, backend;
    uint64_t fields[ATTN_KEPT_FIELDS]; /* see layer_kept.c */
} attn_kept_header;

enum { ATTN_KEPT_HEADER_SIZE = 2 * ATTN_WORKSPACE_ALIGNMENT };
_Static_assert(sizeof(attn_kept_header) <= ATTN_KEPT_HEADER_SIZE, "the header keeps the bytes behind it aligned");

struct attn_plan {
    attn_context *context;
    const attn_implementation *implementation;
    attn_layer_problem problem;
    union { /* in place of problem, for the operations beside the layer's */
        attn_sdpa_problem sdpa;
        attn_matmul_problem matmul;
        attn_softmax_problem softmax;
    };
    size_t workspace_size, prepared_size, kept_size;
};

/* Chooses the implementation of a checked problem and makes its plan. */
attn_status attn_plan_create(attn_context *context, const attn_question *question, attn_plan **created);

/* ATTN_ERROR_INVALID_ARGUMENT when the plan is not one of the operation. */
attn_status attn_plan_check_operation(const attn_plan *plan, attn_operation operation);

/* Around whatever the plan's implementation computes. */
static inline void attn_plan_enter(const attn_plan *plan) {
    if (plan->context->backend->enter) plan->context->backend->enter();
}

static inline void attn_plan_leave(const attn_plan *plan) {
    if (plan->context->backend->leave) plan->context->backend->leave();
}

/* ATTN_ERROR_WORKSPACE or ATTN_ERROR_ALIGNMENT when a workspace does not serve. */
attn_status attn_plan_check_workspace(const attn_plan *plan, const void *workspace, size_t size);

#endif

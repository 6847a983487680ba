/* SPDX-License-Identifier: Apache-2.0 */
/* The batched matrix product: descriptor, arguments, entry points. */
#include "lib/names.h"
#include "lib/plan.h"
#include "lib/process.h"
#include "lib/sizes.h"
#include "lib/status.h"
#include "lib/structs.h"
#include "lib/tensor.h"

static const attn_tensor_kind a_kind = {
    .name = "a", .strides = {"a_batch_stride", "a_head_stride", "a_row_stride"}, .required = true};
static const attn_tensor_kind b_kind = {
    .name = "b", .strides = {"b_batch_stride", "b_head_stride", "b_row_stride"}, .required = true};
static const attn_tensor_kind c_kind = {
    .name = "c", .strides = {"c_batch_stride", "c_head_stride", "c_row_stride"}, .required = true, .written = true};
static const attn_tensor_kind workspace_kind = {
    .name = "workspace", .alignment = ATTN_WORKSPACE_ALIGNMENT, .required = true, .written = true};

static attn_status check_values(const attn_matmul_desc *desc) {
    const uint64_t unknown = desc->flags & ~(ATTN_MATMUL_TRANSPOSE_A | ATTN_MATMUL_TRANSPOSE_B);
    if (unknown)
        return attn_fail(ATTN_ERROR_UNSUPPORTED, "desc.flags: has unknown bits 0x%llx", (unsigned long long)unknown);
    const attn_status status = attn_check_dtype(desc->dtype);
    if (status) return status;
    const attn_size_rule rules[] = {{"batch", desc->batch, 0},
                                    {"heads", desc->heads, 0},
                                    {"rows", desc->rows, 0},
                                    {"columns", desc->columns, 0},
                                    {"depth", desc->depth, 0}};
    return attn_check_sizes(rules, sizeof rules / sizeof *rules);
}

static attn_status resolve_problem(const attn_matmul_desc *given, attn_matmul_problem *p) {
    if (!given) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "desc: is NULL, want a descriptor");
    attn_matmul_desc desc = ATTN_MATMUL_DESC_INIT;
    attn_status status = attn_read_struct("desc", &desc, sizeof desc, sizeof desc, given);
    if (!status) status = check_values(&desc);
    if (status) return status;
    *p = (attn_matmul_problem){.dtype = desc.dtype,
                               .transpose_a = desc.flags & ATTN_MATMUL_TRANSPOSE_A,
                               .transpose_b = desc.flags & ATTN_MATMUL_TRANSPOSE_B,
                               .batch = (size_t)desc.batch,
                               .heads = (size_t)desc.heads,
                               .rows = (size_t)desc.rows,
                               .columns = (size_t)desc.columns,
                               .depth = (size_t)desc.depth};
    const attn_product_rule rules[] = {{"batch * heads * rows * columns", {p->batch, p->heads, p->rows, p->columns}},
                                       {"batch * heads * rows * depth", {p->batch, p->heads, p->rows, p->depth}},
                                       {"batch * heads * columns * depth", {p->batch, p->heads, p->columns, p->depth}}};
    return attn_check_products(p->dtype, rules, sizeof rules / sizeof *rules);
}

attn_status attn_matmul_plan(attn_context *context, const attn_matmul_desc *desc, attn_plan **plan) {
    if (!plan) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "plan: is NULL, want where to put the plan");
    *plan = NULL;
    if (!context) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "context: is NULL, want a context");
    attn_matmul_problem problem;
    const attn_status status = resolve_problem(desc, &problem);
    return status ? status
                  : attn_plan_create(context, &(attn_question){ATTN_OPERATION_MATMUL, .matmul = &problem}, plan);
}

attn_status attn_matmul_explain(attn_context *context, const attn_matmul_desc *desc, attn_explain explain, void *user) {
    if (!context || !explain)
        return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "%s: is NULL", context ? "explain" : "context");
    attn_matmul_problem problem;
    const attn_status status = resolve_problem(desc, &problem);
    const attn_implementation *chosen;
    return status ? status
                  : attn_select(context, &(attn_question){ATTN_OPERATION_MATMUL, .matmul = &problem}, explain, user,
                                &chosen);
}

static attn_status resolve_sizes(const attn_plan *plan, const attn_matmul_args *args, attn_matmul_call *call) {
    attn_matmul_problem *s = &call->sizes;
    attn_status status = attn_resolve_size("batch", args->batch, &s->batch);
    if (!status) status = attn_resolve_size("rows", args->rows, &s->rows);
    if (!status) status = attn_resolve_size("columns", args->columns, &s->columns);
    if (!status) status = attn_resolve_size("depth", args->depth, &s->depth);
    if (status) return status;
    status = attn_check_factor("args.alpha", args->alpha, s->dtype);
    if (!status) status = attn_check_factor("args.beta", args->beta, s->dtype);
    if (status) return status;
    call->alpha = args->alpha, call->beta = args->beta;
    return attn_plan_check_workspace(plan, args->workspace, args->workspace_size);
}

static attn_status resolve_call(const attn_plan *plan, const attn_matmul_args *args, attn_matmul_call *call) {
    *call = (attn_matmul_call){.sizes = plan->matmul};
    attn_status status = resolve_sizes(plan, args, call);
    if (status) return status;
    const attn_matmul_problem *s = &call->sizes;
    const size_t element = attn_dtype_size(s->dtype), depth = args->alpha != 0 ? s->depth : 0;
    const attn_heads_shape a = {{s->batch, s->heads, s->transpose_a ? depth : s->rows,
                                 s->transpose_a ? s->rows : depth},
                                {args->a_batch_stride, args->a_head_stride, args->a_row_stride},
                                2},
                           b = {{s->batch, s->heads, s->transpose_b ? s->columns : depth,
                                 s->transpose_b ? depth : s->columns},
                                {args->b_batch_stride, args->b_head_stride, args->b_row_stride},
                                2},
                           c = {{s->batch, s->heads, s->rows, s->columns},
                                {args->c_batch_stride, args->c_head_stride, args->c_row_stride},
                                0};
    attn_tensors tensors;
    tensors.count = 0, tensors.status = ATTN_OK;
    call->a = attn_take_heads(&tensors, &a_kind, args->a, element, &a, &call->a_strides);
    call->b = attn_take_heads(&tensors, &b_kind, args->b, element, &b, &call->b_strides);
    if (attn_take_heads(&tensors, &c_kind, args->c, element, &c, &call->c_strides)) call->c = args->c;
    if (attn_take_dense(&tensors, &workspace_kind, args->workspace, 1, plan->workspace_size))
        call->workspace = args->workspace;
    return attn_tensors_check(&tensors);
}

attn_status attn_matmul(const attn_plan *plan, const attn_matmul_args *given) {
    ATTN_WITHOUT_CANCELLATION;
    if (!plan || !given) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "%s: is NULL", plan ? "args" : "plan");
    attn_matmul_args args = ATTN_MATMUL_ARGS_INIT;
    attn_matmul_call call;
    attn_status status = attn_plan_check_operation(plan, ATTN_OPERATION_MATMUL);
    if (!status) status = attn_read_struct("args", &args, sizeof args, sizeof args, given);
    if (!status) status = resolve_call(plan, &args, &call);
    if (status || !call.c) return status;
    attn_plan_enter(plan);
    status = plan->implementation->matmul->run(plan->implementation, plan->context->device, &call);
    attn_plan_leave(plan);
    return status ? attn_fail(status, "%s: failed while running; c may be partly written", plan->implementation->name)
                  : ATTN_OK;
}

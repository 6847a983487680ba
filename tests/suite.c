/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/suite.h"

bits run_bits(kit_problem *problem, const attn_plan *plan) {
    const attn_status status = kit_problem_run(problem, plan, KIT_ALL_OUTPUTS);
    cr_assert(status == ATTN_OK, "%s: %s: %s", problem->spec.name, attn_plan_implementation(plan),
              attn_last_error_message());
    bits all = {NULL, 0};
    for (unsigned which = KIT_OUTPUT; which <= KIT_LSE; which <<= 1) {
        size_t size;
        void *output = kit_problem_output(problem, which, &size);
        all.data = realloc(all.data, all.size + size + 1);
        if (size) memcpy(all.data + all.size, output, size);
        all.size += size;
        free(output);
    }
    return all;
}

bits gradient_bits(const kit_problem *problem) {
    bits all = {NULL, 0};
    for (unsigned which = KIT_GRAD_H; which <= KIT_GRAD_W_C; which <<= 1) {
        size_t size;
        void *gradient = kit_problem_gradient(problem, which, &size);
        all.data = realloc(all.data, all.size + size + 1);
        if (size) memcpy(all.data + all.size, gradient, size);
        all.size += size;
        free(gradient);
    }
    return all;
}

bool bits_equal(const bits *a, const bits *b) {
    return a->size && a->size == b->size && !memcmp(a->data, b->data, a->size);
}

void bits_free(bits *all) { free(all->data); }

const kit_case *find_case(const char *name) {
    const kit_case *spec = kit_find_case(name);
    cr_assert(spec, "no case %s", name);
    return spec;
}

void expect_healthy(kit_problem *problem, const attn_plan *plan, const char *what) {
    const attn_status status = kit_problem_run(problem, plan, KIT_ALL_OUTPUTS);
    cr_assert(status == ATTN_OK, "%s: %s: %s", what, problem->spec.name, attn_last_error_message());
    const kit_verdict verdict = kit_problem_check(problem);
    cr_assert(verdict.error <= 1, "%s: %s: %s: error/gate %g: %s", what, problem->spec.name,
              attn_plan_implementation(plan), verdict.error, verdict.where);
}

kit_content content_like(const kit_problem *from, const kit_case *spec) {
    kit_problem *scratch = kit_problem_make(spec, KIT_GUARD_BEHIND);
    kit_content content = scratch->content;
    scratch->content = (kit_content){0};
    kit_problem_free(scratch);
    const reference_input in = kit_problem_input(from);
    const size_t D = in.features, Dq = in.query_features, A = in.score_width;
    if (in.luong_w) memcpy(content.luong_w, in.luong_w, D * Dq * sizeof(double));
    if (in.bahdanau_w1) memcpy(content.bahdanau_w1, in.bahdanau_w1, Dq * A * sizeof(double));
    if (in.bahdanau_w2) memcpy(content.bahdanau_w2, in.bahdanau_w2, D * A * sizeof(double));
    if (in.bahdanau_v) memcpy(content.bahdanau_v, in.bahdanau_v, A * sizeof(double));
    if (in.w_c) memcpy(content.w_c, in.w_c, (D + Dq) * in.units * sizeof(double));
    return content;
}

bool is_batch_invariant(const kit_case *spec, const char *name) {
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.flags = ATTN_CONTEXT_BATCH_INVARIANT;
    options.threads = 1;
    options.implementation = name;
    attn_context *context;
    cr_assert(attn_context_create(&options, &context) == ATTN_OK, "%s", attn_last_error_message());
    kit_problem *problem = kit_problem_make(spec, KIT_GUARD_BEHIND);
    attn_plan *plan;
    const attn_status status = attn_layer_forward_plan(context, &problem->desc, &plan);
    attn_plan_destroy(plan);
    attn_context_destroy(context);
    kit_problem_free(problem);
    return status == ATTN_OK;
}

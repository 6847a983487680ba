/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels themselves raise no floating-point flag but inexact and underflow, and read no memory as numbers that nobody wrote. What hides that
 * from hosts (cpu/float_environment.c) is taken away: the linker puts the functions below in its place. */
#include "tests/sdpa_kit.h"
#include "tests/suite.h"

#include <fenv.h>
#include <math.h>

void __wrap_attn_float_enter(void);
void __wrap_attn_float_leave(void);
void __wrap_attn_float_enter(void) {}
void __wrap_attn_float_leave(void) {}

enum { IMPLEMENTATIONS = 16, SPURIOUS = FE_INVALID | FE_DIVBYZERO | FE_OVERFLOW };

/* A workspace full of signalling NaNs, which no arithmetic takes in silence. */
static void *signalling(size_t size, attn_dtype dtype) {
    char *memory = kit_alloc(size, KIT_GUARD_BEHIND);
    const uint64_t wide = UINT64_C(0x7ff4000000000000);
    const uint32_t narrow = 0x7fa00000;
    const size_t element = dtype == ATTN_FLOAT64 ? 8 : 4;
    for (size_t i = 0; i + element <= size; i += element)
        memcpy(memory + i, element == 8 ? (const void *)&wide : (const void *)&narrow, element);
    return memory;
}

static void expect_silence(const char *name, const char *implementation, const char *pass, int raised) {
    cr_assert(!raised, "%s: %s, %s raises%s%s%s", name, implementation, pass, raised & FE_INVALID ? " invalid" : "",
              raised & FE_DIVBYZERO ? " division by zero" : "", raised & FE_OVERFLOW ? " overflow" : "");
}

/* ---- Attention ------------------------------------------------------------------------------------------ */

static void attend_silently(sdpa_problem *problem, const attn_plan *plan) {
    problem->args.workspace_size = attn_plan_workspace_size(plan);
    problem->args.workspace = signalling(problem->args.workspace_size, problem->spec.dtype);
    feclearexcept(FE_ALL_EXCEPT);
    const attn_status status = attn_sdpa_forward(plan, &problem->args);
    const int raised = fetestexcept(SPURIOUS);
    cr_assert(status == ATTN_OK, "%s", attn_last_error_message());
    expect_silence(problem->spec.name, attn_plan_implementation(plan), "forward", raised);
    kit_free(problem->args.workspace);
    problem->args.workspace = NULL;
}

static void on_each(sdpa_problem *problem) {
    attn_context *any = kit_context(1, NULL);
    const char *names[IMPLEMENTATIONS];
    const size_t count = sdpa_implementations(any, problem->spec.dtype, names, IMPLEMENTATIONS);
    for (size_t i = 0; i < count; i++) {
        attn_context *context = kit_context(1, names[i]);
        attn_plan *plan;
        if (attn_sdpa_forward_plan(context, &problem->desc, &plan) == ATTN_OK) attend_silently(problem, plan);
        attn_plan_destroy(plan);
        attn_context_destroy(context);
    }
    attn_context_destroy(any);
}

Test(flags, attention) {
    size_t count;
    const sdpa_case *cases = sdpa_cases(&count);
    for (size_t i = 0; i < count; i++) {
        if (cases[i].dtype != ATTN_FLOAT32 && cases[i].dtype != ATTN_FLOAT64) continue;
        sdpa_problem *problem = sdpa_problem_make(&cases[i], KIT_GUARD_BEHIND);
        on_each(problem);
        sdpa_problem_free(problem);
    }
}

/* Scores far below 0, and so the largest: of all keys, and of keys whose number leaves lanes of a register over. */
Test(flags, rows_far_below_zero) {
    static const double lows[] = {-100, -1e9, -1e30, -3e38};
    for (int64_t keys = 1; keys < 36; keys++)
        for (size_t i = 0; i < sizeof lows / sizeof *lows; i++) {
            sdpa_case spec = *sdpa_find_case("plain_f32");
            spec.keys = keys, spec.options = SDPA_BIAS | SDPA_SINKS;
            sdpa_problem *problem = sdpa_problem_make(&spec, KIT_GUARD_BEHIND);
            const size_t *shape = problem->content.bias_shape;
            for (size_t j = 0; j < shape[0] * shape[1] * shape[2] * shape[3]; j++) problem->content.bias[j] = lows[i];
            sdpa_problem_store(problem);
            on_each(problem);
            problem->args.sinks = NULL;
            on_each(problem);
            sdpa_problem_free(problem);
        }
}

/* ---- The layer ------------------------------------------------------------------------------------------ */

static void train_silently(kit_problem *problem, const attn_plan *plan, const char *name) {
    const char *names[WALK_IMPLEMENTATIONS];
    const size_t count = walk_usable_backward(&problem->spec, names);
    for (size_t i = 0; i < count; i++) {
        attn_plan *back = walk_plan(&problem->desc, names[i], 1);
        attn_layer_backward_args args = kit_problem_back_ready(problem, KIT_ALL_OUTPUTS, KIT_ALL_GRADIENTS, 0);
        args.workspace_size = attn_plan_workspace_size(back);
        args.workspace = signalling(args.workspace_size, problem->spec.dtype);
        feclearexcept(FE_ALL_EXCEPT);
        const attn_status status = attn_layer_backward(back, &args);
        const int raised = fetestexcept(SPURIOUS);
        cr_assert(status == ATTN_OK, "%s: %s after %s: %s", problem->spec.name, names[i], name,
                  attn_last_error_message());
        expect_silence(problem->spec.name, names[i], "backward", raised);
        kit_free(args.workspace);
        attn_plan_destroy(back);
    }
    (void)plan;
}

static void layer_silently(const kit_case *spec) {
    const char *names[WALK_IMPLEMENTATIONS];
    const size_t count = walk_usable(spec, names);
    kit_problem *problem = kit_problem_make(spec, KIT_GUARD_BEHIND);
    for (size_t i = 0; i < count; i++) {
        attn_plan *plan = walk_plan(&problem->desc, names[i], 1);
        cr_assert(kit_problem_run(problem, plan, KIT_ALL_OUTPUTS) == ATTN_OK, "%s", attn_last_error_message());
        attn_layer_forward_args args = problem->args;
        args.workspace_size = attn_plan_workspace_size(plan);
        args.workspace = signalling(args.workspace_size, spec->dtype);
        feclearexcept(FE_ALL_EXCEPT);
        const attn_status status = attn_layer_forward(plan, &args);
        const int raised = fetestexcept(SPURIOUS);
        cr_assert(status == ATTN_OK, "%s", attn_last_error_message());
        expect_silence(spec->name, names[i], "forward", raised);
        kit_free(args.workspace);
        attn_plan_destroy(plan);
    }
    const size_t training = walk_usable_flags(spec, ATTN_LAYER_TRAINING, names);
    if (training > 0) {
        attn_layer_desc desc = problem->desc;
        desc.flags |= ATTN_LAYER_TRAINING;
        attn_plan *plan = walk_plan(&desc, names[0], 1);
        cr_assert(kit_problem_run(problem, plan, KIT_ALL_OUTPUTS) == ATTN_OK, "%s", attn_last_error_message());
        train_silently(problem, plan, names[0]);
        attn_plan_destroy(plan);
    }
    kit_problem_free(problem);
}

Test(flags, the_layer) {
    size_t count, tried = 0;
    const kit_case *cases = kit_cases(&count);
    for (size_t i = 0; i < count; i++) {
        const kit_case *spec = &cases[i];
        if (!(spec->flags & KIT_CHECK) || spec->batch * spec->timesteps * spec->features > 100000) continue;
        if (spec->dtype != ATTN_FLOAT32 && spec->dtype != ATTN_FLOAT64) continue;
        layer_silently(spec);
        tried++;
    }
    cr_assert(tried > 20, "%zu", tried);
}

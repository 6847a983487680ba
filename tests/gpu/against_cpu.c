/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/gpu/checks.h"
#include "tests/walk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OUTPUTS = 4, GRADIENTS = 7, PARTS = OUTPUTS + GRADIENTS, THREADS = 2 };

/* Results of a case, dense. */
typedef struct results {
    float *part[PARTS];
    size_t count[PARTS];
} results;

static void forget(results *r) {
    for (int i = 0; i < PARTS; i++) free(r->part[i]);
}

static void keep(results *r, int part, void *data, size_t bytes) {
    r->part[part] = data, r->count[part] = bytes / sizeof(float);
}

/* Of one pass with a plan for it; the plan goes. */
static bool run_forward(kit_problem *problem, attn_plan *plan, results *r) {
    const bool ok = plan && !kit_problem_run(problem, plan, KIT_ALL_OUTPUTS) && kit_problem_check(problem).error <= 1;
    attn_plan_destroy(plan);
    for (int i = 0; i < OUTPUTS && ok; i++) {
        size_t bytes;
        void *data = kit_problem_output(problem, 1u << i, &bytes);
        keep(r, i, data, bytes);
    }
    return ok;
}

static bool run_backward(kit_problem *problem, attn_plan *training, attn_plan *plan, results *r) {
    const bool ok = training && plan && !kit_problem_run(problem, training, KIT_CONTEXT) &&
                    !kit_problem_back(problem, plan, KIT_ALL_OUTPUTS, KIT_ALL_GRADIENTS, 0) &&
                    kit_problem_check_back(problem).error <= 1;
    attn_plan_destroy(training);
    attn_plan_destroy(plan);
    for (int i = 0; i < GRADIENTS && ok; i++) {
        size_t bytes;
        void *data = kit_problem_gradient(problem, 1u << i, &bytes);
        keep(r, OUTPUTS + i, data, bytes);
    }
    return ok;
}

static attn_layer_desc training_desc(const kit_problem *problem) {
    attn_layer_desc desc = problem->desc;
    desc.flags = ATTN_LAYER_TRAINING;
    return desc;
}

static bool run_on_cpu(kit_problem *problem, results *r) {
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    attn_context *context;
    attn_plan *forward = NULL, *training = NULL, *backward = NULL;
    options.threads = THREADS;
    const attn_layer_desc desc = training_desc(problem);
    if (attn_context_create(&options, &context)) return false;
    attn_layer_forward_plan(context, &problem->desc, &forward);
    attn_layer_forward_plan(context, &desc, &training);
    attn_layer_backward_plan(context, &desc, &backward);
    attn_context_destroy(context);
    const bool ok = run_forward(problem, forward, r);
    return run_backward(problem, training, backward, r) && ok;
}

/* The bounds of a part's elements, which repeat where items do. */
static const double *gates_of(kit_problem *problem, int part) {
    const double *const of_outputs[OUTPUTS] = {problem->gates.output, problem->gates.context,
                                               problem->gates.attention_weights, problem->gates.lse};
    return part < OUTPUTS ? of_outputs[part] : kit_problem_gradient_gates(problem, 1u << (part - OUTPUTS));
}

static bool is_near(kit_problem *problem, const results *a, const results *b, int part) {
    const reference_input in = kit_problem_input(problem);
    const size_t batch = (size_t)problem->spec.batch, count = a->count[part];
    const unsigned gradient = part < OUTPUTS ? 0 : 1u << (part - OUTPUTS);
    const bool of_items = gradient <= KIT_GRAD_QUERY && batch > 0;
    const size_t period = of_items ? count / batch * in.batch : count;
    const double *limits = gates_of(problem, part);
    bool near = count == b->count[part];
    for (size_t i = 0; near && i < count; i++)
        near = gates_error((long double)a->part[part][i], (long double)b->part[part][i], 2 * limits[i % period]) <= 1;
    return near;
}

static void compare(tally *t, kit_problem *problem, const results *a, const results *b, bool ran, const char *name,
                    int first, int last) {
    char label[192];
    snprintf(label, sizeof label, "%s, %s", problem->spec.name, name);
    bool near = ran;
    for (int part = first; part < last && near; part++) near = is_near(problem, a, b, part);
    tally_count(t, near, label, "further from the CPU's results than both bounds allow");
}

void check_against_cpu(tally *t, const kit_case *spec) {
    kit_problem *problem = kit_problem_make(spec, KIT_GUARD_BEHIND);
    const attn_layer_desc desc = training_desc(problem);
    const char *names[WALK_IMPLEMENTATIONS];
    results cpu = {{0}, {0}};
    tally_count(t, run_on_cpu(problem, &cpu), spec->name, "the CPU's results are wrong");
    size_t count = walk_usable(spec, names);
    for (size_t i = 0; i < count; i++) {
        results cuda = {{0}, {0}};
        const bool ran = run_forward(problem, walk_plan(&problem->desc, names[i], THREADS), &cuda);
        compare(t, problem, &cpu, &cuda, ran, names[i], 0, OUTPUTS);
        forget(&cuda);
    }
    count = walk_usable_backward(spec, names);
    for (size_t i = 0; i < count; i++) {
        results cuda = {{0}, {0}};
        attn_plan *training = walk_plan(&desc, NULL, THREADS), *backward = walk_plan(&desc, names[i], THREADS);
        const bool ran = run_backward(problem, training, backward, &cuda);
        compare(t, problem, &cpu, &cuda, ran, names[i], OUTPUTS, PARTS);
        forget(&cuda);
    }
    forget(&cpu);
    kit_problem_free(problem);
}

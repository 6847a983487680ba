/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/walk.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The ways to call one case. The costly cases take the first two alone. */
static const struct way {
    const char *name;
    kit_guard guard;
    unsigned outputs;
    bool prepared;
    int64_t larger; /* by how much the plan's sizes exceed the run's */
} ways[] = {
    {"all outputs", KIT_GUARD_BEHIND, KIT_ALL_OUTPUTS, false, 0},
    {"prepared weights", KIT_GUARD_FRONT, KIT_ALL_OUTPUTS, true, 0},
    {"the output alone", KIT_GUARD_FRONT, KIT_OUTPUT, false, 0},
    {"the context", KIT_GUARD_BEHIND, KIT_CONTEXT, false, 0},
    {"the weights", KIT_GUARD_BEHIND, KIT_WEIGHTS, false, 0},
    {"lse", KIT_GUARD_FRONT, KIT_LSE, false, 0},
    {"less than planned", KIT_GUARD_BEHIND, KIT_ALL_OUTPUTS, false, 3},
};
enum { WAYS = sizeof ways / sizeof *ways, WAYS_OF_LARGE = 2 };

static bool is_large(const kit_case *spec) { return spec->batch * spec->timesteps * spec->features > 1000000; }

static bool nothing_asked(const kit_case *spec, unsigned outputs) { return spec->units == 0 && outputs == KIT_OUTPUT; }

static attn_layer_desc enlarge(const attn_layer_desc *from, int64_t by) {
    attn_layer_desc desc = *from;
    desc.batch += by;
    desc.timesteps += by;
    if (desc.queries != ATTN_LAST_STEP) desc.queries += by;
    return desc;
}

static void report(walk_tally *tally, const kit_case *spec, const char *implementation, const char *way,
                   const char *what) {
    tally->failed++;
    fprintf(stderr, "FAIL %s %s, %s: %s\n", spec->name, implementation, way, what);
    const char *isa = getenv("ATTN_CPU_ISA");
    fprintf(stderr, "  reproduce: %s%s%sattention_cases --case %s --impl %s --threads %d\n", isa ? "ATTN_CPU_ISA=" : "",
            isa ? isa : "", isa ? " " : "", spec->name, implementation, tally->threads);
}

/* The same bytes in every output. */
static bool same_bits(const kit_problem *a, const kit_problem *b) {
    bool same = true;
    for (unsigned which = KIT_OUTPUT; which <= KIT_LSE; which <<= 1) {
        size_t size_a, size_b;
        void *x = kit_problem_output(a, which, &size_a), *y = kit_problem_output(b, which, &size_b);
        same = same && size_a == size_b && (!size_a || !memcmp(x, y, size_a));
        free(x);
        free(y);
    }
    return same;
}

/* One way to call one implementation; NULL or what went wrong. */
static const char *try_way(walk_tally *tally, const struct way *way, attn_context *context, kit_problem *problem,
                           const kit_problem *first, char *text, size_t room) {
    attn_plan *plan;
    const attn_layer_desc desc = enlarge(&problem->desc, way->larger);
    attn_status status = attn_layer_forward_plan(context, &desc, &plan);
    problem->args.batch = problem->desc.batch, problem->args.timesteps = problem->desc.timesteps;
    problem->args.queries = problem->desc.queries == ATTN_LAST_STEP ? 1 : problem->desc.queries;
    if (!status) status = (way->prepared ? kit_problem_run_prepared : kit_problem_run)(problem, plan, way->outputs);
    attn_plan_destroy(plan);
    if (status) {
        snprintf(text, room, "%s: %s", attn_status_string(status), attn_last_error_message());
        return text;
    }
    const kit_verdict verdict = kit_problem_check(problem);
    snprintf(text, room, "error/gate %.3g: %s", verdict.error, verdict.where);
    if (!(verdict.error <= 1)) return text;
    tally->worst = verdict.error > tally->worst ? verdict.error : tally->worst;
    return way->prepared && !same_bits(problem, first) ? "prepared weights give other bits" : NULL;
}

static void walk_implementation(walk_tally *tally, const kit_case *spec, const char *name,
                                kit_problem *const problems[2]) {
    attn_context *context = kit_context(tally->threads, name);
    char text[256];
    const size_t count = is_large(spec) ? WAYS_OF_LARGE : WAYS;
    const char *wrong = NULL;
    for (size_t i = 0; i < count && !wrong; i++) {
        if (nothing_asked(spec, ways[i].outputs)) continue;
        kit_problem *problem = problems[ways[i].guard];
        wrong = try_way(tally, &ways[i], context, problem, problems[KIT_GUARD_BEHIND], text, sizeof text);
        if (wrong) report(tally, spec, name, ways[i].name, wrong);
    }
    tally->passed += !wrong;
    attn_context_destroy(context);
}

static bool wanted(const walk_tally *tally, const char *name) {
    const size_t length = tally->implementation ? strlen(tally->implementation) : 0;
    return !length || (!strncmp(name, tally->implementation, length) && (!name[length] || name[length] == ':'));
}

size_t walk_usable(const kit_case *spec, const char **names) {
    const char *all[WALK_IMPLEMENTATIONS];
    attn_context *context = kit_context(1, NULL);
    const size_t count = kit_implementations(context, spec->score, spec->dtype, all, WALK_IMPLEMENTATIONS);
    kit_problem *problem = kit_problem_make(spec, KIT_GUARD_BEHIND);
    size_t usable = 0;
    for (size_t i = 0; i < count; i++) {
        attn_context *forced = kit_context(1, all[i]);
        attn_plan *plan;
        if (attn_layer_forward_plan(forced, &problem->desc, &plan) != ATTN_ERROR_UNSUPPORTED) names[usable++] = all[i];
        attn_plan_destroy(plan);
        attn_context_destroy(forced);
    }
    kit_problem_free(problem);
    attn_context_destroy(context);
    return usable;
}

void walk_case(walk_tally *tally, const kit_case *spec) {
    const char *names[WALK_IMPLEMENTATIONS];
    const size_t count = walk_usable(spec, names);
    kit_problem *const problems[2] = {[KIT_GUARD_BEHIND] = kit_problem_make(spec, KIT_GUARD_BEHIND),
                                      [KIT_GUARD_FRONT] = kit_problem_make(spec, KIT_GUARD_FRONT)};
    for (size_t i = 0; i < count; i++)
        if (wanted(tally, names[i])) walk_implementation(tally, spec, names[i], problems);
    if (!count && !tally->implementation) report(tally, spec, "none", "planning", "no implementation can run it");
    kit_problem_free(problems[0]);
    kit_problem_free(problems[1]);
}

attn_plan *walk_plan(const attn_layer_desc *desc, const char *name, int threads) {
    attn_context *context = kit_context(threads, name);
    attn_plan *plan;
    if (attn_layer_forward_plan(context, desc, &plan)) {
        fprintf(stderr, "no plan: %s\n", attn_last_error_message());
        abort();
    }
    attn_context_destroy(context); /* the plan keeps it */
    return plan;
}

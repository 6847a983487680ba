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

/* The ways to call the backward pass of one case, each after a forward pass of another implementation. Large cases take the first. */
static const struct way_back {
    const char *name;
    kit_guard guard;
    unsigned incoming, gradients;
    uint64_t flags, accumulate;
    int64_t larger;
} ways_back[] = {
    {"all gradients", KIT_GUARD_BEHIND, KIT_ALL_OUTPUTS, KIT_ALL_GRADIENTS, 0, 0, 0},
    {"accumulating", KIT_GUARD_FRONT, KIT_ALL_OUTPUTS, KIT_ALL_GRADIENTS, 0, 7, 0},
    {"computing again", KIT_GUARD_BEHIND, KIT_ALL_OUTPUTS, KIT_ALL_GRADIENTS, ATTN_LAYER_RECOMPUTE, 0, 0},
    {"less than planned", KIT_GUARD_FRONT, KIT_ALL_OUTPUTS, KIT_ALL_GRADIENTS, 0, 0, 3},
    {"from the output alone", KIT_GUARD_FRONT, KIT_OUTPUT, KIT_ALL_GRADIENTS, 0, 0, 0},
    {"from the context alone", KIT_GUARD_BEHIND, KIT_CONTEXT, KIT_ALL_GRADIENTS, 0, 0, 0},
    {"from the weights alone", KIT_GUARD_FRONT, KIT_WEIGHTS, KIT_ALL_GRADIENTS, 0, 0, 0},
    {"from lse alone", KIT_GUARD_BEHIND, KIT_LSE, KIT_ALL_GRADIENTS, 0, 0, 0},
    {"to H alone", KIT_GUARD_BEHIND, KIT_OUTPUT, KIT_GRAD_H, 0, 0, 0},
    {"to the query alone", KIT_GUARD_FRONT, KIT_OUTPUT, KIT_GRAD_QUERY, 0, 0, 0},
    {"to luong_w alone", KIT_GUARD_BEHIND, KIT_OUTPUT, KIT_GRAD_LUONG_W, 0, 0, 0},
    {"to bahdanau_w1 alone", KIT_GUARD_FRONT, KIT_OUTPUT, KIT_GRAD_W1, 0, 0, 0},
    {"to bahdanau_w2 alone", KIT_GUARD_BEHIND, KIT_OUTPUT, KIT_GRAD_W2, 0, 0, 0},
    {"to bahdanau_v alone", KIT_GUARD_FRONT, KIT_OUTPUT, KIT_GRAD_V, 0, 0, 0},
    {"to w_c alone", KIT_GUARD_BEHIND, KIT_OUTPUT, KIT_GRAD_W_C, 0, 0, 0},
};
enum { WAYS_BACK = sizeof ways_back / sizeof *ways_back };

static bool is_large(const kit_case *spec) {
    return spec->batch * spec->timesteps * spec->features > 1000000 || spec->timesteps > 50000;
}

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
    const bool stored = spec->h_dtype != ATTN_FLOAT32;
    fprintf(stderr, "  reproduce: %s%s%sattention_cases --case %s --impl %s --threads %d%s%s\n",
            isa ? "ATTN_CPU_ISA=" : "", isa ? isa : "", isa ? " " : "", spec->name, implementation, tally->threads,
            stored ? " --storage " : "", stored ? kit_dtype_name(spec->h_dtype) : "");
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
    /* Where nothing was, the ways differ in where their tensors lie, which some kernels of OpenBLAS tell by the bits. */
    const bool prepared = way->prepared && attn_plan_prepared_size(plan) > 0;
    attn_plan_destroy(plan);
    if (status) {
        snprintf(text, room, "%s: %s", attn_status_string(status), attn_last_error_message());
        return text;
    }
    const kit_verdict verdict = kit_problem_check(problem);
    snprintf(text, room, "error/gate %.3g: %s", verdict.error, verdict.where);
    if (!(verdict.error <= 1)) return text;
    tally->worst = verdict.error > tally->worst ? verdict.error : tally->worst;
    return prepared && !same_bits(problem, first) ? "prepared weights give other bits" : NULL;
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

typedef attn_status (*plan_function)(attn_context *, const attn_layer_desc *, attn_plan **);

static size_t usable(const kit_case *spec, const char *pass, plan_function plan_pass, uint64_t flags,
                     const char **names) {
    const char *all[WALK_IMPLEMENTATIONS];
    attn_context *context = kit_context(1, NULL);
    const size_t count = kit_implementations(context, pass, spec->score, spec->dtype, all, WALK_IMPLEMENTATIONS);
    kit_problem *problem = kit_problem_make(spec, KIT_GUARD_BEHIND);
    problem->desc.flags = flags;
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        attn_context *forced = kit_context(1, all[i]);
        attn_plan *plan;
        if (plan_pass(forced, &problem->desc, &plan) != ATTN_ERROR_UNSUPPORTED) names[found++] = all[i];
        attn_plan_destroy(plan);
        attn_context_destroy(forced);
    }
    kit_problem_free(problem);
    attn_context_destroy(context);
    return found;
}

size_t walk_usable(const kit_case *spec, const char **names) { return walk_usable_flags(spec, 0, names); }

size_t walk_usable_flags(const kit_case *spec, uint64_t flags, const char **names) {
    return usable(spec, "forward", attn_layer_forward_plan, flags, names);
}

size_t walk_usable_backward(const kit_case *spec, const char **names) {
    return usable(spec, "backward", attn_layer_backward_plan, 0, names);
}

static const char *describe_status(attn_status status, char *text, size_t room) {
    snprintf(text, room, "%s: %s", attn_status_string(status), attn_last_error_message());
    return text;
}

/* One way to call one implementation after a forward pass by another; NULL or what went wrong. */
static const char *try_way_back(walk_tally *tally, const struct way_back *way, const char *forward,
                                const char *backward, kit_problem *problem, char *text, size_t room) {
    attn_layer_desc desc = enlarge(&problem->desc, way->larger);
    desc.flags = ATTN_LAYER_TRAINING | way->flags;
    attn_plan *plan = walk_plan(&desc, forward, tally->threads);
    problem->args.batch = problem->desc.batch, problem->args.timesteps = problem->desc.timesteps;
    problem->args.queries = problem->desc.queries == ATTN_LAST_STEP ? 1 : problem->desc.queries;
    attn_status status = kit_problem_run(problem, plan, KIT_CONTEXT);
    attn_plan_destroy(plan);
    if (status) return describe_status(status, text, room);
    kit_verdict verdict = kit_problem_check(problem);
    if (verdict.error <= 1) {
        plan = walk_plan(&desc, backward, tally->threads);
        status = kit_problem_back(problem, plan, way->incoming, way->gradients, way->accumulate);
        attn_plan_destroy(plan);
        if (status) return describe_status(status, text, room);
        verdict = kit_problem_check_back(problem);
    }
    snprintf(text, room, "after %s: error/gate %.3g: %s", forward, verdict.error, verdict.where);
    if (!(verdict.error <= 1)) return text;
    tally->worst = verdict.error > tally->worst ? verdict.error : tally->worst;
    return NULL;
}

/* Whether the way is one for this case: a gradient to give, and one to take. */
static bool has_way_back(const kit_case *spec, const struct way_back *way) {
    const bool additive = spec->score == ATTN_SCORE_BAHDANAU;
    unsigned incoming = KIT_CONTEXT | KIT_LSE, gradients = 0;
    if (spec->units) incoming |= KIT_OUTPUT, gradients |= KIT_GRAD_W_C;
    if (spec->timesteps) incoming |= KIT_WEIGHTS, gradients |= KIT_GRAD_H;
    if (spec->queries != ATTN_LAST_STEP) gradients |= KIT_GRAD_QUERY;
    if (spec->score == ATTN_SCORE_LUONG) gradients |= KIT_GRAD_LUONG_W;
    if (additive) gradients |= KIT_GRAD_W1 | KIT_GRAD_W2 | KIT_GRAD_V;
    return way->incoming & incoming && way->gradients & gradients && (additive || !way->flags);
}

static void walk_backward(walk_tally *tally, const kit_case *spec, kit_problem *const problems[2]) {
    const char *names[WALK_IMPLEMENTATIONS], *forwards[WALK_IMPLEMENTATIONS];
    const size_t count = walk_usable_backward(spec, names),
                 forward_count = walk_usable_flags(spec, ATTN_LAYER_TRAINING, forwards);
    if (!count != !forward_count) report(tally, spec, "none", "planning", "one pass without the other");
    for (size_t i = 0; i < count && forward_count; i++) {
        char text[320];
        const char *wrong = NULL;
        if (!wanted(tally, names[i])) continue;
        for (size_t w = 0; w < (is_large(spec) ? 1 : WAYS_BACK) && !wrong; w++) {
            const struct way_back *way = &ways_back[w];
            if (!has_way_back(spec, way)) continue;
            wrong = try_way_back(tally, way, forwards[(i + w) % forward_count], names[i], problems[way->guard], text,
                                 sizeof text);
            if (wrong) report(tally, spec, names[i], way->name, wrong);
        }
        tally->passed += !wrong;
    }
}

void walk_case(walk_tally *tally, const kit_case *spec) {
    const char *names[WALK_IMPLEMENTATIONS];
    const size_t count = walk_usable(spec, names);
    kit_problem *const problems[2] = {[KIT_GUARD_BEHIND] = kit_problem_make(spec, KIT_GUARD_BEHIND),
                                      [KIT_GUARD_FRONT] = kit_problem_make(spec, KIT_GUARD_FRONT)};
    problems[KIT_GUARD_FRONT]->like = problems[KIT_GUARD_BEHIND];
    for (size_t i = 0; i < count; i++)
        if (wanted(tally, names[i])) walk_implementation(tally, spec, names[i], problems);
    if (!count && !tally->implementation) report(tally, spec, "none", "planning", "no implementation can run it");
    walk_backward(tally, spec, problems);
    kit_problem_free(problems[0]);
    kit_problem_free(problems[1]);
}

attn_plan *walk_plan(const attn_layer_desc *desc, const char *name, int threads) {
    attn_context *context = kit_context(threads, name);
    attn_plan *plan;
    const plan_function plan_pass =
        name && strstr(name, ":backward:") ? attn_layer_backward_plan : attn_layer_forward_plan;
    if (plan_pass(context, desc, &plan)) {
        fprintf(stderr, "no plan: %s\n", attn_last_error_message());
        abort();
    }
    attn_context_destroy(context); /* the plan keeps it */
    return plan;
}

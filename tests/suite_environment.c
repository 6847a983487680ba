/* SPDX-License-Identifier: Apache-2.0 */
/* Hosts whose floating-point state is not the usual one: rounding modes, traps, flags, subnormals; the state of threads. */
#include "tests/sdpa_kit.h"
#include "tests/suite.h"

#include <fenv.h>
#include <math.h>
#include <pthread.h>

enum { IMPLEMENTATIONS = 16 };

static const int directed[] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
enum { DIRECTED = sizeof directed / sizeof *directed };

static int wanted_mode = FE_TONEAREST; /* of the caller, inside its parallel-for */

/* ---- Rounding modes ----------------------------------------------------------------------------------- */

/* Runs under every mode: rules and bounds as under the usual one, and its bits. */
static void run_directed(sdpa_problem *problem, const attn_plan *plan) {
    size_t size, usual_size;
    cr_assert(sdpa_problem_run(problem, plan) == ATTN_OK, "%s", attn_last_error_message());
    void *usual = sdpa_problem_bits(problem, &usual_size);
    for (size_t i = 0; i < DIRECTED; i++) {
        fesetround(directed[i]);
        const attn_status status = sdpa_problem_run(problem, plan);
        const int after = fegetround();
        fesetround(FE_TONEAREST);
        cr_assert(status == ATTN_OK && after == directed[i]);
        const kit_verdict verdict = sdpa_problem_check(problem);
        cr_assert(verdict.error <= 1, "%s: %s, mode %x: error/gate %g: %s", problem->spec.name,
                  attn_plan_implementation(plan), (unsigned)directed[i], verdict.error, verdict.where);
        void *got = sdpa_problem_bits(problem, &size);
        cr_assert(size == usual_size && !memcmp(got, usual, size), "%s: %s: other bits", problem->spec.name,
                  attn_plan_implementation(plan));
        free(got);
    }
    free(usual);
}

static void on_each_sdpa(const sdpa_case *spec, int threads, void (*test)(sdpa_problem *, const attn_plan *)) {
    attn_context *any = kit_context(1, NULL);
    const char *names[IMPLEMENTATIONS];
    const size_t count = sdpa_implementations(any, spec->dtype, names, IMPLEMENTATIONS);
    sdpa_problem *problem = sdpa_problem_make(spec, KIT_GUARD_BEHIND);
    size_t tested = 0;
    for (size_t i = 0; i < count; i++) {
        attn_context *context = kit_context(threads, names[i]);
        attn_plan *plan;
        const attn_status status = attn_sdpa_forward_plan(context, &problem->desc, &plan);
        attn_context_destroy(context);
        if (status) continue;
        test(problem, plan);
        attn_plan_destroy(plan);
        tested++;
    }
    cr_assert(tested > 0 || count == 0);
    sdpa_problem_free(problem);
    attn_context_destroy(any);
}

Test(environment, attention_under_every_rounding_mode) {
    size_t count;
    const sdpa_case *cases = sdpa_cases(&count);
    for (size_t i = 0; i < count; i++)
        if (cases[i].dtype == ATTN_FLOAT32 || cases[i].dtype == ATTN_FLOAT64) on_each_sdpa(&cases[i], 2, run_directed);
}

static bool is_small(const kit_case *spec) { return spec->batch * spec->timesteps * spec->features <= 100000; }

/* Forward and backward of the layer. */
static void layer_directed(const kit_case *spec) {
    const char *names[WALK_IMPLEMENTATIONS];
    size_t count = walk_usable(spec, names);
    kit_problem *problem = kit_problem_make(spec, KIT_GUARD_BEHIND);
    for (size_t i = 0; i < count; i++) {
        attn_plan *plan = walk_plan(&problem->desc, names[i], 2);
        for (size_t m = 0; m < DIRECTED; m++) {
            fesetround(directed[m]);
            const attn_status status = kit_problem_run_prepared(problem, plan, KIT_ALL_OUTPUTS);
            const int after = fegetround();
            fesetround(FE_TONEAREST);
            cr_assert(status == ATTN_OK && after == directed[m], "%s", attn_last_error_message());
            const kit_verdict verdict = kit_problem_check(problem);
            cr_assert(verdict.error <= 1, "%s: %s, mode %x: error/gate %g: %s", spec->name, names[i],
                      (unsigned)directed[m], verdict.error, verdict.where);
        }
        attn_plan_destroy(plan);
    }
    kit_problem_free(problem);
}

Test(environment, the_layer_under_every_rounding_mode) {
    size_t count, tried = 0;
    const kit_case *cases = kit_cases(&count);
    for (size_t i = 0; i < count; i++)
        if ((cases[i].flags & KIT_CHECK) && is_small(&cases[i]) &&
            (cases[i].dtype == ATTN_FLOAT32 || cases[i].dtype == ATTN_FLOAT64)) {
            layer_directed(&cases[i]);
            tried++;
        }
    cr_assert(tried > 20, "%zu", tried);
}

/* ---- Threads ------------------------------------------------------------------------------------------- */

/* Enough work to be shared. */
static sdpa_problem *shared_problem(void) {
    sdpa_case spec = *sdpa_find_case("everything_f32");
    spec.batch *= 8;
    return sdpa_problem_make(&spec, KIT_GUARD_BEHIND);
}

/* Workers inherit the state of the thread that makes the context; a run is in its caller's. */
static void workers_follow(sdpa_problem *problem, const attn_plan *plan) {
    size_t size, usual_size;
    cr_assert(sdpa_problem_run(problem, plan) == ATTN_OK);
    void *usual = sdpa_problem_bits(problem, &usual_size);
    for (size_t i = 0; i < DIRECTED; i++) {
        fesetround(directed[i]);
        attn_context *context = kit_context(4, attn_plan_implementation(plan));
        fesetround(FE_TONEAREST);
        attn_plan *theirs;
        cr_assert(attn_sdpa_forward_plan(context, &problem->desc, &theirs) == ATTN_OK);
        for (int run = 0; run < 8; run++) {
            cr_assert(sdpa_problem_run(problem, theirs) == ATTN_OK);
            void *got = sdpa_problem_bits(problem, &size);
            cr_assert(size == usual_size && !memcmp(got, usual, size), "%s, mode %x: other bits",
                      attn_plan_implementation(plan), (unsigned)directed[i]);
            free(got);
        }
        attn_plan_destroy(theirs);
        attn_context_destroy(context);
    }
    free(usual);
}

Test(environment, workers_have_the_callers_state) {
    sdpa_case spec = *sdpa_find_case("everything_f32");
    spec.batch *= 8;
    on_each_sdpa(&spec, 1, workers_follow);
}

/* A host's own threads, whose state is theirs before and after each task, and the caller's while it shares out. */
typedef struct host_task {
    void (*task)(void *, size_t);
    void *argument;
    size_t index;
    bool kept;
} host_task;

static void *run_host_task(void *argument) {
    host_task *mine = argument;
    fesetround(FE_DOWNWARD);
    mine->task(mine->argument, mine->index);
    mine->kept = fegetround() == FE_DOWNWARD;
    return NULL;
}

static void share_out(void *user, size_t count, void (*task)(void *argument, size_t index), void *argument) {
    size_t *kept = user;
    for (size_t i = 0; i < count; i++) {
        host_task one = {task, argument, i, false};
        pthread_t thread;
        cr_assert(fegetround() == wanted_mode, "the caller's state inside its parallel-for");
        cr_assert(pthread_create(&thread, NULL, run_host_task, &one) == 0 && pthread_join(thread, NULL) == 0);
        *kept += one.kept;
    }
}

Test(environment, a_hosts_threads_keep_their_state) {
    sdpa_problem *problem = shared_problem();
    size_t kept = 0, size, usual_size;
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.threads = 4;
    attn_context *contexts[2];
    cr_assert(attn_context_create(&options, &contexts[0]) == ATTN_OK);
    options.parallel_for = share_out, options.parallel_for_user = &kept;
    cr_assert(attn_context_create(&options, &contexts[1]) == ATTN_OK);
    attn_plan *usual, *plan;
    cr_assert(attn_sdpa_forward_plan(contexts[0], &problem->desc, &usual) == ATTN_OK);
    cr_assert(attn_sdpa_forward_plan(contexts[1], &problem->desc, &plan) == ATTN_OK);
    cr_assert(sdpa_problem_run(problem, usual) == ATTN_OK);
    void *expected = sdpa_problem_bits(problem, &usual_size);
    for (size_t i = 0; i < DIRECTED; i++) {
        kept = 0;
        fesetround(wanted_mode = directed[i]);
        cr_assert(sdpa_problem_run(problem, plan) == ATTN_OK);
        cr_assert(fegetround() == directed[i]);
        fesetround(FE_TONEAREST);
        cr_assert(kept > 1, "%zu", kept);
        void *got = sdpa_problem_bits(problem, &size);
        cr_assert(size == usual_size && !memcmp(got, expected, size));
        free(got);
    }
    free(expected);
    attn_plan_destroy(plan);
    attn_plan_destroy(usual);
    attn_context_destroy(contexts[1]);
    attn_context_destroy(contexts[0]);
    sdpa_problem_free(problem);
}

/* ---- Flags and traps ----------------------------------------------------------------------------------- */

static void raises_nothing(sdpa_problem *problem, const attn_plan *plan) {
    feclearexcept(FE_ALL_EXCEPT);
    const attn_status status = sdpa_problem_run(problem, plan);
    const int raised = fetestexcept(FE_ALL_EXCEPT & ~FE_INEXACT);
    cr_assert(status == ATTN_OK && !raised, "%s: %s raises %x", problem->spec.name, attn_plan_implementation(plan),
              (unsigned)raised);
    feraiseexcept(FE_DIVBYZERO);
    cr_assert(sdpa_problem_run(problem, plan) == ATTN_OK && fetestexcept(FE_DIVBYZERO), "a flag of the host's is gone");
    feclearexcept(FE_ALL_EXCEPT);
}

Test(environment, a_run_leaves_the_hosts_flags) {
    size_t count;
    const sdpa_case *cases = sdpa_cases(&count);
    for (size_t i = 0; i < count; i++)
        if (cases[i].dtype == ATTN_FLOAT32 || cases[i].dtype == ATTN_FLOAT64)
            on_each_sdpa(&cases[i], 2, raises_nothing);
}

#if defined(__x86_64__) && defined(__GLIBC__)
static void runs_with_traps(sdpa_problem *problem, const attn_plan *plan) {
    const int traps = FE_INVALID | FE_DIVBYZERO | FE_OVERFLOW | FE_UNDERFLOW;
    feclearexcept(FE_ALL_EXCEPT);
    feenableexcept(traps);
    const attn_status status = sdpa_problem_run(problem, plan);
    const int enabled = fegetexcept();
    fedisableexcept(FE_ALL_EXCEPT);
    cr_assert(status == ATTN_OK && enabled == traps);
}

/* Nor do the workers, whatever they inherited. */
Test(environment, nothing_traps) {
    size_t count;
    const sdpa_case *cases = sdpa_cases(&count);
    for (size_t i = 0; i < count; i++)
        if (cases[i].dtype == ATTN_FLOAT32 || cases[i].dtype == ATTN_FLOAT64)
            on_each_sdpa(&cases[i], 2, runs_with_traps);
}
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Lives beside others in one process: objects freed in any order, plans shared by threads, forks, several contexts, and
 * nothing of the host's state changed. */
#include "tests/suite.h"

#include <dlfcn.h>
#include <fenv.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

static kit_problem *make_problem(void) { return kit_problem_make(find_case("luong_range_d100_f32"), KIT_GUARD_BEHIND); }

/* ---- Lifetimes ------------------------------------------------------------------------------------------------------ */

Test(process, plans_outlive_their_context) {
    kit_problem *problem = make_problem();
    attn_context *context = kit_context(3, NULL);
    attn_plan *plans[3];
    for (int i = 0; i < 3; i++) cr_assert(attn_layer_forward_plan(context, &problem->desc, &plans[i]) == ATTN_OK);
    attn_plan_destroy(plans[1]);
    attn_context_destroy(context);
    expect_healthy(problem, plans[0], "after the context");
    attn_plan_destroy(plans[0]);
    expect_healthy(problem, plans[2], "after the context and its other plans");
    attn_plan_destroy(plans[2]);
    kit_problem_free(problem);
}

Test(process, contexts_come_and_go) {
    kit_problem *problem = make_problem();
    for (int i = 0; i < 50; i++) {
        attn_plan *plan = walk_plan(&problem->desc, NULL, 1 + i % 4);
        expect_healthy(problem, plan, "one of many contexts");
        attn_plan_destroy(plan);
    }
    kit_problem_free(problem);
}

Test(process, two_contexts_side_by_side) {
    const kit_case *spec = find_case("bahdanau_range_d100_f32");
    kit_problem *a = make_problem(), *b = kit_problem_make(spec, KIT_GUARD_FRONT);
    attn_plan *scalar = walk_plan(&a->desc, "cpu:scalar", 2), *other = walk_plan(&b->desc, NULL, 3);
    for (int i = 0; i < 3; i++) {
        expect_healthy(a, scalar, "first context");
        expect_healthy(b, other, "second context");
    }
    cr_assert(!strncmp(attn_plan_implementation(scalar), "cpu:scalar", 10));
    attn_plan_destroy(scalar);
    expect_healthy(b, other, "second context alone");
    attn_plan_destroy(other);
    kit_problem_free(a);
    kit_problem_free(b);
}

/* ---- Threads ---------------------------------------------------------------------------------------------------------- */

enum { RUNNERS = 6, ROUNDS = 8 };

typedef struct runner {
    const attn_plan *plan;
    const kit_case *spec;
    const bits *expected;
    char wrong[200];
} runner;

static void *run_many(void *argument) {
    runner *r = argument;
    kit_problem *problem = kit_problem_make(r->spec, KIT_GUARD_BEHIND);
    for (int i = 0; i < ROUNDS && !*r->wrong; i++) {
        if (kit_problem_run(problem, r->plan, KIT_ALL_OUTPUTS) != ATTN_OK) {
            snprintf(r->wrong, sizeof r->wrong, "%s", attn_last_error_message());
            break;
        }
        size_t size, at = 0;
        for (unsigned which = KIT_OUTPUT; which <= KIT_LSE; which <<= 1) {
            char *output = kit_problem_output(problem, which, &size);
            if (memcmp(output, r->expected->data + at, size))
                snprintf(r->wrong, sizeof r->wrong, "other bits in run %d", i);
            at += size;
            free(output);
        }
    }
    kit_problem_free(problem);
    return NULL;
}

/* All of them on one plan at once: runs that find the pool busy go on in their own thread, with the same bits. */
Test(process, one_plan_from_many_threads) {
    static const char *const cases[] = {"luong_range_d100_f32", "bahdanau_range_d100_f32", "dot_queries_d100_f32",
                                        "luong_t500_f64"};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const kit_case *spec = find_case(cases[c]);
        const char *names[WALK_IMPLEMENTATIONS];
        const size_t count = walk_usable(spec, names);
        for (size_t n = 0; n < count; n++) {
            kit_problem *problem = kit_problem_make(spec, KIT_GUARD_BEHIND);
            attn_plan *plan = walk_plan(&problem->desc, names[n], 2);
            bits expected = run_bits(problem, plan);
            runner runners[RUNNERS];
            pthread_t threads[RUNNERS];
            for (int i = 0; i < RUNNERS; i++) {
                runners[i] = (runner){.plan = plan, .spec = spec, .expected = &expected};
                pthread_create(&threads[i], NULL, run_many, &runners[i]);
            }
            for (int i = 0; i < RUNNERS; i++) pthread_join(threads[i], NULL);
            for (int i = 0; i < RUNNERS; i++)
                cr_assert(!*runners[i].wrong, "%s %s: thread %d: %s", cases[c], names[n], i, runners[i].wrong);
            bits_free(&expected);
            attn_plan_destroy(plan);
            kit_problem_free(problem);
        }
    }
}

static void *fail_on_thread(void *seen) {
    attn_context *context;
    const attn_context_options options = {.struct_size = 1};
    strcpy(seen, attn_last_error_message());
    attn_context_create(&options, &context);
    return NULL;
}

Test(process, messages_belong_to_their_thread) {
    attn_context_create(NULL, NULL);
    char here[256], there[256] = "unset";
    snprintf(here, sizeof here, "%s", attn_last_error_message());
    pthread_t thread;
    pthread_create(&thread, NULL, fail_on_thread, there);
    pthread_join(thread, NULL);
    cr_assert(*here && !strcmp(here, attn_last_error_message()), "another thread's failure changed this one's message");
    cr_assert(!*there, "a thread without failures has the message \"%s\"", there);
}

/* ---- Forks -------------------------------------------------------------------------------------------------------------- */

/* What the child's function returns is its exit status; a child that hangs ends by the alarm. */
static void in_child(int (*body)(void *), void *argument, const char *what) {
    const pid_t child = fork();
    if (child == 0) {
        alarm(120);
        _exit(body(argument));
    }
    int status = -1;
    cr_assert(child > 0 && waitpid(child, &status, 0) == child, "%s: no child", what);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s: the child ended with status 0x%x", what, status);
}

typedef struct inherited {
    attn_context *context;
    attn_plan *plan;
    kit_problem *problem;
    bits expected;
} inherited;

static bool same_in_child(inherited *in, const attn_plan *plan) {
    if (kit_problem_run(in->problem, plan, KIT_ALL_OUTPUTS) != ATTN_OK) return false;
    size_t size, at = 0;
    bool same = true;
    for (unsigned which = KIT_OUTPUT; which <= KIT_LSE; which <<= 1) {
        char *output = kit_problem_output(in->problem, which, &size);
        same = same && !memcmp(output, in->expected.data + at, size);
        at += size;
        free(output);
    }
    return same;
}

static int use_inherited(void *argument) {
    inherited *in = argument;
    if (!same_in_child(in, in->plan)) return 1;
    attn_plan *plan;
    if (attn_layer_forward_plan(in->context, &in->problem->desc, &plan) || !same_in_child(in, plan)) return 2;
    attn_plan_destroy(plan);
    attn_plan_destroy(in->plan);
    attn_context_destroy(in->context);
    return 0;
}

#ifndef __SANITIZE_THREAD__
static int make_own(void *argument) {
    inherited *in = argument;
    attn_plan *plan = walk_plan(&in->problem->desc, NULL, 3);
    const bool same = same_in_child(in, plan);
    attn_plan_destroy(plan);
    return same ? 0 : 1;
}
#endif

Test(process, forks) {
    inherited in = {.problem = make_problem()};
    in.context = kit_context(3, NULL);
    cr_assert(attn_layer_forward_plan(in.context, &in.problem->desc, &in.plan) == ATTN_OK);
    in.expected = run_bits(in.problem, in.plan);
    in_child(use_inherited, &in, "a context made before the fork");
#ifndef __SANITIZE_THREAD__ /* whose run time can't start threads after a fork */
    in_child(make_own, &in, "a context made in the child");
#endif
    bits after = run_bits(in.problem, in.plan);
    cr_assert(bits_equal(&in.expected, &after), "the parent after its forks");
    bits_free(&after);
    bits_free(&in.expected);
    attn_plan_destroy(in.plan);
    attn_context_destroy(in.context);
    kit_problem_free(in.problem);
}

static void *keep_running(void *argument) {
    inherited *in = argument;
    kit_problem *problem = make_problem();
    for (int i = 0; i < 200; i++) kit_problem_run(problem, in->plan, KIT_ALL_OUTPUTS);
    kit_problem_free(problem);
    return NULL;
}

/* The fork catches another thread in the middle of runs: the child's copy of the pool must not wait for what it never will see. */
Test(process, fork_during_a_run) {
    inherited in = {.problem = make_problem()};
    in.context = kit_context(3, NULL);
    cr_assert(attn_layer_forward_plan(in.context, &in.problem->desc, &in.plan) == ATTN_OK);
    in.expected = run_bits(in.problem, in.plan);
    pthread_t thread;
    pthread_create(&thread, NULL, keep_running, &in);
    for (int i = 0; i < 5; i++) in_child(use_inherited, &in, "a fork during a run");
    pthread_join(thread, NULL);
    bits_free(&in.expected);
    attn_plan_destroy(in.plan);
    attn_context_destroy(in.context);
    kit_problem_free(in.problem);
}

/* ---- The host's state ------------------------------------------------------------------------------------------------------ */

typedef struct host_state {
    unsigned control;
    int rounding;
    fenv_t environment;
    char locale[64], directory[256];
    sigset_t signals;
    struct sigaction actions[32];
    int blas_threads;
} host_state;

/* The threads of an OpenBLAS that the host shares with the library; -1 without one. */
static int blas_threads(void) {
    void *library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    int (*get)(void) = NULL;
    void *symbol = library ? dlsym(library, "openblas_get_num_threads") : NULL;
    memcpy(&get, &symbol, sizeof get);
    return get ? get() : -1;
}

static host_state take_state(void) {
    host_state state;
    memset(&state, 0, sizeof state);
#if defined(__x86_64__)
    state.control = _mm_getcsr() & ~0x3fu; /* but for the flags that arithmetic raises */
#endif
    state.rounding = fegetround();
    snprintf(state.locale, sizeof state.locale, "%s", setlocale(LC_ALL, NULL));
    cr_assert(getcwd(state.directory, sizeof state.directory));
    pthread_sigmask(SIG_SETMASK, NULL, &state.signals);
    for (int i = 1; i < 32; i++) sigaction(i, NULL, &state.actions[i]);
    state.blas_threads = blas_threads();
    return state;
}

static bool same_handlers(const host_state *a, const host_state *b) {
    for (int i = 1; i < 32; i++)
        if (a->actions[i].sa_handler != b->actions[i].sa_handler || a->actions[i].sa_flags != b->actions[i].sa_flags)
            return false;
    return true;
}

static void run_everything(void) {
    static const char *const cases[] = {"luong_range_d100_f32", "bahdanau_range_d100_f32", "dot_d100_f64"};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const kit_case *spec = find_case(cases[c]);
        const char *names[WALK_IMPLEMENTATIONS];
        const size_t count = walk_usable(spec, names);
        for (size_t n = 0; n < count; n++) {
            kit_problem *problem = kit_problem_make(spec, KIT_GUARD_BEHIND);
            attn_plan *plan = walk_plan(&problem->desc, names[n], 2);
            cr_assert(kit_problem_run(problem, plan, KIT_ALL_OUTPUTS) == ATTN_OK);
            attn_plan_destroy(plan);
            kit_problem_free(problem);
        }
    }
}

Test(process, host_state_is_left_alone) {
    const host_state before = take_state();
    run_everything();
    const host_state after = take_state();
    cr_assert(before.control == after.control && before.rounding == after.rounding, "the floating-point state changed");
    cr_assert(!strcmp(before.locale, after.locale) && !strcmp(before.directory, after.directory),
              "locale or directory changed");
    cr_assert(!memcmp(&before.signals, &after.signals, sizeof before.signals) && same_handlers(&before, &after),
              "signals changed");
    cr_assert(before.blas_threads == after.blas_threads, "OpenBLAS had %d threads, has %d", before.blas_threads,
              after.blas_threads);
}

/* A host that flushes subnormals and rounds its numbers with a comma gets its results, and keeps its settings. */
Test(process, unusual_host) {
#if defined(__x86_64__)
    _mm_setcsr(_mm_getcsr() | 0x8040);
#endif
    const host_state before = take_state();
    kit_problem *problem = make_problem();
    attn_plan *plan = walk_plan(&problem->desc, NULL, 2);
    expect_healthy(problem, plan, "with subnormals flushed");
    attn_plan_destroy(plan);
    kit_problem_free(problem);
    cr_assert(before.control == take_state().control, "the host's floating-point state changed");
}

#ifndef __SANITIZE_THREAD__ /* which has a thread of its own, with no signal blocked */
static void on_signal(int signal) { (void)signal; }

/* Signals for the process go to the host's threads: the library's have them blocked. */
Test(process, workers_take_no_signals) {
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &action, NULL);
    attn_context *context = kit_context(4, NULL);
    sigset_t usr1, pending;
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &usr1, NULL);
    kill(getpid(), SIGUSR1);
    sigpending(&pending);
    cr_assert(sigismember(&pending, SIGUSR1), "a worker took the signal");
    attn_context_destroy(context);
}
#endif

/* ---- What a context tells ----------------------------------------------------------------------------------------------------- */

static void keep_line(void *user, const char *message) { snprintf(user, 256, "%s", message); }

Test(process, log_names_the_choice) {
    char line[256] = "";
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.log = keep_line, options.log_user = line;
    attn_context *context;
    attn_plan *plan;
    cr_assert(attn_context_create(&options, &context) == ATTN_OK);
    kit_problem *problem = make_problem();
    cr_assert(attn_layer_forward_plan(context, &problem->desc, &plan) == ATTN_OK);
    cr_assert(strstr(line, attn_plan_implementation(plan)) && !strchr(line, '\n'), "the log says \"%s\"", line);
    cr_assert(attn_context_threads(context) >= 1 && *attn_context_isa(context) && *attn_context_blas(context));
    attn_plan_destroy(plan);
    attn_context_destroy(context);
    kit_problem_free(problem);
}

Test(process, version) {
    int major, minor, patch;
    cr_assert(sscanf(attn_version(), "%d.%d.%d", &major, &minor, &patch) == 3);
    cr_assert(major == ATTN_VERSION_MAJOR && minor == ATTN_VERSION_MINOR && patch == ATTN_VERSION_PATCH, "%s",
              attn_version());
}

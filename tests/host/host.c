/* SPDX-License-Identifier: Apache-2.0 */
/* A host of the library under one condition, which its first argument names. Says nothing and ends with 0 when the library did
 * as promised, else says what was wrong. A line that begins with "skipped: " tells what can't be tried on this machine. */
#include "attention/attention.h"

#include <dirent.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static _Noreturn void fail(const char *what, const char *found) {
    printf("%s: %s\n", what, found);
    exit(1);
}

static void demand(bool kept, const char *what) {
    if (!kept) fail(what, attn_last_error_message());
}

/* ---- A problem that the composition on OpenBLAS computes as well ---------------------------------- */

enum { BATCH = 8, STEPS = 512, FEATURES = 32, QUERIES = 4, WIDTH = BATCH * QUERIES * FEATURES };

static float h[BATCH * STEPS * FEATURES], query[WIDTH], matrix[FEATURES * FEATURES], result[WIDTH];

static void fill(float *to, size_t count, unsigned state) {
    for (size_t i = 0; i < count; i++) to[i] = (float)((state = state * 1664525u + 1013904223u) >> 8) / 16777216 - 0.5f;
}

static attn_layer_desc describe(attn_score score) {
    attn_layer_desc desc = ATTN_LAYER_DESC_INIT;
    desc.score = score;
    desc.dtype = ATTN_FLOAT32;
    desc.batch = BATCH;
    desc.timesteps = STEPS;
    desc.features = FEATURES;
    desc.queries = QUERIES;
    desc.query_features = FEATURES;
    return desc;
}

static attn_context *make_context(int threads, const char *implementation) {
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.threads = threads;
    options.implementation = implementation;
    attn_context *context = NULL;
    demand(attn_context_create(&options, &context) == ATTN_OK, "context");
    return context;
}

static attn_plan *make_plan(attn_context *context) {
    const attn_layer_desc desc = describe(ATTN_SCORE_LUONG);
    attn_plan *plan = NULL;
    demand(attn_layer_forward_plan(context, &desc, &plan) == ATTN_OK, "plan");
    return plan;
}

static void run(const attn_plan *plan) {
    const size_t size = attn_plan_workspace_size(plan);
    void *workspace = aligned_alloc(ATTN_WORKSPACE_ALIGNMENT, size + ATTN_WORKSPACE_ALIGNMENT);
    demand(workspace != NULL, "memory");
    attn_layer_forward_args args = ATTN_LAYER_FORWARD_ARGS_INIT;
    args.h = h;
    args.query = query;
    args.weights.luong_w = matrix;
    args.context = result;
    args.workspace = workspace;
    args.workspace_size = size;
    demand(attn_layer_forward(plan, &args) == ATTN_OK, "run");
    free(workspace);
}

/* By the definition, in double. */
static void expect_right(void) {
    for (size_t i = 0; i < BATCH * QUERIES; i++) {
        const float *items = h + i / QUERIES * STEPS * FEATURES, *x = query + i * FEATURES;
        double context[FEATURES] = {0}, sum = 0;
        for (size_t s = 0; s < STEPS; s++) {
            double score = 0;
            for (size_t d = 0; d < FEATURES; d++)
                for (size_t e = 0; e < FEATURES; e++)
                    score += (double)items[s * FEATURES + d] * (double)matrix[d * FEATURES + e] * (double)x[e];
            const double weight = __builtin_exp(score);
            sum += weight;
            for (size_t d = 0; d < FEATURES; d++) context[d] += weight * (double)items[s * FEATURES + d];
        }
        for (size_t d = 0; d < FEATURES; d++) {
            const double error = context[d] / sum - (double)result[i * FEATURES + d];
            demand(error < 1e-5 && error > -1e-5, "a wrong result");
        }
    }
}

static void use(const char *implementation, int threads) {
    attn_context *context = make_context(threads, implementation);
    attn_plan *plan = make_plan(context);
    run(plan);
    expect_right();
    attn_plan_destroy(plan);
    attn_context_destroy(context);
}

/* ---- What the process has -------------------------------------------------------------------------- */

static int look(struct dl_phdr_info *object, size_t size, void *user) {
    (void)size;
    *(int *)user += object->dlpi_name && strstr(object->dlpi_name, "openblas") != NULL;
    return 0;
}

static int loaded(void) {
    int count = 0;
    dl_iterate_phdr(look, &count);
    return count;
}

static int threads_of_process(void) {
    DIR *folder = opendir("/proc/self/task");
    demand(folder != NULL, "/proc/self/task");
    int count = 0;
    for (struct dirent *entry; (entry = readdir(folder));) count += entry->d_name[0] != '.';
    closedir(folder);
    return count;
}

static bool has_openblas(void) {
    attn_context *context = make_context(1, NULL);
    const bool has = !strstr(attn_context_blas(context), "no OpenBLAS");
    if (!has) printf("skipped: %s\n", attn_context_blas(context));
    attn_context_destroy(context);
    return has;
}

/* A build without OpenBLAS has that reason for all else. */
static bool says(const char *text, const char *reason) {
    return strstr(text, reason) || strstr(text, "this library was built without it");
}

/* A plan forced to OpenBLAS is refused, with this in the reason. */
static void expect_refused(const char *reason) {
    attn_context *context = make_context(1, "cpu:openblas");
    const attn_layer_desc desc = describe(ATTN_SCORE_LUONG);
    attn_plan *plan;
    demand(attn_layer_forward_plan(context, &desc, &plan) == ATTN_ERROR_UNSUPPORTED, "a plan on OpenBLAS");
    if (!strstr(attn_last_error_message(), reason)) fail(reason, attn_last_error_message());
    if (!strstr(attn_context_blas(context), reason)) fail(reason, attn_context_blas(context));
    attn_context_destroy(context);
}

/* ---- Conditions -------------------------------------------------------------------------------------- */

/* Nothing is loaded for what does not run on it. */
static void lazy(void) {
    static const char *const forced[] = {"cpu:scalar", "cpu:avx2", "cpu:avx512"};
    demand(loaded() == 0, "OpenBLAS from the beginning");
    attn_context *context = make_context(2, NULL);
    demand(loaded() == 0, "loaded by a context");
    attn_context_destroy(context);
    for (size_t i = 0; i < sizeof forced / sizeof *forced; i++) {
        const attn_layer_desc desc = describe(ATTN_SCORE_LUONG);
        attn_plan *plan;
        context = make_context(2, forced[i]);
        if (attn_layer_forward_plan(context, &desc, &plan) == ATTN_OK) {
            demand(loaded() == 0, forced[i]);
            attn_plan_destroy(plan);
        }
        attn_context_destroy(context);
    }
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.flags = ATTN_CONTEXT_BATCH_INVARIANT;
    demand(attn_context_create(&options, &context) == ATTN_OK, "context");
    attn_plan *plan = make_plan(context);
    demand(loaded() == 0, "loaded for a plan that must not use it");
    attn_plan_destroy(plan);
    attn_context_destroy(context);
    if (!has_openblas()) return;
    demand(loaded() > 0, "attn_context_blas did not load it");
}

/* Whatever the environment asks for, OpenBLAS starts no thread. */
static void threads(void) {
    demand(threads_of_process() == 1, "threads from the beginning");
    if (!has_openblas()) return;
    demand(threads_of_process() == 1, "a thread when it was loaded");
    use("cpu:openblas", 1);
    demand(threads_of_process() == 1, "a thread when it ran");
    cpu_set_t set;
    demand(sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) == sysconf(_SC_NPROCESSORS_ONLN),
           "the host's processors");
}

static void switched_off(void) {
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    attn_context *context;
    options.blas = "off";
    demand(attn_context_create(&options, &context) == ATTN_OK, "context");
    const char *text = attn_context_blas(context);
    if (!says(text, "options.blas")) fail("options.blas", text);
    const bool nothing_to_load = !strstr(text, "options.blas");
    attn_context_destroy(context);
    if (nothing_to_load) return;
    setenv("ATTN_BLAS", "off", 1);
    expect_refused("ATTN_BLAS");
    use(NULL, 2);
    demand(loaded() == 0, "loaded though it is off");
    options.blas = "on";
    demand(attn_context_create(&options, &context) == ATTN_ERROR_UNSUPPORTED, "an unknown word");
}

/* No more threads than there are. What limits them does not bind the superuser. */
static void no_threads(void) {
    const struct rlimit limit = {0, 0};
    demand(setrlimit(RLIMIT_NPROC, &limit) == 0, "RLIMIT_NPROC");
    if (geteuid() == 0) demand(setgid(54321) == 0 && setuid(54321) == 0, "another user");
    attn_context *context = make_context(1, NULL);
    const char *text = attn_context_blas(context);
    if (strstr(text, "no OpenBLAS") && !says(text, "no thread can be started")) fail("the reason", text);
    demand(strstr(text, "no OpenBLAS") ? loaded() == 0 : threads_of_process() == 1, "loaded all the same");
    attn_context_destroy(context);
    use(NULL, 4);
}

/* Little address space beside what the program has. Every amount is tried by the test's program. */
static void little_memory(const char *megabytes) {
    FILE *file = fopen("/proc/self/statm", "r");
    unsigned long pages = 0;
    demand(file && fscanf(file, "%lu", &pages) == 1, "/proc/self/statm");
    fclose(file);
    const rlim_t most = pages * (rlim_t)sysconf(_SC_PAGESIZE) + ((rlim_t)atoi(megabytes) << 20);
    demand(setrlimit(RLIMIT_AS, &(struct rlimit){most, most}) == 0, "RLIMIT_AS");
    attn_context *context = make_context(1, NULL);
    const char *text = attn_context_blas(context);
    const bool has = !strstr(text, "no OpenBLAS");
    if (!has && !says(text, "address space")) fail("the reason", text);
    attn_context_destroy(context);
    use(NULL, 2);
    if (has) use("cpu:openblas", 2);
}

static void *run_often(void *plan) {
    static _Thread_local float output[WIDTH];
    const size_t size = attn_plan_workspace_size(plan);
    void *workspace = aligned_alloc(ATTN_WORKSPACE_ALIGNMENT, size + ATTN_WORKSPACE_ALIGNMENT);
    attn_layer_forward_args args = ATTN_LAYER_FORWARD_ARGS_INIT;
    args.h = h;
    args.query = query;
    args.weights.luong_w = matrix;
    args.context = output;
    args.workspace = workspace;
    args.workspace_size = size;
    bool good = workspace != NULL;
    for (int i = 0; i < 50 && good; i++) good = attn_layer_forward(plan, &args) == ATTN_OK;
    good = good && !memcmp(output, result, sizeof output);
    free(workspace);
    return good ? plan : NULL;
}

/* More callers at one moment than processors, and so than buffers of OpenBLAS's. */
static void crowd(void) {
    enum { CALLERS = 24 };
    if (!has_openblas()) return;
    attn_context *context = make_context(1, "cpu:openblas");
    attn_plan *plan = make_plan(context);
    pthread_t callers[CALLERS];
    run(plan);
    expect_right();
    for (int i = 0; i < CALLERS; i++) demand(pthread_create(&callers[i], NULL, run_often, plan) == 0, "thread");
    for (int i = 0; i < CALLERS; i++) {
        void *end;
        pthread_join(callers[i], &end);
        demand(end == plan, "a caller's result");
    }
    attn_plan_destroy(plan);
    attn_context_destroy(context);
}

/* The caller's loop is a cancellation point, as a host's own would be. */
static void loop(void *user, size_t count, void (*task)(void *argument, size_t index), void *argument) {
    (void)user;
    pthread_testcancel();
    for (size_t i = 0; i < count; i++) task(argument, i);
}

static void cancelled_log(void *user, const char *message) {
    (void)user;
    (void)message;
    pthread_testcancel();
}

typedef struct cancelled {
    const attn_plan *plan;
    bool finished;
} cancelled;

/* Not in its caller's frame, which AddressSanitizer does not clear when a thread ends by cancellation. */
__attribute__((noinline)) static void use_everything(const attn_plan *given) {
    if (given) {
        run(given);
        return;
    }
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.parallel_for = loop;
    options.log = cancelled_log;
    attn_context *context = NULL;
    demand(attn_context_create(&options, &context) == ATTN_OK, "context");
    attn_plan *plan = make_plan(context);
    run(plan);
    attn_plan_destroy(plan);
    attn_context_destroy(context);
}

/* Cancelled before it enters the library, it comes out again. */
static void *run_cancelled(void *user) {
    cancelled *c = user;
    pthread_cancel(pthread_self());
    use_everything(c->plan);
    c->finished = true;
    pthread_testcancel();
    return NULL;
}

static void run_and_cancel(const attn_plan *plan) {
    cancelled c = {.plan = plan};
    pthread_t thread;
    void *end;
    demand(pthread_create(&thread, NULL, run_cancelled, &c) == 0, "thread");
    pthread_join(thread, &end);
    demand(c.finished, "a thread that was cancelled inside the library");
    demand(end == PTHREAD_CANCELED, "a thread that was not cancelled behind it");
}

/* In the host's functions that the library calls, and where it waits for its own threads. */
static void cancel(void) {
    run_and_cancel(NULL);
    attn_context *context = make_context(3, NULL);
    attn_plan *plan = make_plan(context);
    for (int i = 0; i < 100; i++) run_and_cancel(plan);
    run(plan);
    expect_right();
    attn_plan_destroy(plan);
    attn_context_destroy(context);
}

static void report(const attn_plan *plan, int status) {
    (void)plan;
    if (!WIFEXITED(status) || WEXITSTATUS(status)) fail("a process of another namespace", "hung or failed");
}

static void end_by_alarm(int number) {
    (void)number;
    _exit(3);
}

/* The first process of a PID namespace takes no signal that it has no handler for; one that hangs must end all the same. */
static void end_after(unsigned seconds) {
    const struct sigaction action = {.sa_handler = end_by_alarm};
    sigaction(SIGALRM, &action, NULL);
    alarm(seconds);
}

/* The first process of a PID namespace makes a context; its child is the first process of another, made without fork(). */
static void namespaces(void) {
    const int outer = CLONE_NEWPID | SIGCHLD | (geteuid() == 0 ? 0 : CLONE_NEWUSER);
    const pid_t first = (pid_t)syscall(SYS_clone, outer, NULL, NULL, NULL, 0);
    int status;
    if (first < 0) {
        printf("skipped: a PID namespace: %s\n", strerror(errno));
        return;
    }
    if (first == 0) {
        end_after(20);
        demand(getpid() == 1, "a process id");
        attn_context *context = make_context(3, NULL);
        attn_plan *plan = make_plan(context);
        run(plan);
        const pid_t second = (pid_t)syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, NULL, NULL, NULL, 0);
        demand(second >= 0, "a namespace inside");
        if (second == 0) {
            end_after(10);
            demand(getpid() == 1, "a process id");
            memset(result, 0, sizeof result);
            run(plan);
            expect_right();
            attn_plan_destroy(plan);
            attn_context_destroy(context);
            _exit(0);
        }
        demand(waitpid(second, &status, 0) == second, "a child");
        report(plan, status);
        run(plan);
        attn_plan_destroy(plan);
        attn_context_destroy(context);
        _exit(0);
    }
    demand(waitpid(first, &status, 0) == first, "a child");
    report(NULL, status);
}

/* The bits of every implementation of the library's own, for another build to have the same. */
static void print_bits(void) {
    static const char *const forced[] = {"cpu:scalar", "cpu:avx2", "cpu:avx512"};
    for (size_t i = 0; i < sizeof forced / sizeof *forced; i++) {
        attn_context *context = make_context(2, forced[i]);
        const attn_layer_desc desc = describe(ATTN_SCORE_LUONG);
        attn_plan *plan;
        if (attn_layer_forward_plan(context, &desc, &plan) == ATTN_OK) {
            run(plan);
            uint64_t hash = UINT64_C(14695981039346656037);
            for (size_t b = 0; b < sizeof result; b++)
                hash = (hash ^ ((const unsigned char *)result)[b]) * UINT64_C(1099511628211);
            printf("%s %016llx\n", attn_plan_implementation(plan), (unsigned long long)hash);
            attn_plan_destroy(plan);
        }
        attn_context_destroy(context);
    }
}

/* Linked with -static: libraries can't be loaded, everything else is there. */
static void static_program(void) {
    expect_refused("static program");
    use(NULL, 2);
}

int main(int count, char **arguments) {
    static const struct {
        const char *name;
        void (*run)(void);
    } conditions[] = {{"lazy", lazy},
                      {"threads", threads},
                      {"off", switched_off},
                      {"no-threads", no_threads},
                      {"cancel", cancel},
                      {"crowd", crowd},
                      {"namespaces", namespaces},
                      {"bits", print_bits},
                      {"static", static_program}};
    fill(h, sizeof h / sizeof *h, 1);
    fill(query, sizeof query / sizeof *query, 2);
    fill(matrix, sizeof matrix / sizeof *matrix, 3);
    alarm(120);
    if (count == 3 && !strcmp(arguments[1], "little-memory")) return little_memory(arguments[2]), 0;
    for (size_t i = 0; i < sizeof conditions / sizeof *conditions; i++)
        if (count == 2 && !strcmp(arguments[1], conditions[i].name)) return conditions[i].run(), 0;
    return fail("no condition of that name", count > 1 ? arguments[1] : ""), 2;
}

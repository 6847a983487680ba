/* SPDX-License-Identifier: Apache-2.0 */
/* What the library takes from its host: it is linked here as objects whose calls of the C library go through this file, which
 * counts them and can make any one of them fail. */
#include "tests/suite.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

/* ---- Between the library and the C library --------------------------------------------------------------------- */

static atomic_bool watching;
static atomic_int taken, given_back, threads_made, fail_at, fail_thread_at;

static bool refuse_memory(void) {
    if (!atomic_load(&watching)) return false;
    const bool refused = atomic_fetch_add(&taken, 1) + 1 == atomic_load(&fail_at);
    if (refused) atomic_fetch_sub(&taken, 1), atomic_store(&fail_at, 0);
    return refused;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
int __real_posix_memalign(void **memory, size_t alignment, size_t size);
void __real_free(void *memory);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument);

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
int __wrap_posix_memalign(void **memory, size_t alignment, size_t size);
void __wrap_free(void *memory);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument);

void *__wrap_malloc(size_t size) { return refuse_memory() ? NULL : __real_malloc(size); }
void *__wrap_calloc(size_t count, size_t size) { return refuse_memory() ? NULL : __real_calloc(count, size); }
void *__wrap_realloc(void *memory, size_t size) { return refuse_memory() ? NULL : __real_realloc(memory, size); }
void *__wrap_aligned_alloc(size_t alignment, size_t size) {
    return refuse_memory() ? NULL : __real_aligned_alloc(alignment, size);
}

int __wrap_posix_memalign(void **memory, size_t alignment, size_t size) {
    return refuse_memory() ? ENOMEM : __real_posix_memalign(memory, alignment, size);
}

void __wrap_free(void *memory) {
    if (memory && atomic_load(&watching)) atomic_fetch_add(&given_back, 1);
    __real_free(memory);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
    if (atomic_load(&watching) && atomic_fetch_add(&threads_made, 1) + 1 >= atomic_load(&fail_thread_at) &&
        atomic_load(&fail_thread_at))
        return EAGAIN;
    return __real_pthread_create(thread, attributes, start, argument);
}

static void watch(int memory, int thread) {
    taken = 0;
    given_back = 0;
    threads_made = 0;
    fail_at = memory;
    fail_thread_at = thread;
    watching = true;
}

static void look_away(void) { watching = false; }

/* ---- Running ------------------------------------------------------------------------------------------------------ */

static const char *const cases[] = {"luong_imdb_one_f32", "bahdanau_range_d100_f32",  "dot_queries_all_f32",
                                    "luong_b65_f64",      "bahdanau_queries_all_f64", "luong_range_d100_f32"};
enum { CASES = sizeof cases / sizeof *cases };

/* Of either pass; the other pass's arguments are not read. */
typedef attn_status (*pass)(const attn_plan *, const attn_layer_forward_args *, const attn_layer_backward_args *);

static attn_status pass_forward(const attn_plan *plan, const attn_layer_forward_args *forward,
                                const attn_layer_backward_args *back) {
    (void)back;
    return attn_layer_forward(plan, forward);
}

static attn_status pass_backward(const attn_plan *plan, const attn_layer_forward_args *forward,
                                 const attn_layer_backward_args *back) {
    (void)forward;
    return attn_layer_backward(plan, back);
}

/* No memory, no thread, in the first run of a plan as in the later ones. */
static void expect_nothing_taken(const kit_case *spec, const attn_plan *plan, pass run,
                                 const attn_layer_forward_args *forward, const attn_layer_backward_args *back) {
    for (int i = 0; i < 3; i++) {
        watch(0, 0);
        const attn_status status = run(plan, forward, back);
        look_away();
        cr_assert(status == ATTN_OK, "%s", attn_last_error_message());
        cr_assert(!taken && !given_back && !threads_made, "%s %s: run %d took %d, gave back %d, made %d threads",
                  spec->name, attn_plan_implementation(plan), i, taken, given_back, threads_made);
    }
}

static void run_forward(const kit_case *spec, const char *name, uint64_t flags) {
    kit_problem *problem = kit_problem_make(spec, KIT_GUARD_BEHIND);
    problem->desc.flags = flags;
    attn_plan *plan = walk_plan(&problem->desc, name, 3);
    attn_layer_forward_args args = problem->args;
    args.workspace_size = attn_plan_workspace_size(plan);
    args.workspace = kit_alloc(args.workspace_size, KIT_GUARD_BEHIND);
    args.kept_size = attn_plan_kept_size(plan);
    args.kept = args.kept_size ? kit_alloc(args.kept_size, KIT_GUARD_BEHIND) : NULL;
    expect_nothing_taken(spec, plan, pass_forward, &args, NULL);
    kit_free(args.workspace);
    kit_free(args.kept);
    attn_plan_destroy(plan);
    kit_problem_free(problem);
}

Test(memory, running_takes_nothing) {
    static const uint64_t flags[] = {0, ATTN_LAYER_TRAINING};
    for (size_t c = 0; c < CASES; c++)
        for (int training = 0; training < 2; training++) {
            const kit_case *spec = find_case(cases[c]);
            const char *names[WALK_IMPLEMENTATIONS];
            const size_t count = walk_usable_flags(spec, flags[training], names);
            cr_assert(count > 0);
            for (size_t n = 0; n < count; n++) run_forward(spec, names[n], flags[training]);
        }
}

static void train(kit_problem *problem, const attn_plan *plan) {
    cr_assert(kit_problem_run(problem, plan, KIT_OUTPUT) == ATTN_OK, "%s", attn_last_error_message());
}

static void run_backward(const kit_case *spec, const char *name, uint64_t accumulate) {
    kit_problem *problem = kit_problem_make(spec, KIT_GUARD_BEHIND);
    attn_layer_desc desc = problem->desc;
    desc.flags = ATTN_LAYER_TRAINING;
    attn_plan *forward = walk_plan(&desc, NULL, 3), *plan = walk_plan(&problem->desc, name, 3);
    train(problem, forward);
    cr_assert(kit_problem_back(problem, plan, KIT_ALL_OUTPUTS, KIT_ALL_GRADIENTS, accumulate) == ATTN_OK, "%s",
              attn_last_error_message());
    attn_plan_destroy(plan);
    plan = walk_plan(&problem->desc, name, 3);
    attn_layer_backward_args args = kit_problem_back_args(problem, KIT_ALL_OUTPUTS, KIT_ALL_GRADIENTS);
    args.accumulate = accumulate;
    args.workspace_size = attn_plan_workspace_size(plan);
    args.workspace = kit_alloc(args.workspace_size, KIT_GUARD_BEHIND);
    expect_nothing_taken(spec, plan, pass_backward, NULL, &args);
    kit_free(args.workspace);
    attn_plan_destroy(plan);
    attn_plan_destroy(forward);
    kit_problem_free(problem);
}

Test(memory, running_backward_takes_nothing) {
    for (size_t c = 0; c < CASES; c++) {
        const kit_case *spec = find_case(cases[c]);
        const char *names[WALK_IMPLEMENTATIONS];
        const size_t count = walk_usable_backward(spec, names);
        cr_assert(count > 0);
        for (size_t n = 0; n < count; n++) run_backward(spec, names[n], n % 2 ? 7 : 0);
    }
}

/* ---- Guard pages ------------------------------------------------------------------------------------------------------ */

/* Every buffer of both passes, kept and workspaces too, between unreadable pages: first the end, then the beginning of each lies at one. */
Test(memory, every_buffer_between_guards) {
    for (size_t c = 0; c < CASES; c++)
        for (int guard = KIT_GUARD_BEHIND; guard <= KIT_GUARD_FRONT; guard++) {
            kit_problem *problem = kit_problem_make(find_case(cases[c]), (kit_guard)guard);
            attn_layer_desc desc = problem->desc;
            desc.flags = ATTN_LAYER_TRAINING;
            const char *forwards[WALK_IMPLEMENTATIONS], *names[WALK_IMPLEMENTATIONS];
            const size_t count = walk_usable_backward(&problem->spec, names),
                         forward_count = walk_usable_flags(&problem->spec, desc.flags, forwards);
            for (size_t f = 0; f < forward_count; f++) {
                attn_plan *forward = walk_plan(&desc, forwards[f], 3);
                train(problem, forward);
                for (size_t n = 0; n < count; n++) {
                    attn_plan *plan = walk_plan(&problem->desc, names[n], 3);
                    const attn_status status = kit_problem_back(problem, plan, KIT_ALL_OUTPUTS, KIT_ALL_GRADIENTS, 0);
                    cr_assert(status == ATTN_OK, "%s", attn_last_error_message());
                    const kit_verdict verdict = kit_problem_check_back(problem);
                    cr_assert(verdict.error <= 1, "%s: %s after %s: %g: %s", cases[c], names[n], forwards[f],
                              verdict.error, verdict.where);
                    attn_plan_destroy(plan);
                }
                attn_plan_destroy(forward);
            }
            kit_problem_free(problem);
        }
}

/* ---- Memory runs out ------------------------------------------------------------------------------------------------ */

typedef struct made {
    attn_context *context;
    attn_plan *plan, *training, *backward;
} made;

static void unmake(made *m) {
    attn_plan_destroy(m->plan);
    attn_plan_destroy(m->training);
    attn_plan_destroy(m->backward);
    attn_context_destroy(m->context);
}

/* Forward, training and backward right. */
static void expect_all_healthy(kit_problem *problem, const made *m, const char *what) {
    expect_healthy(problem, m->plan, what);
    train(problem, m->training);
    const attn_status status = kit_problem_back(problem, m->backward, KIT_ALL_OUTPUTS, KIT_ALL_GRADIENTS, 0);
    cr_assert(status == ATTN_OK, "%s: %s", what, attn_last_error_message());
    const kit_verdict verdict = kit_problem_check_back(problem);
    cr_assert(verdict.error <= 1, "%s: %s: %g: %s", what, problem->spec.name, verdict.error, verdict.where);
}

/* The first status that is not success; what was made before it is given back. */
static attn_status make(const attn_context_options *options, const attn_layer_desc *desc, made *m) {
    *m = (made){0};
    attn_status status = attn_context_create(options, &m->context);
    cr_assert(!status == (m->context != NULL), "a context beside an error, or none beside success");
    if (status) return status;
    attn_layer_desc with_training = *desc;
    with_training.flags = ATTN_LAYER_TRAINING;
    status = attn_layer_forward_plan(m->context, desc, &m->plan);
    cr_assert(!status == (m->plan != NULL), "a plan beside an error, or none beside success");
    if (!status) {
        status = attn_layer_forward_plan(m->context, &with_training, &m->training);
        cr_assert(!status == (m->training != NULL), "a plan beside an error, or none beside success");
    }
    if (!status) {
        status = attn_layer_backward_plan(m->context, desc, &m->backward);
        cr_assert(!status == (m->backward != NULL), "a plan beside an error, or none beside success");
    }
    if (status) unmake(m);
    return status;
}

Test(memory, malloc_fails_at_every_call) {
    kit_problem *problem = kit_problem_make(find_case("luong_range_d100_f32"), KIT_GUARD_BEHIND);
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.threads = 3;
    int failures = 0;
    for (int i = 1; i < 100; i++) {
        made m;
        watch(i, 0);
        attn_status status = make(&options, &problem->desc, &m);
        const bool failed = fail_at == 0;
        if (!status) unmake(&m);
        look_away();
        cr_assert(taken == given_back, "failure %d: took %d, gave back %d", i, taken, given_back);
        cr_assert(failed || status == ATTN_OK, "%s", attn_last_error_message());
        if (!failed) break;
        failures++;
        cr_assert(status == ATTN_OK ||
                      (status == ATTN_ERROR_OUT_OF_MEMORY && strstr(attn_last_error_message(), "memory")),
                  "failure %d: %s", i, attn_last_error_message());
        status = make(&options, &problem->desc, &m);
        cr_assert(status == ATTN_OK, "a retry after failure %d: %s", i, attn_last_error_message());
        expect_all_healthy(problem, &m, "after a failure");
        unmake(&m);
    }
    cr_assert(failures >= 5, "only %d allocations", failures);
    kit_problem_free(problem);
}

/* ---- The caller's allocator -------------------------------------------------------------------------------------------- */

typedef struct account {
    int open, calls, fail_at;
    bool stranger; /* released what it had not allocated */
    void *blocks[64];
} account;

static void *take(void *user, size_t size) {
    account *a = user;
    if (++a->calls == a->fail_at) return NULL;
    for (int i = 0; i < 64; i++)
        if (!a->blocks[i]) return a->open++, a->blocks[i] = malloc(size);
    return NULL;
}

static void give_back(void *user, void *memory) {
    account *a = user;
    for (int i = 0; i < 64; i++) {
        if (!memory || a->blocks[i] != memory) continue;
        a->blocks[i] = NULL;
        a->open--;
        free(memory);
        return;
    }
    a->stranger = a->stranger || memory;
}

Test(memory, allocator_fails_at_every_call) {
    kit_problem *problem = kit_problem_make(find_case("bahdanau_range_d100_f32"), KIT_GUARD_BEHIND);
    int failures = 0;
    for (int i = 1; i < 100; i++) {
        account a = {.fail_at = i};
        attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
        options.threads = 3, options.allocate = take, options.release = give_back, options.memory_user = &a;
        made m;
        watch(0, 0);
        const attn_status status = make(&options, &problem->desc, &m);
        look_away();
        const bool failed = a.calls >= i;
        cr_assert(status == (failed ? ATTN_ERROR_OUT_OF_MEMORY : ATTN_OK), "failure %d: %s", i,
                  attn_last_error_message());
        if (!failed) {
            expect_all_healthy(problem, &m, "the caller's allocator");
            unmake(&m);
        }
        cr_assert(a.open == 0 && !a.stranger, "failure %d: %d blocks left", i, a.open);
        if (!failed) break;
        failures++;
    }
    cr_assert(failures >= 5, "only %d allocations", failures);
    kit_problem_free(problem);
}

/* Everything that a context and its plans hold comes from the caller's allocator, and nothing from malloc. */
Test(memory, allocator_serves_everything) {
    kit_problem *problem = kit_problem_make(find_case("luong_range_d100_f32"), KIT_GUARD_BEHIND);
    account a = {0};
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.threads = 4, options.allocate = take, options.release = give_back, options.memory_user = &a;
    made m;
    watch(0, 0);
    const attn_status status = make(&options, &problem->desc, &m);
    look_away();
    cr_assert(status == ATTN_OK, "%s", attn_last_error_message());
    cr_assert(a.open > 0 && taken <= a.calls, "%d blocks of the caller's, %d from malloc", a.calls,
              taken); /* `take` calls malloc itself */
    unmake(&m);
    cr_assert(a.open == 0 && !a.stranger, "%d blocks left", a.open);
    kit_problem_free(problem);
}

/* ---- No threads to be had --------------------------------------------------------------------------------------------------- */

static bits back_bits(kit_problem *problem, const made *m) {
    train(problem, m->training);
    cr_assert(kit_problem_back(problem, m->backward, KIT_ALL_OUTPUTS, KIT_ALL_GRADIENTS, 0) == ATTN_OK, "%s",
              attn_last_error_message());
    return gradient_bits(problem);
}

Test(memory, threads_fail_at_every_call) {
    for (size_t c = 0; c < CASES; c++) {
        kit_problem *problem = kit_problem_make(find_case(cases[c]), KIT_GUARD_BEHIND);
        bits expected[2] = {{0}};
        for (int i = 0; i <= 4; i++) { /* 0: none fails */
            attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
            options.threads = 4;
            options.blas = "off"; /* which is loaded by a thread of its own */
            made m;
            watch(0, i);
            const attn_status status = make(&options, &problem->desc, &m);
            look_away();
            cr_assert(status == ATTN_OK, "thread %d: %s", i, attn_last_error_message());
            cr_assert(threads_made == (i == 0 || i == 4 ? 3 : i), "thread %d: %d were tried", i, threads_made);
            cr_assert(attn_context_threads(m.context) == 4, "the context tells %d threads",
                      attn_context_threads(m.context));
            bits got[2] = {run_bits(problem, m.plan), back_bits(problem, &m)};
            for (int k = 0; k < 2; k++) {
                if (i == 0)
                    expected[k] = got[k];
                else
                    cr_assert(bits_equal(&expected[k], &got[k]), "%s: %s: other bits without thread %d", cases[c],
                              k ? "backward" : "forward", i);
                if (i) bits_free(&got[k]);
            }
            unmake(&m);
        }
        for (int k = 0; k < 2; k++) bits_free(&expected[k]);
        kit_problem_free(problem);
    }
}

/* ---- Workspaces ------------------------------------------------------------------------------------------------------------- */

/* Beyond inputs and outputs a fused run needs O(threads) + O(B (D + A)) + 2 % of H. */
Test(memory, fused_workspaces_are_small) {
    static const char *const rows[] = {"luong_imdb_f32",    "bahdanau_imdb_f32", "luong_long_f32",
                                       "bahdanau_long_f32", "luong_wide_f32",    "bahdanau_wide_f32"};
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        const kit_case *spec = find_case(rows[r]);
        attn_layer_desc desc = ATTN_LAYER_DESC_INIT;
        desc.score = spec->score, desc.batch = spec->batch, desc.timesteps = spec->timesteps,
        desc.features = spec->features, desc.units = spec->units;
        const char *names[WALK_IMPLEMENTATIONS];
        const size_t count = walk_usable(spec, names);
        size_t sizes[WALK_IMPLEMENTATIONS][2];
        for (size_t n = 0; n < count; n++) {
            if (strstr(names[n], "openblas")) continue;
            for (int more = 0; more < 2; more++) {
                attn_plan *plan = walk_plan(&desc, names[n], more ? 4 : 2);
                sizes[n][more] = attn_plan_workspace_size(plan);
                attn_plan_destroy(plan);
            }
            const double h = 4.0 * (double)(spec->batch * spec->timesteps * spec->features),
                         width = (double)(3 * spec->features + 64);
            const double a_thread =
                (double)sizes[n][1] > (double)sizes[n][0] ? ((double)sizes[n][1] - (double)sizes[n][0]) / 2 : 0;
            const double items =
                4.0 * 4 * (double)spec->batch * width + 4.0 * 3 * (double)spec->features * (double)spec->features;
            cr_assert((double)sizes[n][0] <= 2 * a_thread + items + 0.02 * h + 65536,
                      "%s %s: %zu bytes, %.0f a thread, H has %.0f", rows[r], names[n], sizes[n][0], a_thread, h);
            cr_assert(a_thread < 2e6 + 16 * width * width, "%s %s: %.0f bytes a thread", rows[r], names[n], a_thread);
        }
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Same bits: from run to run, for any number of threads and any way to share the work, and for an item whatever else is in
 * the batch. */
#include "tests/suite.h"

#include <pthread.h>

static const char *const rows[] = {"odd_f32",         "d100_f32",  "d100_f64",       "range_f32", "range_mask_f64",
                                   "queries_all_f32", "t4099_f32", "b65_f32",        "b65_f64",   "queries_many_f32",
                                   "slices_all_f32",  "t1000_f64", "range_d100_f32", "d300_f32"};
static const int thread_counts[] = {1, 2, 3, 8};

/* Calls check for each implementation that can run each of the rows, in each score. */
static void for_each(void (*check)(const kit_case *spec, const char *name)) {
    size_t checked = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int score = ATTN_SCORE_LUONG; score <= ATTN_SCORE_DOT; score++) {
            char name[96];
            snprintf(name, sizeof name, "%s_%s", kit_score_name((attn_score)score), rows[i]);
            const kit_case *spec = find_case(name);
            const char *names[WALK_IMPLEMENTATIONS];
            const size_t count = walk_usable(spec, names);
            cr_assert(count > 0, "%s: no implementation", name);
            for (size_t j = 0; j < count; j++, checked++) check(spec, names[j]);
        }
    cr_assert(checked > 0);
}

static bits bits_with(const kit_case *spec, const char *name, int threads, kit_guard guard) {
    kit_problem *problem = kit_problem_make(spec, guard);
    attn_plan *plan = walk_plan(&problem->desc, name, threads);
    const bits all = run_bits(problem, plan);
    attn_plan_destroy(plan);
    kit_problem_free(problem);
    return all;
}

static void check_threads(const kit_case *spec, const char *name) {
    bits one = bits_with(spec, name, 1, KIT_GUARD_BEHIND);
    for (size_t i = 0; i < sizeof thread_counts / sizeof *thread_counts; i++)
        for (int again = 0; again < 3; again++) {
            bits other = bits_with(spec, name, thread_counts[i], again ? KIT_GUARD_BEHIND : KIT_GUARD_FRONT);
            cr_assert(bits_equal(&one, &other), "%s %s: other bits with %d threads, run %d", spec->name, name,
                      thread_counts[i], again);
            bits_free(&other);
        }
    bits_free(&one);
}

Test(determinism, threads_and_runs) { for_each(check_threads); }

/* One plan, run after run, over a workspace and outputs that hold what the last run left. */
static void check_reuse(const kit_case *spec, const char *name) {
    kit_problem *problem = kit_problem_make(spec, KIT_GUARD_BEHIND);
    attn_plan *plan = walk_plan(&problem->desc, name, 3);
    bits first = run_bits(problem, plan);
    for (int i = 0; i < 5; i++) {
        bits again = run_bits(problem, plan);
        cr_assert(bits_equal(&first, &again), "%s %s: other bits in run %d of one plan", spec->name, name, i);
        bits_free(&again);
    }
    bits_free(&first);
    attn_plan_destroy(plan);
    kit_problem_free(problem);
}

Test(determinism, one_plan_many_runs) { for_each(check_reuse); }

/* ---- The caller's threads ------------------------------------------------------------------------------- */

static void backwards(void *user, size_t count, void (*task)(void *, size_t), void *argument) {
    *(int *)user += 1;
    while (count-- > 0) task(argument, count);
}

typedef struct slice {
    size_t first, step, count;
    void (*task)(void *, size_t);
    void *argument;
} slice;

static void *run_slice(void *argument) {
    const slice *s = argument;
    for (size_t i = s->first; i < s->count; i += s->step) s->task(s->argument, i);
    return NULL;
}

static void on_threads(void *user, size_t count, void (*task)(void *, size_t), void *argument) {
    enum { THREADS = 3 };
    pthread_t threads[THREADS];
    slice slices[THREADS];
    *(int *)user += 1;
    for (size_t i = 0; i < THREADS; i++) {
        slices[i] = (slice){i, THREADS, count, task, argument};
        pthread_create(&threads[i], NULL, run_slice, &slices[i]);
    }
    for (size_t i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
}

static int shared_runs;

static void check_parallel_for(const kit_case *spec, const char *name) {
    const attn_parallel_for ways[] = {backwards, on_threads};
    bits one = bits_with(spec, name, 1, KIT_GUARD_BEHIND);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        int calls = 0;
        attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
        options.threads = 4, options.implementation = name, options.parallel_for = ways[i],
        options.parallel_for_user = &calls;
        attn_context *context;
        attn_plan *plan;
        kit_problem *problem = kit_problem_make(spec, KIT_GUARD_BEHIND);
        cr_assert(attn_context_create(&options, &context) == ATTN_OK, "%s", attn_last_error_message());
        cr_assert(attn_layer_forward_plan(context, &problem->desc, &plan) == ATTN_OK, "%s", attn_last_error_message());
        bits other = run_bits(problem, plan);
        cr_assert(bits_equal(&one, &other), "%s %s: other bits on the caller's threads, way %zu", spec->name, name, i);
        shared_runs += calls > 0;
        bits_free(&other);
        attn_plan_destroy(plan);
        attn_context_destroy(context);
        kit_problem_free(problem);
    }
    bits_free(&one);
}

Test(determinism, parallel_for) {
    for_each(check_parallel_for);
    cr_assert(shared_runs > 20, "the caller's threads served %d runs", shared_runs);
}

/* ---- Batches ---------------------------------------------------------------------------------------------- */

/* A batch made of some of the items of another, in another order. */
static kit_problem *pick_items(const kit_case *spec, const int *items, int count) {
    kit_case batch = *spec;
    kit_problem *from = kit_problem_make(spec, KIT_GUARD_BEHIND);
    const reference_input in = kit_problem_input(from);
    const size_t states = in.timesteps * in.features, queries = in.queries * in.query_features;
    const size_t masks = in.timesteps * (in.mask_per_query ? in.queries : 1);
    batch.batch = count;
    kit_content content = content_like(from, &batch);
    for (int i = 0; i < count; i++) {
        const size_t to = (size_t)i, at = (size_t)items[i];
        memcpy(content.h + to * states, in.h + at * states, states * sizeof *content.h);
        if (in.query) memcpy(content.query + to * queries, in.query + at * queries, queries * sizeof *content.query);
        if (in.starts) content.starts[to] = in.starts[at];
        if (in.lengths) content.lengths[to] = in.lengths[at];
        if (in.mask) memcpy(content.mask + to * masks, in.mask + at * masks, masks);
    }
    kit_problem_free(from);
    return kit_problem_from(&batch, &content, KIT_GUARD_BEHIND);
}

/* The part of an output that belongs to one item. */
static const char *item_of(const char *output, size_t size, int64_t items, int item) {
    return output + size / (size_t)items * (size_t)item;
}

static void compare_items(const kit_problem *whole, const kit_problem *part, const int *items, int count,
                          const char *name) {
    for (unsigned which = KIT_OUTPUT; which <= KIT_LSE; which <<= 1) {
        size_t size_a, size_b;
        char *a = kit_problem_output(whole, which, &size_a), *b = kit_problem_output(part, which, &size_b);
        for (int i = 0; i < count && size_a; i++)
            cr_assert(!memcmp(item_of(a, size_a, whole->spec.batch, items[i]), item_of(b, size_b, count, i),
                              size_b / (size_t)count),
                      "%s %s: item %d has other bits as item %d of %d", whole->spec.name, name, items[i], i, count);
        free(a);
        free(b);
    }
}

static void check_batches(const kit_case *spec, const char *name) {
    static const int batches[][4] = {{0, -1}, {1, -1}, {2, 0, -1}, {1, 1, 0, -1}, {0, 2, 1, 0}};
    if (!is_batch_invariant(spec, name) || spec->batch < 3) return;
    kit_problem *whole = kit_problem_make(spec, KIT_GUARD_BEHIND);
    attn_plan *plan = walk_plan(&whole->desc, name, 2);
    cr_assert(kit_problem_run(whole, plan, KIT_ALL_OUTPUTS) == ATTN_OK, "%s", attn_last_error_message());
    for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
        int count = 0;
        while (count < 4 && batches[i][count] >= 0) count++;
        kit_problem *part = pick_items(spec, batches[i], count);
        part->args.batch = count;
        attn_plan *own = walk_plan(&part->desc, name, 3);
        cr_assert(kit_problem_run(part, own, KIT_ALL_OUTPUTS) == ATTN_OK, "%s", attn_last_error_message());
        compare_items(whole, part, batches[i], count, name);
        if (count <= spec->batch) { /* under the larger plan, too */
            cr_assert(kit_problem_run(part, plan, KIT_ALL_OUTPUTS) == ATTN_OK, "%s", attn_last_error_message());
            compare_items(whole, part, batches[i], count, name);
        }
        attn_plan_destroy(own);
        kit_problem_free(part);
    }
    attn_plan_destroy(plan);
    kit_problem_free(whole);
}

Test(determinism, batches) { for_each(check_batches); }

Test(determinism, fused_implementations_are_batch_invariant) {
    const kit_case *spec = find_case("luong_b65_f32");
    const char *names[WALK_IMPLEMENTATIONS];
    const size_t count = walk_usable(spec, names);
    size_t fused = 0;
    for (size_t i = 0; i < count; i++) {
        const bool composition = strstr(names[i], "openblas");
        cr_assert(is_batch_invariant(spec, names[i]) == !composition, "%s", names[i]);
        fused += !composition;
    }
    cr_assert(fused > 0, "no fused implementation");
}

/* ---- Ranges ------------------------------------------------------------------------------------------------ */

/* The same valid steps further along a longer item, NaN all around: no bit changes, for work is split from the range's start. */
static void check_shift(const char *name, const kit_case *spec, int64_t start, int64_t behind) {
    kit_problem *plain = kit_problem_make(spec, KIT_GUARD_BEHIND);
    kit_case longer = *spec;
    longer.timesteps = start + spec->timesteps + behind;
    longer.options |= KIT_STARTS | KIT_LENGTHS;
    kit_content content = content_like(plain, &longer);
    const reference_input in = kit_problem_input(plain);
    const size_t D = in.features, T = in.timesteps, longer_T = (size_t)longer.timesteps;
    for (size_t b = 0; b < in.batch; b++) {
        content.starts[b] = (int32_t)start;
        content.lengths[b] = (int32_t)T;
        memcpy(content.h + (b * longer_T + (size_t)start) * D, in.h + b * T * D, T * D * sizeof(double));
    }
    kit_problem *shifted = kit_problem_from(&longer, &content, KIT_GUARD_BEHIND);
    attn_plan *plan = walk_plan(&shifted->desc, name, 2);
    plain->args.timesteps = spec->timesteps;
    cr_assert(kit_problem_run(plain, plan, KIT_ALL_OUTPUTS) == ATTN_OK, "%s", attn_last_error_message());
    cr_assert(kit_problem_run(shifted, plan, KIT_ALL_OUTPUTS) == ATTN_OK, "%s", attn_last_error_message());
    for (unsigned which = KIT_OUTPUT; which <= KIT_LSE; which <<= 1) {
        if (which == KIT_WEIGHTS) continue; /* another shape */
        size_t size;
        char *a = kit_problem_output(plain, which, &size), *b = kit_problem_output(shifted, which, &size);
        cr_assert(!memcmp(a, b, size), "%s %s: a range that starts at %lld has other bits", spec->name, name,
                  (long long)start);
        free(a);
        free(b);
    }
    attn_plan_destroy(plan);
    kit_problem_free(plain);
    kit_problem_free(shifted);
}

Test(determinism, ranges_count_from_their_start) {
    static const char *const cases[] = {"luong_t500_f32", "bahdanau_t500_f32", "dot_t500_f32",
                                        "luong_d100_f64", "bahdanau_d100_f64", "luong_t4099_f32"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const kit_case *spec = find_case(cases[i]);
        const char *names[WALK_IMPLEMENTATIONS];
        const size_t count = walk_usable(spec, names);
        for (size_t j = 0; j < count; j++) {
            if (!is_batch_invariant(spec, names[j])) continue;
            check_shift(names[j], spec, 37, 0);
            check_shift(names[j], spec, 0, 200);
            check_shift(names[j], spec, 1, 64);
        }
    }
}

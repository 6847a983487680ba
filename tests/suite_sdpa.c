/* SPDX-License-Identifier: Apache-2.0 */
/* Scaled-dot-product attention: every case on every implementation, bits, special values, faults. */
#include "tests/sdpa_kit.h"
#include "tests/suite.h"

#include <math.h>

enum { IMPLEMENTATIONS = 16, MOST_THREADS = 8 };

/* ---- Helpers ---------------------------------------------------------------------------------------- */

static attn_context *forced(int threads, const char *name) { return kit_context(threads, name); }

/* NULL where the implementation refuses the problem. */
static attn_plan *plan_for(attn_context *context, const sdpa_problem *problem) {
    attn_plan *plan;
    const attn_status status = attn_sdpa_forward_plan(context, &problem->desc, &plan);
    cr_assert(status == ATTN_OK || status == ATTN_ERROR_UNSUPPORTED, "%s: %s", problem->spec.name,
              attn_last_error_message());
    return plan;
}

static void run_ok(sdpa_problem *problem, const attn_plan *plan) {
    const attn_status status = sdpa_problem_run(problem, plan);
    cr_assert(status == ATTN_OK, "%s: %s: %s", problem->spec.name, attn_plan_implementation(plan),
              attn_last_error_message());
}

static void healthy(sdpa_problem *problem, const attn_plan *plan) {
    run_ok(problem, plan);
    const kit_verdict verdict = sdpa_problem_check(problem);
    cr_assert(verdict.error <= 1, "%s: %s: error/gate %g: %s", problem->spec.name, attn_plan_implementation(plan),
              verdict.error, verdict.where);
}

static const sdpa_case *case_of(const char *name) {
    const sdpa_case *spec = sdpa_find_case(name);
    cr_assert(spec, "no case %s", name);
    return spec;
}

/* Calls the test for every implementation of the dtype, forced, that can run the problem; at least one must. */
static void on_each(sdpa_problem *problem, int threads, void (*test)(sdpa_problem *, const attn_plan *)) {
    attn_context *any = kit_context(1, NULL);
    const char *names[IMPLEMENTATIONS];
    const size_t count = sdpa_implementations(any, problem->spec.dtype, names, IMPLEMENTATIONS);
    size_t tested = 0;
    for (size_t i = 0; i < count; i++) {
        attn_context *context = forced(threads, names[i]);
        attn_plan *plan = plan_for(context, problem);
        attn_context_destroy(context);
        if (!plan) continue;
        test(problem, plan);
        attn_plan_destroy(plan);
        tested++;
    }
    attn_context_destroy(any);
    cr_assert(tested > 0 || count == 0, "%s: nothing can run it", problem->spec.name);
}

static bool same_bits(const sdpa_problem *a, const sdpa_problem *b) {
    size_t sizes[2];
    void *both[2] = {sdpa_problem_bits(a, &sizes[0]), sdpa_problem_bits(b, &sizes[1])};
    const bool same = sizes[0] == sizes[1] && !memcmp(both[0], both[1], sizes[0]);
    free(both[0]);
    free(both[1]);
    return same;
}

/* ---- Values ----------------------------------------------------------------------------------------- */

static void cases_of(attn_dtype dtype, kit_guard guard) {
    size_t count;
    const sdpa_case *cases = sdpa_cases(&count);
    for (size_t i = 0; i < count; i++) {
        if (cases[i].dtype != dtype) continue;
        sdpa_problem *problem = sdpa_problem_make(&cases[i], guard);
        on_each(problem, 1, healthy);
        sdpa_problem_free(problem);
    }
}

Test(sdpa, float32_cases) { cases_of(ATTN_FLOAT32, KIT_GUARD_BEHIND); }

Test(sdpa, float64_cases) { cases_of(ATTN_FLOAT64, KIT_GUARD_BEHIND); }

/* Where a backend has the 16-bit types. */
Test(sdpa, float16_cases) { cases_of(ATTN_FLOAT16, KIT_GUARD_BEHIND); }

Test(sdpa, bfloat16_cases) { cases_of(ATTN_BFLOAT16, KIT_GUARD_BEHIND); }

Test(sdpa, cases_behind_a_guard_page) { cases_of(ATTN_FLOAT32, KIT_GUARD_FRONT); }

static void without_output(sdpa_problem *problem, const attn_plan *plan) {
    static const int dropped[] = {SDPA_LSE, SDPA_WEIGHTS};
    for (size_t i = 0; i < 2; i++) {
        attn_sdpa_forward_args whole = problem->args;
        if (dropped[i] == SDPA_LSE) problem->args.lse = NULL;
        if (dropped[i] == SDPA_WEIGHTS) problem->args.attention_weights = NULL;
        healthy(problem, plan);
        problem->args = whole;
    }
}

Test(sdpa, optional_outputs_may_be_left_out) {
    static const char *const names[] = {"everything_f32", "blocks_f64", "no_keys_f32"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        sdpa_problem *problem = sdpa_problem_make(case_of(names[i]), KIT_GUARD_BEHIND);
        on_each(problem, 2, without_output);
        sdpa_problem_free(problem);
    }
}

Test(sdpa, dense_strides_are_the_default) {
    sdpa_problem *problem = sdpa_problem_make(case_of("grouped_f32"), KIT_GUARD_BEHIND);
    attn_sdpa_forward_args *a = &problem->args;
    a->q_batch_stride = a->q_head_stride = a->q_row_stride = 0;
    a->k_batch_stride = a->k_head_stride = a->k_row_stride = 0;
    a->v_batch_stride = a->v_head_stride = a->v_row_stride = 0;
    a->output_batch_stride = a->output_head_stride = a->output_row_stride = 0;
    a->lse_batch_stride = a->lse_head_stride = 0;
    a->attention_weights_batch_stride = a->attention_weights_head_stride = a->attention_weights_row_stride = 0;
    on_each(problem, 2, healthy);
    sdpa_problem_free(problem);
}

/* Value dimension 0: the log-sum-exp alone. */
static void lse_alone(sdpa_problem *problem, const attn_plan *plan) {
    attn_sdpa_desc desc = problem->desc;
    desc.value_dim = 0;
    attn_context *context = forced(1, attn_plan_implementation(plan));
    attn_plan *narrow;
    cr_assert(attn_sdpa_forward_plan(context, &desc, &narrow) == ATTN_OK, "%s", attn_last_error_message());
    const attn_sdpa_forward_args whole = problem->args;
    problem->args.output = NULL, problem->args.v = NULL;
    problem->args.output_batch_stride = problem->args.v_batch_stride = 0;
    run_ok(problem, narrow);
    sdpa_problem_expect(problem);
    for (size_t i = 0; i < 3; i++) {
        const double lse = sdpa_get(&problem->outputs[SDPA_LSE], 0, 1, 0, i);
        cr_assert(fabs(lse - (double)problem->expected.lse[5 + i]) <= problem->expected.lse_gates[5 + i]);
    }
    problem->args = whole;
    attn_plan_destroy(narrow);
    attn_context_destroy(context);
}

Test(sdpa, values_may_have_no_width) {
    sdpa_problem *problem = sdpa_problem_make(case_of("plain_f32"), KIT_GUARD_BEHIND);
    on_each(problem, 1, lse_alone);
    sdpa_problem_free(problem);
}

/* ---- Bits ------------------------------------------------------------------------------------------- */

static const char *const bit_cases[] = {"everything_f32", "blocks_f32",        "causal_bottom_right_f64", "lengths_f32",
                                        "mask_keys_f32",  "causal_window_f32", "one_query_grouped_f32"};
enum { BIT_CASES = sizeof bit_cases / sizeof *bit_cases };

static void same_with_threads(sdpa_problem *problem, const attn_plan *plan) {
    run_ok(problem, plan);
    sdpa_problem *other = sdpa_problem_make(&problem->spec, KIT_GUARD_FRONT);
    for (int threads = 1; threads <= MOST_THREADS; threads = threads == 3 ? 8 : threads + 1) {
        attn_context *context = forced(threads, attn_plan_implementation(plan));
        attn_plan *theirs = plan_for(context, other);
        run_ok(other, theirs);
        cr_assert(same_bits(problem, other), "%s: %s with %d threads", problem->spec.name,
                  attn_plan_implementation(plan), threads);
        attn_plan_destroy(theirs);
        attn_context_destroy(context);
    }
    sdpa_problem_free(other);
}

Test(sdpa, threads_change_no_bit) {
    for (size_t i = 0; i < BIT_CASES; i++) {
        sdpa_case spec = *case_of(bit_cases[i]);
        spec.batch *= 4; /* enough work to be shared */
        sdpa_problem *problem = sdpa_problem_make(&spec, KIT_GUARD_BEHIND);
        on_each(problem, 2, same_with_threads);
        sdpa_problem_free(problem);
    }
}

/* The last item alone, where it lies, by a plan for one. */
static void same_alone(sdpa_problem *problem, const attn_plan *plan) {
    run_ok(problem, plan);
    size_t size, alone_size;
    char *whole = sdpa_problem_bits(problem, &size);
    const size_t last = (size_t)problem->spec.batch - 1, element = problem->inputs[SDPA_Q].element;
    const attn_sdpa_forward_args before = problem->args;
    attn_sdpa_forward_args *a = &problem->args;
    a->batch = 1;
    a->q = (const char *)a->q + last * (size_t)a->q_batch_stride * element;
    a->k = (const char *)a->k + last * (size_t)a->k_batch_stride * element;
    a->v = (const char *)a->v + last * (size_t)a->v_batch_stride * element;
    if (a->mask) a->mask += last * (size_t)a->mask_batch_stride;
    if (a->bias) a->bias = (const char *)a->bias + last * (size_t)a->bias_batch_stride * element;
    if (a->key_lengths) a->key_lengths += last;
    a->output = (char *)a->output + last * (size_t)a->output_batch_stride * element;
    a->lse = (char *)a->lse + last * (size_t)a->lse_batch_stride * element;
    a->attention_weights = (char *)a->attention_weights + last * (size_t)a->attention_weights_batch_stride * element;
    run_ok(problem, plan);
    problem->args = before;
    char *alone = sdpa_problem_bits(problem, &alone_size);
    /* What the second run wrote: the last item of each output; the rest it left as NaN. */
    size_t at = 0;
    for (int i = 0; i < SDPA_OUTPUTS; i++) {
        const sdpa_tensor *t = &problem->outputs[i];
        const size_t item = t->count[1] * t->count[2] * t->count[3] * t->element;
        cr_assert(!memcmp(whole + at + last * item, alone + at + last * item, item), "%s: %s: output %d",
                  problem->spec.name, attn_plan_implementation(plan), i);
        at += (last + 1) * item;
    }
    free(whole);
    free(alone);
}

Test(sdpa, an_item_does_not_depend_on_the_batch) {
    for (size_t i = 0; i < BIT_CASES; i++) {
        sdpa_case spec = *case_of(bit_cases[i]);
        spec.batch = 3;
        sdpa_problem *problem = sdpa_problem_make(&spec, KIT_GUARD_BEHIND);
        on_each(problem, 2, same_alone);
        sdpa_problem_free(problem);
    }
}

/* A plan for more than the run has gives the same bits, within a workspace that the exact plan's fits into. */
static void same_by_larger_plan(sdpa_problem *problem, const attn_plan *plan) {
    run_ok(problem, plan);
    size_t size, other_size;
    void *exact = sdpa_problem_bits(problem, &size);
    attn_sdpa_desc desc = problem->desc;
    desc.batch += 2, desc.queries += 100, desc.keys += 300;
    attn_context *context = forced(2, attn_plan_implementation(plan));
    attn_plan *larger;
    cr_assert(attn_sdpa_forward_plan(context, &desc, &larger) == ATTN_OK, "%s", attn_last_error_message());
    cr_assert(attn_plan_workspace_size(larger) >= attn_plan_workspace_size(plan));
    problem->args.batch = problem->spec.batch, problem->args.queries = problem->spec.queries;
    problem->args.keys = problem->spec.keys;
    healthy(problem, larger);
    void *other = sdpa_problem_bits(problem, &other_size);
    if (!strstr(attn_plan_implementation(plan), "cublas")) /* whose sums depend on the sizes of the tiles */
        cr_assert(!memcmp(exact, other, size), "%s: %s", problem->spec.name, attn_plan_implementation(plan));
    free(exact);
    free(other);
    attn_plan_destroy(larger);
    attn_context_destroy(context);
}

Test(sdpa, a_larger_plan_serves) {
    for (size_t i = 0; i < BIT_CASES; i++) {
        sdpa_problem *problem = sdpa_problem_make(case_of(bit_cases[i]), KIT_GUARD_BEHIND);
        on_each(problem, 2, same_by_larger_plan);
        sdpa_problem_free(problem);
    }
}

/* ---- Special values ----------------------------------------------------------------------------------- */

/* Weights and output rows of what sees one key are exact. */
static void exact_alone(sdpa_problem *problem, const attn_plan *plan) {
    run_ok(problem, plan);
    const size_t V = problem->outputs[SDPA_OUTPUT].count[3];
    for (size_t h = 0; h < 2; h++)
        for (size_t i = 0; i < 40; i++) {
            cr_assert(sdpa_get(&problem->outputs[SDPA_WEIGHTS], 0, h, i, i) == 1);
            for (size_t d = 0; d < V; d++)
                cr_assert(sdpa_get(&problem->outputs[SDPA_OUTPUT], 0, h, i, d) ==
                              sdpa_get(&problem->inputs[SDPA_V], 0, h, i, d),
                          "%s: row %zu", attn_plan_implementation(plan), i);
        }
}

Test(sdpa, one_attended_key_is_exact) {
    sdpa_problem *problem = sdpa_problem_make(case_of("window_itself_f32"), KIT_GUARD_BEHIND);
    on_each(problem, 1, exact_alone);
    sdpa_problem_free(problem);
}

/* NaN in a query reaches its row, in a key every row that sees it, in a value its column of those rows. */
static void nan_spreads(sdpa_problem *problem, const attn_plan *plan) {
    enum { HEAD = 1, AT = 3, COLUMN = 2 };
    double *const arrays[] = {problem->content.q, problem->content.k, problem->content.v};
    const size_t rows[] = {5, 7, 7};
    for (int which = 0; which < 3; which++) {
        double *element = &arrays[which][((0 * 3 + HEAD) * rows[which] + AT) * 8 + COLUMN], before = *element;
        *element = NAN;
        sdpa_problem_store(problem);
        run_ok(problem, plan);
        for (size_t h = 0; h < 3; h++)
            for (size_t i = 0; i < 5; i++)
                for (size_t d = 0; d < 8; d++) {
                    const bool expected = h == HEAD && (which == 0 ? i == AT : which == 1 || d == COLUMN);
                    const bool found = isnan(sdpa_get(&problem->outputs[SDPA_OUTPUT], 0, h, i, d));
                    cr_assert(found == expected, "%s: input %d, head %zu, row %zu, column %zu",
                              attn_plan_implementation(plan), which, h, i, d);
                }
        *element = before;
    }
    sdpa_problem_store(problem);
}

Test(sdpa, nan_spreads_as_promised) {
    sdpa_problem *problem = sdpa_problem_make(case_of("plain_f32"), KIT_GUARD_BEHIND);
    on_each(problem, 1, nan_spreads);
    sdpa_problem_free(problem);
}

/* A NaN query makes NaN of its weights where it attends, zeros where it does not. */
static void nan_weights(sdpa_problem *problem, const attn_plan *plan) {
    for (size_t d = 0; d < 16; d++) problem->content.q[4 * 16 + d] = NAN;
    sdpa_problem_store(problem);
    run_ok(problem, plan);
    for (size_t j = 0; j < 280; j++) {
        const double weight = sdpa_get(&problem->outputs[SDPA_WEIGHTS], 0, 0, 4, j);
        cr_assert(j <= 4 ? isnan(weight) : weight == 0, "%s: key %zu: %g", attn_plan_implementation(plan), j, weight);
    }
}

Test(sdpa, hidden_weights_stay_zero_beside_nan) {
    sdpa_problem *problem = sdpa_problem_make(case_of("causal_more_keys_f32"), KIT_GUARD_BEHIND);
    on_each(problem, 1, nan_weights);
    sdpa_problem_free(problem);
}

/* Queries that see nothing give zeros, whatever the others see. */
static void empty_rows(sdpa_problem *problem, const attn_plan *plan) {
    const size_t values = 2 * 2 * 19 * 8;
    double *before = memcpy(malloc(values * sizeof *before), problem->content.v, values * sizeof *before);
    for (size_t i = 0; i < values; i++) problem->content.v[i] = NAN;
    sdpa_problem_store(problem);
    run_ok(problem, plan);
    for (size_t h = 0; h < 2; h++)
        for (size_t i = 0; i < 7; i++)
            for (size_t d = 0; d < 8; d++) {
                const double value = sdpa_get(&problem->outputs[SDPA_OUTPUT], 0, h, i, d);
                cr_assert(i % 3 == 0 ? value == 0 : isnan(value), "%s: row %zu: %g", attn_plan_implementation(plan), i,
                          value);
            }
    memcpy(problem->content.v, before, values * sizeof *before);
    sdpa_problem_store(problem);
    free(before);
}

Test(sdpa, empty_rows_stay_zero_beside_nan) {
    sdpa_problem *problem = sdpa_problem_make(case_of("mask_empty_f32"), KIT_GUARD_BEHIND);
    on_each(problem, 1, empty_rows);
    sdpa_problem_free(problem);
}

/* A bias of +inf or NaN makes its row NaN, and no other. */
static void bias_spreads(sdpa_problem *problem, const attn_plan *plan) {
    static const double values[] = {INFINITY, NAN};
    for (size_t n = 0; n < 2; n++) {
        const size_t row = 2, key = 9;
        double *element = &problem->content.bias[row * 270 + key], before = *element;
        *element = values[n];
        sdpa_problem_store(problem);
        run_ok(problem, plan);
        for (size_t i = 0; i < 6; i++)
            cr_assert(isnan(sdpa_get(&problem->outputs[SDPA_OUTPUT], 0, 0, i, 0)) == (i == row), "%s: row %zu by %g",
                      attn_plan_implementation(plan), i, values[n]);
        *element = before;
    }
    sdpa_problem_store(problem);
}

Test(sdpa, a_bias_may_spoil_its_row) {
    sdpa_problem *problem = sdpa_problem_make(case_of("bias_f32"), KIT_GUARD_BEHIND);
    problem->content.k[9 * 8] = 1; /* seen by row 2 now, whatever the seed made of it */
    for (size_t d = 0; d < 8; d++) problem->content.k[9 * 8 + d] = problem->content.v[9 * 8 + d] = 0.5;
    on_each(problem, 1, bias_spreads);
    sdpa_problem_free(problem);
}

/* Keys behind an item's length, as NaN as they are, change no bit. */
static void appended_keys(sdpa_problem *problem, const attn_plan *plan) {
    enum { MORE = 70 };
    run_ok(problem, plan);
    sdpa_case spec = problem->spec;
    spec.keys += MORE;
    const size_t heads = 2, keys = (size_t)problem->spec.keys, width = 16;
    sdpa_content content = {0};
    const size_t queries = heads * 65 * width;
    content.q = memcpy(malloc(queries * sizeof(double)), problem->content.q, queries * sizeof(double));
    content.k = malloc(heads * (keys + MORE) * width * sizeof(double));
    content.v = malloc(heads * (keys + MORE) * width * sizeof(double));
    content.key_lengths = malloc(sizeof *content.key_lengths);
    content.key_lengths[0] = (int32_t)keys;
    for (size_t h = 0; h < heads; h++)
        for (size_t j = 0; j < keys + MORE; j++)
            for (size_t d = 0; d < width; d++) {
                const size_t to = (h * (keys + MORE) + j) * width + d, from = (h * keys + j) * width + d;
                content.k[to] = j < keys ? problem->content.k[from] : NAN;
                content.v[to] = j < keys ? problem->content.v[from] : NAN;
            }
    sdpa_problem *longer = sdpa_problem_from(&spec, &content, KIT_GUARD_BEHIND);
    attn_context *context = forced(1, attn_plan_implementation(plan));
    attn_plan *theirs = plan_for(context, longer);
    run_ok(longer, theirs);
    for (size_t h = 0; h < heads; h++)
        for (size_t i = 0; i < 65; i++)
            for (size_t d = 0; d < width; d++)
                cr_assert(sdpa_get(&longer->outputs[SDPA_OUTPUT], 0, h, i, d) ==
                              sdpa_get(&problem->outputs[SDPA_OUTPUT], 0, h, i, d),
                          "%s: row %zu", attn_plan_implementation(plan), i);
    attn_plan_destroy(theirs);
    attn_context_destroy(context);
    sdpa_problem_free(longer);
}

Test(sdpa, appended_keys_change_no_bit) {
    sdpa_case spec = *case_of("blocks_f32");
    spec.head_dim = spec.value_dim = 16;
    sdpa_problem *problem = sdpa_problem_make(&spec, KIT_GUARD_BEHIND);
    on_each(problem, 1, appended_keys);
    sdpa_problem_free(problem);
}

/* ---- Choice ----------------------------------------------------------------------------------------- */

typedef struct told {
    size_t chosen, count;
    char name[64];
} told;

static void listen(void *user, const char *implementation, int chosen, const char *refusal) {
    told *t = user;
    cr_assert(!(chosen && refusal));
    if (chosen) t->chosen++, snprintf(t->name, sizeof t->name, "%s", implementation);
    t->count++;
}

static attn_sdpa_desc small_desc(void) {
    attn_sdpa_desc desc = ATTN_SDPA_DESC_INIT;
    desc.batch = 2, desc.query_heads = 4, desc.key_heads = 2, desc.queries = 3, desc.keys = 5, desc.head_dim = 8;
    return desc;
}

Test(sdpa, explain_agrees_with_planning) {
    attn_context *context = kit_context(1, NULL);
    attn_sdpa_desc desc = small_desc();
    for (int dtype = ATTN_FLOAT32; dtype <= ATTN_FLOAT64; dtype++) {
        told t = {0};
        attn_plan *plan;
        desc.dtype = (attn_dtype)dtype;
        cr_assert(attn_sdpa_forward_explain(context, &desc, listen, &t) == ATTN_OK);
        cr_assert(attn_sdpa_forward_plan(context, &desc, &plan) == ATTN_OK);
        cr_assert(t.chosen == 1 && t.count >= 2 && !strcmp(t.name, attn_plan_implementation(plan)));
        attn_plan_destroy(plan);
    }
    attn_context_destroy(context);
}

Test(sdpa, a_forced_layer_implementation_has_no_sdpa) {
    attn_context *context = kit_context(1, "cpu:scalar:luong");
    attn_sdpa_desc desc = small_desc();
    attn_plan *plan;
    cr_assert(attn_sdpa_forward_plan(context, &desc, &plan) == ATTN_ERROR_UNSUPPORTED && !plan);
    cr_assert(strstr(attn_last_error_message(), "not the forced cpu:scalar:luong"), "%s", attn_last_error_message());
    attn_context_destroy(context);
}

Test(sdpa, batch_invariant_contexts_avoid_openblas) {
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.flags = ATTN_CONTEXT_BATCH_INVARIANT;
    attn_context *context;
    cr_assert(attn_context_create(&options, &context) == ATTN_OK);
    attn_sdpa_desc desc = small_desc();
    attn_plan *plan;
    cr_assert(attn_sdpa_forward_plan(context, &desc, &plan) == ATTN_OK);
    cr_assert(!strstr(attn_plan_implementation(plan), "openblas"), "%s", attn_plan_implementation(plan));
    attn_plan_destroy(plan);
    attn_context_destroy(context);
}

/* Memory does not grow with the lengths. */
Test(sdpa, workspace_is_bounded) {
    attn_context *context = kit_context(2, NULL);
    attn_sdpa_desc desc = small_desc();
    size_t sizes[2];
    for (int i = 0; i < 2; i++) {
        attn_plan *plan;
        desc.queries = desc.keys = i ? 1 << 20 : 1 << 12;
        cr_assert(attn_sdpa_forward_plan(context, &desc, &plan) == ATTN_OK, "%s", attn_last_error_message());
        sizes[i] = attn_plan_workspace_size(plan);
        attn_plan_destroy(plan);
    }
    /* A sum for each power of sixteen blocks of keys. */
    cr_assert(sizes[0] > 0 && sizes[1] <= 2 * sizes[0] && sizes[1] < 1 << 21, "%zu and %zu bytes", sizes[0], sizes[1]);
    attn_context_destroy(context);
}

/* ---- Faults ----------------------------------------------------------------------------------------- */

static void expect_desc(attn_context *context, const attn_sdpa_desc *desc, attn_status status, const char *text) {
    attn_plan *plan = (attn_plan *)&plan;
    const attn_status found = attn_sdpa_forward_plan(context, desc, &plan);
    cr_assert(found == status && !plan, "%s: status %d: %s", text, (int)found, attn_last_error_message());
    cr_assert(strstr(attn_last_error_message(), text), "%s: %s", text, attn_last_error_message());
}

#define BAD_DESC(field, value, status, text)                                                                           \
    do {                                                                                                               \
        attn_sdpa_desc bad = small_desc();                                                                             \
        bad.field = value;                                                                                             \
        expect_desc(context, &bad, status, text);                                                                      \
    } while (0)

Test(sdpa, faulty_descriptors) {
    attn_context *context = kit_context(1, NULL);
    expect_desc(context, NULL, ATTN_ERROR_INVALID_ARGUMENT, "desc: is NULL");
    BAD_DESC(struct_size, 8, ATTN_ERROR_INVALID_ARGUMENT, "desc.struct_size: is 8");
    BAD_DESC(flags, UINT64_C(1) << 40, ATTN_ERROR_UNSUPPORTED, "desc.flags: has unknown bits 0x10000000000");
    BAD_DESC(dtype, (attn_dtype)4, ATTN_ERROR_UNSUPPORTED, "desc.dtype: is 4");
    BAD_DESC(dtype, ATTN_FLOAT16, ATTN_ERROR_UNSUPPORTED, "the cpu backend has none for the sdpa forward in f16");
    BAD_DESC(causal, (attn_causal)3, ATTN_ERROR_UNSUPPORTED, "desc.causal: is 3");
    BAD_DESC(batch, -1, ATTN_ERROR_SHAPE, "desc.batch: is -1");
    BAD_DESC(query_heads, 5, ATTN_ERROR_SHAPE, "desc.query_heads: is 5, want a multiple of key_heads, 2");
    BAD_DESC(key_heads, -2, ATTN_ERROR_SHAPE, "desc.key_heads: is -2");
    BAD_DESC(queries, -1, ATTN_ERROR_SHAPE, "desc.queries: is -1");
    BAD_DESC(keys, -1, ATTN_ERROR_SHAPE, "desc.keys: is -1");
    BAD_DESC(head_dim, 0, ATTN_ERROR_SHAPE, "desc.head_dim: is 0, want at least 1");
    BAD_DESC(value_dim, -2, ATTN_ERROR_SHAPE, "desc.value_dim: is -2");
    BAD_DESC(window_left, -2, ATTN_ERROR_SHAPE, "desc.window_left: is -2");
    BAD_DESC(window_right, -7, ATTN_ERROR_SHAPE, "desc.window_right: is -7");
    BAD_DESC(scale, NAN, ATTN_ERROR_INVALID_ARGUMENT, "desc.scale: is nan");
    BAD_DESC(softcap, -1, ATTN_ERROR_INVALID_ARGUMENT, "desc.softcap: is -1");
    BAD_DESC(softcap, INFINITY, ATTN_ERROR_INVALID_ARGUMENT, "desc.softcap: is inf");
    BAD_DESC(batch, INT64_MAX, ATTN_ERROR_OVERFLOW, "batch * query_heads");
    BAD_DESC(keys, INT64_MAX / 2, ATTN_ERROR_OVERFLOW, "key_heads * keys");
    attn_sdpa_desc none = small_desc();
    none.batch = 0, none.queries = INT64_MAX; /* in any order of factors */
    expect_desc(context, &none, ATTN_ERROR_OVERFLOW, "queries");
    struct {
        attn_sdpa_desc desc;
        uint64_t more;
    } newer = {small_desc(), 0};
    newer.desc.struct_size = sizeof newer;
    attn_plan *plan;
    cr_assert(attn_sdpa_forward_plan(context, &newer.desc, &plan) == ATTN_OK);
    attn_plan_destroy(plan);
    newer.more = 1;
    expect_desc(context, &newer.desc, ATTN_ERROR_UNSUPPORTED, "desc: has a field that libattention");
    attn_sdpa_desc desc = small_desc();
    cr_assert(attn_sdpa_forward_plan(NULL, &desc, &plan) == ATTN_ERROR_INVALID_ARGUMENT);
    cr_assert(attn_sdpa_forward_plan(context, &desc, NULL) == ATTN_ERROR_INVALID_ARGUMENT);
    attn_context_destroy(context);
}

static sdpa_problem *fault_problem;
static attn_plan *fault_plan;

static void expect_args(const attn_sdpa_forward_args *args, attn_status status, const char *text) {
    sdpa_problem *p = fault_problem;
    for (int i = 0; i < SDPA_OUTPUTS; i++)
        memset(p->outputs[i].memory, 0xff, p->outputs[i].elements * p->outputs[i].element);
    const attn_status found = attn_sdpa_forward(fault_plan, args);
    cr_assert(found == status, "%s: status %d: %s", text, (int)found, attn_last_error_message());
    cr_assert(strstr(attn_last_error_message(), text), "%s: %s", text, attn_last_error_message());
    for (int i = 0; i < SDPA_OUTPUTS; i++)
        for (size_t j = 0; j < p->outputs[i].elements * p->outputs[i].element; j++)
            cr_assert((unsigned char)p->outputs[i].memory[j] == 0xff, "%s: wrote to output %d", text, i);
}

#define BAD_ARGS(field, value, status, text)                                                                           \
    do {                                                                                                               \
        attn_sdpa_forward_args bad = good;                                                                             \
        bad.field = value;                                                                                             \
        expect_args(&bad, status, text);                                                                               \
    } while (0)

Test(sdpa, faulty_arguments) {
    attn_context *context = kit_context(1, NULL);
    fault_problem = sdpa_problem_make(case_of("plain_f32"), KIT_GUARD_BEHIND);
    fault_plan = plan_for(context, fault_problem);
    attn_sdpa_forward_args good = fault_problem->args;
    good.workspace_size = attn_plan_workspace_size(fault_plan);
    char *workspace = aligned_alloc(ATTN_WORKSPACE_ALIGNMENT, good.workspace_size + ATTN_WORKSPACE_ALIGNMENT);
    good.workspace = workspace;
    expect_args(NULL, ATTN_ERROR_INVALID_ARGUMENT, "args: is NULL");
    BAD_ARGS(struct_size, 16, ATTN_ERROR_INVALID_ARGUMENT, "args.struct_size: is 16");
    BAD_ARGS(q, NULL, ATTN_ERROR_INVALID_ARGUMENT, "q: is NULL");
    BAD_ARGS(k, NULL, ATTN_ERROR_INVALID_ARGUMENT, "k: is NULL");
    BAD_ARGS(v, NULL, ATTN_ERROR_INVALID_ARGUMENT, "v: is NULL");
    BAD_ARGS(output, NULL, ATTN_ERROR_INVALID_ARGUMENT, "output: is NULL");
    BAD_ARGS(workspace, NULL, ATTN_ERROR_INVALID_ARGUMENT, "workspace: is NULL");
    BAD_ARGS(workspace, workspace + 1, ATTN_ERROR_ALIGNMENT, "workspace: is ");
    BAD_ARGS(workspace_size, good.workspace_size - 1, ATTN_ERROR_WORKSPACE, "workspace_size: is ");
    BAD_ARGS(q, (const char *)good.q + 1, ATTN_ERROR_ALIGNMENT, "q: is ");
    BAD_ARGS(q_row_stride, 7, ATTN_ERROR_SHAPE, "q_row_stride: is 7, want 0 (dense) or at least 8");
    BAD_ARGS(k_head_stride, -1, ATTN_ERROR_SHAPE, "k_head_stride: is -1");
    BAD_ARGS(v_batch_stride, INT64_MAX, ATTN_ERROR_OVERFLOW, "v: the last element");
    BAD_ARGS(output_head_stride, 39, ATTN_ERROR_OVERLAP, "output: its strides");
    BAD_ARGS(output, (void *)good.q, ATTN_ERROR_OVERLAP, "output: overlaps q");
    BAD_ARGS(lse, good.output, ATTN_ERROR_OVERLAP, "overlaps");
    BAD_ARGS(batch, 3, ATTN_ERROR_RANGE, "args.batch: is 3, want at most the planned 2");
    BAD_ARGS(queries, -2, ATTN_ERROR_SHAPE, "args.queries: is -2");
    BAD_ARGS(keys, 8, ATTN_ERROR_RANGE, "args.keys: is 8");
    BAD_ARGS(query_offset, INT64_MAX, ATTN_ERROR_RANGE, "args.query_offset: is ");
    BAD_ARGS(mask, (const uint8_t *)good.q, ATTN_ERROR_INVALID_ARGUMENT,
             "mask: is given, want NULL, for the plan's flags lack ATTN_SDPA_MASK");
    BAD_ARGS(bias, good.q, ATTN_ERROR_INVALID_ARGUMENT, "bias: is given");
    BAD_ARGS(key_lengths, good.q, ATTN_ERROR_INVALID_ARGUMENT, "key_lengths: is given");
    BAD_ARGS(alibi_slopes, good.q, ATTN_ERROR_INVALID_ARGUMENT, "alibi_slopes: is given");
    BAD_ARGS(sinks, good.q, ATTN_ERROR_INVALID_ARGUMENT, "sinks: is given");
    attn_layer_forward_args other = ATTN_LAYER_FORWARD_ARGS_INIT;
    cr_assert(attn_layer_forward(fault_plan, &other) == ATTN_ERROR_INVALID_ARGUMENT);
    cr_assert(strstr(attn_last_error_message(), "sdpa"), "%s", attn_last_error_message());
    cr_assert(attn_sdpa_forward(fault_plan, &good) == ATTN_OK, "%s", attn_last_error_message());
    attn_plan_destroy(fault_plan);
    sdpa_problem_free(fault_problem);
    attn_context_destroy(context);
    free(workspace);
}

Test(sdpa, faulty_lengths) {
    attn_context *context = kit_context(1, NULL);
    sdpa_problem *problem = sdpa_problem_make(case_of("lengths_f32"), KIT_GUARD_BEHIND);
    attn_plan *plan = plan_for(context, problem);
    static const int32_t bad[] = {-1, 17};
    for (size_t i = 0; i < 2; i++) {
        problem->key_lengths[3] = bad[i];
        cr_assert(sdpa_problem_run(problem, plan) == ATTN_ERROR_RANGE);
        cr_assert(strstr(attn_last_error_message(), "key_lengths[3]: is "), "%s", attn_last_error_message());
    }
    attn_plan_destroy(plan);
    sdpa_problem_free(problem);
    attn_context_destroy(context);
}

/* A mask's strides may be anything that is not negative. */
Test(sdpa, strides_of_masks) {
    attn_context *context = kit_context(1, NULL);
    sdpa_problem *problem = sdpa_problem_make(case_of("mask_f32"), KIT_GUARD_BEHIND);
    attn_plan *plan = plan_for(context, problem);
    problem->args.mask_key_stride = -1;
    cr_assert(sdpa_problem_run(problem, plan) == ATTN_ERROR_SHAPE);
    cr_assert(strstr(attn_last_error_message(), "mask_key_stride: is -1"), "%s", attn_last_error_message());
    problem->args.mask_key_stride = problem->args.mask_query_stride = problem->args.mask_batch_stride = 0;
    cr_assert(sdpa_problem_run(problem, plan) == ATTN_OK, "%s", attn_last_error_message());
    attn_plan_destroy(plan);
    sdpa_problem_free(problem);
    attn_context_destroy(context);
}

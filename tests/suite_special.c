/* SPDX-License-Identifier: Apache-2.0 */
/* The table of special values, on every implementation. */
#include "tests/suite.h"

#include <math.h>

/* A small problem whose memory a test may write into before it runs. */
typedef struct special {
    kit_problem *problem;
    attn_plan *plan;
    const char *name;
} special;

typedef void (*special_test)(special *s);

static kit_case shaped(attn_score score, attn_dtype dtype, int64_t B, int64_t T, int64_t D, int64_t U) {
    kit_case spec = {
        .row = "special", .score = score, .dtype = dtype, .batch = B, .timesteps = T, .features = D, .units = U};
    spec.queries = ATTN_LAST_STEP;
    spec.seed = 5;
    snprintf(spec.name, sizeof spec.name, "%s_special_%s", kit_score_name(score), kit_dtype_name(dtype));
    return spec;
}

/* Runs a test on every implementation of every score and dtype. */
static void on_all(special_test test, kit_case (*change)(kit_case)) {
    size_t ran = 0;
    for (int score = ATTN_SCORE_LUONG; score <= ATTN_SCORE_DOT; score++)
        for (int dtype = ATTN_FLOAT32; dtype <= ATTN_FLOAT64; dtype++) {
            const kit_case spec = change(shaped((attn_score)score, (attn_dtype)dtype, 3, 70, 20, 9));
            const char *names[WALK_IMPLEMENTATIONS];
            const size_t count = walk_usable(&spec, names);
            for (size_t i = 0; i < count; i++, ran++) {
                special s = {.problem = kit_problem_make(&spec, KIT_GUARD_BEHIND), .name = names[i]};
                s.plan = walk_plan(&s.problem->desc, names[i], 2);
                test(&s);
                attn_plan_destroy(s.plan);
                kit_problem_free(s.problem);
            }
        }
    cr_assert(ran >= 6, "only %zu runs", ran);
}

static kit_case as_is(kit_case spec) { return spec; }

static double element(const special *s, const void *memory, size_t i) {
    return s->problem->spec.dtype == ATTN_FLOAT32 ? (double)((const float *)memory)[i] : ((const double *)memory)[i];
}

static void set(const special *s, const void *memory, size_t i, double value) {
    if (s->problem->spec.dtype == ATTN_FLOAT32)
        ((float *)(uintptr_t)memory)[i] = (float)value;
    else
        ((double *)(uintptr_t)memory)[i] = value;
}

/* Runs over memory that the test has changed: nothing is compared with the reference. */
static void run(special *s) {
    cr_assert(kit_problem_run(s->problem, s->plan, KIT_ALL_OUTPUTS) == ATTN_OK, "%s: %s", s->name,
              attn_last_error_message());
}

/* How many of an item's elements of an output are NaN. */
static size_t count_nan(const special *s, const void *output, size_t width, size_t item) {
    size_t count = 0;
    for (size_t i = 0; i < width; i++) count += isnan(element(s, output, item * width + i)) != 0;
    return count;
}

/* ---- One key ------------------------------------------------------------------------------------------------- */

static kit_case one_key(kit_case spec) {
    spec.options = KIT_STARTS | KIT_LENGTHS; /* item 2 has the last step alone */
    return spec;
}

static void check_one_key(special *s) {
    run(s);
    const kit_case *spec = &s->problem->spec;
    const size_t T = (size_t)spec->timesteps, D = (size_t)spec->features;
    const double *h = s->problem->content.h + (2 * T + T - 1) * D;
    cr_assert(element(s, s->problem->args.attention_weights, 2 * T + T - 1) == 1,
              "%s: the weight of the only key is not 1", s->name);
    for (size_t d = 0; d < D; d++)
        cr_assert(element(s, s->problem->args.context, 2 * D + d) == h[d], "%s: the context is not the only key",
                  s->name);
}

Test(special, one_attended_key) { on_all(check_one_key, one_key); }

/* ---- No key ---------------------------------------------------------------------------------------------------- */

static void check_nothing(const special *s, size_t item, const char *what) {
    const kit_case *spec = &s->problem->spec;
    const size_t T = (size_t)spec->timesteps, D = (size_t)spec->features;
    for (size_t i = 0; i < T; i++)
        cr_assert(element(s, s->problem->args.attention_weights, item * T + i) == 0, "%s: %s: a weight is not 0",
                  s->name, what);
    for (size_t d = 0; d < D; d++)
        cr_assert(element(s, s->problem->args.context, item * D + d) == 0, "%s: %s: the context is not 0", s->name,
                  what);
    const double lse = element(s, s->problem->args.lse, item);
    cr_assert(isinf(lse) && lse < 0, "%s: %s: lse is %g", s->name, what, lse);
}

static void check_empty_range(special *s) {
    run(s);
    check_nothing(s, 1, "empty range");
    const size_t U = (size_t)s->problem->spec.units;
    for (size_t u = 0; u < U; u++)
        cr_assert(element(s, s->problem->args.output, U + u) == 0, "%s: the output of an empty range is not 0",
                  s->name);
}

Test(special, empty_range) { on_all(check_empty_range, one_key); }

static kit_case hide_all(kit_case spec) {
    spec.options = KIT_MASK | KIT_MASK_ALL;
    return spec;
}

/* h_t stays: the output is tanh([0 ; h_t] w_c), which is not 0 here and which the gates check. */
static void check_masked(special *s) {
    run(s);
    check_nothing(s, 2, "fully masked");
    const size_t U = (size_t)s->problem->spec.units;
    cr_assert(element(s, s->problem->args.output, 2 * U) != 0, "%s: h_t is lost behind the mask", s->name);
    const kit_verdict verdict = kit_problem_check(s->problem);
    cr_assert(verdict.error <= 1, "%s: %s", s->name, verdict.where);
}

Test(special, fully_masked) { on_all(check_masked, hide_all); }

static kit_case no_time(kit_case spec) {
    spec.timesteps = 0;
    return spec;
}

static void check_no_time(special *s) {
    run(s);
    for (size_t item = 0; item < 3; item++) check_nothing(s, item, "no timesteps");
    for (size_t i = 0; i < 3 * (size_t)s->problem->spec.units; i++)
        cr_assert(element(s, s->problem->args.output, i) == 0, "%s", s->name);
}

Test(special, no_timesteps) { on_all(check_no_time, no_time); }

/* ---- NaN and infinity -------------------------------------------------------------------------------------------- */

static void expect_nan_item(const special *s, size_t bad, const char *what) {
    const kit_case *spec = &s->problem->spec;
    const size_t D = (size_t)spec->features, U = (size_t)spec->units, T = (size_t)spec->timesteps;
    for (size_t item = 0; item < 3; item++) {
        const size_t weights = count_nan(s, s->problem->args.attention_weights, T, item),
                     lse = count_nan(s, s->problem->args.lse, 1, item);
        const size_t context = count_nan(s, s->problem->args.context, D, item),
                     output = count_nan(s, s->problem->args.output, U, item);
        const bool all = item == bad;
        cr_assert(weights == (all ? T : 0) && lse == all, "%s: %s: item %zu has %zu NaN weights, %zu lse", s->name,
                  what, item, weights, lse);
        cr_assert(context == (all ? D : 0) && output == (all ? U : 0),
                  "%s: %s: item %zu has %zu NaN of context, %zu of output", s->name, what, item, context, output);
    }
}

/* A NaN in one feature of one step makes that step's score NaN, and with it everything of the item, and of no other. */
static void check_nan_key(special *s) {
    const size_t T = (size_t)s->problem->spec.timesteps, D = (size_t)s->problem->spec.features;
    const size_t steps[] = {0, 1, T / 2, T - 2, T - 1}; /* the last is h_t too */
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        const size_t at = (T + steps[i]) * D + i;
        const double before = element(s, s->problem->args.h, at);
        set(s, s->problem->args.h, at, NAN);
        run(s);
        expect_nan_item(s, 1, "NaN in an attended step");
        set(s, s->problem->args.h, at, before);
    }
}

Test(special, nan_in_a_key) { on_all(check_nan_key, as_is); }

/* All steps of one item NaN. */
static void check_nan_item(special *s) {
    const size_t T = (size_t)s->problem->spec.timesteps, D = (size_t)s->problem->spec.features;
    for (size_t i = 0; i < T * D; i++) set(s, s->problem->args.h, i, NAN);
    run(s);
    expect_nan_item(s, 0, "NaN everywhere");
}

Test(special, nan_everywhere) { on_all(check_nan_item, as_is); }

static kit_case two_queries(kit_case spec) {
    spec.queries = 2;
    return spec;
}

/* A NaN in one query is seen in that query's row alone. */
static void check_nan_query(special *s) {
    const kit_case *spec = &s->problem->spec;
    const size_t D = (size_t)spec->features, U = (size_t)spec->units, T = (size_t)spec->timesteps;
    set(s, s->problem->args.query, (2 * 1 + 1) * D + 3, NAN);
    run(s);
    for (size_t row = 0; row < 6; row++) {
        const bool bad = row == 3;
        cr_assert(count_nan(s, s->problem->args.lse, 1, row) == bad &&
                      count_nan(s, s->problem->args.attention_weights, T, row) == (bad ? T : 0) &&
                      count_nan(s, s->problem->args.context, D, row) == (bad ? D : 0) &&
                      count_nan(s, s->problem->args.output, U, row) == (bad ? U : 0),
                  "%s: NaN in a query: row %zu", s->name, row);
    }
}

Test(special, nan_in_a_query) { on_all(check_nan_query, two_queries); }

/* Infinity promises non-finite results where it matters, no crash, and no harm to other items. */
static void check_infinity(special *s) {
    const kit_case *spec = &s->problem->spec;
    const size_t T = (size_t)spec->timesteps, D = (size_t)spec->features, U = (size_t)spec->units;
    for (int sign = -1; sign <= 1; sign += 2) {
        set(s, s->problem->args.h, (T + T - 1) * D + 2, sign * (double)INFINITY); /* h_t of item 1 */
        run(s);
        size_t finite = 0;
        for (size_t d = 0; d < D; d++) finite += isfinite(element(s, s->problem->args.context, D + d)) != 0;
        cr_assert(finite < D, "%s: infinity in h_t leaves no trace", s->name);
        for (size_t item = 0; item < 3; item += 2) {
            cr_assert(count_nan(s, s->problem->args.context, D, item) == 0 &&
                          count_nan(s, s->problem->args.output, U, item) == 0,
                      "%s", s->name);
            cr_assert(isfinite(element(s, s->problem->args.lse, item)), "%s", s->name);
        }
    }
}

static kit_case attentive(kit_case spec) {
    spec.scale = 0.1; /* even weights: the infinite step keeps some */
    return spec;
}

Test(special, infinity) { on_all(check_infinity, attentive); }

/* ---- Keys that nobody may see ------------------------------------------------------------------------------------- */

static kit_case two_queries_masked(kit_case spec) {
    spec.queries = 2;
    spec.options = KIT_STARTS | KIT_LENGTHS | KIT_MASK;
    return spec;
}

/* Whatever bytes lie in hidden steps, the results have the same bits. The kit has put NaN there. */
static void check_hidden(special *s) {
    const reference_input in = kit_problem_input(s->problem);
    bits before = run_bits(s->problem, s->plan);
    const double fills[] = {0, 1e30, -INFINITY};
    for (size_t f = 0; f < sizeof fills / sizeof *fills; f++) {
        for (size_t item = 0; item < in.batch; item++)
            for (size_t step = 0; step < in.timesteps; step++)
                for (size_t d = 0; d < in.features && !reference_attended(&in, item, 0, step); d++)
                    set(s, s->problem->args.h, (item * in.timesteps + step) * in.features + d, fills[f]);
        bits after = run_bits(s->problem, s->plan);
        cr_assert(bits_equal(&before, &after), "%s: hidden steps of %g change bits", s->name, fills[f]);
        bits_free(&after);
    }
    bits_free(&before);
}

Test(special, hidden_keys_change_nothing) { on_all(check_hidden, two_queries_masked); }

/* ---- Subnormal inputs ------------------------------------------------------------------------------------------------ */

static kit_case denormal(kit_case spec) {
    spec.scale = spec.dtype == ATTN_FLOAT32 ? 1e-41 : 1e-310;
    return spec;
}

static void check_subnormal(special *s) {
    run(s);
    const size_t D = (size_t)s->problem->spec.features, T = (size_t)s->problem->spec.timesteps;
    size_t zeros = 0;
    for (size_t i = 0; i < 3 * D; i++) {
        const double c = fabs(element(s, s->problem->args.context, i));
        cr_assert(c < 1e-37, "%s: a context of subnormal inputs is %g", s->name, c);
        zeros += c == 0;
    }
    cr_assert(zeros < 3 * D, "%s: contexts of subnormal inputs are flushed to zero", s->name);
    for (size_t i = 0; i < 3 * T; i++)
        cr_assert(fabs(element(s, s->problem->args.attention_weights, i) * (double)T - 1) < 1e-5,
                  "%s: weights of equal scores differ", s->name);
}

Test(special, subnormal_inputs) { on_all(check_subnormal, denormal); }

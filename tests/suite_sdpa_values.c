/* SPDX-License-Identifier: Apache-2.0 */
/* Values at the ends of the floating-point numbers in attention's optional inputs, in every combination with queries that attend to nothing; and
 * factors that the type can't hold. On every implementation, by the rules of attention/sdpa.h. */
#include "tests/kit_number.h"
#include "tests/sdpa_kit.h"
#include "tests/suite.h"

#include <float.h>
#include <math.h>

enum { IMPLEMENTATIONS = 16, HEADS = 2, QUERIES = 4 };

/* Numbers of both types by what they stand for; the first: none. */
enum { USUAL, MINUS_INFINITY, INFINITE, NOT_A_NUMBER, MINUS_ZERO, SUBNORMAL, LOWEST, LARGEST, VALUES };

static double special(int which, attn_dtype dtype) {
    const bool wide = dtype == ATTN_FLOAT64;
    const double most = wide ? DBL_MAX : (double)FLT_MAX;
    const double numbers[VALUES] = {0.5, -INFINITY, INFINITY, NAN, -0.0, wide ? 0x1p-1070 : 0x1p-140, -most, most};
    return numbers[which];
}

/* At the ends a slope makes scores that tie with such a sink but for what rounding takes: near them, then. */
static double special_slope(int which, attn_dtype dtype) {
    return which >= LOWEST ? special(which, dtype) * 0.75 : special(which, dtype);
}

/* 16-bit types have their own ends. */
static double special_bias(int which, attn_dtype dtype) {
    if (dtype == ATTN_FLOAT16 && which == SUBNORMAL) return 0x1p-24;
    if (dtype == ATTN_FLOAT16 && which >= LOWEST) return which == LOWEST ? -65504 : 65504;
    if (dtype == ATTN_BFLOAT16 && which == SUBNORMAL) return 0x1p-130;
    if (dtype == ATTN_BFLOAT16 && which >= LOWEST) return which == LOWEST ? -0x1.fep127 : 0x1.fep127;
    return special(which, dtype);
}

static const struct {
    const char *name;
    int64_t keys, offset, left;
    attn_causal causal;
    unsigned options;
} situations[] = {
    {"all attended", 37, 0, 0, ATTN_CAUSAL_NONE, 0},
    {"one block more", 300, 0, 0, ATTN_CAUSAL_NONE, SDPA_LENGTHS},
    {"lengths of 0", 5, 0, 0, ATTN_CAUSAL_NONE, SDPA_LENGTHS},
    {"no keys", 0, 0, 0, ATTN_CAUSAL_NONE, 0},
    {"causal before the first key", 5, -2, 0, ATTN_CAUSAL_TOP_LEFT, 0},
    {"a window behind the last key", 5, 4, 2, ATTN_CAUSAL_NONE, 0},
    {"a mask that hides rows", 19, 0, 0, ATTN_CAUSAL_NONE, SDPA_MASK | SDPA_MASK_EMPTY},
};
enum { SITUATIONS = sizeof situations / sizeof *situations };

/* The sink and the slope of the second head, the bias of one of its rows, and of one key of the first head's. */
static void set_values(sdpa_problem *p, int sink, int slope, int bias) {
    const attn_dtype number = p->spec.dtype == ATTN_FLOAT64 ? ATTN_FLOAT64 : ATTN_FLOAT32;
    p->content.sinks[1] = special(sink, number);
    p->content.alibi_slopes[1] = special_slope(slope, number);
    kit_put(number, p->sinks, 1, p->content.sinks[1]);
    kit_put(number, p->alibi_slopes, 1, p->content.alibi_slopes[1]);
    const size_t K = (size_t)p->spec.keys, rows = HEADS * QUERIES;
    for (size_t i = 0; i < (size_t)p->spec.batch * rows * K; i++) {
        const size_t row = i / K % rows;
        const bool chosen = row == QUERIES + 1 || (row == 2 && i % K == 3);
        p->content.bias[i] = chosen ? special_bias(bias, p->spec.dtype) : 0.25 * (double)(i % 7);
    }
    sdpa_problem_store(p);
    p->expected.output ? sdpa_reference(&p->desc, p->spec.offset, &p->content, &p->expected) : sdpa_problem_expect(p);
}

static void walk_values(attn_dtype dtype) {
    attn_context *any = kit_context(1, NULL);
    const char *names[IMPLEMENTATIONS];
    const size_t count = sdpa_implementations(any, dtype, names, IMPLEMENTATIONS);
    attn_context_destroy(any);
    for (size_t s = 0; s < SITUATIONS; s++) {
        const sdpa_case spec = {.name = "values",
                                .dtype = dtype,
                                .batch = 2,
                                .query_heads = HEADS,
                                .queries = QUERIES,
                                .keys = situations[s].keys,
                                .head_dim = 5,
                                .offset = situations[s].offset,
                                .left = situations[s].left,
                                .causal = situations[s].causal,
                                .seed = 11 + s,
                                .options = SDPA_BIAS | SDPA_ALIBI | SDPA_SINKS | situations[s].options};
        sdpa_problem *problem = sdpa_problem_make(&spec, KIT_GUARD_BEHIND);
        for (size_t i = 0; i < (size_t)(spec.batch * HEADS * spec.keys * spec.head_dim); i++) { /* all may be seen */
            if (isnan(problem->content.k[i])) problem->content.k[i] = 0.5;
            if (isnan(problem->content.v[i])) problem->content.v[i] = 0.5;
        }
        attn_plan *plans[IMPLEMENTATIONS];
        for (size_t i = 0; i < count; i++) {
            attn_context *context = kit_context(1, names[i]);
            if (attn_sdpa_forward_plan(context, &problem->desc, &plans[i])) plans[i] = NULL;
            attn_context_destroy(context);
        }
        for (int value = 0; value < VALUES * VALUES * VALUES; value++) {
            const int sink = value % VALUES, slope = value / VALUES % VALUES, bias = value / VALUES / VALUES;
            if (situations[s].keys > 100 && sink && slope && bias) continue; /* two at a time are slow enough there */
            set_values(problem, sink, slope, bias);
            for (size_t i = 0; i < count; i++) {
                if (!plans[i]) continue;
                cr_assert(sdpa_problem_run(problem, plans[i]) == ATTN_OK, "%s", attn_last_error_message());
                const kit_verdict verdict = sdpa_problem_check(problem);
                cr_assert(verdict.error <= 1, "%s, %s: sink %g, slope %g, bias %g: error/gate %g: %s", names[i],
                          situations[s].name, special(sink, dtype), special_slope(slope, dtype),
                          special_bias(bias, dtype), verdict.error, verdict.where);
            }
        }
        for (size_t i = 0; i < count; i++) attn_plan_destroy(plans[i]);
        sdpa_problem_free(problem);
    }
}

Test(sdpa_values, optional_inputs_in_float32) { walk_values(ATTN_FLOAT32); }

Test(sdpa_values, optional_inputs_in_float64) { walk_values(ATTN_FLOAT64); }

Test(sdpa_values, optional_inputs_in_float16) { walk_values(ATTN_FLOAT16); }

Test(sdpa_values, optional_inputs_in_bfloat16) { walk_values(ATTN_BFLOAT16); }

/* ---- Factors -------------------------------------------------------------------------------------------- */

static attn_status planned(sdpa_problem *problem, double scale, double softcap) {
    attn_sdpa_desc desc = problem->desc;
    desc.scale = scale, desc.softcap = softcap;
    attn_context *context = kit_context(1, NULL);
    attn_plan *plan;
    const attn_status status = attn_sdpa_forward_plan(context, &desc, &plan);
    attn_plan_destroy(plan);
    attn_context_destroy(context);
    return status;
}

Test(sdpa_values, factors_that_the_type_cannot_hold_are_refused) {
    static const double lost[] = {1e39, 1e60, 1e-40, -1e39, -1e-40, 1e300};
    for (size_t i = 0; i < sizeof lost / sizeof *lost; i++) {
        sdpa_problem *narrow = sdpa_problem_make(sdpa_find_case("plain_f32"), KIT_GUARD_BEHIND);
        cr_assert(planned(narrow, lost[i], 0) == ATTN_ERROR_INVALID_ARGUMENT, "scale %g", lost[i]);
        cr_assert(planned(narrow, 0, lost[i]) == ATTN_ERROR_INVALID_ARGUMENT, "softcap %g", lost[i]);
        sdpa_problem_free(narrow);
    }
    sdpa_problem *wide = sdpa_problem_make(sdpa_find_case("plain_f64"), KIT_GUARD_BEHIND);
    cr_assert(planned(wide, 1e60, 1e60) != ATTN_ERROR_INVALID_ARGUMENT);
    cr_assert(planned(wide, 0x1p-1070, 0) == ATTN_ERROR_INVALID_ARGUMENT);
    sdpa_problem_free(wide);
}

/* Those that it holds are right, on every implementation, to the ends of the numbers. */
static void healthy_with(attn_dtype dtype, double scale, double softcap) {
    sdpa_case spec = *sdpa_find_case(dtype == ATTN_FLOAT64 ? "plain_f64" : "plain_f32");
    spec.scale = scale, spec.softcap = softcap;
    if (scale != 0) spec.spread = 1 / fabs(scale) < 1e30 ? 1 / fabs(scale) : 1e30;
    sdpa_problem *problem = sdpa_problem_make(&spec, KIT_GUARD_BEHIND);
    attn_context *any = kit_context(1, NULL);
    const char *names[IMPLEMENTATIONS];
    const size_t count = sdpa_implementations(any, dtype, names, IMPLEMENTATIONS);
    attn_context_destroy(any);
    for (size_t i = 0; i < count; i++) {
        attn_context *context = kit_context(1, names[i]);
        attn_plan *plan;
        const attn_status status = attn_sdpa_forward_plan(context, &problem->desc, &plan);
        attn_context_destroy(context);
        if (status == ATTN_ERROR_UNSUPPORTED) continue;
        cr_assert(status == ATTN_OK && sdpa_problem_run(problem, plan) == ATTN_OK, "%s", attn_last_error_message());
        const kit_verdict verdict = sdpa_problem_check(problem);
        cr_assert(verdict.error <= 1, "%s: scale %g, softcap %g: error/gate %g: %s", names[i], scale, softcap,
                  verdict.error, verdict.where);
        attn_plan_destroy(plan);
    }
    sdpa_problem_free(problem);
}

Test(sdpa_values, factors_at_the_ends_of_the_numbers) {
    static const double caps[] = {0x1p-126, 1e-30, 1e-3, 1, 1e4, 1e10, 1e30, 1e38, 3.4e38};
    for (size_t i = 0; i < sizeof caps / sizeof *caps; i++) {
        healthy_with(ATTN_FLOAT32, 0, caps[i]);
        healthy_with(ATTN_FLOAT64, 0, caps[i]);
    }
    static const double scales[] = {1e-30, 1e-20, -1e-3, 1e3, 1e20, 1e30};
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++) {
        healthy_with(ATTN_FLOAT32, scales[i], 0);
        healthy_with(ATTN_FLOAT64, scales[i], 30);
    }
    healthy_with(ATTN_FLOAT64, 0, 0x1p-1022);
    healthy_with(ATTN_FLOAT64, 0, 1e308);
}

/* As many values as are attended, times the largest, stay finite: to there the sum does not overflow. */
Test(sdpa_values, large_values) {
    sdpa_case spec = *sdpa_find_case("plain_f32");
    sdpa_problem *problem = sdpa_problem_make(&spec, KIT_GUARD_BEHIND);
    const double most = (double)FLT_MAX / (double)spec.keys * 0.99;
    const size_t heads = (size_t)(spec.key_heads ? spec.key_heads : spec.query_heads);
    const size_t width = (size_t)sdpa_value_dim(&problem->desc);
    for (size_t i = 0; i < (size_t)spec.batch * heads * (size_t)spec.keys * width; i++)
        problem->content.v[i] = kit_round(ATTN_FLOAT32, i % 3 ? most : -most);
    sdpa_problem_store(problem);
    attn_context *any = kit_context(1, NULL);
    const char *names[IMPLEMENTATIONS];
    const size_t count = sdpa_implementations(any, spec.dtype, names, IMPLEMENTATIONS);
    attn_context_destroy(any);
    for (size_t i = 0; i < count; i++) {
        attn_context *context = kit_context(1, names[i]);
        attn_plan *plan;
        const attn_status status = attn_sdpa_forward_plan(context, &problem->desc, &plan);
        attn_context_destroy(context);
        if (status) continue;
        cr_assert(sdpa_problem_run(problem, plan) == ATTN_OK);
        const kit_verdict verdict = sdpa_problem_check(problem);
        cr_assert(verdict.error <= 1, "%s: error/gate %g: %s", names[i], verdict.error, verdict.where);
        attn_plan_destroy(plan);
    }
    sdpa_problem_free(problem);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Inputs for which the mathematics has an answer in exact numbers, and so must every implementation. */
#include "tests/suite.h"

#include <math.h>

static kit_case spec_of(attn_score score, attn_dtype dtype, int64_t T, int64_t D) {
    kit_case spec = {.row = "exact",
                     .score = score,
                     .dtype = dtype,
                     .batch = 3,
                     .timesteps = T,
                     .features = D,
                     .queries = ATTN_LAST_STEP};
    spec.seed = 11;
    snprintf(spec.name, sizeof spec.name, "%s_exact_%s", kit_score_name(score), kit_dtype_name(dtype));
    return spec;
}

typedef void (*filler)(const kit_case *spec, kit_content *content);

static void each(kit_case spec, filler fill, void (*check)(kit_problem *problem, const char *name)) {
    const char *names[WALK_IMPLEMENTATIONS];
    const size_t count = walk_usable(&spec, names);
    cr_assert(count > 0, "%s: no implementation", spec.name);
    for (size_t i = 0; i < count; i++) {
        kit_problem *plain = kit_problem_make(&spec, KIT_GUARD_BEHIND);
        kit_content content = plain->content;
        plain->content = (kit_content){0};
        kit_problem_free(plain);
        fill(&spec, &content);
        kit_problem *problem = kit_problem_from(&spec, &content, KIT_GUARD_BEHIND);
        attn_plan *plan = walk_plan(&problem->desc, names[i], 2);
        expect_healthy(problem, plan, "exact inputs");
        check(problem, names[i]);
        attn_plan_destroy(plan);
        kit_problem_free(problem);
    }
}

static void on_all(int64_t T, int64_t D, filler fill, void (*check)(kit_problem *, const char *)) {
    for (int score = ATTN_SCORE_LUONG; score <= ATTN_SCORE_DOT; score++)
        for (int dtype = ATTN_FLOAT32; dtype <= ATTN_FLOAT64; dtype++)
            each(spec_of((attn_score)score, (attn_dtype)dtype, T, D), fill, check);
}

static double at(const kit_problem *problem, const void *output, size_t i) {
    return problem->spec.dtype == ATTN_FLOAT32 ? (double)((const float *)output)[i] : ((const double *)output)[i];
}

/* Weights of zero make every score 0 where there are weights; dot gets a last step of zeros. */
static void zero_scores(const kit_case *spec, kit_content *c) {
    const size_t D = (size_t)spec->features, T = (size_t)spec->timesteps;
    for (size_t i = 0; c->luong_w && i < D * D; i++) c->luong_w[i] = 0;
    for (size_t i = 0; c->bahdanau_v && i < D; i++) c->bahdanau_v[i] = 0;
    for (size_t b = 0; b < 3; b++)
        for (size_t s = 0; s < T; s++)
            for (size_t d = 0; d < D; d++)
                c->h[(b * T + s) * D + d] = s + 1 == T ? 0 : (double)((s * 7 + d * 3 + b) % 17) - 8;
}

/* Equal scores over a power of two of integer rows: weights 1/T, a context of exact means, lse = log T. */
static void check_means(kit_problem *problem, const char *name) {
    const reference_input in = kit_problem_input(problem);
    for (size_t b = 0; b < in.batch; b++) {
        for (size_t s = 0; s < in.timesteps; s++)
            cr_assert(at(problem, problem->args.attention_weights, b * in.timesteps + s) == 1 / (double)in.timesteps,
                      "%s: weight", name);
        for (size_t d = 0; d < in.features; d++) {
            double sum = 0;
            for (size_t s = 0; s < in.timesteps; s++) sum += in.h[(b * in.timesteps + s) * in.features + d];
            cr_assert(at(problem, problem->args.context, b * in.features + d) == sum / (double)in.timesteps,
                      "%s: mean %zu", name, d);
        }
    }
}

Test(exact, means_of_integers) {
    const int64_t steps[] = {1, 2, 8, 64, 256, 1024};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) on_all(steps[i], 13, zero_scores, check_means);
}

static void constant_rows(const kit_case *spec, kit_content *c) {
    const size_t D = (size_t)spec->features, T = (size_t)spec->timesteps;
    for (size_t i = 0; i < 3 * T * D; i++) c->h[i] = 0.25 * (double)(i % D % 7) - 0.5;
}

/* Rows that are all the same: powers of two of equal weights, and the row comes back exactly. A BLAS computes the rows at the
 * edge of its tiles otherwise than those inside, so a composition has the gates alone. */
static void check_constant(kit_problem *problem, const char *name) {
    if (strstr(name, "openblas")) return;
    const reference_input in = kit_problem_input(problem);
    for (size_t i = 0; i < in.batch * in.features; i++)
        cr_assert(at(problem, problem->args.context, i) == in.h[i % in.features], "%s: context %zu is not the row",
                  name, i);
    for (size_t i = 0; i < in.batch * in.timesteps; i++)
        cr_assert(at(problem, problem->args.attention_weights, i) == 1 / (double)in.timesteps, "%s: weight %zu", name,
                  i);
}

Test(exact, constant_rows) {
    on_all(64, 24, constant_rows, check_constant);
    on_all(512, 5, constant_rows, check_constant);
}

static void one_hot_rows(const kit_case *spec, kit_content *c) {
    const size_t D = (size_t)spec->features, T = (size_t)spec->timesteps;
    for (size_t i = 0; i < 3 * T * D; i++) c->h[i] = i / D % T == i % D;
}

/* Row s is the s-th unit vector, T <= D: the context is the weights themselves, up to the rounding of a division. */
static void check_one_hot(kit_problem *problem, const char *name) {
    const reference_input in = kit_problem_input(problem);
    const double ulp = problem->spec.dtype == ATTN_FLOAT32 ? 0x1p-23 : 0x1p-52;
    for (size_t b = 0; b < in.batch; b++)
        for (size_t d = 0; d < in.features; d++) {
            const double c = at(problem, problem->args.context, b * in.features + d);
            const double p = d < in.timesteps ? at(problem, problem->args.attention_weights, b * in.timesteps + d) : 0;
            cr_assert(fabs(c - p) <= 4 * ulp * p, "%s: context %.9g, weight %.9g", name, c, p);
        }
}

Test(exact, one_hot_rows) { on_all(16, 24, one_hot_rows, check_one_hot); }

/* One score so far above the others that they vanish: the context is that row. */
static void one_winner(const kit_case *spec, kit_content *c) {
    const size_t D = (size_t)spec->features, T = (size_t)spec->timesteps;
    for (size_t i = 0; c->luong_w && i < D * D; i++) c->luong_w[i] = i % D == i / D;
    for (size_t i = 0; c->bahdanau_w1 && i < D * D; i++)
        c->bahdanau_w1[i] = 0, c->bahdanau_w2[i] = i % D == i / D ? 30 : 0;
    for (size_t d = 0; c->bahdanau_v && d < D; d++) c->bahdanau_v[d] = 1000;
    for (size_t i = 0; i < 3 * T * D; i++) {
        const size_t s = i / D % T;
        c->h[i] = s == T / 3 ? 40 : s + 1 == T ? 20 : -2;
    }
}

static void check_winner(kit_problem *problem, const char *name) {
    const reference_input in = kit_problem_input(problem);
    const bool additive = in.score == ATTN_SCORE_BAHDANAU; /* saturated: the winner and the last step share */
    for (size_t b = 0; b < in.batch; b++) {
        const double p = at(problem, problem->args.attention_weights, b * in.timesteps + in.timesteps / 3);
        cr_assert(p == (additive ? 0.5 : 1), "%s: the winner's weight is %.9g", name, p);
        for (size_t d = 0; d < in.features; d++)
            cr_assert(at(problem, problem->args.context, b * in.features + d) == (additive ? 30 : 40), "%s: context",
                      name);
    }
}

Test(exact, one_winner) { on_all(100, 20, one_winner, check_winner); }

/* SPDX-License-Identifier: Apache-2.0 */
/* The gates themselves: healthy arithmetic passes them, arithmetic that is wrong by a little does not. The wrong arithmetic is
 * made here, by running the definition in it. */
#include "tests/suite.h"

#include <math.h>

/* ---- The definition in other arithmetics -------------------------------------------------------------------- */

#define REAL float
#define LAYER(part) single_##part
#define EXP expf
#define TANH tanhf
#define LOG logf
#include "tests/reference_layer.h"
#undef REAL
#undef LAYER
#undef EXP
#undef TANH
#undef LOG

/* tanh off by 1e-3 */
#define REAL double
#define LAYER(part) coarse_tanh_##part
#define EXP exp
#define TANH(x) (tanh(x) * (1 + 1e-3))
#define LOG log
#include "tests/reference_layer.h"
#undef LAYER
#undef EXP
#undef TANH

/* exp off by 1e-3: what a polynomial of too low a degree does; the sign alternates, for a common factor cancels */
#define LAYER(part) coarse_exp_##part
#define EXP(x) (exp(x) * (1 + 1e-3 * sin(64 * (double)(x))))
#define TANH tanh
#include "tests/reference_layer.h"

typedef void (*layer)(const reference_input *, const reference_result *);

/* ---- Judging -------------------------------------------------------------------------------------------------- */

typedef struct judged {
    kit_problem *problem;
    reference_input input;
    kit_results results;
    size_t counts[4];
} judged;

static judged prepare(const char *name) {
    judged j = {.problem = kit_problem_make(find_case(name), KIT_GUARD_BEHIND)};
    kit_problem_expect(j.problem);
    j.input = kit_problem_input(j.problem);
    const size_t rows = j.input.batch * j.input.queries;
    const size_t counts[4] = {rows * j.input.units, rows * j.input.features, rows * j.input.timesteps, rows};
    memcpy(j.counts, counts, sizeof counts);
    long double **const arrays[4] = {&j.results.output, &j.results.context, &j.results.attention_weights,
                                     &j.results.lse};
    for (int i = 0; i < 4; i++) *arrays[i] = calloc(counts[i] + 1, sizeof **arrays[i]);
    return j;
}

static void release(judged *j) {
    free(j->results.output);
    free(j->results.context);
    free(j->results.attention_weights);
    free(j->results.lse);
    kit_problem_free(j->problem);
}

/* The largest error over gate of each result of the layer in another arithmetic. */
static void judge(judged *j, layer run, const reference_input *input, double worst[4]) {
    const reference_result result = {j->results.output, j->results.context, j->results.attention_weights,
                                     j->results.lse};
    run(input, &result);
    const long double *const got[4] = {result.output, result.context, result.attention_weights, result.lse};
    const kit_results *e = &j->problem->expected;
    const long double *const want[4] = {e->output, e->context, e->attention_weights, e->lse};
    const gates *g = &j->problem->gates;
    const double *const limits[4] = {g->output, g->context, g->attention_weights, g->lse};
    for (int i = 0; i < 4; i++) {
        worst[i] = 0;
        for (size_t k = 0; k < j->counts[i]; k++) {
            const double error = gates_error(got[i][k], want[i][k], limits[i][k]);
            worst[i] = error > worst[i] ? error : worst[i];
        }
    }
}

static double largest(const double worst[4]) {
    double all = 0;
    for (int i = 0; i < 4; i++) all = worst[i] > all ? worst[i] : all;
    return all;
}

/* The additive score's gate grows with the width of the sums faster than errors that partly cancel do: at D = 100 it lets TF32's pass
 * where bfloat16's fail, so each kernel family shows its bite on the narrower cases. */
static const char *const narrow[] = {"luong_d8_f32",       "luong_d17_f32",   "luong_t500_f32",   "luong_d64_f32",
                                     "luong_imdb_one_f32", "bahdanau_d8_f32", "bahdanau_d17_f32", "bahdanau_t500_f32",
                                     "dot_d8_f32",         "dot_t500_f32",    "dot_d64_f32"};
static const char *const all[] = {
    "luong_d8_f32",       "luong_d17_f32",         "luong_t500_f32",   "luong_d48_f32",     "luong_d64_f32",
    "luong_imdb_one_f32", "bahdanau_d8_f32",       "bahdanau_d17_f32", "bahdanau_t500_f32", "bahdanau_d48_f32",
    "bahdanau_d64_f32",   "bahdanau_imdb_one_f32", "dot_d8_f32",       "dot_t500_f32",      "dot_d64_f32"};
enum { NARROW = sizeof narrow / sizeof *narrow, ALL = sizeof all / sizeof *all };

Test(gates, float32_arithmetic_passes) {
    for (size_t i = 0; i < ALL; i++) {
        judged j = prepare(all[i]);
        double worst[4];
        judge(&j, single_layer, &j.input, worst);
        cr_assert(largest(worst) < 1, "%s: %g %g %g %g", all[i], worst[0], worst[1], worst[2], worst[3]);
        cr_assert(largest(worst) > 1e-4, "%s: a gate that float32 does not come near: %g", all[i], largest(worst));
        release(&j);
    }
}

/* Every input of every product rounded to the given number of mantissa bits. */
static double *rounded(const double *from, size_t count, int mantissa_bits) {
    if (!from) return NULL;
    double *to = malloc((count + 1) * sizeof *to);
    for (size_t i = 0; i < count; i++) {
        int exponent;
        const double fraction = frexp(from[i], &exponent);
        to[i] = ldexp(nearbyint(ldexp(fraction, mantissa_bits + 1)), exponent - mantissa_bits - 1);
    }
    return to;
}

static double judge_rounded(const char *name, int mantissa_bits) {
    judged j = prepare(name);
    const reference_input *in = &j.input;
    const size_t D = in->features, Dq = in->query_features, A = in->score_width;
    double *const copies[] = {
        rounded(in->h, in->batch * in->timesteps * D, mantissa_bits), rounded(in->luong_w, D * Dq, mantissa_bits),
        rounded(in->bahdanau_w1, Dq * A, mantissa_bits), rounded(in->bahdanau_w2, D * A, mantissa_bits),
        rounded(in->w_c, (D + Dq) * in->units, mantissa_bits)};
    reference_input coarse = *in;
    coarse.h = copies[0], coarse.luong_w = copies[1], coarse.bahdanau_w1 = copies[2], coarse.bahdanau_w2 = copies[3],
    coarse.w_c = copies[4];
    double worst[4];
    judge(&j, reference_layer_float64, &coarse, worst);
    for (size_t i = 0; i < sizeof copies / sizeof *copies; i++) free(copies[i]);
    release(&j);
    return largest(worst);
}

Test(gates, tf32_fails) {
    for (size_t i = 0; i < NARROW; i++)
        cr_assert(judge_rounded(narrow[i], 10) > 1, "%s: %g", narrow[i], judge_rounded(narrow[i], 10));
}

Test(gates, bfloat16_fails) {
    for (size_t i = 0; i < ALL; i++)
        cr_assert(judge_rounded(all[i], 7) > 1, "%s: %g", all[i], judge_rounded(all[i], 7));
}

Test(gates, coarse_tanh_fails) {
    for (size_t i = 0; i < ALL; i++) {
        judged j = prepare(all[i]);
        double worst[4];
        judge(&j, coarse_tanh_layer, &j.input, worst);
        cr_assert(worst[0] > 1, "%s: output %g", all[i], worst[0]);
        release(&j);
    }
}

/* tanh inside the score, seen in the results that come before the output's own tanh. */
Test(gates, coarse_tanh_in_the_score_fails) {
    for (size_t i = 0; i < NARROW; i++) {
        if (strncmp(narrow[i], "bahdanau", 8)) continue;
        judged j = prepare(narrow[i]);
        double worst[4];
        judge(&j, coarse_tanh_layer, &j.input, worst);
        const double before = worst[1] > worst[2] ? worst[1] : worst[2];
        cr_assert((before > worst[3] ? before : worst[3]) > 1, "%s: %g %g %g", narrow[i], worst[1], worst[2], worst[3]);
        release(&j);
    }
}

Test(gates, coarse_exp_fails) {
    for (size_t i = 0; i < NARROW; i++) {
        judged j = prepare(narrow[i]);
        double worst[4];
        judge(&j, coarse_exp_layer, &j.input, worst);
        cr_assert(worst[2] > 1, "%s: weights %g", narrow[i], worst[2]);
        release(&j);
    }
}

/* One row of H left out, or one wrong weight, is refused in the element where it happens. */
Test(gates, a_wrong_row_fails) {
    for (size_t i = 0; i < ALL; i++) {
        judged j = prepare(all[i]);
        uint8_t *mask = malloc(j.input.batch * j.input.timesteps);
        memset(mask, 1, j.input.batch * j.input.timesteps);
        mask[j.input.timesteps / 2] = 0;
        reference_input without = j.input;
        without.mask = mask;
        double worst[4];
        judge(&j, reference_layer_float64, &without, worst);
        cr_assert(worst[2] > 1, "%s: %g", all[i], worst[2]);
        free(mask);
        release(&j);
    }
}

Test(gates, nan_and_infinity_must_match) {
    cr_assert(gates_error(NAN, NAN, 1) == 0 && isinf(gates_error(NAN, 1, 1)) && isinf(gates_error(1, NAN, 1)));
    cr_assert(gates_error(-INFINITY, -INFINITY, 1) == 0 && isinf(gates_error(INFINITY, -INFINITY, 1)) &&
              isinf(gates_error(1, INFINITY, 1)));
    cr_assert(gates_error(1, 1, 0) == 0 && isinf(gates_error(1, 2, 0)) && isinf(gates_error(1, 2, NAN)) &&
              gates_error(1, 1.5L, 1) == 0.5);
}

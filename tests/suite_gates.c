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
#include "tests/reference_backward.h"
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
#include "tests/reference_backward.h"
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

enum { COPIES = 5 };

static reference_input rounded_input(const reference_input *in, int mantissa_bits, double *copies[COPIES]) {
    const size_t D = in->features, Dq = in->query_features, A = in->score_width;
    copies[0] = rounded(in->h, in->batch * in->timesteps * D, mantissa_bits);
    copies[1] = rounded(in->luong_w, D * Dq, mantissa_bits);
    copies[2] = rounded(in->bahdanau_w1, Dq * A, mantissa_bits);
    copies[3] = rounded(in->bahdanau_w2, D * A, mantissa_bits);
    copies[4] = rounded(in->w_c, (D + Dq) * in->units, mantissa_bits);
    reference_input coarse = *in;
    coarse.h = copies[0], coarse.luong_w = copies[1], coarse.bahdanau_w1 = copies[2], coarse.bahdanau_w2 = copies[3],
    coarse.w_c = copies[4];
    return coarse;
}

static double judge_rounded(const char *name, int mantissa_bits) {
    judged j = prepare(name);
    double worst[4], *copies[COPIES];
    const reference_input coarse = rounded_input(&j.input, mantissa_bits, copies);
    judge(&j, reference_layer_float64, &coarse, worst);
    for (size_t i = 0; i < COPIES; i++) free(copies[i]);
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

/* ---- Gradients ------------------------------------------------------------------------------------------------------------ */

enum { GRADIENTS = 7 };
typedef void (*backward)(const reference_input *, const reference_result *, const reference_incoming *, bool,
                         const reference_gradients *);

/* The layer's two passes in one arithmetic, on inputs that were rounded or not. */
typedef struct arithmetic {
    layer forward;
    backward backward;
    int mantissa_bits; /* of the inputs; 0: all */
} arithmetic;

static const arithmetic in_float32 = {single_layer, single_backward, 0},
                        in_tf32 = {reference_layer_float64, reference_backward_float64, 10},
                        in_bfloat16 = {reference_layer_float64, reference_backward_float64, 7},
                        with_coarse_tanh = {coarse_tanh_layer, coarse_tanh_backward, 0},
                        with_coarse_exp = {coarse_exp_layer, reference_backward_float64, 0};

/* The largest error over gate of each gradient, from that of the output. */
static void judge_gradients(const char *name, const arithmetic *how, double worst[GRADIENTS]) {
    judged j = prepare(name);
    double *from = malloc(j.counts[0] * sizeof *from), *copies[COPIES] = {0};
    for (size_t i = 0; i < j.counts[0]; i++) from[i] = (double)(float)sin((double)(7 * i + 1));
    kit_problem_set_incoming(j.problem, KIT_OUTPUT, from);
    const reference_input in = how->mantissa_bits ? rounded_input(&j.input, how->mantissa_bits, copies) : j.input;
    double *given = rounded(from, j.counts[0], how->mantissa_bits ? how->mantissa_bits : 52);
    const reference_result forward = {j.results.output, j.results.context, j.results.attention_weights, j.results.lse};
    how->forward(&in, &forward);
    long double *got[GRADIENTS], *want[GRADIENTS];
    size_t counts[GRADIENTS];
    for (int g = 0; g < GRADIENTS; g++) {
        want[g] = kit_problem_expected_gradient(j.problem, KIT_OUTPUT, 1u << g, &counts[g]);
        got[g] = calloc(counts[g] + 1, sizeof *got[g]);
    }
    how->backward(&in, &forward, &(reference_incoming){.output = given}, false,
                  &(reference_gradients){got[0], got[1], got[2], got[3], got[4], got[5], got[6]});
    for (int g = 0; g < GRADIENTS; g++) {
        const double *gate = kit_problem_gradient_gates(j.problem, 1u << g);
        worst[g] = 0;
        for (size_t i = 0; i < counts[g]; i++) {
            const double error = gates_error(got[g][i], want[g][i], gate[i]);
            worst[g] = error > worst[g] ? error : worst[g];
        }
        free(got[g]);
    }
    for (size_t i = 0; i < COPIES; i++) free(copies[i]);
    free(given);
    free(from);
    release(&j);
}

/* What each rounding of the inputs must fail. A gradient's gate takes every term at its absolute value, and differences as sums, while
 * errors partly cancel over rows, items and features, and bfloat16's are eight times TF32's. So TF32 passes where many terms are summed: in h
 * from D = 48 on (luong) or 17 (bahdanau), in luong_w from T = 500, in the additive score's weights everywhere but on few_terms, the case
 * that was made for them. The output's own gradient, w_c's, has no such sums before it. */
enum {
    BY_H = KIT_GRAD_H,
    BY_QUERY = KIT_GRAD_QUERY,
    BY_K = KIT_GRAD_LUONG_W,
    BY_W1 = KIT_GRAD_W1,
    BY_W2 = KIT_GRAD_W2,
    BY_V = KIT_GRAD_V,
    BY_W_C = KIT_GRAD_W_C
};
static const struct bite {
    const char *name;
    unsigned tf32, bfloat16;
} bites[] = {
    {"luong_odd_f32", BY_H | BY_K | BY_W_C, BY_H | BY_K | BY_W_C},
    {"luong_few_terms_f32", BY_H | BY_K | BY_W_C, BY_H | BY_K | BY_W_C},
    {"luong_d8_f32", BY_H | BY_K | BY_W_C, BY_H | BY_K | BY_W_C},
    {"luong_d17_f32", BY_H | BY_K | BY_W_C, BY_H | BY_K | BY_W_C},
    {"luong_d64_f32", BY_W_C, BY_W_C},
    {"luong_t500_f32", BY_H | BY_W_C, BY_H | BY_K | BY_W_C},
    {"luong_imdb_one_f32", BY_W_C, BY_W_C},
    {"luong_queries_mask_f32", BY_H | BY_QUERY | BY_K | BY_W_C, BY_H | BY_QUERY | BY_K | BY_W_C},
    {"bahdanau_few_terms_f32", BY_H | BY_W1 | BY_W2 | BY_V | BY_W_C, BY_H | BY_W1 | BY_W2 | BY_V | BY_W_C},
    {"bahdanau_odd_f32", BY_H | BY_V | BY_W_C, BY_H | BY_W1 | BY_W2 | BY_V | BY_W_C},
    {"bahdanau_d17_f32", BY_W_C, BY_H | BY_W_C},
    {"bahdanau_t500_f32", BY_W_C, BY_H | BY_W_C},
    {"bahdanau_query_f32", BY_H | BY_W_C, BY_H | BY_QUERY | BY_W1 | BY_W2 | BY_V | BY_W_C},
    {"bahdanau_imdb_one_f32", 0, BY_W_C},
    {"dot_d8_f32", BY_H | BY_W_C, BY_H | BY_W_C},
    {"dot_t500_f32", BY_H | BY_W_C, BY_H | BY_W_C},
    {"dot_d64_f32", BY_H | BY_W_C, BY_H | BY_W_C},
    {"dot_query_f32", BY_H | BY_QUERY | BY_W_C, BY_H | BY_QUERY | BY_W_C},
};
enum { BITES = sizeof bites / sizeof *bites };

static void expect_bite(const char *name, const arithmetic *how, unsigned wanted) {
    double worst[GRADIENTS];
    judge_gradients(name, how, worst);
    for (int g = 0; g < GRADIENTS; g++)
        cr_assert(!(wanted & 1u << g) || worst[g] > 1, "%s: gradient %d: %g", name, g, worst[g]);
}

Test(gates, tf32_fails_gradients) {
    for (size_t i = 0; i < BITES; i++) expect_bite(bites[i].name, &in_tf32, bites[i].tf32);
}

Test(gates, bfloat16_fails_gradients) {
    for (size_t i = 0; i < BITES; i++) expect_bite(bites[i].name, &in_bfloat16, bites[i].bfloat16);
}

/* tanh in both passes. */
Test(gates, coarse_tanh_fails_gradients) {
    for (size_t i = 0; i < NARROW; i++) expect_bite(narrow[i], &with_coarse_tanh, BY_W_C);
    expect_bite("bahdanau_few_terms_f32", &with_coarse_tanh, BY_H | BY_V | BY_W_C);
    expect_bite("bahdanau_odd_f32", &with_coarse_tanh, BY_H | BY_W1 | BY_W2 | BY_V | BY_W_C);
}

/* Weights of a coarse exp, and the exact gradients of these. */
Test(gates, coarse_exp_fails_gradients) {
    for (size_t i = 0; i < NARROW; i++)
        if (strncmp(narrow[i], "bahdanau", 8)) expect_bite(narrow[i], &with_coarse_exp, BY_W_C);
    expect_bite("bahdanau_d8_f32", &with_coarse_exp, BY_H | BY_W_C);
}

Test(gates, float32_gradients_pass) {
    for (size_t i = 0; i < BITES + ALL; i++) {
        const char *name = i < BITES ? bites[i].name : all[i - BITES];
        double worst[GRADIENTS], most = 0;
        judge_gradients(name, &in_float32, worst);
        for (int g = 0; g < GRADIENTS; g++) most = worst[g] > most ? worst[g] : most;
        cr_assert(most < 1 && most > 1e-4, "%s: %g", name, most);
    }
}

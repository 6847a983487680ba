/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels' own exp and tanh against the C library's in double precision: a sample of the floats, or with ATTN_TEST_SLOW
 * in the environment all 2^32 of them; float64 against long double. Prints the largest errors found. */
#include "cpu/kernels.h"
#include "tests/suite.h"

#include <math.h>

static const double TANH_ULP = 3, EXP_ULP = 2;

static const attn_kernels *const tables[] = {
    &attn_kernels_scalar,
#if defined(__x86_64__)
    &attn_kernels_avx2,
    &attn_kernels_avx512,
#endif
};

typedef void (*visitor)(const attn_kernels *table);

/* The tables that the machine can run and ATTN_CPU_ISA allows. */
static void each_table(visitor visit) {
    attn_context *context = kit_context(1, NULL);
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        visit(tables[i]);
        if (!strcmp(tables[i]->isa, attn_context_isa(context))) break;
    }
    attn_context_destroy(context);
}

enum { BLOCK = 4096 };

/* The distance in units of the last place of the exact value. */
static double ulps32(float got, double exact) {
    if (isnan(exact) || isinf(exact)) return (isnan(got) && isnan(exact)) || (double)got == exact ? 0 : INFINITY;
    if (isinf(got)) return fabs(exact) >= 0x1.ffffffp127 ? 0 : INFINITY;
    int exponent;
    frexp(exact, &exponent);
    return fabs((double)got - exact) / ldexp(1, (exponent < -125 ? -125 : exponent) - 24);
}

static void fill_block(float *x, uint64_t first, uint64_t step) {
    for (uint64_t i = 0; i < BLOCK; i++) {
        const uint32_t bits_of = (uint32_t)(first + i * step);
        memcpy(&x[i], &bits_of, sizeof bits_of);
    }
}

/* Every step-th float; the step is odd in the sample, so that all exponents and many mantissas come up. */
static uint64_t sample_step(void) { return getenv("ATTN_TEST_SLOW") ? 1 : 997; }

static void check_tanh(const attn_kernels *table) {
    static float x[BLOCK], y[BLOCK];
    const uint64_t step = sample_step();
    double worst = 0;
    for (uint64_t first = 0; first < UINT64_C(1) << 32; first += BLOCK * step) {
        fill_block(x, first, step);
        table->f32.tanh_row(x, y, BLOCK);
        for (int i = 0; i < BLOCK; i++) {
            const double error = ulps32(y[i], tanh((double)x[i]));
            worst = error > worst ? error : worst;
            cr_assert(error <= TANH_ULP, "%s: tanh(%.9g) is %.9g, off by %g ulp", table->isa, (double)x[i],
                      (double)y[i], error);
            cr_assert(isnan(x[i]) || (fabsf(y[i]) <= 1 && signbit(y[i]) == signbit(x[i])), "%s: tanh(%.9g) is %.9g",
                      table->isa, (double)x[i], (double)y[i]);
        }
    }
    fprintf(stderr, "%s: tanh, float32, step %llu: %.3f ulp\n", table->isa, (unsigned long long)step, worst);
}

Test(math, tanh_f32) { each_table(check_tanh); }

/* A row's softmax subtracts its largest score: with a 0 among them and nothing above, what comes back is exp. */
static void check_exp(const attn_kernels *table) {
    static float x[BLOCK], y[BLOCK];
    const uint64_t step = sample_step(), first_negative = UINT64_C(1) << 31;
    double worst = 0;
    for (uint64_t first = first_negative; first < UINT64_C(1) << 32; first += (BLOCK - 1) * step) {
        float maximum, sum;
        fill_block(x, first, step);
        for (int i = 0; i < BLOCK; i++)
            if (!(x[i] <= 0)) x[i] = 0; /* NaN, and past the last float */
        x[BLOCK - 1] = 0;
        memcpy(y, x, sizeof x);
        table->f32.softmax_row(y, BLOCK, &maximum, &sum);
        cr_assert(maximum == 0, "%s: maximum %g", table->isa, (double)maximum);
        for (int i = 0; i < BLOCK; i++) {
            const double error = ulps32(y[i], exp((double)x[i]));
            worst = error > worst ? error : worst;
            cr_assert(error <= EXP_ULP, "%s: exp(%.9g) is %.9g, off by %g ulp", table->isa, (double)x[i], (double)y[i],
                      error);
        }
    }
    fprintf(stderr, "%s: exp, float32, step %llu: %.3f ulp\n", table->isa, (unsigned long long)step, worst);
}

Test(math, exp_f32) { each_table(check_exp); }

/* ---- float64 ----------------------------------------------------------------------------------------------------------- */

static double ulps64(double got, long double exact) {
    int exponent;
    frexpl(exact, &exponent);
    return (double)(fabsl((long double)got - exact) / ldexpl(1, (exponent < -1021 ? -1021 : exponent) - 53));
}

/* Arguments over all magnitudes that matter, and dense where the functions bend. */
static double argument(uint64_t i, double largest) {
    const double u = (double)(i * UINT64_C(0x9e3779b97f4a7c15) >> 11) * 0x1p-53;
    return i % 2 ? largest * u : ldexp(1 + u, (int)(i / 2 % 80) - 75);
}

static void check_f64(const attn_kernels *table) {
    static double x[BLOCK], y[BLOCK];
    double worst_tanh = 0, worst_exp = 0;
    const uint64_t blocks = getenv("ATTN_TEST_SLOW") ? 20000 : 100;
    for (uint64_t b = 0; b < blocks; b++) {
        for (uint64_t i = 0; i < BLOCK; i++) x[i] = argument(b * BLOCK + i, 25) * (i & 4 ? -1 : 1);
        table->f64.tanh_row(x, y, BLOCK);
        for (int i = 0; i < BLOCK; i++) worst_tanh = fmax(worst_tanh, ulps64(y[i], tanhl((long double)x[i])));
        double maximum, sum;
        for (uint64_t i = 0; i < BLOCK; i++) x[i] = -fmin(argument(b * BLOCK + i, 700), 708);
        x[0] = 0;
        memcpy(y, x, sizeof x);
        table->f64.softmax_row(y, BLOCK, &maximum, &sum);
        for (int i = 0; i < BLOCK; i++) worst_exp = fmax(worst_exp, ulps64(y[i], expl((long double)x[i])));
    }
    fprintf(stderr, "%s: float64: tanh %.3f ulp, exp %.3f ulp\n", table->isa, worst_tanh, worst_exp);
    cr_assert(worst_tanh <= 3 && worst_exp <= 2, "%s: tanh %g ulp, exp %g ulp", table->isa, worst_tanh, worst_exp);
}

Test(math, float64) { each_table(check_f64); }

static void check_special(const attn_kernels *table) {
    float x[8] = {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 1e-45f, -1e-45f, 1e30f}, y[8];
    table->f32.tanh_row(x, y, 8);
    cr_assert(y[0] == 0 && !signbit(y[0]) && y[1] == 0 && signbit(y[1]), "%s: tanh of zeros", table->isa);
    cr_assert(y[2] == 1 && y[3] == -1 && isnan(y[4]) && y[5] == 1e-45f && y[6] == -1e-45f && y[7] == 1,
              "%s: tanh at the ends", table->isa);
    float s[4] = {-INFINITY, 0, -200, -87}, maximum, sum;
    table->f32.softmax_row(s, 4, &maximum, &sum);
    cr_assert(s[0] == 0 && s[1] == 1 && s[2] == 0 && s[3] > 0 && maximum == 0, "%s: exp at the ends", table->isa);
    float nan[3] = {0, NAN, -1};
    table->f32.softmax_row(nan, 3, &maximum, &sum);
    cr_assert(isnan(sum), "%s: a NaN score leaves the sum %g", table->isa, (double)sum);
}

Test(math, special_values) { each_table(check_special); }

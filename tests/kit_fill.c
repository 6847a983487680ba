/* SPDX-License-Identifier: Apache-2.0 */
/* The content of a case, from its fill and seed alone. */
#include "tests/kit_content.h"

#include <math.h>
#include <stdlib.h>

typedef struct random_state {
    uint64_t state;
} random_state;

/* splitmix64 */
static uint64_t random_bits(random_state *r) {
    uint64_t z = r->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* in (-1, 1) */
static double random_uniform(random_state *r) { return ((double)(random_bits(r) >> 11) + 0.5) * 0x1p-52 - 1; }

static double random_normal(random_state *r) {
    for (;;) {
        const double x = random_uniform(r), y = random_uniform(r), s = x * x + y * y;
        if (s > 0 && s < 1) return x * sqrt(-2 * log(s) / s);
    }
}

static int64_t random_below(random_state *r, int64_t n) { return n <= 0 ? 0 : (int64_t)(random_bits(r) % (uint64_t)n); }

static double rounded(attn_dtype dtype, double value) { return dtype == ATTN_FLOAT32 ? (double)(float)value : value; }

bool kit_is_hostile(kit_fill fill) { return fill >= KIT_EQUAL && fill <= KIT_GROWING; }

/* Of one sign, around 7/8. */
static double random_positive(random_state *r) { return 0.875 + 0.125 * random_uniform(r); }

double kit_hostile_value(kit_fill fill, uint64_t *state, double first, size_t row, size_t rows, size_t width) {
    random_state r = {*state};
    const double random =
        row == 0 || fill == KIT_NEAR_ONE || fill == KIT_ONE_HUGE || fill == KIT_GROWING ? random_positive(&r) : first;
    *state = r.state;
    switch (fill) {
    case KIT_NEAR_ONE:
        return 1 + 0.08 * (random - 0.875);
    case KIT_ALTERNATING:
        return row % 2 ? -random : random;
    case KIT_GEOMETRIC:
        return random * exp2(-24 * (double)row / (double)rows);
    case KIT_ONE_HUGE:
        return random * (row == rows / 3 ? 1 : 1e-5);
    case KIT_GROWING:
        return random * sqrt(260 / (double)width) * (double)(row + 1) / (double)rows;
    default:
        return random;
    }
}

static double *fill_states(random_state *r, const kit_case *spec, size_t items, size_t rows, size_t width) {
    double *values = kit_array(items * rows * width, sizeof *values);
    const double scale = spec->scale != 0 ? spec->scale : 1;
    for (size_t i = 0; i < items * rows * width; i++) {
        const size_t d = i % width, s = i / width % rows;
        double value = 0;
        switch (spec->fill) {
        case KIT_NORMAL:
            value = random_normal(r);
            break;
        case KIT_UNIFORM:
            value = random_uniform(r);
            break;
        case KIT_LSTM:
            value = (s ? values[i - width] : 0) + 0.3 * random_normal(r);
            break;
        case KIT_INTEGER:
            value = (double)random_below(r, 5) - 2;
            break;
        case KIT_REPEATED:
            value = s ? values[i - width] : random_normal(r);
            break;
        case KIT_CONSTANT:
            value = 0.375 + 0.125 * (double)(d % 3);
            break;
        case KIT_ONE_HOT:
            value = s % width == d;
            break;
        case KIT_ZERO:
            break;
        default:
            value = kit_hostile_value(spec->fill, &r->state, values[i - s * width], s, rows, width);
        }
        values[i] = value;
    }
    for (size_t i = 0; i < items * rows * width; i++)
        values[i] = rounded(spec->dtype, scale * (spec->fill == KIT_LSTM ? tanh(values[i]) : values[i]));
    return values;
}

/* glorot-uniform, as Keras starts from; small integers where the case wants them */
static double *fill_weights(random_state *r, const kit_case *spec, size_t rows, size_t columns) {
    double *values = kit_array(rows * columns, sizeof *values);
    const double limit = sqrt(6 / (double)(rows + columns)) * (spec->weight_scale != 0 ? spec->weight_scale : 1);
    for (size_t i = 0; i < rows * columns; i++)
        values[i] = spec->fill == KIT_INTEGER    ? (double)random_below(r, 3) - 1
                    : kit_is_hostile(spec->fill) ? rounded(spec->dtype, limit * random_positive(r))
                                                 : rounded(spec->dtype, limit * random_uniform(r));
    return values;
}

/* The first items take the ends: everything, nothing, one step at either end; the others what comes. */
static void fill_ranges(random_state *r, const kit_case *spec, size_t items, kit_content *content) {
    const int64_t T = spec->timesteps;
    const bool starts = spec->options & KIT_STARTS, lengths = spec->options & KIT_LENGTHS;
    if (starts) content->starts = kit_array(items, sizeof *content->starts);
    if (lengths) content->lengths = kit_array(items, sizeof *content->lengths);
    for (size_t b = 0; b < items; b++) {
        int64_t start = starts ? random_below(r, T + 1) : 0;
        int64_t length = lengths ? random_below(r, T - start + 1) : T - start;
        if (b == 0) start = 0, length = T;
        if (b == 1) start = starts ? T : 0, length = 0;
        if (b == 2 && T) start = starts ? T - 1 : 0, length = 1;
        if (starts) content->starts[b] = (int32_t)start;
        if (lengths) content->lengths[b] = (int32_t)length;
    }
}

static void fill_mask(random_state *r, const kit_case *spec, size_t items, size_t queries, kit_content *content) {
    const size_t rows = spec->options & KIT_MASK_QUERIES ? queries : 1, T = (size_t)spec->timesteps;
    content->mask = kit_array(items * rows * T, 1);
    for (size_t i = 0; i < items * rows * T; i++) {
        const bool all = spec->options & KIT_MASK_ALL && i / (rows * T) == items - 1;
        const uint64_t bits = random_bits(r);
        content->mask[i] = !all && bits % 5 < 3 ? (uint8_t)(1 + (bits >> 32) % 255) : 0;
    }
}

double kit_fill_gradient(const kit_case *spec, uint64_t *state) {
    random_state r = {*state};
    const double value = spec->fill == KIT_INTEGER    ? (double)random_below(&r, 5) - 2
                         : kit_is_hostile(spec->fill) ? rounded(spec->dtype, random_positive(&r))
                                                      : rounded(spec->dtype, random_normal(&r));
    *state = r.state;
    return value;
}

kit_content kit_fill_content(const kit_case *spec, const reference_input *sizes) {
    random_state r = {spec->seed};
    kit_content content = {0};
    const size_t B = sizes->batch, D = sizes->features, Dq = sizes->query_features, A = sizes->score_width;
    content.h = fill_states(&r, spec, B, sizes->timesteps, D);
    if (sizes->given_query) content.query = fill_states(&r, spec, B, sizes->queries, Dq);
    if (sizes->score == ATTN_SCORE_LUONG) content.luong_w = fill_weights(&r, spec, D, Dq);
    if (sizes->score == ATTN_SCORE_BAHDANAU) {
        content.bahdanau_w1 = fill_weights(&r, spec, Dq, A);
        content.bahdanau_w2 = fill_weights(&r, spec, D, A);
        content.bahdanau_v = fill_weights(&r, spec, A, 1);
    }
    if (sizes->units) content.w_c = fill_weights(&r, spec, D + Dq, sizes->units);
    if (spec->options & (KIT_STARTS | KIT_LENGTHS)) fill_ranges(&r, spec, B, &content);
    if (spec->options & KIT_MASK) fill_mask(&r, spec, B, sizes->queries, &content);
    return content;
}

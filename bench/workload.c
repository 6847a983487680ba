/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/workload.h"

#include "bench/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Cases --------------------------------------------------------------------------------------- */

static bool is_imdb(const kit_case *spec) { return !strncmp(spec->row, "imdb", 4); }

/* The first case of a benchmark's row: its sizes; score and dtype are set by the options. NULL: no such row. */
static const kit_case *row_named(const char *row) {
    size_t count;
    const kit_case *cases = kit_cases(&count);
    for (size_t i = 0; i < count; i++)
        if (cases[i].flags & KIT_BENCH && !strcmp(cases[i].row, row)) return &cases[i];
    return NULL;
}

void workload_list(void) {
    size_t count;
    const kit_case *cases = kit_cases(&count);
    for (size_t i = 0; i < count; i++)
        if (row_named(cases[i].row) == &cases[i])
            printf("  %-16s %5lld x %5lld x %5lld -> %lld\n", cases[i].row, (long long)cases[i].batch,
                   (long long)cases[i].timesteps, (long long)cases[i].features, (long long)cases[i].units);
}

static void override(int64_t *size, int64_t given) {
    if (given != NOT_GIVEN) *size = given;
}

static kit_case make_case(const kit_case *row, const options *wanted, attn_score score) {
    kit_case spec = *row;
    const shape_options *shape = &wanted->shape;
    spec.score = score, spec.dtype = wanted->dtype;
    if (wanted->shaped && !wanted->workload_count) spec.row = "shape";
    override(&spec.batch, shape->batch);
    override(&spec.timesteps, shape->timesteps);
    override(&spec.features, shape->features);
    override(&spec.units, shape->units);
    override(&spec.query_features, shape->query_features);
    if (score == ATTN_SCORE_BAHDANAU) override(&spec.score_width, shape->score_width);
    if (shape->queries != NOT_GIVEN) spec.queries = shape->queries ? shape->queries : ATTN_LAST_STEP;
    snprintf(spec.name, sizeof spec.name, "%s_%s_%s", kit_score_name(score), spec.row, kit_dtype_name(spec.dtype));
    return spec;
}

/* The rows that the options name; all of the benchmark's when they name none. */
static size_t rows_wanted(const options *wanted, const kit_case **rows, size_t room) {
    static const char *const one[] = {"imdb"};
    const bool shape_alone = wanted->shaped && !wanted->workload_count;
    const char *const *names = shape_alone ? one : wanted->workloads;
    const int count = shape_alone ? 1 : wanted->workload_count;
    size_t found = 0, all;
    for (int i = 0; i < count; i++) {
        rows[found] = row_named(names[i]);
        if (!rows[found++]) fail("no workload is named %s; --list shows those there are", names[i]);
    }
    const kit_case *cases = kit_cases(&all);
    for (size_t i = 0; i < all && !count && found < room; i++)
        if (row_named(cases[i].row) == &cases[i]) rows[found++] = &cases[i];
    return found;
}

kit_case *workload_cases(const options *wanted, size_t *count) {
    enum { ROOM = 64, SCORES = 3 };
    const kit_case *rows[ROOM];
    const size_t found = rows_wanted(wanted, rows, ROOM);
    kit_case *made = allocate(found * SCORES * sizeof *made);
    *count = 0;
    for (size_t i = 0; i < found; i++)
        for (int score = 0; score < SCORES; score++)
            if (wanted->scores & 1u << score) made[(*count)++] = make_case(rows[i], wanted, (attn_score)score);
    return made;
}

/* ---- Problems ------------------------------------------------------------------------------------ */

static double *widened(const float *values, size_t count) {
    double *wide = malloc((count ? count : 1) * sizeof *wide);
    if (!wide) fail("out of memory: %zu bytes", count * sizeof *wide);
    for (size_t i = 0; i < count; i++) wide[i] = values[i];
    return wide;
}

static double *taken(double **from) {
    double *content = *from;
    *from = NULL;
    return content;
}

/* Real hidden states; the model's weights where the score is the model's, else the kit's random ones of these sizes. */
static kit_problem *imdb_problem(const kit_case *spec, const imdb *model) {
    const size_t D = model->lstm.units, distinct = (size_t)spec->distinct;
    kit_case small = *spec;
    small.batch = small.timesteps = 1, small.distinct = 0;
    kit_problem *weights = kit_problem_make(&small, KIT_GUARD_FRONT);
    kit_content content = {
        .h = widened(model->hidden, distinct * model->steps * D),
        .luong_w = taken(&weights->content.luong_w),
        .bahdanau_w1 = taken(&weights->content.bahdanau_w1),
        .bahdanau_w2 = taken(&weights->content.bahdanau_w2),
        .bahdanau_v = taken(&weights->content.bahdanau_v),
        .w_c = taken(&weights->content.w_c),
    };
    kit_problem_free(weights);
    if (spec->score == ATTN_SCORE_LUONG) {
        free(content.luong_w);
        content.luong_w = widened(model->attention.weights.luong_w, D * D);
    }
    if (spec->units == model->attention.units) {
        free(content.w_c);
        content.w_c = widened(model->attention.weights.w_c, 2 * D * (size_t)spec->units);
    }
    return kit_problem_from(spec, &content, KIT_GUARD_FRONT);
}

kit_problem *workload_problem(const kit_case *spec, const imdb *model) {
    const bool fits = spec->timesteps == (int64_t)model->steps && spec->features == (int64_t)model->lstm.units &&
                      spec->queries == ATTN_LAST_STEP;
    if (!is_imdb(spec) || !fits) return kit_problem_make(spec, KIT_GUARD_FRONT);
    kit_case real = *spec;
    const int64_t most = 64; /* reviews: the reference computes each of them */
    real.distinct = real.batch < most ? real.batch : most;
    return imdb_problem(&real, model);
}

workload_cost workload_cost_of(const kit_case *spec) {
    const bool given = spec->queries != ATTN_LAST_STEP;
    const double B = (double)spec->batch, T = (double)spec->timesteps, D = (double)spec->features,
                 U = (double)spec->units;
    const double Q = given ? (double)spec->queries : 1, Dq = spec->query_features ? (double)spec->query_features : D;
    const double A = spec->score_width ? (double)spec->score_width : D;
    const double output = 2 * B * Q * (D + Dq) * U, context = 2 * B * Q * T * D;
    /* Of one query the scores and the context ride on the read of H; of several they are GEMMs. */
    workload_cost cost = {.h_bytes = B * T * D * (spec->dtype == ATTN_FLOAT32 ? 4 : 8)};
    double query, scores, gemms;
    if (spec->score == ATTN_SCORE_BAHDANAU) {
        query = 2 * B * Q * Dq * A;
        gemms = 2 * B * T * A * D;
        scores = 3 * B * Q * T * A;
        cost.gemm_flops = query + gemms + output + (Q > 1 ? context : 0);
    } else {
        query = spec->score == ATTN_SCORE_LUONG ? 2 * B * Q * D * Dq : 0;
        gemms = 0;
        scores = 2 * B * Q * T * D;
        cost.gemm_flops = query + output + (Q > 1 ? scores + context : 0);
    }
    cost.flops = query + gemms + scores + context + output;
    return cost;
}

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

/* Multiply-adds of the parts, each as often as the forward pass does it. */
typedef struct parts {
    double query, output; /* x K or x W1, [c ; x] w_c */
    double product;       /* H W2 */
    double rows;          /* of the scores, or of the context, by rows of H */
    double tanh;          /* the additive score's, after the product */
} parts;

static parts parts_of(const kit_case *spec) {
    const bool given = spec->queries != ATTN_LAST_STEP;
    const double B = (double)spec->batch, T = (double)spec->timesteps, D = (double)spec->features,
                 U = (double)spec->units;
    const double Q = given ? (double)spec->queries : 1, Dq = spec->query_features ? (double)spec->query_features : D;
    const double A = spec->score_width ? (double)spec->score_width : D;
    parts p = {.output = 2 * B * Q * (D + Dq) * U, .rows = 2 * B * Q * T * D};
    if (spec->score == ATTN_SCORE_BAHDANAU) {
        p.query = 2 * B * Q * Dq * A;
        p.product = 2 * B * T * A * D;
        p.tanh = 3 * B * Q * T * A;
    } else if (spec->score == ATTN_SCORE_LUONG) {
        p.query = 2 * B * Q * D * Dq;
    }
    return p;
}

/* Of one query the scores and the context ride on the read of H; of several they are GEMMs. */
static workload_cost forward_cost(const kit_case *spec) {
    const parts p = parts_of(spec);
    const bool several = spec->queries > 1;
    workload_cost cost = {0};
    if (spec->score == ATTN_SCORE_BAHDANAU) {
        cost.gemm_flops = p.query + p.product + p.output + (several ? p.rows : 0);
        cost.flops = p.query + p.product + p.tanh + p.rows + p.output;
    } else {
        cost.gemm_flops = p.query + p.output + (several ? 2 * p.rows : 0);
        cost.flops = p.query + 2 * p.rows + p.output;
    }
    return cost;
}

/* Every product of the forward pass has two gradients; luong forms its query again, rows of H meet e, da, dh twice and dq. The additive
 * score's limit is that of its products alone. */
static workload_cost backward_cost(const kit_case *spec) {
    const parts p = parts_of(spec);
    const bool several = spec->queries > 1;
    workload_cost cost = {0};
    if (spec->score == ATTN_SCORE_BAHDANAU) {
        cost.gemm_flops = 2 * (p.query + p.product + p.output) + (several ? 2 * p.rows : 0);
        cost.flops = cost.gemm_flops + (several ? 0 : 2 * p.rows) + 7 * p.tanh / 3;
    } else {
        cost.gemm_flops = 3 * p.query + 2 * p.output + (several ? 5 * p.rows : 0);
        cost.flops = cost.gemm_flops + (several ? 0 : 5 * p.rows);
    }
    return cost;
}

workload_cost workload_cost_of(const kit_case *spec, bench_direction direction) {
    workload_cost cost = direction == DIRECTION_BACKWARD ? backward_cost(spec) : forward_cost(spec);
    cost.h_bytes =
        (double)spec->batch * (double)spec->timesteps * (double)spec->features * (spec->dtype == ATTN_FLOAT32 ? 4 : 8);
    cost.read_bytes = cost.h_bytes;
    if (direction == DIRECTION_FORWARD) return cost;
    const bool streams = spec->score != ATTN_SCORE_BAHDANAU;
    cost.write_bytes = streams ? cost.h_bytes : 0;
    if (direction == DIRECTION_BACKWARD) {
        cost.read_bytes = streams ? cost.h_bytes : 0;
        return cost;
    }
    const workload_cost back = backward_cost(spec);
    cost.flops += back.flops, cost.gemm_flops += back.gemm_flops;
    cost.read_bytes += streams ? cost.h_bytes : 0;
    return cost;
}

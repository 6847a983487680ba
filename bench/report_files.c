/* SPDX-License-Identifier: Apache-2.0
 * The report as JSON and CSV. */
#include "bench/report.h"

#include "bench/program.h"

#include <jansson.h>
#include <stdio.h>

static void close_file(FILE *file, const char *path) {
    if (fflush(file) || ferror(file) || fclose(file)) fail("can't write %s", path);
}

static FILE *open_file(const char *path) {
    FILE *file = fopen(path, "w");
    if (!file) fail("can't write %s", path);
    return file;
}

static json_t *packed(json_t *made) {
    if (!made) fail("the report can't be put into JSON");
    return made;
}

/* JSON has no infinity. */
static double finite(double value) { return value < 1e300 ? value : 1e300; }

static json_t *peaks_json(const peaks *p) {
    return packed(json_pack("{s:s, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:I}", "isa", p->isa, "threads",
                            p->threads, "f32_gflops", p->f32_gflops, "f64_gflops", p->f64_gflops, "l2_read_gbs",
                            p->l2_read, "cache_read_gbs", p->cache_read, "dram_read_gbs", p->dram_read, "dram_copy_gbs",
                            p->dram_copy, "l2_bytes", (json_int_t)p->l2_bytes, "cache_bytes",
                            (json_int_t)p->cache_bytes, "dram_bytes", (json_int_t)p->dram_bytes));
}

static json_t *machine_json(const report *r) {
    const machine *m = &r->machine;
    json_t *made =
        packed(json_pack("{s:s, s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:s, s:s}", "cpu", m->cpu,
                         "processors", m->processors, "caches", m->caches, "kernel", m->kernel, "commit", m->commit,
                         "compiler", m->compiler, "date", m->date, "variables", m->environment, "version", r->version,
                         "isa", r->isa, "threads", r->threads, "cpu_features", r->features, "blas", r->blas));
    if (r->peaks.isa) json_object_set_new(made, "peaks", peaks_json(&r->peaks));
    return made;
}

static json_t *imdb_json(const report *r) {
    const imdb *m = r->model;
    const imdb_agreement *a = &r->agreement;
    return packed(json_pack("{s:I, s:f, s:f, s:f, s:f, s:f, s:b, s:I, s:I, s:f, s:f}", "reviews",
                            (json_int_t)m->reviews, "gate", IMDB_GATE, "probability_error", finite(a->probability),
                            "attention_weights_relative_error", finite(a->attention_weights), "attention_output_error",
                            finite(a->attention_output), "error_over_gate", finite(a->worst), "passed", a->worst <= 1,
                            "right", (json_int_t)a->right, "keras_right", (json_int_t)a->keras_right, "lstm_seconds",
                            m->lstm_seconds, "attention_seconds", m->attention_seconds));
}

/* A row has either times, or what refused it, or where it failed. */
static json_t *row_json(const measurement *m, const row *r) {
    json_t *made = packed(json_pack("{s:s, s:b}", "implementation", r->implementation, "chosen", r->chosen));
    if (r->refusal) {
        json_object_set_new(made, "refusal", json_string(r->refusal));
        return made;
    }
    json_object_set_new(made, "passed", json_boolean(row_passed(r)));
    json_object_set_new(made, "error_over_gate", json_real(finite(r->error)));
    if (!row_passed(r)) {
        json_object_set_new(made, "where", json_string(r->where));
        return made;
    }
    json_t *times = packed(json_pack(
        "{s:f, s:f, s:f, s:f, s:I, s:I, s:f, s:f, s:f, s:f, s:I, s:I}", "min_s", r->minimum, "q1_s", r->lower_quartile,
        "median_s", r->median, "q3_s", r->upper_quartile, "samples", (json_int_t)r->samples, "calls_per_sample",
        (json_int_t)r->calls, "gflops", 1e-9 * m->cost.flops / r->median, "gbs", 1e-9 * m->cost.h_bytes / r->median,
        "of_limit", measurement_limit(m) / r->median, "of_limit_at_best", measurement_limit(m) / r->minimum,
        "workspace_bytes", (json_int_t)r->workspace, "prepared_bytes", (json_int_t)r->prepared));
    json_object_update(made, times);
    json_decref(times);
    return made;
}

static json_t *measurement_json(const measurement *m) {
    const kit_case *s = &m->spec;
    json_t *rows = json_array();
    for (size_t i = 0; i < m->count; i++) json_array_append_new(rows, row_json(m, &m->rows[i]));
    return packed(json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:b, s:b, s:b, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, "
        "s:f, "
        "s:f, "
        "s:s, s:f, s:o}",
        "operation", "layer", "workload", s->row, "score", kit_score_name(s->score), "direction",
        bench_direction_name(m->direction), "dtype", kit_dtype_name(s->dtype), "batch", (json_int_t)s->batch,
        "timesteps", (json_int_t)s->timesteps, "features", (json_int_t)s->features, "units", (json_int_t)s->units,
        "queries", (json_int_t)s->queries, "cold", m->cold, "prepared", m->with_prepared, "attention_weights",
        m->with_weights, "flops", m->cost.flops, "gemm_flops", m->cost.gemm_flops, "h_bytes", m->cost.h_bytes,
        "h_read_gbs", m->bandwidth, "peak_gflops", m->gflops, "gradient_write_gbs", m->write_bandwidth, "read_limit_s",
        m->read_seconds, "write_limit_s", m->write_seconds, "gemm_limit_s", m->gemm_seconds, "limit_s",
        measurement_limit(m), "bound", measurement_bound(m), "others_processors", m->others, "rows", rows));
}

void report_json(const report *r, const char *path) {
    json_t *measurements = json_array();
    for (size_t i = 0; i < r->count; i++) json_array_append_new(measurements, measurement_json(&r->measurements[i]));
    json_t *all = packed(json_pack("{s:i, s:o, s:o, s:o}", "format", 1, "machine", machine_json(r), "imdb",
                                   imdb_json(r), "measurements", measurements));
    FILE *file = open_file(path);
    if (json_dumpf(all, file, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) || fputc('\n', file) == EOF)
        fail("can't write %s", path);
    close_file(file, path);
    json_decref(all);
}

static void csv_row(FILE *file, const measurement *m, const row *r) {
    const kit_case *s = &m->spec;
    fprintf(file, "layer,%s,%s,%s,%s,%lld,%lld,%lld,%lld,%lld,%s,%d,%s,%d,", bench_direction_name(m->direction), s->row,
            kit_score_name(s->score), kit_dtype_name(s->dtype), (long long)s->batch, (long long)s->timesteps,
            (long long)s->features, (long long)s->units, (long long)(s->queries == ATTN_LAST_STEP ? 0 : s->queries),
            m->cold ? "cold" : "warm", m->with_prepared, r->implementation, r->chosen);
    if (r->refusal)
        fprintf(file, "refused,,,,,,,,,,,,\n");
    else if (!row_passed(r))
        fprintf(file, "failed,%.4g,,,,,,,,,,,\n", r->error);
    else
        fprintf(file, "passed,%.4g,%.4e,%.4e,%.4e,%.4e,%zu,%.2f,%.2f,%.4e,%.4f,%s,%zu\n", r->error, r->minimum,
                r->lower_quartile, r->median, r->upper_quartile, r->samples, 1e-9 * m->cost.flops / r->median,
                1e-9 * m->cost.h_bytes / r->median, measurement_limit(m), measurement_limit(m) / r->median,
                measurement_bound(m), r->workspace);
}

void report_csv(const report *r, const char *path) {
    FILE *file = open_file(path);
    fputs(
        "operation,direction,workload,score,dtype,batch,timesteps,features,units,queries,cache,prepared,implementation,"
        "chosen,"
        "verdict,error_over_gate,min_s,q1_s,median_s,q3_s,samples,gflops,gbs,limit_s,of_limit,bound,workspace_bytes\n",
        file);
    for (size_t i = 0; i < r->count; i++)
        for (size_t j = 0; j < r->measurements[i].count; j++)
            csv_row(file, &r->measurements[i], &r->measurements[i].rows[j]);
    close_file(file, path);
}

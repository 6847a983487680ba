/* SPDX-License-Identifier: Apache-2.0
 * The text report. */
#include "bench/report.h"

#include <stdio.h>
#include <string.h>

static void print_peaks(const peaks *p) {
    printf("  peaks     %s, %d threads: %.0f GFLOP/s float32, %.0f float64\n", p->isa, p->threads, p->f32_gflops,
           p->f64_gflops);
    printf("            read %.0f GB/s from %.1f MB (half the level 2 caches), %.0f from %.1f MB, %.0f from memory; "
           "copy %.0f\n",
           p->l2_read, (double)p->l2_bytes * 1e-6, p->cache_read, (double)p->cache_bytes * 1e-6, p->dram_read,
           p->dram_copy);
}

void report_machine(const report *r) {
    const machine *m = &r->machine;
    const peaks *p = &r->peaks;
    printf("attention-bench %s, commit %s, %s, %s\n", r->version, m->commit, m->compiler, m->date);
    printf("  CPU       %s, %d processors; %s; %s\n", m->cpu, m->processors, m->caches, m->kernel);
    printf("  library   %s, %d threads; the CPU offers %s\n", r->isa, r->threads, r->features);
    printf("  BLAS      %s\n", r->blas);
    if (m->environment[0]) printf("  variables %s\n", m->environment);
    if (p->isa) print_peaks(p);
    fflush(stdout);
}

void report_agreement(const report *r) {
    const imdb *m = r->model;
    const imdb_agreement *a = &r->agreement;
    const double n = (double)m->reviews;
    printf("\nIMDB: Embedding -> LSTM -> attention -> Dense on %zu real reviews of %zu tokens\n", m->reviews, m->steps);
    printf("  probabilities      within %.1e of Keras's, gate %.0e\n", a->probability, IMDB_GATE);
    printf("  attention weights  within %.1e of Keras's relative to each, first %zu reviews, gate %.0e\n",
           a->attention_weights, m->traced, IMDB_GATE);
    printf("  attention output   within %.1e of Keras's, first %zu reviews, gate %.0e\n", a->attention_output,
           m->traced, IMDB_GATE);
    printf("  agreement          %s: largest error over its gate %.4f\n", a->worst <= 1 ? "passed" : "FAILED",
           a->worst);
    printf("  accuracy           %.1f %% (%zu of %zu), Keras %.1f %%\n", 100 * (double)a->right / n, a->right,
           m->reviews, 100 * (double)a->keras_right / n);
    printf("  time               LSTM %.2f s on BLAS, attention %.1f ms\n", m->lstm_seconds,
           1e3 * m->attention_seconds);
    fflush(stdout);
}

/* Ten columns, whatever the unit. */
static const char *duration(double seconds, char buffer[32]) {
    static const struct {
        double unit;
        const char *name;
    } units[] = {{1, "s "}, {1e-3, "ms"}, {1e-6, "µs"}};
    size_t i = 0;
    while (i < 2 && seconds < units[i].unit) i++;
    const double value = seconds / units[i].unit;
    snprintf(buffer, 32, "%7.*f %s", value < 10 ? 2 : 1, value, units[i].name);
    return buffer;
}

static const char *size_of(double bytes, char buffer[32]) {
    if (bytes < 1e6)
        snprintf(buffer, 32, "%.1f kB", bytes * 1e-3);
    else
        snprintf(buffer, 32, "%.1f MB", bytes * 1e-6);
    return buffer;
}

/* Processors; what the clock's steps and the system's own threads come to is less. */
#define DISTURBED 0.1

static void print_title(const measurement *m) {
    const kit_case *s = &m->spec;
    char limit[32], read[32], written[32], gemm[32], size[32];
    printf("\n%s %s %s %s  %lld x %lld x %lld -> %lld", s->row, kit_score_name(s->score),
           m->direction == DIRECTION_BOTH ? "forward and backward" : bench_direction_name(m->direction),
           kit_dtype_name(s->dtype), (long long)s->batch, (long long)s->timesteps, (long long)s->features,
           (long long)s->units);
    if (s->queries != ATTN_LAST_STEP) printf(", %lld queries", (long long)s->queries);
    printf("%s%s%s\n", m->cold ? ", cold" : "", m->with_prepared ? ", prepared weights" : "",
           m->with_weights ? ", with attention weights" : "");
    const char *l = duration(measurement_limit(m), limit), *r = duration(m->read_seconds, read),
               *w = duration(m->write_seconds, written), *g = duration(m->gemm_seconds, gemm);
    printf("  limit %s = ", l + strspn(l, " "));
    if (m->read_seconds > 0)
        printf("%s to read H (%s) at %.0f GB/s + ", r + strspn(r, " "), size_of(m->cost.read_bytes, size),
               m->bandwidth);
    if (m->write_seconds > 0)
        printf("%s to write its gradient at %.0f GB/s + ", w + strspn(w, " "), m->write_bandwidth);
    printf("%s for %.3g MFLOP of GEMM at %.0f GFLOP/s\n", g + strspn(g, " "), m->cost.gemm_flops * 1e-6, m->gflops);
    if (m->others > DISTURBED) printf("  disturbed: something else kept %.1f processors busy meanwhile\n", m->others);
}

static void print_row(const measurement *m, const row *r) {
    char minimum[32], median[32], workspace[32];
    printf("%c %-36s", r->chosen ? '*' : ' ', r->implementation);
    if (r->refusal) {
        printf(" refused: %s\n", r->refusal);
        return;
    }
    if (!row_passed(r)) {
        printf(" FAILED: error %.3g of its gate: %s\n", r->error, r->where);
        return;
    }
    printf(" %s %s %5.1f%% %6zu %8.1f %7.1f %6.1f%% %6.1f%%  %-5s %6.3f %10s\n", duration(r->minimum, minimum),
           duration(r->median, median), 100 * (r->upper_quartile - r->lower_quartile) / r->median, r->samples,
           1e-9 * m->cost.flops / r->median, 1e-9 * m->cost.h_bytes / r->median, 100 * measurement_limit(m) / r->median,
           100 * measurement_limit(m) / r->minimum, measurement_bound(m), r->error,
           size_of((double)r->workspace, workspace));
}

void report_measurement(const measurement *m) {
    print_title(m);
    printf("  %-36s %10s %10s %6s %6s %8s %7s %7s %7s  %-5s %6s %10s\n", "implementation", "minimum", "median",
           "spread", "count", "GFLOP/s", "GB/s", "of lim.", "at best", "bound", "error", "workspace");
    for (size_t i = 0; i < m->count; i++) print_row(m, &m->rows[i]);
    fflush(stdout);
}

void report_legend(void) {
    printf(
        "\n* chosen by the library. Times of one whole call; spread: between the quartiles, of the median; GFLOP/s and "
        "GB/s\n"
        "(reads of H) at the median; of lim.: the limit over the median, at best: over the minimum; bound: the larger "
        "part of\n"
        "the limit; error: the largest over its gate, above 1 there is no time; workspace: extra memory of a call.\n");
}

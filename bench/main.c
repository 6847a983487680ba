/* SPDX-License-Identifier: Apache-2.0
 * attention-bench: the attention layer on real reviews, and its speed on named workloads. */
#include "bench/html.h"
#include "bench/program.h"
#include "bench/report.h"
#include "tools/streams.h"

#include <stdio.h>
#include <string.h>

static int list(attn_context *context) {
    puts("workloads");
    workload_list();
    puts("implementations, in order of preference");
    const char *name;
    for (size_t i = 0; (name = attn_context_implementation_name(context, i)); i++) printf("  %s\n", name);
    return 0;
}

/* The table, row by row as it grows. Answers how many results lie outside their gate. */
static int measure_all(report *r, attn_context *context, const options *wanted) {
    size_t count;
    int failures = 0;
    kit_case *cases = workload_cases(wanted, &count);
    r->measurements = allocate(count * DIRECTIONS * sizeof *r->measurements);
    for (size_t i = 0; i < count * DIRECTIONS; i++) {
        const bench_direction direction = i % DIRECTIONS;
        if (!(wanted->directions & 1u << direction)) continue;
        measurement *m = &r->measurements[r->count++];
        *m = measure(&cases[i / DIRECTIONS], direction, r->model, context, wanted, &r->peaks);
        report_measurement(m);
        for (size_t j = 0; j < m->count; j++) failures += !m->rows[j].refusal && !row_passed(&m->rows[j]);
    }
    if (count) report_legend();
    release(cases);
    return failures;
}

/* What would only fail after a minute's run is told before it. */
static void check_options(const options *wanted, attn_context *context) {
    const char *const paths[] = {wanted->html, wanted->json, wanted->csv};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        FILE *file = paths[i] ? fopen(paths[i], "a") : NULL;
        if (paths[i] && !file) fail("can't write %s", paths[i]);
        if (file) fclose(file);
    }
    for (int i = 0; i < wanted->implementation_count; i++) {
        const char *prefix = wanted->implementations[i], *name;
        bool found = !strcmp(prefix, "all");
        for (size_t j = 0; !found && (name = attn_context_implementation_name(context, j)); j++)
            found = !strncmp(name, prefix, strlen(prefix));
        if (!found) fail("--impl %s: no implementation's name begins so; --list shows those there are", prefix);
    }
    size_t count;
    release(workload_cases(wanted, &count));
}

static int bench(const options *wanted, attn_context *context) {
    imdb *model = imdb_load(wanted->data);
    report r = {
        .machine = machine_found(),
        .isa = attn_context_isa(context),
        .blas = attn_context_blas(context),
        .version = attn_version(),
        .features = attn_context_cpu_features(context),
        .threads = attn_context_threads(context),
        .model = model,
    };
    if (!wanted->reviews_only) peaks_measure(r.threads, &r.peaks);
    progress(NULL);
    report_machine(&r);
    imdb_run(model, context);
    progress(NULL);
    r.agreement = imdb_compare(model);
    report_agreement(&r);
    int failures = !(r.agreement.worst <= 1);
    if (wanted->html) html_write(model, wanted->html);
    if (!wanted->reviews_only) failures += measure_all(&r, context, wanted);
    if (wanted->json) report_json(&r, wanted->json);
    if (wanted->csv) report_csv(&r, wanted->csv);
    if (failures) printf("\n%d results outside their gates\n", failures);
    for (size_t i = 0; i < r.count; i++) measurement_free(&r.measurements[i]);
    release(r.measurements);
    machine_free(&r.machine);
    imdb_free(model);
    return failures != 0;
}

int main(int argc, char **argv) {
    streams_begin("attention-bench", 2);
    const options wanted = options_read(argc, argv);
    attn_context *context = measure_context(&wanted, NULL);
    if (!context) fail("%s", attn_last_error_message());
    check_options(&wanted, context);
    const int status = wanted.list ? list(context) : bench(&wanted, context);
    attn_context_destroy(context);
    return status;
}

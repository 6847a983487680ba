/* SPDX-License-Identifier: Apache-2.0
 * One workload on every implementation that can run it: checked, then timed in turns, beside the limit of the machine. */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include "bench/peaks.h"
#include "bench/workload.h"

enum { IMPLEMENTATION_ROOM = 16 };

typedef struct row {
    const char *implementation; /* the library's string */
    bool chosen;                /* the one that the library picks by itself */
    char *refusal;              /* why it can't run this; NULL: it ran */
    double error;               /* the largest over its gate; above 1 there are no times */
    char where[160];
    double minimum, lower_quartile, median, upper_quartile; /* seconds of a call */
    size_t samples, calls;                                  /* how many, of how many calls each */
    size_t workspace, prepared;                             /* bytes */
} row;

typedef struct measurement {
    kit_case spec;
    bench_direction direction;
    bool cold, with_prepared, with_weights;
    workload_cost cost;
    double bandwidth;                                 /* GB/s at which the buffers of H are read */
    double write_bandwidth;                           /* and at which a gradient is written; 0: none is */
    double gflops;                                    /* of arithmetic at its peak */
    double read_seconds, write_seconds, gemm_seconds; /* the limit is their sum */
    double others; /* processors that something else kept busy while this was timed */
    row rows[IMPLEMENTATION_ROOM];
    size_t count;
} measurement;

static inline bool row_passed(const row *r) { return !r->refusal && r->error <= 1; }
static inline double measurement_limit(const measurement *m) {
    return m->read_seconds + m->write_seconds + m->gemm_seconds;
}

/* What the larger part of the limit is. */
static inline const char *measurement_bound(const measurement *m) {
    if (m->gemm_seconds >= m->read_seconds + m->write_seconds) return "flops";
    return m->write_seconds > 0 ? "memory" : "read";
}

/* context: one without a forced implementation, which says what the library chooses. */
measurement measure(const kit_case *spec, bench_direction direction, const imdb *model, attn_context *context,
                    const options *wanted, const peaks *limits);
void measurement_free(measurement *m);

/* A context as the options ask, with an implementation forced (NULL: the library's choice). NULL when it can't be had. */
attn_context *measure_context(const options *wanted, const char *implementation);

#endif

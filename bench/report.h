/* SPDX-License-Identifier: Apache-2.0
 * What was found, as text, JSON and CSV. */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "bench/machine.h"
#include "bench/measure.h"

typedef struct report {
    machine machine;
    peaks peaks;
    const char *isa, *blas, *version, *features; /* of the library's context */
    int threads;
    const imdb *model;
    imdb_agreement agreement;
    measurement *measurements;
    size_t count;
} report;

/* To stdout, as things become known. */
void report_machine(const report *r);
void report_agreement(const report *r);
void report_measurement(const measurement *m);
void report_legend(void);

/* Whole files; what can't be written ends the program. */
void report_json(const report *r, const char *path);
void report_csv(const report *r, const char *path);

#endif

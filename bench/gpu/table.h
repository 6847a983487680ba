/* SPDX-License-Identifier: Apache-2.0 */
/* What is printed, and written to a file too where one was asked for. */
#ifndef ATTN_BENCH_GPU_TABLE_H
#define ATTN_BENCH_GPU_TABLE_H

#include "bench/gpu/times.h"

#include <stddef.h>

/* False where the file can't be written. NULL: none. */
bool table_open(const char *file);
/* False where something could not be written, or was wrong. */
bool table_close(void);

void table_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* What is wanted of a row: so many per cent of the limit, a replay of so many microseconds, no more than so many times the limit. */
typedef enum target_kind { TARGET_NONE, TARGET_PERCENT, TARGET_REPLAY, TARGET_TIMES } target_kind;
typedef struct target {
    target_kind kind;
    double value;
} target;

typedef struct row {
    char what[64]; /* the operation, its sizes and type, as peers name it too */
    const char *implementation;
    times found;
    double limit; /* microseconds */
    double error; /* the largest over its bound */
    target wanted;
} row;

void table_head(void);
void table_row(const row *r);
/* A row without figures: its result is outside the bounds, which fails the run, or it was refused. */
void table_wrong(const char *what, const char *implementation, double error);
void table_refused(const char *what, const char *why);

#endif

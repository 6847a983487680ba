/* SPDX-License-Identifier: Apache-2.0
 * The rows of the table: upstream's two models, and the one with attention given each review's valid range. */
#ifndef BENCH_IMDB_ROWS_H
#define BENCH_IMDB_ROWS_H

#include "bench/imdb/corpus.h"
#include "examples/nn/nn.h"

enum { ROW_WITH, ROW_WITHOUT, ROW_RANGES, ROWS };

enum { ROW_BATCH = 64 };

typedef struct upstream_figures {
    double most, mean, deviation; /* test accuracy in percent; most 0: there are none */
} upstream_figures;

typedef struct imdb_row {
    const char *name;  /* of files and options */
    const char *title; /* in tables and pictures */
    bool attention, ranges;
    upstream_figures published;
} imdb_row;

extern const imdb_row rows[ROWS];

/* The row of that name; ROWS when there is none. */
int row_find(const char *name);

/* A compiled model; what is wrong with it ends the program. */
nn_model *row_model(const imdb_row *r, uint64_t seed, int threads);

/* A part of the corpus as the row's model takes it. targets (count) are filled from the labels. */
nn_data row_data(const imdb_row *r, const corpus_part *part, float *targets);

#endif

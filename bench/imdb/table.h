/* SPDX-License-Identifier: Apache-2.0
 * Upstream's table: of each run the best test accuracy over its epochs, and of these largest, mean and spread. */
#ifndef BENCH_IMDB_TABLE_H
#define BENCH_IMDB_TABLE_H

#include "bench/imdb/records.h"

#include <stdio.h>

/* A row's figures, accuracies in percent. */
typedef struct table_row {
    size_t runs, epochs;          /* the runs that count, and all their epochs */
    double most, mean, deviation; /* the deviation is that of the runs themselves, not an estimate from a sample */
    double train_seconds, test_seconds; /* an epoch's, the median: a run may have shared the machine, or been stopped */
} table_row;

/* From the runs that have at least `least` epochs (from 1); what comes after `most` epochs does not count. */
table_row table_figures(const records *all, int row, size_t least, size_t most);

/* The table with upstream's figures beside those of our finished runs, and of Keras's as far as they came. */
void table_print(FILE *file, const records *ours, const records *keras, size_t epochs);

/* The learning curves as a picture; false with errno when the file can't be written. */
bool table_curves(const char *path, const records *ours, const records *keras);

#endif

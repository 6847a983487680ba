/* SPDX-License-Identifier: Apache-2.0
 * What an epoch gave, as a line of JSON. Keras's own runs come as such lines too. */
#ifndef BENCH_IMDB_RECORDS_H
#define BENCH_IMDB_RECORDS_H

#include "bench/imdb/rows.h"

enum { RECORD_COMMIT = 48 };

typedef struct record {
    int row;
    uint64_t seed;
    size_t epoch; /* from 1 */
    double train_loss, test_loss, test_accuracy, train_seconds, test_seconds;
    char commit[RECORD_COMMIT]; /* of the program that trained; "" when it is not known */
} record;

typedef struct records {
    record *at;
    size_t count, room;
} records;

void records_add(records *all, record added);
void records_free(records *all);

/* Adds what stands in text, a record a line. `from` names the text where it can't be understood, which ends the program. */
void records_parse(records *all, const char *text, const char *from);

/* The same from a file. */
void records_read(records *all, const char *path);

/* The records of one run as text, in new memory. */
char *records_text(const records *all);

#endif

/* SPDX-License-Identifier: Apache-2.0
 * The reviews as texts, every one of them accounted for. A file is ID_RATING.txt, ID counting from 0 within each of the
 * four folders, RATING from 1 to 10: up to 4 is negative, from 7 on positive. */
#ifndef BENCH_IMDB_REVIEWS_H
#define BENCH_IMDB_REVIEWS_H

#include "bench/imdb/source.h"

#include <stdbool.h>

enum { REVIEWS_PER_FOLDER = 12500 }; /* in the published data */

typedef struct review_text {
    char *name; /* "train/pos/0_9.txt" */
    char *text; /* UTF-8, not empty, without NUL; length bytes and a NUL behind them */
    size_t length;
} review_text;

typedef struct review_set {
    size_t count[SOURCE_SPLITS][SOURCE_LABELS];
    review_text *review[SOURCE_SPLITS][SOURCE_LABELS]; /* sorted by name, byte by byte */
    char **fault; /* a line for each review that is missing or damaged, and left out */
    size_t faults;
} review_set;

/* Reads all reviews of a source. per_folder: how many there should be in each folder. When more than faults_allowed are
 * missing or damaged, the program ends and names them. */
review_set reviews_read(const char *path, size_t per_folder, size_t faults_allowed);
void reviews_free(review_set *all);

#endif

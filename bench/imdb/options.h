/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_IMDB_OPTIONS_H
#define BENCH_IMDB_OPTIONS_H

#include "bench/imdb/rows.h"

typedef struct imdb_options {
    const char *data; /* NULL: none was named */
    const char *out, *keras;
    size_t runs, epochs, stop_after, per_folder, faults, reviews;
    uint64_t seed; /* of the first run; the following count on */
    int threads;
    bool row[ROWS];
    bool report; /* train nothing */
} imdb_options;

/* Ends the program after --help (status 0) and on anything it does not know (status 2, with the reason). */
imdb_options imdb_options_read(int argc, char **argv);

#endif

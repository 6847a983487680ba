/* SPDX-License-Identifier: Apache-2.0
 * Where the two models with attention look: how much of it lies on padding, and on which words of a few reviews. */
#ifndef BENCH_IMDB_ATTENDED_H
#define BENCH_IMDB_ATTENDED_H

#include "bench/imdb/run.h"

#include <stdio.h>

/* Prints it for the given models, by row; NULL for one that was not trained. `reviews` test reviews are shown, evenly spaced. */
void attended_print(FILE *file, nn_model *const models[ROWS], const corpus *c, size_t reviews);

#endif

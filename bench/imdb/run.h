/* SPDX-License-Identifier: Apache-2.0
 * One training: a row of the table under one seed, tested after each epoch. After each epoch everything that it needs to go on lies
 * in FOLDER/ROW-SEED.safetensors, its records too, all of it or what was there before: a killed run goes on where it was,
 * to the same bits, and a finished one is not trained again. */
#ifndef BENCH_IMDB_RUN_H
#define BENCH_IMDB_RUN_H

#include "bench/imdb/records.h"

typedef struct run {
    int row;
    uint64_t seed;
    const char *folder;
    int threads; /* 0: the processors this process may use */
    const char *isa, *commit;
} run;

/* Called after each epoch, with the run's records up to it. */
typedef void (*run_progress)(void *user, const records *so_far);

/* Trains up to that many epochs, as long as *left, which counts down with each, is not 0. False where another process is at it: several may share the runs of a folder. A file
 * that belongs to other reviews or another instruction set ends the program: the run would not be one that can be
 * repeated. */
bool run_train(const run *r, const corpus *c, size_t epochs, size_t *left, run_progress progress, void *user);

/* Adds the records of a run as far as it came, none where it never began. */
void run_records(const run *r, records *all);

/* The run's model as it was after its last epoch; NULL where it never began. */
nn_model *run_model(const run *r);

#endif

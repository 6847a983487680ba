/* SPDX-License-Identifier: Apache-2.0
 * Threads of the benchmark's own, for its peaks, its LSTM and its references; the library brings its own. */
#ifndef BENCH_TEAM_H
#define BENCH_TEAM_H

#include <stddef.h>

typedef void (*team_task)(void *argument, int thread, int threads);

/* Runs the task once on each of `threads` threads, the caller's among them; all start together.
 * Returns the seconds from the first start to the last end. A thread that can't be had ends the program. */
double team_run(int threads, team_task task, void *argument);

/* The part of `count` things that one thread of a team takes: [*first, *last), in multiples of `grain` save at the end. */
static inline void team_share(size_t count, size_t grain, int thread, int threads, size_t *first, size_t *last) {
    const size_t grains = (count + grain - 1) / grain, n = (size_t)threads, i = (size_t)thread;
    *first = grains * i / n * grain;
    *last = grains * (i + 1) / n * grain;
    if (*last > count) *last = count;
}

#endif

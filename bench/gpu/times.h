/* SPDX-License-Identifier: Apache-2.0 */
/* Microseconds of a task on the device:
 *   warm    runs one behind the other, the time of all over their number: what of the inputs fits the level 2 cache stays there
 *   cold    the median of single runs, each after a write of more than the level 2 cache holds
 *   replay  a captured graph of runs, one behind the other: no launch by the CPU in between
 * How many runs there are depends on how long one takes, so that every task has its share of the time. */
#ifndef ATTN_BENCH_GPU_TIMES_H
#define ATTN_BENCH_GPU_TIMES_H

#include <stdbool.h>

typedef struct task {
    void (*run)(const void *of); /* puts one run on gpu_stream */
    const void *of;
} task;

typedef struct times {
    double warm, cold, replay;
} times;

/* Before any other; small: as few runs as there can be, and little memory. */
void times_open(bool small);
times times_of(task measured);
double times_warm(task measured);
double times_best(task measured); /* the shortest of single runs */

#endif

/* SPDX-License-Identifier: Apache-2.0
 * Which machine, which build, which environment: what a figure is worth nothing without. */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include <stddef.h>

typedef struct machine {
    char *cpu, *caches, *kernel, *commit, *compiler, *date;
    char *environment; /* the variables set that OpenBLAS or the library reads, "NAME=value ..."; "" when none is */
    int processors;
} machine;

machine machine_found(void);
void machine_free(machine *found);

/* Seconds that processors have spent on anything but this process, other virtual machines' share included; from some
 * beginning, in steps of 10 ms. 0 when it is not known. */
double machine_others(void);

/* Bytes of the data cache of that level (1, 2, 3), as one processor sees it; 0 when it is not known. */
size_t machine_cache(int level);

#endif

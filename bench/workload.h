/* SPDX-License-Identifier: Apache-2.0
 * What is timed: the test kit's cases marked as benchmarks, or shapes by options; the imdb ones on real hidden states. */
#ifndef BENCH_WORKLOAD_H
#define BENCH_WORKLOAD_H

#include "bench/imdb.h"
#include "bench/options.h"
#include "tests/kit.h"

/* The cases to time, in new memory. An unknown name ends the program with the list of those there are. */
kit_case *workload_cases(const options *wanted, size_t *count);

/* One line for each name that workload_cases knows, to stdout. */
void workload_list(void);

/* The problem of a case, in the test kit's memory. */
kit_problem *workload_problem(const kit_case *spec, const imdb *model);

/* What a run of a case has to do at the least. */
typedef struct workload_cost {
    double flops;      /* all but tanh and exp */
    double gemm_flops; /* those that the limit counts at the arithmetic peak */
    double h_bytes;
    double read_bytes, write_bytes; /* of H and of its gradient: those that the limit counts */
} workload_cost;

workload_cost workload_cost_of(const kit_case *spec, bench_direction direction);

#endif

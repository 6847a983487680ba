/* SPDX-License-Identifier: Apache-2.0 */
/* What is checked of the subjects, and how many checks passed. */
#ifndef ATTN_TESTS_GPU_CHECKS_H
#define ATTN_TESTS_GPU_CHECKS_H

#include "tests/gpu/subject.h"

typedef struct tally {
    int passed, failed;
} tally;

void tally_count(tally *t, bool ok, const char *name, const char *what);

/* A captured run does nothing until it is replayed, then gives the bits of the first run, and sees what changed in between. */
void check_graph(tally *t, subject *s);

/* So many runs of two subjects at a time, each on its own stream, give the bits that they give alone. */
void check_streams(tally *t, subject *one, subject *other, int rounds);

/* A case on the CPU and on every implementation for CUDA, forward and backward: no two results are further apart than the sum of their bounds. */
void check_against_cpu(tally *t, const kit_case *spec);

#endif

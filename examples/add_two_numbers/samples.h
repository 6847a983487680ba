/* SPDX-License-Identifier: Apache-2.0
 * Sequences of uniform numbers in which a 0 stands before each of two; to be learnt is the mean of these two. */
#ifndef EXAMPLES_ADD_TWO_NUMBERS_SAMPLES_H
#define EXAMPLES_ADD_TWO_NUMBERS_SAMPLES_H

#include <stddef.h>
#include <stdint.h>

typedef struct samples {
    size_t count, timesteps;
    float *x;           /* (count, timesteps) */
    float *y;           /* (count) */
    size_t (*place)[2]; /* (count): where the two numbers stand */
} samples;

/* place NULL: two places from 1 on, at random for each sample; else the same two for all. */
samples samples_make(size_t count, size_t timesteps, const size_t place[2], uint64_t seed, uint64_t stream);
void samples_free(samples *s);

#endif

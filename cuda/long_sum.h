/* SPDX-License-Identifier: Apache-2.0 */
/* A sum of any length. Terms of one sign err to one side: a chain of n of them is off by about n / 3 units in the last place at worst, which no bound allows that
 * grows with the root or the logarithm of n. */
#ifndef ATTN_CUDA_LONG_SUM_H
#define ATTN_CUDA_LONG_SUM_H

#include "cuda/launch.h"

enum : std::size_t { ATTN_SUM_TERMS = 32 /* of a part, before it is added to what is above it */ };

/* Level 0 is a part of 32 terms, level 1 one of 32 such parts, and so on; the last takes whatever comes. */
template <unsigned LEVELS = 4> struct attn_long_sum {
    float level[LEVELS] = {};
    unsigned terms = 0;

    __device__ void add(float term) {
        level[0] += term;
        terms++;
        unsigned full = ATTN_SUM_TERMS;
        ATTN_UNROLL for (unsigned i = 0; i + 1 < LEVELS; i++, full *= ATTN_SUM_TERMS) {
            if (terms % full != 0) return;
            level[i + 1] += level[i];
            level[i] = 0.0f;
        }
    }

    __device__ float total() const {
        float sum = level[0];
        ATTN_UNROLL for (unsigned i = 1; i < LEVELS; i++) sum += level[i];
        return sum;
    }
};

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The generator's two halves, and which streams a model takes. */
#ifndef NN_RANDOM_H
#define NN_RANDOM_H

#include "examples/nn/nn.h"

#define NN_GOLDEN UINT64_C(0x9e3779b97f4a7c15) /* 2^64 over the golden ratio, odd */

/* SplitMix64's output function: every bit of the state moves every bit of the answer. */
static inline uint64_t nn_mix(uint64_t state) {
    state = (state ^ (state >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    state = (state ^ (state >> 27)) * UINT64_C(0x94d049bb133111eb);
    return state ^ (state >> 31);
}

/* nn_random(seed, stream, index) = nn_mix(nn_random_key(seed, stream) + NN_GOLDEN * index) */
static inline uint64_t nn_random_key(uint64_t seed, uint64_t stream) {
    return nn_mix(nn_mix(seed) + NN_GOLDEN * stream);
}

/* Of a parameter's initial values, parameters counted through the model. */
static inline uint64_t nn_initial_stream(size_t parameter) { return NN_STREAMS + parameter; }

/* Of a dropout layer in one step. Index: item of the batch times (width + 1) / 2, plus the pair of elements; the lower half
 * is for the even element of the pair. */
static inline uint64_t nn_dropout_stream(size_t layer, uint64_t step) {
    return NN_STREAMS + ((uint64_t)(layer + 1) << 40) + step;
}

#endif

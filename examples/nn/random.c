/* SPDX-License-Identifier: Apache-2.0 */
#include "examples/nn/random.h"

uint64_t nn_random(uint64_t seed, uint64_t stream, uint64_t index) {
    return nn_mix(nn_random_key(seed, stream) + NN_GOLDEN * index);
}

double nn_uniform(uint64_t seed, uint64_t stream, uint64_t index) {
    return (double)(nn_random(seed, stream, index) >> 11) * 0x1p-53;
}

/* Fisher and Yates. A 64-bit number modulo a small count favours nobody by more than 2^-64 times that count. */
void nn_shuffle(size_t *order, size_t count, uint64_t seed, uint64_t stream) {
    for (size_t i = 0; i < count; i++) order[i] = i;
    for (size_t i = count; i > 1; i--) {
        const size_t other = (size_t)(nn_random(seed, stream, i) % i), last = order[i - 1];
        order[i - 1] = order[other];
        order[other] = last;
    }
}

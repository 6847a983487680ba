/* SPDX-License-Identifier: Apache-2.0
 * The part of a Keras model below its attention: Embedding, then an LSTM that gives its whole sequence of hidden states. */
#ifndef BENCH_LSTM_H
#define BENCH_LSTM_H

#include <stddef.h>
#include <stdint.h>

/* As Keras stores them; the gates stand in the order i, f, g, o. */
typedef struct lstm_weights {
    size_t words, embedding, units;
    float *embeddings;       /* (words, embedding) */
    float *kernel;           /* (embedding, 4 units) */
    float *recurrent_kernel; /* (units, 4 units) */
    float *bias;             /* (4 units) */
} lstm_weights;

/* tokens (items, steps), each below words, to hidden (items, steps, units). */
void lstm_forward(const lstm_weights *weights, const uint16_t *tokens, size_t items, size_t steps, float *hidden,
                  int threads);

#endif

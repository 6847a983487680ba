/* SPDX-License-Identifier: Apache-2.0 */
/* The layers around attention in Keras's models, in plain code on weights files, to predict what Keras predicted. */
#ifndef ATTN_TESTS_KERAS_LAYERS_H
#define ATTN_TESTS_KERAS_LAYERS_H

#include "attention/weights.h"

/* A tensor as floats, from malloc; it must exist. shape gets its dimensions. */
float *read_floats(const attn_weights_file *file, const char *name, int64_t *shape);

/* The rows of the embedding for count tokens, from malloc. */
float *run_embedding(const attn_weights_file *file, const char *name, const uint16_t *tokens, int64_t count,
                     int64_t *width);

/* Of x (B, T, in), every state (B, T, units), from malloc. */
float *run_lstm(const attn_weights_file *file, const char *name, const float *x, int64_t B, int64_t T, int64_t in,
                int64_t *units);

/* The library's own layer: (B, units), from malloc. */
float *run_attention(const attn_weights_file *file, const char *name, const float *h, int64_t B, int64_t T,
                     int64_t *units);

/* Of x (B, in), (B, units), from malloc; no activation. */
float *run_dense(const attn_weights_file *file, const char *name, const float *x, int64_t B, int64_t *units);

#endif

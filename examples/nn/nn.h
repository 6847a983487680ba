/* The little training kit: what upstream's examples and the IMDB experiment need, and no more.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A model is a list of layers, float32, one output. It is built, compiled, trained and asked:
 *
 *     nn_model *model = nn_model_create(&(nn_options){.timesteps = 20, .features = 1, .batch = 64, .seed = 1});
 *     nn_model_add_lstm(model, 100, true);
 *     nn_model_add_attention(model, ATTN_SCORE_BAHDANAU, 128);
 *     nn_model_add_dropout(model, 0.2);
 *     nn_model_add_dense(model, 1, NN_LINEAR);
 *     if (!nn_model_compile(model, NN_MAE, NN_ADAM)) return fprintf(stderr, "%s\n", nn_model_error(model)), 1;
 *     for (size_t i = 0; i + 64 <= count; i += 64)
 *         loss = nn_model_train_step(model, &(nn_data){.items = 64, .x = x + i * 20, .y = y + i});
 *     nn_model_predict(model, &(nn_data){.items = 8, .x = test}, predictions, NULL);
 *
 * Layers, losses, optimisers and initial weights are those of Keras 2.15 with its defaults, and the layers are named as
 * Keras names them: embedding, lstm, attention, dense; the second dense is dense_1.
 *
 *     layer           input       output                      weights                          initialised
 *     embedding       (T) tokens  (T, width)                  embeddings (vocabulary, width)   uniform in +-0.05
 *     lstm            (T, F)      (T, units), or (units):     kernel (F, 4 units)              glorot uniform
 *                                 the last step               recurrent_kernel (units, 4 units)  orthogonal
 *                                                             bias (4 units)                   0, and 1 for the forget gate
 *     attention       (T, D)      (units)                     as attention.h names them        glorot uniform
 *     dense           (D)         (units)                     kernel (D, units), bias (units)  glorot uniform, 0
 *     dropout         any         the same                    none
 *
 * lstm, gates in the order i, f, g, o, each a row of `units`:
 *     [i f g o] = x_t kernel + h_(t-1) recurrent_kernel + bias,  i, f, o through the logistic function, g through tanh
 *     c_t = f c_(t-1) + i g,  h_t = o tanh(c_t)
 * dropout, in training alone: x / (1 - rate) where nn_random says keep, else 0.
 *
 * Results do not depend on the number of threads: a batch is cut into shards of NN_SHARD items, each goes through the
 * whole model, forward and back, as a chain of its own, and the shards' gradients are added in their order. Randomness is
 * a function of the seed, the step and the place (nn_random), so a run repeats itself bit for bit on one machine, and goes
 * on bit for bit from a saved state.
 *
 * The kit is a part of programs, not of the library: it builds in some of the library's insides (threads, vectors, products), links
 * OpenBLAS for the rest, and sets that to one thread. How fast it is and why: docs/training.md. */
#ifndef NN_H
#define NN_H

#include "attention/attention.h"
#include "attention/weights.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NN_SHARD                                                                                                       \
    16 /* items; the step's product of an LSTM of 100 units is then small enough for OpenBLAS's fast path */

typedef enum nn_activation { NN_LINEAR, NN_RELU, NN_SIGMOID } nn_activation;
/* Means over the batch. Cross-entropy is taken from the logits of the last layer, a dense one with NN_SIGMOID, as Keras does. */
typedef enum nn_loss { NN_MAE, NN_BINARY_CROSSENTROPY } nn_loss;
typedef enum nn_optimiser { NN_ADAM, NN_RMSPROP } nn_optimiser;

typedef struct nn_options {
    size_t timesteps; /* T */
    size_t features;  /* of x; 0: the input is tokens */
    size_t batch;     /* the most items of a training step */
    int threads;      /* 0: the processors this process may use */
    uint64_t seed;    /* of initial weights and dropout */
} nn_options;

/* Samples. Item i is row rows[i] of each array, so that a shuffled batch needs no copy. */
typedef struct nn_data {
    size_t items;
    const size_t *rows;    /* (items); NULL: 0, 1, 2, ... */
    const int32_t *tokens; /* (., T): for a model that begins with an embedding */
    const float *x;        /* (., T, features): for any other */
    const int32_t *starts; /* (.), optional: the attention layer attends to [start, T) alone */
    const float *y;        /* (., outputs): the targets of a training step */
} nn_data;

typedef struct nn_model nn_model;

/* ---- Building -------------------------------------------------------------------------------------------------------- */

/* NULL when there is no memory. Everything else that can be wrong with a model, nn_model_compile answers. */
nn_model *nn_model_create(const nn_options *options);
void nn_model_destroy(nn_model *model); /* NULL is a no-op */

void nn_model_add_embedding(nn_model *model, size_t vocabulary, size_t width);
void nn_model_add_lstm(nn_model *model, size_t units, bool sequences);
void nn_model_add_attention(nn_model *model, attn_score score, size_t units);
void nn_model_add_dense(nn_model *model, size_t units, nn_activation activation);
void nn_model_add_dropout(nn_model *model, double rate);

/* Allocates what training needs, and initialises the weights. false: nn_model_error says why. */
bool nn_model_compile(nn_model *model, nn_loss loss, nn_optimiser optimiser);

/* What went wrong last, "" when nothing did. Never NULL. */
const char *nn_model_error(const nn_model *model);

size_t nn_model_parameters(const nn_model *model); /* how many numbers are trained */

/* ---- Running --------------------------------------------------------------------------------------------------------- */

/* One step of the optimiser on one batch. Answers the batch's loss before the step, NaN after an error. */
double nn_model_train_step(nn_model *model, const nn_data *batch);

/* Any number of items: their outputs to y (items, outputs) and, unless NULL, the attention layer's weights to
 * attention (items, T). data->y is not read. */
bool nn_model_predict(nn_model *model, const nn_data *data, float *y, float *attention);

/* ---- Weights and state ------------------------------------------------------------------------------------------------ */

/* A weight by its name, such as "lstm/kernel"; NULL when there is none. May be written between steps. */
float *nn_model_weight(nn_model *model, const char *name, size_t *count);

/* Its gradient in the last step. */
const float *nn_model_gradient(const nn_model *model, const char *name, size_t *count);

/* Writes a safetensors file: the weights by their names and, with state, all else that a killed run needs to go on as if
 * nothing had happened: the optimiser's moments as optimiser/m/<weight> and optimiser/v/<weight>; step and seed as metadata,
 * beside the caller's own (keys other than nn_step and nn_seed). The file appears whole or not at all. */
bool nn_model_save(nn_model *model, const char *path, bool state, const attn_weights_metadata_entry *metadata,
                   size_t metadata_count);

/* Reads it into a compiled model of the same layers: weights, and the state where the caller asks for it (a file without
 * one is then an error). Files made by attention-convert from Keras's models are read too. Nothing changes on an error. */
bool nn_model_load(nn_model *model, const char *path, bool state);

/* ---- Randomness -------------------------------------------------------------------------------------------------------- */

/* 64 random bits, a function of its arguments: output `index` of the SplitMix64 generator that seed and stream start.
 * Streams from NN_STREAMS on are the model's own. */
#define NN_STREAMS (UINT64_C(1) << 63)
uint64_t nn_random(uint64_t seed, uint64_t stream, uint64_t index);

/* The same as a number in [0, 1), a multiple of 2^-53. */
double nn_uniform(uint64_t seed, uint64_t stream, uint64_t index);

/* A random order of 0 .. count - 1. */
void nn_shuffle(size_t *order, size_t count, uint64_t seed, uint64_t stream);

#endif

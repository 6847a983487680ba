/* SPDX-License-Identifier: Apache-2.0 */
/* The model's insides, for the files that build it, run it and store it. */
#ifndef NN_MODEL_H
#define NN_MODEL_H

#include "cpu/threads.h"
#include "examples/nn/layers.h"

enum { NN_LAYERS = 16, NN_MOMENTS = 2 };

/* One shard's memory; its gradients are laid out as the weights. */
typedef struct nn_shard {
    nn_pass pass;
    double loss;  /* its part of the batch's */
    float *input; /* its rows of x */
    float *outputs[NN_LAYERS];
    void *kept[NN_LAYERS];
    float *gradients;
    float *grad[2]; /* of a layer's output and input, taking turns */
} nn_shard;

struct nn_model {
    nn_options options;
    nn_loss loss;
    nn_optimiser optimiser;
    nn_layer layers[NN_LAYERS];
    size_t layer_count;
    size_t parameters; /* floats of weights, gradients and each moment */
    uint64_t step;
    bool failed, compiled; /* failed: while it was built */
    char error[512];
    attn_context *context;
    attn_threads *threads;
    const nn_machine *machine;
    float *weights, *moments[NN_MOMENTS]; /* m and v; rmsprop has v alone, its m stays 0 */
    nn_shard *shards;
    size_t shard_count;
};

/* Keeps the message and answers false. */
bool nn_fail(nn_model *model, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A parameter by its full name; NULL. */
const nn_parameter *nn_find(const nn_model *model, const char *name);

/* Writes every weight its initial value. */
bool nn_initialise(nn_model *model);

/* The batch's loss in a shard of it, and its gradient by the outputs (by the logits for cross-entropy). The mean is over
 * `batch` items of `width` outputs. */
double nn_loss_of(nn_loss loss, const nn_pass *pass, size_t width, size_t batch, const float *out, const float *logits,
                  float *grad);

/* Adds the gradients of the shards in their order, into the first one's, and takes a step with numbers [first, first + count). */
void nn_optimise(nn_model *model, size_t shards, size_t first, size_t count);

/* Zeroed, aligned to 64 bytes; given back by free(). NULL: no memory. */
void *nn_allocate(size_t bytes);

#endif

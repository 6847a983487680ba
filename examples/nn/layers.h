/* SPDX-License-Identifier: Apache-2.0 */
/* What a layer is to the model. A layer computes one shard at a time, on the thread that calls it. */
#ifndef NN_LAYERS_H
#define NN_LAYERS_H

#include "examples/nn/nn.h"

#include "examples/nn/machine.h"

typedef enum nn_initialiser { NN_ZEROS, NN_FORGET_BIAS, NN_EMBEDDING_UNIFORM, NN_GLOROT, NN_ORTHOGONAL } nn_initialiser;

enum { NN_NAME_SIZE = 64, NN_LAYER_PARAMETERS = 4 };

/* A matrix (rows, columns), or a vector of `columns` where rows is 0, at `offset` of the model's numbers. */
typedef struct nn_parameter {
    char name[NN_NAME_SIZE];
    size_t rows, columns, offset, count;
    nn_initialiser initialiser;
} nn_parameter;

typedef struct nn_shape {
    size_t steps, width; /* one step: a vector */
} nn_shape;

/* A shard on its way through the model. */
typedef struct nn_pass {
    const nn_data *data;
    size_t first, items; /* of the batch */
    uint64_t seed, step;
    bool training;
    const float *weights;
    float *gradients; /* of this shard, laid out as the weights; zeroed beforehand, layers add */
    float *attention; /* where the attention weights of the shard are wanted; NULL */
    const nn_machine *machine;
    attn_status status; /* the first error of a call into the library */
} nn_pass;

typedef struct nn_layer nn_layer;

typedef struct nn_kind {
    const char *name;
    /* in (items, steps, width) to out. What the backward pass needs besides them goes to kept, which is this shard's own. */
    void (*forward)(const nn_layer *layer, nn_pass *pass, const float *in, float *out, void *kept);
    /* grad_in is NULL where nobody wants it. */
    void (*backward)(const nn_layer *layer, nn_pass *pass, const float *in, const float *out, const float *grad_out,
                     float *grad_in, void *kept);
    size_t (*kept_bytes)(const nn_layer *layer);                  /* NULL: none */
    void (*prepare)(const nn_layer *layer, const float *weights); /* optional: once before each step */
    bool (*compile)(nn_layer *layer, attn_context *context); /* optional: false after a failed call into the library */
    void (*destroy)(nn_layer *layer);                        /* optional */
} nn_kind;

struct nn_layer {
    const nn_kind *kind;
    char name[NN_NAME_SIZE / 2];
    size_t index; /* in the model */
    nn_shape in, out;
    nn_parameter parameters[NN_LAYER_PARAMETERS];
    size_t parameter_count;
    bool sequences;           /* lstm */
    float *transposed;        /* lstm: both kernels, one below the other, transposed */
    nn_activation activation; /* dense */
    bool logit_gradient;      /* dense: grad_out is already that of the logits */
    double rate;              /* dropout */
    attn_score score;         /* attention, as what follows */
    attn_plan *forward_plan, *training_plan, *backward_plan;
};

/* What a dense layer keeps begins with its logits. */
extern const nn_kind nn_embedding_kind, nn_lstm_kind, nn_attention_kind, nn_dense_kind, nn_dropout_kind;

/* A parameter of the layer, its values, and its gradients in this shard. */
static inline const float *nn_weights_of(const nn_layer *layer, const nn_pass *pass, size_t parameter) {
    return pass->weights + layer->parameters[parameter].offset;
}
static inline float *nn_gradients_of(const nn_layer *layer, const nn_pass *pass, size_t parameter) {
    return pass->gradients + layer->parameters[parameter].offset;
}

/* The row of the data that an item of the shard is. */
static inline size_t nn_row(const nn_pass *pass, size_t item) {
    return pass->data->rows ? pass->data->rows[pass->first + item] : pass->first + item;
}

#endif

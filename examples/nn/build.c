/* SPDX-License-Identifier: Apache-2.0 */
/* A model's layers, their shapes and parameters. */
#include "examples/nn/model.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool nn_fail(nn_model *model, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(model->error, sizeof model->error, format, arguments);
    va_end(arguments);
    return false;
}

const char *nn_model_error(const nn_model *model) { return model->error; }

/* The first thing that is wrong with the layers is what compiling reports. */
static void refuse(nn_model *model, const char *kind, const char *reason) {
    if (!model->failed) nn_fail(model, "%s: %s", kind, reason);
    model->failed = true;
}

/* Keras's names: the second of a kind is kind_1. */
static void name_layer(const nn_model *model, nn_layer *layer) {
    size_t same = 0;
    for (size_t i = 0; i < model->layer_count; i++) same += model->layers[i].kind == layer->kind;
    if (same == 0)
        snprintf(layer->name, sizeof layer->name, "%s", layer->kind->name);
    else
        snprintf(layer->name, sizeof layer->name, "%s_%zu", layer->kind->name, same);
}

/* The next layer, not counted yet; NULL where the model takes no more. */
static nn_layer *next_layer(nn_model *model, const nn_kind *kind, size_t width) {
    const bool first = model->layer_count == 0, tokens = model->options.features == 0;
    if (model->compiled)
        refuse(model, kind->name, "the model is compiled");
    else if (model->layer_count == NN_LAYERS)
        refuse(model, kind->name, "too many layers");
    else if (first && (kind == &nn_embedding_kind) != tokens)
        refuse(model, kind->name,
               tokens ? "a model without features begins with an embedding" : "the input is not tokens");
    else if (!first && kind == &nn_embedding_kind)
        refuse(model, kind->name, "it is no first layer");
    else if (width == 0)
        refuse(model, kind->name, "a width of 0");
    if (model->failed) return NULL;
    nn_layer *layer = &model->layers[model->layer_count];
    *layer = (nn_layer){.kind = kind, .index = model->layer_count};
    layer->in = first ? (nn_shape){model->options.timesteps, model->options.features} : layer[-1].out;
    name_layer(model, layer);
    return layer;
}

static void add_parameter(nn_model *model, nn_layer *layer, const char *name, size_t rows, size_t columns,
                          nn_initialiser initialiser) {
    nn_parameter *p = &layer->parameters[layer->parameter_count++];
    *p = (nn_parameter){.rows = rows,
                        .columns = columns,
                        .offset = model->parameters,
                        .count = (rows ? rows : 1) * columns,
                        .initialiser = initialiser};
    snprintf(p->name, sizeof p->name, "%s/%s", layer->name, name);
    model->parameters += p->count;
}

void nn_model_add_embedding(nn_model *model, size_t vocabulary, size_t width) {
    nn_layer *layer = next_layer(model, &nn_embedding_kind, width);
    if (!layer) return;
    layer->out = (nn_shape){layer->in.steps, width};
    add_parameter(model, layer, "embeddings", vocabulary, width, NN_EMBEDDING_UNIFORM);
    model->layer_count++;
}

void nn_model_add_lstm(nn_model *model, size_t units, bool sequences) {
    nn_layer *layer = next_layer(model, &nn_lstm_kind, units);
    if (!layer) return;
    layer->sequences = sequences;
    layer->out = (nn_shape){sequences ? layer->in.steps : 1, units};
    add_parameter(model, layer, "kernel", layer->in.width, 4 * units, NN_GLOROT);
    add_parameter(model, layer, "recurrent_kernel", units, 4 * units, NN_ORTHOGONAL);
    add_parameter(model, layer, "bias", 0, 4 * units, NN_FORGET_BIAS);
    model->layer_count++;
}

void nn_model_add_attention(nn_model *model, attn_score score, size_t units) {
    nn_layer *layer = next_layer(model, &nn_attention_kind, units);
    if (!layer) return;
    const size_t width = layer->in.width;
    layer->score = score;
    layer->out = (nn_shape){1, units};
    if (score == ATTN_SCORE_LUONG) {
        add_parameter(model, layer, "luong_w", width, width, NN_GLOROT);
    } else if (score == ATTN_SCORE_BAHDANAU) {
        add_parameter(model, layer, "bahdanau_v", width, 1, NN_GLOROT);
        add_parameter(model, layer, "bahdanau_w1", width, width, NN_GLOROT);
        add_parameter(model, layer, "bahdanau_w2", width, width, NN_GLOROT);
    }
    add_parameter(model, layer, "w_c", 2 * width, units, NN_GLOROT);
    model->layer_count++;
}

void nn_model_add_dense(nn_model *model, size_t units, nn_activation activation) {
    nn_layer *layer = next_layer(model, &nn_dense_kind, units);
    if (!layer) return;
    if (layer->in.steps != 1) {
        refuse(model, layer->name, "its input has time steps");
        return;
    }
    layer->activation = activation;
    layer->out = (nn_shape){1, units};
    add_parameter(model, layer, "kernel", layer->in.width, units, NN_GLOROT);
    add_parameter(model, layer, "bias", 0, units, NN_ZEROS);
    model->layer_count++;
}

void nn_model_add_dropout(nn_model *model, double rate) {
    nn_layer *layer = next_layer(model, &nn_dropout_kind, 1);
    if (!layer) return;
    if (!(rate >= 0 && rate < 1)) {
        refuse(model, layer->name, "the rate is not in [0, 1)");
        return;
    }
    layer->rate = rate;
    layer->out = layer->in;
    model->layer_count++;
}

size_t nn_model_parameters(const nn_model *model) { return model->parameters; }

/* SPDX-License-Identifier: Apache-2.0 */
/* A model's memory and what it computes with. */
#include "examples/nn/model.h"

#include <cblas.h>
#include <stdlib.h>
#include <string.h>

void *nn_allocate(size_t bytes) {
    const size_t whole = (bytes + 63) / 64 * 64;
    void *memory = aligned_alloc(64, whole ? whole : 64);
    return memory ? memset(memory, 0, whole) : NULL;
}

nn_model *nn_model_create(const nn_options *options) {
    nn_model *model = calloc(1, sizeof *model);
    if (model) model->options = *options;
    return model;
}

static void destroy_shard(nn_shard *shard) {
    for (size_t l = 0; l < NN_LAYERS; l++) {
        free(shard->outputs[l]);
        free(shard->kept[l]);
    }
    free(shard->input);
    free(shard->gradients);
    free(shard->grad[0]);
    free(shard->grad[1]);
}

void nn_model_destroy(nn_model *model) {
    if (!model) return;
    for (size_t s = 0; s < model->shard_count; s++) destroy_shard(&model->shards[s]);
    free(model->shards);
    for (size_t l = 0; l < model->layer_count; l++)
        if (model->layers[l].kind->destroy) model->layers[l].kind->destroy(&model->layers[l]);
    if (model->threads) attn_threads_destroy(model->threads);
    attn_context_destroy(model->context);
    free(model->weights);
    free(model->moments[0]);
    free(model->moments[1]);
    free(model);
}

static size_t floats_of(nn_shape shape) { return NN_SHARD * shape.steps * shape.width; }

static bool allocate_shard(const nn_model *model, nn_shard *shard) {
    size_t widest = 0;
    for (size_t l = 0; l < model->layer_count; l++) {
        const nn_layer *layer = &model->layers[l];
        const size_t floats = floats_of(layer->out);
        if (floats > widest) widest = floats;
        shard->outputs[l] = nn_allocate(floats * sizeof(float));
        if (layer->kind->kept_bytes) shard->kept[l] = nn_allocate(layer->kind->kept_bytes(layer));
        if (!shard->outputs[l] || (layer->kind->kept_bytes && !shard->kept[l])) return false;
    }
    shard->input =
        nn_allocate(floats_of((nn_shape){model->options.timesteps, model->options.features}) * sizeof(float));
    shard->gradients = nn_allocate(model->parameters * sizeof(float));
    shard->grad[0] = nn_allocate(widest * sizeof(float));
    shard->grad[1] = nn_allocate(widest * sizeof(float));
    return shard->input && shard->gradients && shard->grad[0] && shard->grad[1];
}

static bool allocate(nn_model *model) {
    const size_t bytes = model->parameters * sizeof(float);
    model->weights = nn_allocate(bytes);
    model->moments[0] = nn_allocate(bytes);
    model->moments[1] = nn_allocate(bytes);
    model->shards = calloc((model->options.batch + NN_SHARD - 1) / NN_SHARD, sizeof *model->shards);
    if (!model->weights || !model->moments[0] || !model->moments[1] || !model->shards) return false;
    for (size_t first = 0; first < model->options.batch; first += NN_SHARD)
        if (!allocate_shard(model, &model->shards[model->shard_count++])) return false;
    return true;
}

static void *take_memory(void *user, size_t size) {
    (void)user;
    return malloc(size);
}

static void give_memory(void *user, void *memory) {
    (void)user;
    free(memory);
}

/* The library's calls are made by our threads, one shard each: its own context gets none. */
static bool start(nn_model *model) {
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.threads = 1;
    if (attn_context_create(&options, &model->context)) return nn_fail(model, "%s", attn_last_error_message());
    model->machine = nn_machine_for(attn_context_isa(model->context));
    for (size_t l = 0; l < model->layer_count; l++) {
        nn_layer *layer = &model->layers[l];
        if (layer->kind->compile && !layer->kind->compile(layer, model->context))
            return nn_fail(model, "%s: %s", layer->name, attn_last_error_message());
    }
    openblas_set_num_threads(1);
    model->threads = attn_threads_create(
        &(attn_device_options){.threads = model->options.threads, .allocate = take_memory, .release = give_memory});
    return model->threads || nn_fail(model, "no memory for threads");
}

/* The cross-entropy's gradient goes around the last activation. */
static bool check(nn_model *model, nn_loss loss) {
    if (model->failed) return false;
    if (model->compiled) return nn_fail(model, "the model is compiled already");
    if (model->options.batch == 0 || model->options.timesteps == 0) return nn_fail(model, "a batch or timesteps of 0");
    if (model->options.threads < 0 || model->options.threads > 4096) return nn_fail(model, "threads outside [0, 4096]");
    nn_layer *last = model->layer_count ? &model->layers[model->layer_count - 1] : NULL;
    if (!last || last->out.steps != 1) return nn_fail(model, "the last layer gives no vector");
    if (loss == NN_BINARY_CROSSENTROPY) {
        if (last->kind != &nn_dense_kind || last->activation != NN_SIGMOID)
            return nn_fail(model, "binary cross-entropy needs a dense last layer with a sigmoid");
        last->logit_gradient = true;
    }
    return true;
}

bool nn_model_compile(nn_model *model, nn_loss loss, nn_optimiser optimiser) {
    if (!check(model, loss)) return false;
    model->loss = loss;
    model->optimiser = optimiser;
    model->compiled = true; /* no second try: parts of it stand */
    if (!start(model)) return model->failed = true, false;
    if (!allocate(model) || !nn_initialise(model)) {
        model->failed = true;
        return nn_fail(model, "no memory for the model");
    }
    return true;
}

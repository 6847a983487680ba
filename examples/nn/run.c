/* SPDX-License-Identifier: Apache-2.0 */
/* Training steps and predictions: shards shared out among the threads, everything that is ordered in the caller's. */
#include "examples/nn/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBERS_PER_TASK = 16384 }; /* of the optimiser */

/* One batch, or as much of a prediction. */
typedef struct work {
    nn_model *model;
    const nn_data *data;
    size_t first, items;
    float *outputs, *attention; /* of a prediction */
} work;

static size_t shards_of(size_t items) { return (items + NN_SHARD - 1) / NN_SHARD; }

static nn_shard *begin(const work *w, size_t index, bool training) {
    nn_shard *shard = &w->model->shards[index];
    const size_t first = index * NN_SHARD, left = w->items - first;
    shard->pass = (nn_pass){.data = w->data,
                            .first = w->first + first,
                            .items = left < NN_SHARD ? left : NN_SHARD,
                            .seed = w->model->options.seed,
                            .step = w->model->step,
                            .training = training,
                            .weights = w->model->weights,
                            .gradients = shard->gradients,
                            .machine = w->model->machine};
    return shard;
}

/* The shard's rows of x, one after the other; tokens are read where they are. */
static const float *gather(const nn_model *model, nn_shard *shard) {
    const size_t row = model->options.timesteps * model->options.features;
    for (size_t i = 0; row > 0 && i < shard->pass.items; i++)
        memcpy(shard->input + i * row, shard->pass.data->x + nn_row(&shard->pass, i) * row, row * sizeof(float));
    return shard->input;
}

static void forward(const nn_model *model, nn_shard *shard) {
    const float *in = gather(model, shard);
    for (size_t l = 0; l < model->layer_count && shard->pass.status == ATTN_OK; l++) {
        const nn_layer *layer = &model->layers[l];
        layer->kind->forward(layer, &shard->pass, in, shard->outputs[l], shard->kept[l]);
        in = shard->outputs[l];
    }
}

static void backward(const nn_model *model, nn_shard *shard, float *grad) {
    for (size_t l = model->layer_count; l-- > 0 && shard->pass.status == ATTN_OK;) {
        const nn_layer *layer = &model->layers[l];
        float *grad_in = l == 0 ? NULL : grad == shard->grad[0] ? shard->grad[1] : shard->grad[0];
        layer->kind->backward(layer, &shard->pass, l ? shard->outputs[l - 1] : shard->input, shard->outputs[l], grad,
                              grad_in, shard->kept[l]);
        grad = grad_in;
    }
}

static void train_shard(void *argument, size_t index) {
    const work *w = argument;
    const nn_model *model = w->model;
    nn_shard *shard = begin(w, index, true);
    memset(shard->gradients, 0, model->parameters * sizeof(float));
    forward(model, shard);
    if (shard->pass.status) return;
    const size_t last = model->layer_count - 1;
    shard->loss = nn_loss_of(model->loss, &shard->pass, model->layers[last].out.width, w->items, shard->outputs[last],
                             shard->kept[last], shard->grad[0]);
    backward(model, shard, shard->grad[0]);
}

static void optimise(void *argument, size_t index) {
    const work *w = argument;
    const size_t first = index * NUMBERS_PER_TASK, left = w->model->parameters - first;
    nn_optimise(w->model, shards_of(w->items), first, left < NUMBERS_PER_TASK ? left : NUMBERS_PER_TASK);
}

static void predict_shard(void *argument, size_t index) {
    const work *w = argument;
    const nn_model *model = w->model;
    const size_t last = model->layer_count - 1, width = model->layers[last].out.width;
    nn_shard *shard = begin(w, index, false);
    if (w->attention) shard->pass.attention = w->attention + shard->pass.first * model->options.timesteps;
    forward(model, shard);
    if (!shard->pass.status)
        memcpy(w->outputs + shard->pass.first * width, shard->outputs[last], shard->pass.items * width * sizeof(float));
}

/* The first error of the shards that ran. */
static bool check_shards(nn_model *model, size_t items) {
    for (size_t s = 0; s < shards_of(items); s++)
        if (model->shards[s].pass.status)
            return nn_fail(model, "items %zu and on: %s", s * NN_SHARD,
                           attn_status_string(model->shards[s].pass.status));
    return true;
}

static bool check_data(nn_model *model, const nn_data *data) {
    if (!model->compiled || model->failed) return nn_fail(model, "the model is not compiled");
    if (model->options.features ? !data->x : !data->tokens)
        return nn_fail(model, "the model's input is %s", model->options.features ? "x" : "tokens");
    return true;
}

static void prepare(const nn_model *model) {
    for (size_t l = 0; l < model->layer_count; l++)
        if (model->layers[l].kind->prepare) model->layers[l].kind->prepare(&model->layers[l], model->weights);
}

double nn_model_train_step(nn_model *model, const nn_data *batch) {
    if (!check_data(model, batch)) return (double)NAN;
    if (!batch->y || batch->items == 0 || batch->items > model->options.batch) {
        nn_fail(model, "a training step takes 1 to %zu items and their targets", model->options.batch);
        return (double)NAN;
    }
    work w = {.model = model, .data = batch, .items = batch->items};
    prepare(model);
    attn_threads_run(model->threads, shards_of(batch->items), train_shard, &w);
    if (!check_shards(model, batch->items)) return (double)NAN;
    double loss = 0;
    for (size_t s = 0; s < shards_of(batch->items); s++) loss += model->shards[s].loss;
    attn_threads_run(model->threads, (model->parameters + NUMBERS_PER_TASK - 1) / NUMBERS_PER_TASK, optimise, &w);
    model->step++;
    return loss;
}

bool nn_model_predict(nn_model *model, const nn_data *data, float *y, float *attention) {
    if (!check_data(model, data)) return false;
    work w = {.model = model, .data = data, .outputs = y, .attention = attention};
    const size_t together = model->shard_count * NN_SHARD;
    for (; w.first < data->items; w.first += together) {
        const size_t left = data->items - w.first;
        w.items = left < together ? left : together;
        attn_threads_run(model->threads, shards_of(w.items), predict_shard, &w);
        if (!check_shards(model, w.items)) return false;
    }
    return true;
}

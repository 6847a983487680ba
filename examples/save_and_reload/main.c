/* SPDX-License-Identifier: Apache-2.0
 * A model is trained on noise, saved, and read back by another one, which must predict the same bits. */
#include "examples/experiment/experiment.h"
#include "tools/streams.h"

#include <stdlib.h>
#include <string.h>

enum { TIMESTEPS = 10, SAMPLES = 100, BATCH = 32, EPOCHS = 30 };

static const char about[] =
    "save_and_reload [options]\n"
    "\n"
    "Trains LSTM, attention and Dense on noise with each of the two scores, saves the model as\n"
    "luong.safetensors and bahdanau.safetensors, reads it back and compares what both predict.\n";

static nn_model *build(const experiment *e, attn_score score, uint64_t seed) {
    nn_model *const model = nn_model_create(
        &(nn_options){.timesteps = TIMESTEPS, .features = 1, .batch = BATCH, .threads = e->threads, .seed = seed});
    if (!model) experiment_fail("out of memory");
    nn_model_add_lstm(model, 64, true);
    nn_model_add_attention(model, score, 32);
    nn_model_add_dense(model, 1, NN_LINEAR);
    experiment_compile(model, NN_MAE, NN_ADAM);
    return model;
}

/* Whether the model that was read back predicts the same bits. */
static bool same_after_reload(const experiment *e, attn_score score, const char *name, const float *x, const float *y) {
    const nn_data all = {.items = SAMPLES, .x = x, .y = y};
    float before[SAMPLES], after[SAMPLES];
    double first = 0, loss = 0;
    nn_model *const model = build(e, score, e->seed), *const reloaded = build(e, score, e->seed + 1);
    for (size_t epoch = 1; epoch <= e->epochs; epoch++) {
        loss = experiment_epoch(e, model, &all, BATCH, epoch);
        if (epoch == 1) first = loss;
    }
    experiment_predict(model, &all, before, NULL);
    const char *const path = experiment_path(e, "%s.safetensors", name);
    if (!nn_model_save(model, path, false, NULL, 0)) experiment_fail("%s: %s", path, nn_model_error(model));
    if (!nn_model_load(reloaded, path, false)) experiment_fail("%s: %s", path, nn_model_error(reloaded));
    experiment_predict(reloaded, &all, after, NULL);
    const bool same = !memcmp(before, after, sizeof before);
    printf("%-8s  %zu parameters, %zu epochs, loss %.5f to %.5f; after reload: %s\n", name, nn_model_parameters(model),
           e->epochs, first, loss, same ? "the same bits" : "DIFFERENT");
    nn_model_destroy(model);
    nn_model_destroy(reloaded);
    return same;
}

int main(int argc, char **argv) {
    streams_begin("save_and_reload", 2);
    const experiment e = experiment_read(argc, argv, "save_and_reload", about, EPOCHS);
    float x[SAMPLES * TIMESTEPS], y[SAMPLES];
    for (size_t i = 0; i < SAMPLES * TIMESTEPS; i++) x[i] = (float)nn_uniform(e.seed, EXPERIMENT_SAMPLES, i);
    for (size_t i = 0; i < SAMPLES; i++) y[i] = (float)nn_uniform(e.seed, EXPERIMENT_SAMPLES + 1, i);
    const bool luong = same_after_reload(&e, ATTN_SCORE_LUONG, "luong", x, y);
    const bool bahdanau = same_after_reload(&e, ATTN_SCORE_BAHDANAU, "bahdanau", x, y);
    return luong && bahdanau ? 0 : 1;
}

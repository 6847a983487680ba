/* SPDX-License-Identifier: Apache-2.0
 * Attention finds the two numbers that follow a 0 in a sequence of twenty; their mean is to be learnt. */
#include "examples/add_two_numbers/samples.h"
#include "examples/experiment/learning.h"
#include "examples/plot/map.h"
#include "tools/streams.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { TIMESTEPS = 20, TRAINING = 20000, VALIDATION = 4000, SHOWN = 10, BATCH = 64, EPOCHS = 150 };

static const char about[] =
    "add_two_numbers [options]\n"
    "\n"
    "Learns the mean of the two numbers that follow a 0 in a sequence of twenty: LSTM, Bahdanau attention, Dense.\n"
    "Writes for each epoch the attention on ten sequences above the two true places, epoch_NNN.png, and in the end\n"
    "learning.png.\n";

static nn_model *build(const experiment *e) {
    nn_model *const model = nn_model_create(
        &(nn_options){.timesteps = TIMESTEPS, .features = 1, .batch = BATCH, .threads = e->threads, .seed = e->seed});
    if (!model) experiment_fail("out of memory");
    nn_model_add_lstm(model, 100, true);
    nn_model_add_attention(model, ATTN_SCORE_BAHDANAU, 128);
    nn_model_add_dropout(model, 0.2);
    nn_model_add_dense(model, 1, NN_LINEAR);
    experiment_compile(model, NN_MAE, NN_ADAM);
    return model;
}

/* The mean over samples of the attention that lies on the two numbers. */
static double attention_on_both(const samples *s, const float *attention) {
    double sum = 0;
    for (size_t i = 0; i < s->count; i++)
        for (size_t j = 0; j < 2; j++) sum += (double)attention[i * s->timesteps + s->place[i][j]];
    return sum / (double)s->count;
}

/* Ten sequences with their numbers at places 4 and 9: the attention map above the true places. */
static void show(const experiment *e, nn_model *model, const samples *shown, size_t epoch, float mean[TIMESTEPS]) {
    float y[SHOWN], attention[SHOWN * TIMESTEPS], truth[TIMESTEPS] = {0};
    experiment_predict(model, &(nn_data){.items = SHOWN, .x = shown->x}, y, attention);
    truth[shown->place[0][0]] = truth[shown->place[0][1]] = 1;
    char caption[64];
    snprintf(caption, sizeof caption, "epoch %zu of %zu", epoch, e->epochs);
    const map maps[] = {{"attention, ten sequences", SHOWN, TIMESTEPS, attention, 24, 24},
                        {"where the two numbers are", 1, TIMESTEPS, truth, 24, 24}};
    const char *const path = experiment_path(e, "epoch_%03zu.png", epoch);
    if (!map_write(path, caption, maps, 2)) experiment_fail("can't write %s: %s", path, strerror(errno));
    memset(mean, 0, TIMESTEPS * sizeof *mean);
    for (size_t i = 0; i < SHOWN * TIMESTEPS; i++) mean[i % TIMESTEPS] += attention[i] / SHOWN;
}

int main(int argc, char **argv) {
    streams_begin("add_two_numbers", 2);
    const experiment e = experiment_read(argc, argv, "add_two_numbers", about, EPOCHS);
    const size_t fewer = e.quick ? 10 : 1;
    samples train = samples_make(TRAINING / fewer, TIMESTEPS, NULL, e.seed, EXPERIMENT_SAMPLES);
    samples test = samples_make(VALIDATION / fewer, TIMESTEPS, NULL, e.seed, EXPERIMENT_SAMPLES + 1);
    samples shown = samples_make(SHOWN, TIMESTEPS, (const size_t[]){4, 9}, e.seed, EXPERIMENT_SAMPLES + 2);
    float *const y = experiment_array(test.count, sizeof *y);
    float *const attention = experiment_array(test.count * TIMESTEPS, sizeof *attention), mean[TIMESTEPS];
    nn_model *const model = build(&e);
    printf("%zu parameters, %zu samples\n", nn_model_parameters(model), train.count);
    learning l = learning_begin(&e, "attention on the two", TIMESTEPS);
    double mae = 0, part = 0;
    for (size_t epoch = 1; epoch <= e.epochs; epoch++) {
        const nn_data all = {.items = train.count, .x = train.x, .y = train.y};
        const double loss = experiment_epoch(&e, model, &all, BATCH, epoch);
        experiment_predict(model, &(nn_data){.items = test.count, .x = test.x}, y, attention);
        mae = experiment_mae(y, test.y, test.count), part = attention_on_both(&test, attention);
        show(&e, model, &shown, epoch, mean);
        learning_add(&l, loss, mae, part, mean);
    }
    learning_end(&l, "attention, epochs downwards");
    printf("validation MAE %.4f (wanted: below 0.03), %.1f %% of the attention on the two numbers (above 90 %%)\n", mae,
           100 * part);
    nn_model_destroy(model);
    samples_free(&train), samples_free(&test), samples_free(&shown);
    free(y), free(attention);
    return 0;
}

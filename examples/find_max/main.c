/* SPDX-License-Identifier: Apache-2.0
 * Attention finds the largest of ten numbers, most of which are close to 0. */
#include "examples/experiment/learning.h"
#include "examples/plot/map.h"
#include "tools/streams.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TIMESTEPS = 10, SAMPLES = 100000, SHOWN = 12, BATCH = 32, EPOCHS = 100 };

static const char about[] =
    "find_max [options]\n"
    "\n"
    "Learns the largest of ten numbers from Beta(1/10, 1): LSTM, Luong attention, Dense.\n"
    "Writes for each epoch the attention on twelve sequences, where it is largest, and where the\n"
    "largest number is, epoch_NNN.png, and in the end learning.png.\n";

typedef struct samples {
    size_t count;
    float *x, *y; /* (count, TIMESTEPS), (count) */
} samples;

static size_t largest(const float *values) {
    size_t at = 0;
    for (size_t t = 1; t < TIMESTEPS; t++)
        if (values[t] > values[at]) at = t;
    return at;
}

/* A number from Beta(1/10, 1) is the tenth power of a uniform one. */
static samples make_samples(size_t count, uint64_t seed) {
    samples s = {count, experiment_array(count * TIMESTEPS, sizeof *s.x), experiment_array(count, sizeof *s.y)};
    for (size_t i = 0; i < count * TIMESTEPS; i++) s.x[i] = (float)pow(nn_uniform(seed, EXPERIMENT_SAMPLES, i), 10);
    for (size_t i = 0; i < count; i++) s.y[i] = s.x[i * TIMESTEPS + largest(s.x + i * TIMESTEPS)];
    return s;
}

static nn_model *build(const experiment *e) {
    nn_model *const model = nn_model_create(
        &(nn_options){.timesteps = TIMESTEPS, .features = 1, .batch = BATCH, .threads = e->threads, .seed = e->seed});
    if (!model) experiment_fail("out of memory");
    nn_model_add_lstm(model, 128, true);
    nn_model_add_attention(model, ATTN_SCORE_LUONG, 128);
    nn_model_add_dense(model, 1, NN_LINEAR);
    experiment_compile(model, NN_MAE, NN_RMSPROP);
    return model;
}

/* The part of the samples whose attention is largest where the number is. */
static double found(const samples *s, const float *attention) {
    size_t right = 0;
    for (size_t i = 0; i < s->count; i++) right += largest(attention + i * TIMESTEPS) == largest(s->x + i * TIMESTEPS);
    return (double)right / (double)s->count;
}

/* The mean attention on the largest number of a sequence, on the second largest, and so on. */
static void attention_by_rank(const samples *s, const float *attention, float mean[TIMESTEPS]) {
    double sum[TIMESTEPS] = {0};
    for (size_t i = 0; i < s->count; i++) {
        const float *const x = s->x + i * TIMESTEPS;
        for (size_t t = 0; t < TIMESTEPS; t++) {
            size_t rank = 0;
            for (size_t other = 0; other < TIMESTEPS; other++)
                rank += x[other] > x[t] || (x[other] == x[t] && other < t);
            sum[rank] += (double)attention[i * TIMESTEPS + t];
        }
    }
    for (size_t rank = 0; rank < TIMESTEPS; rank++) mean[rank] = (float)(sum[rank] / (double)s->count);
}

/* The first validation samples: attention, its largest, the true largest. */
static void show(const experiment *e, const samples *s, const float *attention, size_t epoch) {
    float most[SHOWN * TIMESTEPS] = {0}, truth[SHOWN * TIMESTEPS] = {0};
    for (size_t i = 0; i < SHOWN; i++) {
        most[i * TIMESTEPS + largest(attention + i * TIMESTEPS)] = 1;
        truth[i * TIMESTEPS + largest(s->x + i * TIMESTEPS)] = 1;
    }
    char caption[64];
    snprintf(caption, sizeof caption, "epoch %zu of %zu", epoch, e->epochs);
    const map maps[] = {{"attention", SHOWN, TIMESTEPS, attention, 24, 16},
                        {"where it is largest", SHOWN, TIMESTEPS, most, 24, 16},
                        {"the largest number", SHOWN, TIMESTEPS, truth, 24, 16}};
    const char *const path = experiment_path(e, "epoch_%03zu.png", epoch);
    if (!map_write(path, caption, maps, 3)) experiment_fail("can't write %s: %s", path, strerror(errno));
}

int main(int argc, char **argv) {
    streams_begin("find_max", 2);
    const experiment e = experiment_read(argc, argv, "find_max", about, EPOCHS);
    samples all = make_samples(e.quick ? SAMPLES / 10 : SAMPLES, e.seed);
    const size_t trained = all.count / 5 * 4; /* the rest is for validation */
    const samples test = {all.count - trained, all.x + trained * TIMESTEPS, all.y + trained};
    float *const y = experiment_array(test.count, sizeof *y);
    float *const attention = experiment_array(test.count * TIMESTEPS, sizeof *attention), mean[TIMESTEPS];
    nn_model *const model = build(&e);
    printf("%zu parameters, %zu samples\n", nn_model_parameters(model), trained);
    learning l = learning_begin(&e, "attention finds it", TIMESTEPS);
    double mae = 0, part = 0;
    for (size_t epoch = 1; epoch <= e.epochs; epoch++) {
        const double loss =
            experiment_epoch(&e, model, &(nn_data){.items = trained, .x = all.x, .y = all.y}, BATCH, epoch);
        experiment_predict(model, &(nn_data){.items = test.count, .x = test.x}, y, attention);
        mae = experiment_mae(y, test.y, test.count), part = found(&test, attention);
        show(&e, &test, attention, epoch);
        attention_by_rank(&test, attention, mean);
        learning_add(&l, loss, mae, part, mean);
    }
    learning_end(&l, "attention by rank of the number, epochs downwards");
    printf("validation MAE %.4f (wanted: below 0.01), attention finds the largest of %.1f %% (above 95 %%)\n", mae,
           100 * part);
    nn_model_destroy(model);
    free(all.x), free(all.y), free(y), free(attention);
    return 0;
}

/* Upstream's IMDB model in the training kit, as one of the workers of compare.py: what bench/imdb trains with. A call trains on,
 * or predicts, the next batch of the reviews in the case's folder.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "examples/nn/nn.h"
#include "worker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VOCABULARY = 5000, EMBEDDING = 32 };

static int threads;

static struct {
    nn_model *model;
    bool training;
    size_t batch, timesteps, next, reviews;
    int32_t *tokens;
    float *label, *probability;
} current;

static void unload(void) {
    nn_model_destroy(current.model);
    free(current.tokens);
    free(current.label);
    free(current.probability);
    memset(&current, 0, sizeof current);
}

/* A whole file of numbers, from malloc; NULL when it can't be read. */
static void *read_file(const char *directory, const char *name, size_t size, size_t *count) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    const long bytes = fseek(file, 0, SEEK_END) ? -1 : ftell(file);
    void *data = bytes > 0 ? malloc((size_t)bytes) : NULL;
    rewind(file);
    *count = data ? fread(data, size, (size_t)bytes / size, file) : 0;
    fclose(file);
    return data;
}

static bool read_reviews(const worker_case *wanted) {
    size_t tokens = 0, labels = 0;
    current.tokens = read_file(wanted->directory, "tokens.i32", sizeof *current.tokens, &tokens);
    current.label = read_file(wanted->directory, "label.f32", sizeof *current.label, &labels);
    current.probability = calloc(current.batch, sizeof *current.probability);
    current.reviews = labels / current.batch * current.batch; /* whole batches */
    return current.reviews && current.probability && tokens == labels * current.timesteps;
}

static bool make_model(const worker_case *wanted) {
    char path[4096];
    snprintf(path, sizeof path, "%s/model.safetensors", wanted->directory);
    nn_model *const model = current.model = nn_model_create(
        &(nn_options){.timesteps = current.timesteps, .batch = current.batch, .threads = threads, .seed = 1});
    if (!model) return false;
    nn_model_add_embedding(model, VOCABULARY, EMBEDDING);
    nn_model_add_dropout(model, 0.5);
    nn_model_add_lstm(model, (size_t)wanted->features, true);
    nn_model_add_attention(model, ATTN_SCORE_LUONG, (size_t)wanted->units);
    nn_model_add_dropout(model, 0.5);
    nn_model_add_dense(model, 1, NN_SIGMOID);
    return nn_model_compile(model, NN_BINARY_CROSSENTROPY, NN_ADAM) && nn_model_load(model, path, false);
}

static void load(attn_context *context, const worker_case *wanted) {
    (void)context; /* the kit makes its own */
    unload();
    current.training = strcmp(wanted->direction, "epoch") == 0;
    current.batch = (size_t)wanted->batch;
    current.timesteps = (size_t)wanted->timesteps;
    if (!read_reviews(wanted))
        worker_error("the reviews can't be read");
    else if (!make_model(wanted))
        worker_error(current.model ? nn_model_error(current.model) : "out of memory");
    else
        worker_variants((const char *const[]){"examples/nn"}, 1);
}

static nn_data next_batch(void) {
    const size_t at = current.next;
    current.next = (at + current.batch) % current.reviews;
    return (nn_data){
        .items = current.batch, .tokens = current.tokens + at * current.timesteps, .y = current.label + at};
}

static bool predict(void) {
    const nn_data data = next_batch();
    return nn_model_predict(current.model, &data, current.probability, NULL);
}

static bool train(void) {
    const nn_data data = next_batch();
    return !isnan(nn_model_train_step(current.model, &data));
}

static bool run(int variant) {
    (void)variant;
    if (current.training ? train() : predict()) return true;
    worker_error(nn_model_error(current.model));
    return false;
}

/* The probabilities of all reviews. */
static bool write_probabilities(int variant, FILE *file) {
    (void)variant;
    bool complete = true;
    current.next = 0;
    do
        complete =
            predict() && fwrite(current.probability, sizeof *current.probability, current.batch, file) == current.batch;
    while (complete && current.next);
    return complete;
}

int main(int argc, char **argv) {
    const worker w = {"[\"epoch\", \"test\"]", 1, load, run, write_probabilities, unload};
    threads = argc > 1 ? atoi(argv[1]) : 0;
    return worker_serve(&w, threads);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/imdb.h"

#include "bench/program.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Reading ------------------------------------------------------------------------------------- */

static attn_weights_file *open_file(const char *folder, const char *name) {
    attn_weights_file *file;
    char *path = text("%s/%s", folder, name);
    if (attn_weights_open(path, 0, &file)) fail("%s: %s", path, attn_last_error_message());
    release(path);
    return file;
}

/* A whole tensor in new memory; its first dimensions to shape[0] and shape[1]. */
static void *read_tensor(const attn_weights_file *file, const char *name, attn_weights_dtype dtype, size_t shape[2]) {
    const attn_weights_tensor *tensor = attn_weights_find(file, name);
    if (!tensor || tensor->dtype != dtype || tensor->rank < 1 || tensor->rank > 2)
        fail("the data has no tensor %s of type %s and one or two dimensions", name, attn_weights_dtype_name(dtype));
    for (int i = 0; i < 2; i++) shape[i] = i < tensor->rank ? (size_t)tensor->shape[i] : 1;
    void *data = allocate(tensor->bytes);
    if (attn_weights_read(file, tensor, dtype, data, tensor->bytes)) fail("%s: %s", name, attn_last_error_message());
    return data;
}

/* The same where the shape is known. */
static void *read_shaped(const attn_weights_file *file, const char *name, attn_weights_dtype dtype, size_t rows,
                         size_t columns) {
    size_t shape[2];
    void *data = read_tensor(file, name, dtype, shape);
    if (shape[0] != rows || shape[1] != columns)
        fail("the tensor %s is (%zu, %zu), not (%zu, %zu)", name, shape[0], shape[1], rows, columns);
    return data;
}

static void load_model(imdb *m, const attn_weights_file *file) {
    lstm_weights *w = &m->lstm;
    size_t shape[2];
    w->embeddings = read_tensor(file, "embedding/embeddings", ATTN_WEIGHTS_F32, shape);
    w->words = shape[0], w->embedding = shape[1];
    w->recurrent_kernel = read_tensor(file, "lstm/recurrent_kernel", ATTN_WEIGHTS_F32, shape);
    w->units = shape[0];
    if (shape[1] != 4 * w->units) fail("lstm/recurrent_kernel is (%zu, %zu)", shape[0], shape[1]);
    w->kernel = read_shaped(file, "lstm/kernel", ATTN_WEIGHTS_F32, w->embedding, 4 * w->units);
    w->bias = read_shaped(file, "lstm/bias", ATTN_WEIGHTS_F32, 4 * w->units, 1);

    attn_weights_layer_options options = ATTN_WEIGHTS_LAYER_OPTIONS_INIT;
    options.score = ATTN_SCORE_LUONG, options.features = (int64_t)w->units;
    m->attention = (attn_weights_layer)ATTN_WEIGHTS_LAYER_INIT;
    if (attn_weights_load_layer(file, "attention", &options, &m->attention)) fail("%s", attn_last_error_message());
    m->dense_kernel = read_shaped(file, "dense/kernel", ATTN_WEIGHTS_F32, (size_t)m->attention.units, 1);
    m->dense_bias = read_shaped(file, "dense/bias", ATTN_WEIGHTS_F32, 1, 1);
}

/* The review names are one string, separated by blanks. */
static void split_names(imdb *m, const char *names) {
    m->name = allocate(m->reviews * sizeof *m->name);
    for (size_t i = 0; i < m->reviews; i++) {
        const size_t length = names ? strcspn(names, " ") : 0;
        if (!length) fail("the data names %zu reviews, not %zu", i, m->reviews);
        m->name[i] = text("%.*s", (int)length, names);
        names += length + (names[length] == ' ');
    }
}

static void load_reviews(imdb *m, const attn_weights_file *file) {
    size_t shape[2];
    m->tokens = read_tensor(file, "tokens", ATTN_WEIGHTS_U16, shape);
    m->reviews = shape[0], m->steps = shape[1];
    for (size_t i = 0; i < m->reviews * m->steps; i++)
        if (m->tokens[i] >= m->lstm.words) fail("token %u is none of the %zu words", m->tokens[i], m->lstm.words);
    m->label = read_shaped(file, "label", ATTN_WEIGHTS_U8, m->reviews, 1);
    m->keras.probability = read_shaped(file, "probability", ATTN_WEIGHTS_F32, m->reviews, 1);
    m->keras.attention_weights = read_tensor(file, "attention_weights", ATTN_WEIGHTS_F32, shape);
    m->traced = shape[0];
    if (m->traced > m->reviews || shape[1] != m->steps) fail("attention_weights is (%zu, %zu)", shape[0], shape[1]);
    m->keras.attention_output =
        read_shaped(file, "attention_output", ATTN_WEIGHTS_F32, m->traced, (size_t)m->attention.units);
    split_names(m, attn_weights_metadata(file, "reviews"));
}

/* Line n (from 1) is the word of token n + 3. */
static void load_words(imdb *m, const char *folder) {
    char *path = text("%s/imdb_vocab.txt", folder), line[256];
    FILE *file = fopen(path, "r");
    if (!file) fail("can't open %s", path);
    m->word = allocate(m->lstm.words * sizeof *m->word);
    for (size_t token = 4; token < m->lstm.words; token++) {
        if (!fgets(line, sizeof line, file)) fail("%s has %zu words, not %zu", path, token - 4, m->lstm.words - 4);
        m->word[token] = text("%.*s", (int)strcspn(line, "\n"), line);
    }
    fclose(file);
    release(path);
}

imdb *imdb_load(const char *folder) {
    imdb *m = allocate(sizeof *m);
    attn_weights_file *file = open_file(folder, "imdb_luong.safetensors");
    load_model(m, file);
    attn_weights_close(file);
    file = open_file(folder, "imdb_reviews.safetensors");
    load_reviews(m, file);
    attn_weights_close(file);
    load_words(m, folder);
    return m;
}

void imdb_free(imdb *m) {
    if (!m) return;
    for (size_t i = 0; i < m->reviews; i++) release(m->name[i]);
    for (size_t i = 0; i < m->lstm.words; i++) release(m->word[i]);
    void *const memory[] = {
        m->tokens,
        m->label,
        m->name,
        m->word,
        m->lstm.embeddings,
        m->lstm.kernel,
        m->lstm.recurrent_kernel,
        m->lstm.bias,
        m->dense_kernel,
        m->dense_bias,
        m->hidden,
        m->keras.probability,
        m->keras.attention_weights,
        m->keras.attention_output,
        m->ours.probability,
        m->ours.attention_weights,
        m->ours.attention_output,
        m,
    };
    attn_weights_layer_free(&m->attention);
    for (size_t i = 0; i < sizeof memory / sizeof memory[0]; i++) release(memory[i]);
}

/* ---- Running ------------------------------------------------------------------------------------- */

/* The attention of all reviews, in batches of 64 as Keras predicts them. */
static void run_attention(imdb *m, attn_context *context) {
    enum { BATCH = 64 };
    const size_t D = m->lstm.units, U = (size_t)m->attention.units;
    attn_layer_desc desc = ATTN_LAYER_DESC_INIT;
    desc.score = m->attention.score, desc.dtype = m->attention.dtype;
    desc.batch = BATCH, desc.timesteps = (int64_t)m->steps, desc.features = (int64_t)D, desc.units = (int64_t)U;
    attn_plan *plan;
    if (attn_layer_forward_plan(context, &desc, &plan)) fail("%s", attn_last_error_message());

    attn_layer_forward_args args = ATTN_LAYER_FORWARD_ARGS_INIT;
    args.weights = m->attention.weights;
    args.workspace_size = attn_plan_workspace_size(plan);
    args.workspace = allocate(args.workspace_size);
    for (size_t first = 0; first < m->reviews; first += BATCH) {
        args.batch = (int64_t)(m->reviews - first < BATCH ? m->reviews - first : BATCH);
        args.h = m->hidden + first * m->steps * D;
        args.attention_weights = m->ours.attention_weights + first * m->steps;
        args.output = m->ours.attention_output + first * U;
        if (attn_layer_forward(plan, &args)) fail("%s", attn_last_error_message());
    }
    release(args.workspace);
    attn_plan_destroy(plan);
}

static void run_dense(imdb *m) {
    const size_t U = (size_t)m->attention.units;
    for (size_t i = 0; i < m->reviews; i++) {
        double sum = m->dense_bias[0];
        for (size_t u = 0; u < U; u++) sum += (double)m->ours.attention_output[i * U + u] * (double)m->dense_kernel[u];
        m->ours.probability[i] = (float)(1 / (1 + exp(-sum)));
    }
}

void imdb_run(imdb *m, attn_context *context) {
    const size_t n = m->reviews;
    progress("the model on %zu reviews", n);
    m->hidden = allocate(n * m->steps * m->lstm.units * sizeof *m->hidden);
    m->ours.probability = allocate(n * sizeof(float));
    m->ours.attention_weights = allocate(n * m->steps * sizeof(float));
    m->ours.attention_output = allocate(n * (size_t)m->attention.units * sizeof(float));
    const double began = seconds_now();
    lstm_forward(&m->lstm, m->tokens, n, m->steps, m->hidden, attn_context_threads(context));
    const double lstm_done = seconds_now();
    run_attention(m, context);
    m->lstm_seconds = lstm_done - began;
    m->attention_seconds = seconds_now() - lstm_done;
    run_dense(m);
}

/* ---- Comparing ----------------------------------------------------------------------------------- */

/* NaN counts as infinitely far. */
static void take_difference(double *largest, double ours, double keras, double size) {
    const double difference = fabs(ours - keras) / size;
    if (!(difference <= *largest)) *largest = isnan(difference) ? INFINITY : difference;
}

imdb_agreement imdb_compare(const imdb *m) {
    imdb_agreement a = {0};
    const imdb_results *ours = &m->ours, *keras = &m->keras;
    for (size_t i = 0; i < m->reviews; i++) {
        const double p = ours->probability[i], q = keras->probability[i];
        take_difference(&a.probability, p, q, 1);
        a.right += (p > 0.5) == m->label[i];
        a.keras_right += (q > 0.5) == m->label[i];
    }
    for (size_t i = 0; i < m->traced * m->steps; i++) {
        const double q = keras->attention_weights[i];
        take_difference(&a.attention_weights, ours->attention_weights[i], q, q);
    }
    for (size_t i = 0; i < m->traced * (size_t)m->attention.units; i++)
        take_difference(&a.attention_output, ours->attention_output[i], keras->attention_output[i], 1);
    a.worst = fmax(a.probability, fmax(a.attention_weights, a.attention_output)) / IMDB_GATE;
    return a;
}

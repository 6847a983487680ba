/* SPDX-License-Identifier: Apache-2.0 */
/* The training kit: whole steps against Keras, a trained model against Keras, bits, saved states, randomness, refusals. */
#include "examples/experiment/epoch.h"
#include "examples/nn/nn.h"
#include "tests/suite.h"

#include <math.h>
#include <unistd.h>

#define UNIT 0x1p-24 /* half a unit in the last place of 1: float32 */

/* ---- Upstream's models in small, as tests/nn/make_vectors.py has them ---------------------------------------------- */

enum { BATCH = 19, STEPS = 3, SEED = 20 };

static void add_two_numbers(nn_model *model) {
    nn_model_add_lstm(model, 7, true);
    nn_model_add_attention(model, ATTN_SCORE_BAHDANAU, 5);
    nn_model_add_dropout(model, 0.2);
    nn_model_add_dense(model, 1, NN_LINEAR);
}

static void find_max(nn_model *model) {
    nn_model_add_lstm(model, 17, true);
    nn_model_add_attention(model, ATTN_SCORE_LUONG, 5);
    nn_model_add_dense(model, 1, NN_LINEAR);
}

static void imdb(nn_model *model) {
    nn_model_add_embedding(model, 23, 3);
    nn_model_add_dropout(model, 0.5);
    nn_model_add_lstm(model, 6, true);
    nn_model_add_attention(model, ATTN_SCORE_LUONG, 5);
    nn_model_add_dropout(model, 0.5);
    nn_model_add_dense(model, 1, NN_SIGMOID);
}

static void imdb_baseline(nn_model *model) {
    nn_model_add_embedding(model, 23, 3);
    nn_model_add_dropout(model, 0.5);
    nn_model_add_lstm(model, 6, false);
    nn_model_add_dense(model, 9, NN_RELU);
    nn_model_add_dropout(model, 0.5);
    nn_model_add_dense(model, 1, NN_SIGMOID);
}

typedef struct small_model {
    const char *name;
    void (*add)(nn_model *model);
    size_t timesteps, features;
    nn_loss loss;
    nn_optimiser optimiser;
} small_model;

static const small_model small_models[] = {
    {"add_two_numbers_adam", add_two_numbers, 11, 1, NN_MAE, NN_ADAM},
    {"add_two_numbers_rmsprop", add_two_numbers, 11, 1, NN_MAE, NN_RMSPROP},
    {"find_max_adam", find_max, 10, 1, NN_MAE, NN_ADAM},
    {"find_max_rmsprop", find_max, 10, 1, NN_MAE, NN_RMSPROP},
    {"imdb_adam", imdb, 13, 0, NN_BINARY_CROSSENTROPY, NN_ADAM},
    {"imdb_rmsprop", imdb, 13, 0, NN_BINARY_CROSSENTROPY, NN_RMSPROP},
    {"imdb_baseline_adam", imdb_baseline, 13, 0, NN_BINARY_CROSSENTROPY, NN_ADAM},
    {"imdb_baseline_rmsprop", imdb_baseline, 13, 0, NN_BINARY_CROSSENTROPY, NN_RMSPROP},
    {"imdb_saturated_adam", imdb, 13, 0, NN_BINARY_CROSSENTROPY, NN_ADAM},
    {"imdb_saturated_rmsprop", imdb, 13, 0, NN_BINARY_CROSSENTROPY, NN_RMSPROP},
};
enum { SMALL_MODELS = sizeof small_models / sizeof *small_models };

static nn_model *make(const small_model *spec, int threads, uint64_t seed) {
    nn_model *model = nn_model_create(&(nn_options){
        .timesteps = spec->timesteps, .features = spec->features, .batch = 70, .threads = threads, .seed = seed});
    cr_assert(model);
    spec->add(model);
    cr_assert(nn_model_compile(model, spec->loss, spec->optimiser), "%s: %s", spec->name, nn_model_error(model));
    return model;
}

/* ---- Files of vectors ----------------------------------------------------------------------------------------------- */

static attn_weights_file *open_file(const char *path) {
    attn_weights_file *file;
    cr_assert(!attn_weights_open(path, 0, &file), "%s", attn_last_error_message());
    return file;
}

/* <folder>/<name> of the file, in memory of its own. */
static void *read_tensor(const attn_weights_file *file, const char *folder, const char *name, size_t *count) {
    char full[160];
    snprintf(full, sizeof full, "%s%s%s", folder, *folder ? "/" : "", name);
    const attn_weights_tensor *tensor = attn_weights_find(file, full);
    cr_assert(tensor, "no %s", full);
    void *data = malloc(tensor->bytes);
    cr_assert(!attn_weights_read(file, tensor, tensor->dtype, data, tensor->bytes), "%s", attn_last_error_message());
    if (count) *count = tensor->elements;
    return data;
}

/* Calls visit for each weight of the case, by its name in the model. */
static void each_weight(const attn_weights_file *file, const char *name, const char *part,
                        void (*visit)(nn_model *model, const char *folder, const char *weight,
                                      const attn_weights_file *file),
                        nn_model *model) {
    char folder[128];
    snprintf(folder, sizeof folder, "%s/%s/", name, part);
    size_t visited = 0;
    for (size_t i = 0; i < attn_weights_count(file); i++) {
        const char *full = attn_weights_tensor_at(file, i)->name;
        if (strncmp(full, folder, strlen(folder))) continue;
        visit(model, name, full + strlen(folder), file);
        visited++;
    }
    cr_assert(visited > 0);
}

static void set_weight(nn_model *model, const char *folder, const char *weight, const attn_weights_file *file) {
    char initial[128];
    snprintf(initial, sizeof initial, "%s/initial", folder);
    size_t count, wanted;
    float *values = read_tensor(file, initial, weight, &wanted), *place = nn_model_weight(model, weight, &count);
    cr_assert(place && count == wanted, "%s", weight);
    memcpy(place, values, count * sizeof *values);
    free(values);
}

/* ---- Steps against Keras --------------------------------------------------------------------------------------------
 *
 * Both compute in float32 and differ by the order of their sums. A gradient's rounding error is some units of the largest terms
 * that went into it. Where these cancel, as those of the scores do (their gradients sum to 0), Keras's own error tells of them:
 *     t = the larger of 32 u max|g| and 12 times the largest distance of Keras's gradients from those in float64
 * Seen under three instruction sets: 12 u max|g| where nothing cancels, 4.7 times Keras's error where it does.
 * An update is g / sqrt(g^2) times a constant, so it takes on the gradient's relative error where g is small, down to
 * epsilon:  adam   lr t / (|g| + epsilon / sqrt(1 - beta_2))     rmsprop   lr t / sqrt((1 - rho) g^2 + epsilon)
 * for each step, at most lr; the later ones are less sensitive, as the moments hold the first. Each step rounds the weight, and
 * adam's alpha has an error of some u / (1 - beta_2). */

/* Keras's gradients and the bound of ours. */
static float *read_gradient(const attn_weights_file *file, const char *folder, const char *weight, size_t *count,
                            double *bound) {
    char name[128];
    snprintf(name, sizeof name, "%s/error", folder);
    float *error = read_tensor(file, name, weight, NULL);
    snprintf(name, sizeof name, "%s/gradient", folder);
    float *gradient = read_tensor(file, name, weight, count);
    double largest = 0;
    for (size_t i = 0; i < *count; i++) largest = fmax(largest, fabs((double)gradient[i]));
    *bound = fmax(32 * UNIT * largest, 12 * (double)*error);
    free(error);
    return gradient;
}

static nn_optimiser optimiser_of(const char *name) { return strstr(name, "rmsprop") ? NN_RMSPROP : NN_ADAM; }

static double step_bound(nn_optimiser optimiser, double gradient, double bound, double weight) {
    const double adam = 1e-3 * (bound / (fabs(gradient) + 1e-7 / sqrt(1e-3)) + 8 * UNIT / 1e-3);
    const double rmsprop = 1e-3 * bound / sqrt(0.1 * gradient * gradient + 1e-7);
    return fmin(optimiser == NN_ADAM ? adam : rmsprop, 1e-3) + 4 * UNIT * (fabs(weight) + 1e-3);
}

static void check_gradient(nn_model *model, const char *folder, const char *weight, const attn_weights_file *file) {
    size_t count;
    double bound;
    float *expected = read_gradient(file, folder, weight, &count, &bound);
    const float *found = nn_model_gradient(model, weight, NULL);
    for (size_t i = 0; i < count; i++)
        cr_assert(fabs((double)found[i] - (double)expected[i]) <= bound,
                  "%s: gradient of %s [%zu] is %g, Keras %g, bound %g", folder, weight, i, (double)found[i],
                  (double)expected[i], bound);
    free(expected);
}

static void check_weight_after(nn_model *model, const char *folder, const char *weight, const attn_weights_file *file,
                               int steps) {
    char name[128];
    size_t count;
    double bound;
    float *gradient = read_gradient(file, folder, weight, &count, &bound);
    snprintf(name, sizeof name, "%s/step%d", folder, steps);
    float *expected = read_tensor(file, name, weight, NULL);
    const float *found = nn_model_weight(model, weight, NULL);
    for (size_t i = 0; i < count; i++) {
        const double allowed =
            steps * step_bound(optimiser_of(folder), (double)gradient[i], bound, (double)expected[i]);
        cr_assert(fabs((double)found[i] - (double)expected[i]) <= allowed,
                  "%s: %s [%zu] after step %d is %.9g, Keras %.9g, bound %g", folder, weight, i, steps,
                  (double)found[i], (double)expected[i], allowed);
    }
    free(expected);
    free(gradient);
}

static void check_first(nn_model *model, const char *folder, const char *weight, const attn_weights_file *file) {
    check_weight_after(model, folder, weight, file, 1);
}

static void check_last(nn_model *model, const char *folder, const char *weight, const attn_weights_file *file) {
    check_weight_after(model, folder, weight, file, STEPS);
}

static void check_prediction(nn_model *model, const nn_data *data, const float *expected, const char *name) {
    float found[BATCH];
    cr_assert(nn_model_predict(model, data, found, NULL), "%s: %s", name, nn_model_error(model));
    for (size_t i = 0; i < BATCH; i++) /* logits up to 40: a relative error there is as large in 1 - p */
        cr_assert(fabs((double)found[i] - (double)expected[i]) <= 1e-5, "%s: prediction %zu is %.9g, Keras %.9g", name,
                  i, (double)found[i], (double)expected[i]);
}

static void compare_steps(const attn_weights_file *file, const small_model *spec) {
    nn_model *model = make(spec, 2, SEED);
    each_weight(file, spec->name, "initial", set_weight, model);
    void *input = read_tensor(file, spec->name, spec->features ? "x" : "tokens", NULL);
    float *y = read_tensor(file, spec->name, "y", NULL), *losses = read_tensor(file, spec->name, "loss", NULL);
    float *prediction = read_tensor(file, spec->name, "prediction", NULL);
    const nn_data data = {
        .items = BATCH, .y = y, .x = spec->features ? input : NULL, .tokens = spec->features ? NULL : input};
    check_prediction(model, &data, prediction, spec->name);
    for (int step = 0; step < STEPS; step++) {
        const double loss = nn_model_train_step(model, &data), expected = (double)losses[step];
        cr_assert(fabs(loss - expected) <= 2e-5 * expected, "%s: loss of step %d is %.9g, Keras %.9g; %s", spec->name,
                  step, loss, expected, nn_model_error(model));
        if (step == 0) each_weight(file, spec->name, "gradient", check_gradient, model);
        if (step == 0) each_weight(file, spec->name, "step1", check_first, model);
    }
    each_weight(file, spec->name, "step3", check_last, model);
    free(prediction);
    free(losses);
    free(y);
    free(input);
    nn_model_destroy(model);
}

Test(nn, a_step_is_that_of_keras) {
    attn_weights_file *file = open_file(TEST_DATA "/nn_steps.safetensors");
    for (size_t i = 0; i < SMALL_MODELS; i++) compare_steps(file, &small_models[i]);
    attn_weights_close(file);
}

/* ---- A trained model ------------------------------------------------------------------------------------------------ */

static nn_model *make_imdb(size_t batch, bool attention) {
    nn_model *model = nn_model_create(&(nn_options){.timesteps = 500, .batch = batch, .seed = 1});
    nn_model_add_embedding(model, 5000, 32);
    nn_model_add_dropout(model, 0.5);
    nn_model_add_lstm(model, 100, attention);
    if (attention)
        nn_model_add_attention(model, ATTN_SCORE_LUONG, 128);
    else
        nn_model_add_dense(model, 350, NN_RELU);
    nn_model_add_dropout(model, 0.5);
    nn_model_add_dense(model, 1, NN_SIGMOID);
    return model;
}

/* Keras's own weights, through attention-convert; two float32 implementations of 500 LSTM steps differ by about 1e-6. */
Test(nn, a_model_that_keras_trained_predicts_the_same) {
    enum { REVIEWS = 20, T = 500 };
    attn_weights_file *file = open_file(BENCH_DATA "/imdb_reviews.safetensors");
    uint16_t *words = read_tensor(file, "", "tokens", NULL);
    float *probability = read_tensor(file, "", "probability", NULL),
          *attention = read_tensor(file, "", "attention_weights", NULL);
    int32_t *tokens = malloc(REVIEWS * T * sizeof *tokens);
    for (size_t i = 0; i < REVIEWS * T; i++) tokens[i] = words[i];

    nn_model *model = make_imdb(16, true);
    cr_assert(nn_model_compile(model, NN_BINARY_CROSSENTROPY, NN_ADAM), "%s", nn_model_error(model));
    cr_assert(nn_model_load(model, BENCH_DATA "/imdb_luong.safetensors", false), "%s", nn_model_error(model));
    float found[REVIEWS], *weights = malloc(REVIEWS * T * sizeof *weights);
    cr_assert(nn_model_predict(model, &(nn_data){.items = REVIEWS, .tokens = tokens}, found, weights));
    for (size_t i = 0; i < REVIEWS; i++)
        cr_assert(fabs((double)found[i] - (double)probability[i]) <= 1e-4, "review %zu: %.9g, Keras %.9g", i,
                  (double)found[i], (double)probability[i]);
    for (size_t i = 0; i < 16 * T; i++)
        cr_assert(fabs((double)weights[i] - (double)attention[i]) <= 1e-4 * (double)attention[i] + 1e-9);
    free(weights);
    nn_model_destroy(model);
    free(tokens);
    free(attention);
    free(probability);
    free(words);
    attn_weights_close(file);
}

/* ---- Random data ------------------------------------------------------------------------------------------------------ */

enum { ITEMS = 150 };

typedef struct samples {
    float *x, *y;
    int32_t *tokens;
} samples;

/* The target is one that a model can learn: the largest input, or whether a token is low. */
static samples draw(const small_model *spec) {
    const size_t steps = spec->timesteps;
    samples s = {malloc(ITEMS * steps * sizeof(float)), malloc(ITEMS * sizeof(float)),
                 malloc(ITEMS * steps * sizeof(int32_t))};
    for (size_t i = 0; i < ITEMS; i++) {
        float largest = 0;
        for (size_t t = 0; t < steps; t++) {
            const size_t at = i * steps + t;
            s.x[at] = (float)nn_uniform(5, 0, at);
            s.tokens[at] = (int32_t)(nn_random(5, 1, at) % 23);
            if (s.x[at] > largest) largest = s.x[at];
        }
        s.y[i] = spec->features ? largest : s.tokens[i * steps + steps - 2] < 12;
    }
    return s;
}

static void drop(samples *s) {
    free(s->x);
    free(s->y);
    free(s->tokens);
}

static nn_data batch_of(const small_model *spec, const samples *s, size_t items, const size_t *rows) {
    return (nn_data){.items = items,
                     .rows = rows,
                     .x = spec->features ? s->x : NULL,
                     .tokens = spec->features ? NULL : s->tokens,
                     .y = s->y};
}

/* Steps on shuffled batches, numbered from first. */
static double train(nn_model *model, const small_model *spec, const samples *s, int first, int steps) {
    double loss = 0;
    for (int i = first; i < first + steps; i++) {
        size_t rows[ITEMS];
        nn_shuffle(rows, ITEMS, 5, (uint64_t)i);
        const nn_data batch = batch_of(spec, s, i % 3 == 2 ? 37 : 70, rows);
        loss = nn_model_train_step(model, &batch);
    }
    cr_assert(isfinite(loss), "%s: %s", spec->name, nn_model_error(model));
    return loss;
}

typedef struct scratch {
    char path[64];
} scratch;

static scratch new_file(void) {
    scratch s;
    snprintf(s.path, sizeof s.path, "/tmp/suite_nn_XXXXXX");
    const int descriptor = mkstemp(s.path);
    cr_assert(descriptor >= 0);
    close(descriptor);
    return s;
}

static char *slurp(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    cr_assert(file);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    char *bytes = malloc(*size);
    cr_assert(fread(bytes, 1, *size, file) == *size);
    fclose(file);
    return bytes;
}

/* The whole state as the bytes of a file; and the file is gone. */
static char *state_bytes(nn_model *model, size_t *size) {
    scratch s = new_file();
    cr_assert(nn_model_save(model, s.path, true, NULL, 0), "%s", nn_model_error(model));
    char *bytes = slurp(s.path, size);
    unlink(s.path);
    return bytes;
}

static void expect_same_state(nn_model *a, nn_model *b, const char *what) {
    size_t size_a, size_b;
    char *bytes_a = state_bytes(a, &size_a), *bytes_b = state_bytes(b, &size_b);
    cr_assert(size_a == size_b && !memcmp(bytes_a, bytes_b, size_a), "%s: other bits", what);
    free(bytes_a);
    free(bytes_b);
}

/* ---- Bits ---------------------------------------------------------------------------------------------------------------- */

Test(nn, threads_change_no_bit) {
    for (size_t i = 0; i < SMALL_MODELS; i += 2) {
        const small_model *spec = &small_models[i];
        samples s = draw(spec);
        nn_model *alone = make(spec, 1, 3);
        train(alone, spec, &s, 0, 6);
        for (int threads = 2; threads <= 8; threads = threads == 3 ? 8 : threads + 1) {
            nn_model *shared = make(spec, threads, 3);
            train(shared, spec, &s, 0, 6);
            expect_same_state(alone, shared, spec->name);
            nn_model_destroy(shared);
        }
        nn_model_destroy(alone);
        drop(&s);
    }
}

Test(nn, a_saved_state_goes_on_as_if_nothing_had_happened) {
    for (size_t i = 0; i < SMALL_MODELS; i++) {
        const small_model *spec = &small_models[i];
        samples s = draw(spec);
        scratch file = new_file();
        nn_model *through = make(spec, 2, 3), *resumed = make(spec, 1, 99);
        train(through, spec, &s, 0, 4);
        cr_assert(nn_model_save(through, file.path, true, &(attn_weights_metadata_entry){"epoch", "7"}, 1));
        train(resumed, spec, &s, 50, 2); /* whatever it was before */
        cr_assert(nn_model_load(resumed, file.path, true), "%s", nn_model_error(resumed));
        train(through, spec, &s, 4, 4);
        train(resumed, spec, &s, 4, 4);
        expect_same_state(through, resumed, spec->name);
        attn_weights_file *open = open_file(file.path);
        cr_assert(!strcmp(attn_weights_metadata(open, "epoch"), "7"));
        attn_weights_close(open);
        unlink(file.path);
        nn_model_destroy(resumed);
        nn_model_destroy(through);
        drop(&s);
    }
}

Test(nn, seeds_differ) {
    const small_model *spec = &small_models[0];
    nn_model *a = make(spec, 1, 3), *b = make(spec, 1, 4);
    size_t count;
    const float *wa = nn_model_weight(a, "lstm/kernel", &count), *wb = nn_model_weight(b, "lstm/kernel", NULL);
    for (size_t i = 0; i < count; i++) cr_assert(memcmp(wa + i, wb + i, sizeof *wa));
    nn_model_destroy(a);
    nn_model_destroy(b);
}

/* ---- Training ------------------------------------------------------------------------------------------------------------ */

static double error_of(nn_model *model, const small_model *spec, const samples *s) {
    float y[ITEMS];
    const nn_data all = batch_of(spec, s, ITEMS, NULL);
    cr_assert(nn_model_predict(model, &all, y, NULL), "%s", nn_model_error(model));
    double sum = 0;
    for (size_t i = 0; i < ITEMS; i++) sum += fabs((double)y[i] - (double)s->y[i]);
    return sum / ITEMS;
}

/* Guessing the mean leaves an error of 0.06 for the largest input, and one half of 0.5 for a token. */
Test(nn, training_lowers_the_error) {
    for (size_t i = 2; i < 8; i++) {
        const small_model *spec = &small_models[i];
        samples s = draw(spec);
        nn_model *model = make(spec, 2, 3);
        const double before = error_of(model, spec, &s);
        train(model, spec, &s, 0, 400);
        const double after = error_of(model, spec, &s);
        cr_assert(after < (spec->features ? 0.06 : 0.4), "%s: %g, and %g after training", spec->name, before, after);
        nn_model_destroy(model);
        drop(&s);
    }
}

/* ---- Data ------------------------------------------------------------------------------------------------------------------ */

Test(nn, rows_are_those_asked_for) {
    const small_model *spec = &small_models[2];
    samples s = draw(spec);
    nn_model *model = make(spec, 2, 3);
    float in_order[ITEMS], chosen[ITEMS];
    size_t rows[ITEMS];
    nn_shuffle(rows, ITEMS, 6, 0);
    const nn_data all = batch_of(spec, &s, ITEMS, NULL), some = batch_of(spec, &s, ITEMS, rows);
    cr_assert(nn_model_predict(model, &all, in_order, NULL) && nn_model_predict(model, &some, chosen, NULL));
    for (size_t i = 0; i < ITEMS; i++) /* shards of other lengths: BLAS sums in another order */
        cr_assert(fabs((double)chosen[i] - (double)in_order[rows[i]]) < 1e-6, "item %zu", i);
    nn_model_destroy(model);
    drop(&s);
}

Test(nn, attention_keeps_to_the_range) {
    const small_model *spec = &small_models[4];
    samples s = draw(spec);
    int32_t starts[ITEMS];
    size_t rows[ITEMS];
    for (size_t i = 0; i < ITEMS; i++) starts[i] = (int32_t)(i % (spec->timesteps + 1));
    nn_shuffle(rows, ITEMS, 6, 0);
    nn_model *model = make(spec, 2, 3);
    nn_data data = batch_of(spec, &s, 70, rows);
    data.starts = starts;
    cr_assert(isfinite(nn_model_train_step(model, &data)), "%s", nn_model_error(model));
    float y[ITEMS], weights[ITEMS * 13];
    data.items = ITEMS;
    cr_assert(nn_model_predict(model, &data, y, weights), "%s", nn_model_error(model));
    for (size_t i = 0; i < ITEMS; i++) {
        double sum = 0;
        for (size_t t = 0; t < spec->timesteps; t++) {
            const float weight = weights[i * spec->timesteps + t];
            cr_assert((weight > 0) == ((int32_t)t >= starts[rows[i]]), "item %zu, step %zu: %g", i, t, (double)weight);
            sum += (double)weight;
        }
        cr_assert(fabs(sum - (starts[rows[i]] < (int32_t)spec->timesteps)) < 1e-5);
    }
    nn_model_destroy(model);
    drop(&s);
}

/* ---- Initial weights and randomness ------------------------------------------------------------------------------------ */

static size_t parameters_of(nn_model *model) {
    const size_t count = nn_model_parameters(model);
    nn_model_destroy(model);
    return count;
}

static nn_model *recurrent(size_t timesteps, size_t units, attn_score score, size_t attention) {
    nn_model *model = nn_model_create(&(nn_options){.timesteps = timesteps, .features = 1, .batch = 1});
    nn_model_add_lstm(model, units, true);
    nn_model_add_attention(model, score, attention);
    nn_model_add_dropout(model, 0.2);
    nn_model_add_dense(model, 1, NN_LINEAR);
    return model;
}

/* What Keras counts in upstream's models. */
Test(nn, parameters_are_as_many_as_in_keras) {
    cr_assert(parameters_of(recurrent(20, 100, ATTN_SCORE_BAHDANAU, 128)) == 86629);
    cr_assert(parameters_of(recurrent(10, 128, ATTN_SCORE_LUONG, 128)) == 115841);
    cr_assert(parameters_of(recurrent(10, 64, ATTN_SCORE_LUONG, 32)) == 25121);
    cr_assert(parameters_of(recurrent(10, 64, ATTN_SCORE_BAHDANAU, 32)) == 29281);
    cr_assert(parameters_of(make_imdb(1, true)) == 248929);
    cr_assert(parameters_of(make_imdb(1, false)) == 248901);
}

/* Bounds and variance of a uniform distribution of n numbers; the variance of (w / limit)^2 is 4/45. */
static void expect_uniform(nn_model *model, const char *name, double limit) {
    size_t count;
    const float *w = nn_model_weight(model, name, &count);
    double sum = 0, squares = 0;
    for (size_t i = 0; i < count; i++) {
        const double x = (double)w[i] / limit;
        cr_assert(fabs(x) <= 1 + 1e-6, "%s [%zu]", name, i);
        sum += x, squares += x * x;
    }
    const double n = (double)count;
    cr_assert(fabs(sum / n) < 5 * sqrt(1 / (3 * n)), "%s: mean %g", name, sum / n);
    cr_assert(fabs(squares / n - 1. / 3) < 5 * sqrt(4 / (45 * n)), "%s: mean square %g", name, squares / n);
}

Test(nn, weights_begin_as_in_keras) {
    nn_model *model = make_imdb(1, true);
    cr_assert(nn_model_compile(model, NN_BINARY_CROSSENTROPY, NN_ADAM), "%s", nn_model_error(model));
    expect_uniform(model, "embedding/embeddings", 0.05);
    expect_uniform(model, "lstm/kernel", sqrt(6. / 432));
    expect_uniform(model, "attention/luong_w", sqrt(6. / 200));
    expect_uniform(model, "attention/w_c", sqrt(6. / 328));
    expect_uniform(model, "dense/kernel", sqrt(6. / 129));
    const float *bias = nn_model_weight(model, "lstm/bias", NULL),
                *w = nn_model_weight(model, "lstm/recurrent_kernel", NULL);
    for (size_t i = 0; i < 400; i++) cr_assert(bias[i] == (i >= 100 && i < 200));
    for (size_t i = 0; i < 100; i++)
        for (size_t k = 0; k <= i; k++) {
            double dot = 0;
            for (size_t j = 0; j < 400; j++) dot += (double)w[i * 400 + j] * (double)w[k * 400 + j];
            cr_assert(fabs(dot - (i == k)) < 1e-6, "rows %zu and %zu: %g", i, k, dot);
        }
    nn_model_destroy(model);
}

Test(nn, random_numbers_are_spread) {
    enum { N = 40000 };
    double sum = 0, squares = 0, neighbours = 0;
    for (uint64_t i = 0; i < N; i++) {
        const double u = nn_uniform(1, 2, i);
        cr_assert(u >= 0 && u < 1);
        sum += u - 0.5, squares += (u - 0.5) * (u - 0.5), neighbours += (u - 0.5) * (nn_uniform(1, 3, i) - 0.5);
    }
    cr_assert(fabs(sum / N) < 5 * sqrt(1. / 12 / N));
    cr_assert(fabs(squares / N - 1. / 12) < 5 * sqrt(1. / 180 / N));
    cr_assert(fabs(neighbours / N) < 5 / 12. / sqrt(N));
    size_t order[ITEMS];
    bool seen[ITEMS] = {false};
    size_t in_place = 0;
    nn_shuffle(order, ITEMS, 1, 1);
    for (size_t i = 0; i < ITEMS; i++) {
        cr_assert(order[i] < ITEMS && !seen[order[i]]);
        seen[order[i]] = true;
        in_place += order[i] == i;
    }
    cr_assert(in_place < 10);
}

/* Every place as often for every number. */
Test(nn, shuffles_favour_nobody) {
    enum { COUNT = 6, SHUFFLES = 6000 };
    int found[COUNT][COUNT] = {{0}};
    for (uint64_t i = 0; i < SHUFFLES; i++) {
        size_t order[COUNT];
        nn_shuffle(order, COUNT, 3, i);
        for (size_t at = 0; at < COUNT; at++) found[at][order[at]]++;
    }
    const double each = (double)SHUFFLES / COUNT, deviation = sqrt(each * (1 - 1. / COUNT));
    for (size_t at = 0; at < COUNT; at++)
        for (size_t k = 0; k < COUNT; k++)
            cr_assert(fabs(found[at][k] - each) < 4.5 * deviation, "%zu in place %zu: %d times", k, at, found[at][k]);
}

/* An epoch is a step for each batch of the shuffled order, and its loss the mean over the samples. */
Test(nn, an_epoch_takes_every_sample_once) {
    const small_model *spec = &small_models[2];
    samples s = draw(spec);
    nn_model *one = make(spec, 1, 3), *other = make(spec, 1, 3);
    size_t order[ITEMS], rows[ITEMS];
    const nn_data all = batch_of(spec, &s, ITEMS, NULL);
    const double loss = epoch_train(one, &all, order, BATCH, 9, 4, NULL, NULL);
    nn_shuffle(rows, ITEMS, 9, 4);
    double sum = 0;
    for (size_t done = 0; done < ITEMS; done += BATCH) {
        const size_t items = ITEMS - done < BATCH ? ITEMS - done : BATCH;
        const nn_data batch = batch_of(spec, &s, items, rows + done);
        sum += nn_model_train_step(other, &batch) * (double)items;
    }
    cr_assert(loss == sum / ITEMS, "%.17g, step by step %.17g", loss, sum / ITEMS);
    expect_same_state(one, other, "an epoch");
    nn_model_destroy(one);
    nn_model_destroy(other);
    drop(&s);
}

/* ---- Refusals -------------------------------------------------------------------------------------------------------------- */

static void expect_refusal(nn_model *model, nn_loss loss, const char *word) {
    cr_assert(!nn_model_compile(model, loss, NN_ADAM));
    cr_assert(strstr(nn_model_error(model), word), "'%s' does not say '%s'", nn_model_error(model), word);
    nn_model_destroy(model);
}

static nn_model *of_features(size_t features) {
    return nn_model_create(&(nn_options){.timesteps = 4, .features = features, .batch = 3});
}

Test(nn, what_is_no_model_is_refused) {
    expect_refusal(of_features(2), NN_MAE, "last layer");
    nn_model *model = of_features(2);
    nn_model_add_embedding(model, 5, 3);
    expect_refusal(model, NN_MAE, "tokens");
    nn_model_add_lstm(model = of_features(0), 5, true);
    expect_refusal(model, NN_MAE, "embedding");
    nn_model_add_lstm(model = of_features(2), 5, true);
    nn_model_add_dense(model, 1, NN_LINEAR);
    expect_refusal(model, NN_MAE, "time steps");
    nn_model_add_lstm(model = of_features(2), 5, false);
    nn_model_add_dropout(model, 1);
    expect_refusal(model, NN_MAE, "rate");
    nn_model_add_lstm(model = of_features(2), 5, false);
    nn_model_add_dense(model, 1, NN_LINEAR);
    expect_refusal(model, NN_BINARY_CROSSENTROPY, "sigmoid");
    nn_model_add_lstm(model = of_features(2), 0, false);
    expect_refusal(model, NN_MAE, "width");
}

Test(nn, what_is_no_data_is_refused) {
    const small_model *spec = &small_models[4];
    samples s = draw(spec);
    nn_model *model = make(spec, 2, 3), *untouched = make(spec, 2, 3);
    nn_data data = batch_of(spec, &s, 70, NULL);
    s.tokens[40 * spec->timesteps] = 23;
    cr_assert(isnan(nn_model_train_step(model, &data)) && *nn_model_error(model));
    s.tokens[40 * spec->timesteps] = -1;
    cr_assert(isnan(nn_model_train_step(model, &data)));
    data.tokens = NULL;
    cr_assert(isnan(nn_model_train_step(model, &data)));
    data.tokens = s.tokens, data.items = 71;
    cr_assert(isnan(nn_model_train_step(model, &data)));
    data.items = 0;
    cr_assert(isnan(nn_model_train_step(model, &data)));
    expect_same_state(model, untouched, "after errors");
    nn_model_destroy(untouched);
    nn_model_destroy(model);
    drop(&s);
}

Test(nn, files_that_do_not_fit_change_nothing) {
    const small_model *spec = &small_models[4];
    nn_model *model = make(spec, 2, 3), *untouched = make(spec, 2, 3), *other = make(&small_models[6], 2, 4);
    scratch file = new_file();
    cr_assert(nn_model_save(other, file.path, true, NULL, 0));
    cr_assert(!nn_model_load(model, file.path, false) && strstr(nn_model_error(model), "attention"));
    cr_assert(nn_model_save(model, file.path, false, NULL, 0));
    cr_assert(!nn_model_load(model, file.path, true) && strstr(nn_model_error(model), "nn_step"));
    cr_assert(!nn_model_load(model, BENCH_DATA "/imdb_luong.safetensors", false) &&
              strstr(nn_model_error(model), "shape"));
    unlink(file.path);
    cr_assert(!nn_model_load(model, file.path, false));
    expect_same_state(model, untouched, "after errors");
    nn_model_destroy(other);
    nn_model_destroy(untouched);
    nn_model_destroy(model);
}

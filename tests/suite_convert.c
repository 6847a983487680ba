/* SPDX-License-Identifier: Apache-2.0 */
/* attention-convert: real models of every Keras version to the last bit, their predictions, the way back.
 * ATTN_TEST_DATA may name a folder with more: models/ and the trained files. */
#include "tests/convert_files.h"
#include "tests/keras_layers.h"
#include "tests/suite.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MODELS TEST_DATA "/keras"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

enum { SHIPPED = 15 }; /* model files there */

static attn_weights_file *open_made(const char *path) {
    attn_weights_file *file;
    cr_assert(attn_weights_open(path, 0, &file) == ATTN_OK, "%s: %s", path, attn_last_error_message());
    return file;
}

static bool same_tensor(const attn_weights_file *a_file, const attn_weights_tensor *a, const attn_weights_file *b_file,
                        const attn_weights_tensor *b) {
    if (!a || !b || a->dtype != b->dtype || a->rank != b->rank || memcmp(a->shape, b->shape, sizeof a->shape) != 0)
        return false;
    char *a_bytes = malloc(a->bytes + 1), *b_bytes = malloc(b->bytes + 1);
    const bool same = attn_weights_read(a_file, a, a->dtype, a_bytes, a->bytes) == ATTN_OK &&
                      attn_weights_read(b_file, b, b->dtype, b_bytes, b->bytes) == ATTN_OK &&
                      memcmp(a_bytes, b_bytes, a->bytes) == 0;
    free(a_bytes);
    free(b_bytes);
    return same;
}

static void expect_same_tensors(const char *what, const attn_weights_file *expected, const attn_weights_file *made) {
    cr_assert(attn_weights_count(expected) > 0 && attn_weights_count(expected) == attn_weights_count(made),
              "%s: %zu tensors, want %zu", what, attn_weights_count(made), attn_weights_count(expected));
    for (size_t i = 0; i < attn_weights_count(expected); i++) {
        const attn_weights_tensor *want = attn_weights_tensor_at(expected, i);
        cr_assert(same_tensor(expected, want, made, attn_weights_find(made, want->name)), "%s: %s differs", what,
                  want->name);
    }
}

/* ---- Real models ---------------------------------------------------------------------------------------------------- */

static size_t models_checked;

/* The name of a layer's group, for the names that the models here have. */
static void name_of_group(const model_file *of, char *name, size_t size) {
    static const char *const names[][2] = {{"my_attention/", "attention/"}, {"encoder/", "lstm/"}, {"head/", "dense/"}};
    const bool skips = strcmp(of->version, "2.12") == 0 || strcmp(of->version, "2.13") == 0;
    char copy[160];
    snprintf(copy, sizeof copy, "%s", name);
    for (size_t i = 0; i < 3; i++)
        if (strncmp(copy, names[i][0], strlen(names[i][0])) == 0)
            snprintf(name, size, "%s%.100s", names[i][1], copy + strlen(names[i][0]));
    if (skips && strncmp(copy, "attention_1/", 12) == 0) snprintf(name, size, "attention_2/%.100s", copy + 12);
}

static void check_model(const model_file *of) {
    const char *path = in_scratch("model.safetensors");
    CONVERT(of->path, path);
    cr_assert(got.code == 0, "%s: exit %d, %s", of->name, got.code, got.out);
    attn_weights_file *made = open_made(path), *expected = open_expected(of);
    cr_assert(expected != NULL, "%s: nothing is expected of it", of->name);
    size_t wanted = 0;
    const size_t start = strlen(of->model) + 1;
    for (size_t i = 0; i < attn_weights_count(expected); i++) {
        const attn_weights_tensor *want = attn_weights_tensor_at(expected, i);
        const bool own = strncmp(want->name, of->model, start - 1) == 0 && want->name[start - 1] == '/';
        if (!own || strcmp(want->name + start, "input") == 0 || strcmp(want->name + start, "prediction") == 0) continue;
        char name[160];
        snprintf(name, sizeof name, "%s", want->name + start);
        if (of->by_groups) name_of_group(of, name, sizeof name);
        cr_assert(same_tensor(expected, want, made, attn_weights_find(made, name)), "%s: %s differs", of->name, name);
        wanted++;
    }
    const bool scale = attn_weights_find(made, "attention/scale") != NULL; /* of Keras's own layer */
    cr_assert(wanted > 0 && attn_weights_count(made) == wanted + scale, "%s: %zu tensors, want %zu", of->name,
              attn_weights_count(made), wanted);
    attn_weights_close(made);
    attn_weights_close(expected);
    models_checked++;
}

/* Something of the full data, or NULL with a line that says so. */
static const char *full_folder(const char *name) {
    static char path[512];
    const char *folder = getenv("ATTN_TEST_DATA");
    if (folder) snprintf(path, sizeof path, "%s/%s", folder, name);
    if (folder && access(path, R_OK) == 0) return path;
    printf("skipped: %s of the full data (%s)\n", name,
           folder ? "ATTN_TEST_DATA lacks it" : "ATTN_TEST_DATA is not set");
    return NULL;
}

Test(convert, models_to_the_bit) {
    const size_t files = for_models(MODELS, check_model);
    cr_assert(files == SHIPPED && models_checked == files, "%zu files, %zu checked", files, models_checked);
    clean_up();
}

Test(convert, all_models_to_the_bit) {
    const char *folder = full_folder("models");
    if (!folder) return;
    const size_t files = for_models(folder, check_model);
    cr_assert(files >= 140 && models_checked == files, "%zu files, %zu checked", files, models_checked);
    printf("full data: %zu of %zu model files converted, bit for bit what Keras had\n", models_checked, files);
    clean_up();
}

/* What users' systems and classes make of files: a layer class of one's own around the attention layer, assets beside the
 * weights, pure bfloat16, group names as Windows joins them, and tf_keras. Made by other/make_other.py. */
static void check_other_model(const model_file *of) {
    const char *path = in_scratch("model.safetensors");
    CONVERT(of->path, path);
    cr_assert(got.code == 0, "%s: exit %d, %s", of->name, got.code, got.out);
    attn_weights_file *made = open_made(path), *expected = open_expected(of);
    cr_assert(expected != NULL, "%s: nothing is expected of it", of->name);
    size_t wanted = 0;
    const size_t start = strlen(of->model) + 1;
    for (size_t i = 0; i < attn_weights_count(expected); i++) {
        const attn_weights_tensor *want = attn_weights_tensor_at(expected, i);
        if (strncmp(want->name, of->model, start - 1) != 0 || want->name[start - 1] != '/') continue;
        char name[160];
        snprintf(name, sizeof name, "%s", want->name + start);
        const size_t layer = strcspn(name, "/0123456789"); /* groups of these models bear no number */
        const size_t rest = strcspn(name, "/");
        if (of->by_groups && layer < rest)
            snprintf(name + layer - 1, sizeof name - layer + 1, "%s", want->name + start + rest);
        cr_assert(same_tensor(expected, want, made, attn_weights_find(made, name)), "%s: %s differs", of->name, name);
        wanted++;
    }
    /* The block's LSTM is in the file too, under names that differ between the formats. */
    const size_t more = strcmp(of->model, "block") == 0 ? 3 : 0;
    cr_assert(wanted > 0 && attn_weights_count(made) == wanted + more, "%s: %zu tensors, want %zu", of->name,
              attn_weights_count(made), wanted + more);
    const bool bahdanau = strcmp(of->model, "windows") == 0 || strcmp(of->model, "chain") == 0;
    const char *score = attn_weights_metadata(made, "score");
    cr_assert(score && strcmp(score, bahdanau ? "bahdanau" : "luong") == 0, "%s", of->name);
    attn_weights_close(made);
    attn_weights_close(expected);
    models_checked++;
}

Test(convert, other_models_to_the_bit) {
    const size_t files = for_models(MODELS "/other", check_other_model);
    cr_assert(files == 13 && models_checked == files, "%zu files, %zu checked", files, models_checked);
    clean_up();
}

/* Keras 3 writes each layer's name beside its weights, so that both files of a model give the same names. */
Test(convert, keras_3) {
    static const char *const kinds[] = {"keras", "weights.h5"};
    for (size_t i = 0; i < 2; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/other/port_keras3.%s", MODELS, kinds[i]);
        CONVERT(path, in_scratch("port.safetensors"));
        cr_assert(got.code == 0 && !strstr(got.out, "no layer names"), "%s", got.out);
        attn_weights_file *made = open_made(in_scratch("port.safetensors")),
                          *expected = open_made(MODELS "/other/expected_keras3.safetensors");
        expect_same_tensors(path, expected, made);
        attn_weights_close(made);
        attn_weights_close(expected);
    }
    expect_refusal(MODELS "/other/unbuilt_keras3.keras", 3,
                   "\"att\": an attention layer, but the file holds no matrices");
    CONVERT(MODELS "/other/sharded_keras3_00001.weights.h5", in_scratch("shard.safetensors"));
    cr_assert(got.code == 0 && strstr(got.out, "a shard of a Keras 3 model") &&
                  strstr(got.out, "not in this shard: /layers/lstm/cell/vars") &&
                  !strstr(got.out, "shard: /layers/dense"),
              "%s", got.out);
    expect_refusal(MODELS "/other/sharded_keras3.weights.json", 2, "list of shards");
    clean_up();
}

/* A user block before the superblock, any bytes before a zip archive: both formats allow them. */
Test(convert, bytes_before_the_file) {
    static const struct {
        const char *path;
        size_t before;
    } rows[] = {{MODELS "/sequential_luong_tf2.8.h5", 512},
                {MODELS "/sequential_luong_tf2.8.h5", 2048},
                {MODELS "/functional_bahdanau_tf2.15.keras", 1},
                {MODELS "/functional_bahdanau_tf2.15.keras", 777}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t size, plain_size, made_size;
        char *data = read_file(rows[i].path, &size), *shifted = calloc(1, size + rows[i].before);
        memcpy(shifted + rows[i].before, data, size);
        write_file(in_scratch("shifted"), shifted, size + rows[i].before);
        CONVERT(rows[i].path, in_scratch("plain.safetensors"));
        CONVERT(in_scratch("shifted"), in_scratch("made.safetensors"));
        cr_assert(got.code == 0, "row %zu: %s", i, got.out);
        char *plain = read_file(in_scratch("plain.safetensors"), &plain_size),
             *made = read_file(in_scratch("made.safetensors"), &made_size);
        cr_assert(plain_size == made_size && memcmp(plain, made, made_size) == 0, "row %zu differs", i);
        free(data);
        free(shifted);
        free(plain);
        free(made);
    }
    clean_up();
}

Test(convert, a_folder_is_named_for_what_it_is) {
    const char *folder = in_scratch("saved");
    cr_assert(mkdir(folder, 0700) == 0);
    write_file(in_scratch("saved/saved_model.pb"), "x", 1);
    CONVERT(folder, in_scratch("x.safetensors"));
    cr_assert(got.code == 2 && strstr(got.out, "SavedModel") && strstr(got.out, "load_model"), "%s", got.out);
    static const char list[] = "{\"metadata\": {}, \"weight_map\": {}}";
    write_file(in_scratch("shards.weights.json"), list, strlen(list));
    CONVERT(in_scratch("shards.weights.json"), in_scratch("x.safetensors"));
    cr_assert(got.code == 2 && strstr(got.out, "list of shards") && strstr(got.out, "load_weights"), "%s", got.out);
    write_file(in_scratch("c.index"), "x", 1);
    CONVERT(in_scratch("c.index"), in_scratch("x.safetensors"));
    cr_assert(got.code == 2 && strstr(got.out, "TensorFlow checkpoint") && strstr(got.out, "load_weights"), "%s",
              got.out);
    clean_up();
}

/* ---- Predictions: LSTM, attention, dense; in plain code but for the attention ---------------------------------------- */

typedef struct names {
    const char *lstm, *attention, *dense; /* NULL: without */
} names;

/* Of a model that is such a chain; false of others. */
static bool names_of(const model_file *of, names *out) {
    static const struct {
        const char *model;
        names by_name, by_group;
    } chains[] = {
        {"attention_only", {NULL, "attention", NULL}, {NULL, "attention", NULL}},
        {"sequential", {"lstm", "attention", "dense"}, {"lstm", "attention", "dense"}},
        {"functional", {"lstm", "attention", "dense"}, {"lstm", "attention", "dense"}},
        {"named", {"encoder", "my_attention", "head"}, {"lstm", "attention", "dense"}},
    };
    for (size_t i = 0; i < sizeof chains / sizeof *chains; i++)
        if (strncmp(of->model, chains[i].model, strlen(chains[i].model)) == 0) {
            *out = of->by_groups ? chains[i].by_group : chains[i].by_name;
            return true;
        }
    return false;
}

/* What the chain makes of x (B, T, D): (B, width), from malloc. */
static float *predict(const attn_weights_file *made, const names *in, const float *x, int64_t B, int64_t T, int64_t D,
                      int64_t *width) {
    float *h = in->lstm ? run_lstm(made, in->lstm, x, B, T, D, width) : NULL;
    float *a = run_attention(made, in->attention, h ? h : x, B, T, width);
    float *y = in->dense ? run_dense(made, in->dense, a, B, width) : NULL;
    free(h);
    if (y) free(a);
    return y ? y : a;
}

static size_t predicted;

static void check_prediction(const model_file *of) {
    names in;
    int64_t x_shape[3], y_shape[2], width;
    char name[160];
    if (!names_of(of, &in)) return;
    const char *path = in_scratch("model.safetensors");
    CONVERT(of->path, path);
    attn_weights_file *made = open_made(path), *expected = open_expected(of);
    snprintf(name, sizeof name, "%s/input", of->model);
    float *x = read_floats(expected, name, x_shape);
    snprintf(name, sizeof name, "%s/prediction", of->model);
    float *want = read_floats(expected, name, y_shape);
    float *y = predict(made, &in, x, x_shape[0], x_shape[1], x_shape[2], &width);
    cr_assert(width == y_shape[1]);
    for (int64_t i = 0; i < y_shape[0] * width; i++)
        cr_assert(fabsf(y[i] - want[i]) < 2e-6f, "%s: %d: %.9g, Keras says %.9g", of->name, (int)i, (double)y[i],
                  (double)want[i]);
    free(x);
    free(y);
    free(want);
    attn_weights_close(made);
    attn_weights_close(expected);
    predicted++;
}

Test(convert, predictions_are_kerass) {
    for_models(MODELS, check_prediction);
    cr_assert(predicted >= 6, "%zu models predicted", predicted);
    clean_up();
}

Test(convert, all_predictions_are_kerass) {
    const char *folder = full_folder("models");
    if (!folder) return;
    for_models(folder, check_prediction);
    cr_assert(predicted >= 90, "%zu models predicted", predicted);
    printf("full data: %zu models predict as Keras did\n", predicted);
    clean_up();
}

/* ---- Trained models --------------------------------------------------------------------------------------------------- */

enum { REVIEWS = 16, WORDS = 500 };

/* The first reviews' tokens, from malloc. */
static uint16_t *read_tokens(const attn_weights_file *reviews) {
    const attn_weights_tensor *tensor = attn_weights_find(reviews, "tokens");
    cr_assert(tensor && tensor->shape[0] >= REVIEWS && tensor->shape[1] == WORDS);
    uint16_t *tokens = malloc(tensor->bytes);
    cr_assert(attn_weights_read(reviews, tensor, ATTN_WEIGHTS_U16, tokens, tensor->bytes) == ATTN_OK);
    return tokens;
}

static void check_reviews(const attn_weights_file *made, const attn_weights_file *reviews) {
    int64_t D, units, width, shape[2];
    uint16_t *tokens = read_tokens(reviews);
    float *x = run_embedding(made, "embedding", tokens, (int64_t)REVIEWS * WORDS, &D);
    float *h = run_lstm(made, "lstm", x, REVIEWS, WORDS, D, &units);
    float *a = run_attention(made, "attention", h, REVIEWS, WORDS, &units);
    float *y = run_dense(made, "dense", a, REVIEWS, &width), *want = read_floats(reviews, "probability", shape);
    for (int i = 0; i < REVIEWS; i++) {
        const double probability = 1 / (1 + exp(-(double)y[i]));
        cr_assert(fabs(probability - (double)want[i]) < 1e-5, "review %d: %.9g, Keras says %.9g", i, probability,
                  (double)want[i]);
    }
    free(tokens);
    free(x);
    free(h);
    free(a);
    free(y);
    free(want);
}

Test(convert, trained_on_reviews) {
    static const char *const kinds[] = {"h5", "keras"};
    const char *folder = full_folder("imdb");
    char path[600];
    if (!folder) return;
    snprintf(path, sizeof path, "%s/imdb_luong.safetensors", folder);
    attn_weights_file *expected = open_made(path);
    snprintf(path, sizeof path, "%s/imdb_luong_reviews.safetensors", folder);
    attn_weights_file *reviews = open_made(path);
    for (size_t kind = 0; kind < 2; kind++) {
        snprintf(path, sizeof path, "%s/imdb_luong.%s", folder, kinds[kind]);
        CONVERT(path, in_scratch("imdb.safetensors"));
        cr_assert(got.code == 0, "%s", got.out);
        attn_weights_file *made = open_made(in_scratch("imdb.safetensors"));
        expect_same_tensors(path, expected, made);
        check_reviews(made, reviews);
        attn_weights_close(made);
    }
    attn_weights_close(expected);
    attn_weights_close(reviews);
    printf("full data: the trained review model converts from 2 formats and predicts %d reviews as Keras did\n",
           REVIEWS);
    clean_up();
}

/* The task it was trained for: the mean of the two numbers that follow the two zeros. */
Test(convert, trained_in_debug_mode) {
    enum { B = 256, T = 20 };
    static float x[B * T], want[B];
    int64_t units, width;
    const char *path = full_folder("add_two_numbers_luong_keras2.8_debug.h5");
    if (!path) return;
    CONVERT(path, in_scratch("debug.safetensors"));
    cr_assert(got.code == 0 && strstr(got.out, "debug mode"), "%s", got.out);
    attn_weights_file *made = open_made(in_scratch("debug.safetensors"));
    srand(3);
    for (int i = 0; i < B; i++) {
        const int first = 1 + rand() % (T - 3), second = first + 2 + rand() % (T - first - 2);
        for (int t = 0; t < T; t++) x[i * T + t] = (float)(rand() / (RAND_MAX + 1.0));
        want[i] = (x[i * T + first] + x[i * T + second]) / 2;
        x[i * T + first - 1] = x[i * T + second - 1] = 0;
    }
    float *h = run_lstm(made, "lstm", x, B, T, 1, &units);
    float *a = run_attention(made, "attention", h, B, T, &units), *y = run_dense(made, "dense", a, B, &width);
    double error = 0;
    for (int i = 0; i < B; i++) error += fabs((double)(y[i] - want[i])) / B;
    cr_assert(error < 0.035, "mean error %g; plain float64 code has 0.0246 on its own samples, a guess 0.16", error);
    printf("full data: the model trained in debug mode has a mean error of %.4f on its task\n", error);
    free(h);
    free(a);
    free(y);
    attn_weights_close(made);
    clean_up();
}

/* ---- The way back ------------------------------------------------------------------------------------------------------ */

static size_t came_back;

static void check_way_back(const model_file *of) {
    const char *there = in_scratch("there.safetensors"), *h5 = in_scratch("back.h5"),
               *again = in_scratch("again.safetensors");
    CONVERT(of->path, there);
    cr_assert(got.code == 0, "%s: %s", of->name, got.out);
    CONVERT(there, h5);
    cr_assert(got.code == 0, "%s: %s", of->name, got.out);
    CONVERT(h5, again);
    cr_assert(got.code == 0, "%s: %s", of->name, got.out);
    attn_weights_file *a = open_made(there), *b = open_made(again);
    expect_same_tensors(of->name, a, b);
    attn_weights_close(a);
    attn_weights_close(b);
    came_back++;
}

Test(convert, way_back) {
    for_models(MODELS, check_way_back);
    cr_assert(came_back == SHIPPED);
    clean_up();
}

/* Keras's own order is that of a .h5 file. What a .keras file of the same model is taken for must be the same. */
static size_t orders_compared;

static void check_order(const model_file *of) {
    char h5[512];
    if (strcmp(of->kind, "keras") != 0) return;
    snprintf(h5, sizeof h5, "%.*s.h5", (int)(strlen(of->path) - strlen(".keras")), of->path);
    if (access(h5, R_OK) != 0) return;
    CONVERT(of->path, in_scratch("keras.safetensors"));
    CONVERT(h5, in_scratch("h5.safetensors"));
    attn_weights_file *a = open_made(in_scratch("keras.safetensors")), *b = open_made(in_scratch("h5.safetensors"));
    const char *found = attn_weights_metadata(a, "keras_layers"), *wanted = attn_weights_metadata(b, "keras_layers");
    cr_assert(found && wanted && strcmp(found, wanted) == 0, "%s: %s\nwant %s", of->name, found, wanted);
    attn_weights_close(a);
    attn_weights_close(b);
    orders_compared++;
}

Test(convert, kerass_order) {
    for_models(MODELS, check_order);
    cr_assert(orders_compared == 1);
    const char *folder = full_folder("models");
    if (folder) for_models(folder, check_order);
    cr_assert(!folder || orders_compared >= 30, "%zu", orders_compared);
    clean_up();
}

Test(convert, same_input_same_bytes) {
    size_t first_size, second_size;
    CONVERT(MODELS "/two_attentions_tf2.12.keras", in_scratch("a.safetensors"));
    CONVERT(MODELS "/two_attentions_tf2.12.keras", in_scratch("b.safetensors"));
    char *first = read_file(in_scratch("a.safetensors"), &first_size),
         *second = read_file(in_scratch("b.safetensors"), &second_size);
    cr_assert(first_size > 1000 && first_size == second_size && memcmp(first, second, first_size) == 0);
    free(first);
    free(second);
    clean_up();
}

/* ---- Options, metadata, exit codes --------------------------------------------------------------------------------------- */

Test(convert, list_and_layer) {
    CONVERT("--list", MODELS "/two_attentions_tf2.13.weights.h5");
    cr_assert(got.code == 0 && strstr(got.out, "attention_2/bahdanau_v") && strstr(got.out, "no layer names"), "%s",
              got.out);
    CONVERT("--layer", "attention_1", MODELS "/two_attentions_tf2.12.keras", in_scratch("one.safetensors"));
    cr_assert(got.code == 0, "%s", got.out);
    attn_weights_file *file = open_made(in_scratch("one.safetensors"));
    cr_assert(attn_weights_count(file) == 4 && attn_weights_find(file, "attention_1/bahdanau_v"));
    cr_assert(!strcmp(attn_weights_metadata(file, "score"), "bahdanau") &&
              !strcmp(attn_weights_metadata(file, "units"), "3"));
    cr_assert(!strcmp(attn_weights_metadata(file, "keras_version"), "2.12.0"));
    attn_weights_close(file);
    CONVERT("--list", in_scratch("one.safetensors"));
    cr_assert(got.code == 0 && strstr(got.out, "4 tensors"), "%s", got.out);
    CONVERT("--layer", "nobody", MODELS "/two_attentions_tf2.12.keras", in_scratch("none.safetensors"));
    cr_assert(got.code == 3 && strstr(got.out, "nobody") && access(in_scratch("none.safetensors"), F_OK) != 0, "%s",
              got.out);
    CONVERT(MODELS "/sequential_luong_tf2.8.h5", in_scratch("whole.safetensors"));
    file = open_made(in_scratch("whole.safetensors"));
    cr_assert(strstr(attn_weights_metadata(file, "model_config"), "\"Sequential\"") &&
              !strcmp(attn_weights_metadata(file, "score"), "luong"));
    attn_weights_close(file);
    clean_up();
}

Test(convert, wrong_usage) {
    cr_assert(mkfifo(in_scratch("fifo"), 0600) == 0);
    const struct {
        const char *arguments[4];
        int code;
    } rows[] = {{{NULL}, 1},
                {{"--nonsense"}, 1},
                {{MODELS "/sequential_luong_tf2.8.h5"}, 1},
                {{"a", "b", "c"}, 1},
                {{MODELS "/sequential_luong_tf2.8.h5", in_scratch("x.h5")}, 1},
                {{MODELS "/expected_tf2.8.safetensors", in_scratch("x.safetensors")}, 1},
                {{MODELS "/expected_tf2.8.safetensors", in_scratch("x.weights.h5")}, 1},
                {{"/nowhere/at/all.h5", in_scratch("x.safetensors")}, 4},
                {{"/dev/zero", in_scratch("x.safetensors")}, 4},
                {{MODELS, in_scratch("x.safetensors")}, 4},
                {{in_scratch("fifo"), in_scratch("x.safetensors")}, 4},
                {{MODELS "/sequential_luong_tf2.8.h5", "/nowhere/at/all.safetensors"}, 4},
                {{"/proc/self/mem", in_scratch("x.safetensors")}, 4},
                {{"--help"}, 0},
                {{"--version"}, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        convert(rows[i].arguments);
        cr_assert(got.code == rows[i].code, "row %zu: exit %d, %s", i, got.code, got.out);
        cr_assert(*got.out, "row %zu says nothing", i);
    }
    clean_up();
}

/* ---- What is written, and what the program is given to write to ------------------------------------------------------------ */

/* Runs a command of the shell in which $convert is the program; its exit status, and what it left on standard error. */
static int shell(const char *command) {
    char line[4096];
    snprintf(line, sizeof line, "convert='%s'; exec 2>'%s'; %s", ATTENTION_CONVERT, in_scratch("errors"), command);
    const int status = system(line);
    size_t size;
    char *errors = read_file(in_scratch("errors"), &size);
    snprintf(got.out, sizeof got.out, "%.*s", (int)size, errors);
    free(errors);
    cr_assert(WIFEXITED(status), "%s: status 0x%x, %s", command, status, got.out);
    return WEXITSTATUS(status);
}

#define MODEL MODELS "/functional_bahdanau_tf2.15.keras"

/* form: a command with one or no %s. */
static void expect_shell(const char *form, const char *output, int code, const char *message) {
    char command[2048];
    const char *gap = strstr(form, "%s");
    snprintf(command, sizeof command, "%.*s%s%s", gap ? (int)(gap - form) : (int)strlen(form), form, gap ? output : "",
             gap ? gap + 2 : "");
    const int status = shell(command);
    cr_assert(status == code && strstr(got.out, message), "%s: status %d, want %d and \"%s\": %s", command, status,
              code, message, got.out);
}

Test(convert, lost_output) {
    const char *made = in_scratch("made.safetensors");
    const char full[] = "standard output: No space left on device", closed[] = "standard output: Bad file descriptor";
    expect_shell("$convert --list " MODEL " >/dev/full", "", 4, full);
    expect_shell("$convert --help >/dev/full", "", 4, full);
    expect_shell("$convert --version >/dev/full", "", 4, full);
    expect_shell("$convert " MODEL " '%s' >/dev/full", made, 4, full);
    expect_shell("$convert --list " MODEL " <&- >&-", "", 4, closed);
    unlink(made);
    /* The file is all that was asked for. */
    expect_shell("$convert " MODEL " '%s' <&- >&-", made, 0, "");
    attn_weights_close(open_made(made));
    char both[1300];
    snprintf(both, sizeof both, "'%s' '%s'", made, in_scratch("made.h5"));
    expect_shell("$convert %s <&- >&-", both, 0, "");
    expect_shell("$convert --list '%s' <&- >/dev/null 2>&-", in_scratch("made.h5"), 0, "");
    clean_up();
}

Test(convert, limits_on_file_sizes) {
    const char *weights = in_scratch("weights.safetensors"), *h5 = in_scratch("made.h5"),
               *made = in_scratch("made.safetensors");
    CONVERT(MODEL, weights);
    cr_assert(got.code == 0, "%s", got.out);
    char command[1024];
    for (int blocks = 0; blocks < 8; blocks += 7) { /* of 512 bytes; the weights take 11 of them */
        snprintf(command, sizeof command, "(ulimit -f %d; exec $convert " MODEL " '%s') 2>&1 | cat >&2; test ! -e '%s'",
                 blocks, made, made);
        expect_shell("%s", command, 0, "past the limit on file sizes");
        snprintf(command, sizeof command, "(ulimit -f %d; exec $convert '%s' '%s') 2>&1 | cat >&2; test ! -e '%s'",
                 blocks, weights, h5, h5);
        expect_shell("%s", command, 0, "made.h5: writing: File too large");
    }
    clean_up();
}

Test(convert, targets) {
    const char *weights = in_scratch("weights.safetensors"), *h5 = in_scratch("made.h5");
    const char *const ways[][2] = {{MODEL, weights}, {weights, h5}};
    struct stat about;
    for (size_t i = 0; i < 2; i++) {
        for (mode_t mode = 0600; mode <= 0640; mode += 040) {
            write_file(ways[i][1], "old", 3);
            cr_assert(chmod(ways[i][1], mode) == 0);
            CONVERT(ways[i][0], ways[i][1]);
            cr_assert(got.code == 0 && stat(ways[i][1], &about) == 0 && (about.st_mode & 07777) == mode &&
                          about.st_size > 3,
                      "mode %o: %s", about.st_mode, got.out);
        }
        cr_assert(chmod(ways[i][1], 0444) == 0);
        CONVERT(ways[i][0], ways[i][1]);
        cr_assert(got.code == 4 && strstr(got.out, "is read-only"), "%d: %s", got.code, got.out);
        cr_assert(chmod(ways[i][1], 0644) == 0);
    }
    clean_up();
}

Test(convert, names_that_no_attribute_holds) {
    static char name[100001];
    const int64_t shape[] = {1};
    const float value = 1;
    const attn_weights_entry entry = {name, ATTN_WEIGHTS_F32, 1, shape, &value};
    for (int place = 0; place < 2; place++) { /* of the slash: a long weight, a long layer */
        memset(name, 'n', sizeof name - 1);
        name[place ? sizeof name - 3 : 1] = '/';
        cr_assert(attn_weights_write(in_scratch("long.safetensors"), &entry, 1, NULL, 0) == ATTN_OK);
        CONVERT(in_scratch("long.safetensors"), in_scratch("long.h5"));
        cr_assert(got.code == 2 && strstr(got.out, "a Keras file holds names of at most 64000"), "%d: %s", got.code,
                  got.out);
        cr_assert(access(in_scratch("long.h5"), F_OK) != 0);
    }
    clean_up();
}

/* Each of these leaves the list that was parsed: a leak is an exit code of its own where a sanitizer looks for them. */
Test(convert, orders_that_do_not_fit) {
    const struct {
        const char *list, *message;
    } rows[] = {{"{}", "is not a list"},
                {"[1]", "is not a list of layers"},
                {"[[\"a\",[\"a/b\",\"a/x\"]]]", "lists the tensor \"a/x\""},
                {"[[\"a\",[\"a/b\",\"a/b\"]]]", "lists the tensor \"a/b\" twice"},
                {"[[\"a\",[]]]", "does not list the tensor \"a/b\""}};
    const int64_t shape[] = {1};
    const float value = 1;
    const attn_weights_entry entry = {"a/b", ATTN_WEIGHTS_F32, 1, shape, &value};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const attn_weights_metadata_entry metadata = {"keras_layers", rows[i].list};
        cr_assert(attn_weights_write(in_scratch("order.safetensors"), &entry, 1, &metadata, 1) == ATTN_OK);
        CONVERT(in_scratch("order.safetensors"), in_scratch("order.h5"));
        cr_assert(got.code == 2 && strstr(got.out, rows[i].message), "%s: %d: %s", rows[i].list, got.code, got.out);
    }
    clean_up();
}

#ifndef SANITIZED /* a search for leaks ends a process that is traced */
/* Runs the converter and sends it a signal at one of the system calls after it opened what it writes to; its status. */
static int interrupted(const char *from, const char *to, int number, int at, bool *reached) {
    const pid_t child = fork();
    if (child == 0) {
        const int nowhere = open("/dev/null", O_WRONLY);
        dup2(nowhere, 1);
        dup2(nowhere, 2);
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        execl(ATTENTION_CONVERT, ATTENTION_CONVERT, from, to, (char *)NULL);
        _exit(127);
    }
    int status, deliver = 0, seen = 0;
    bool opened = false;
    *reached = false;
    cr_assert(child > 0 && waitpid(child, &status, 0) == child && WIFSTOPPED(status), "the program can't be traced");
    ptrace(PTRACE_SETOPTIONS, child, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
    for (;;) {
        struct __ptrace_syscall_info info = {0};
        ptrace(PTRACE_SYSCALL, child, NULL, deliver);
        cr_assert(waitpid(child, &status, 0) == child);
        if (!WIFSTOPPED(status)) return status;
        const bool call = WSTOPSIG(status) == (SIGTRAP | 0x80);
        deliver = call ? 0 : WSTOPSIG(status);
        if (!call || ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof info, &info) <= 0) continue;
        if (info.op != PTRACE_SYSCALL_INFO_ENTRY) continue;
        if (opened && info.entry.nr != SYS_exit_group && seen++ == at) { /* which no signal keeps from its end */
            *reached = true;
            kill(child, number);
        }
        opened |= info.entry.nr == SYS_openat && (info.entry.args[2] & O_TMPFILE) == O_TMPFILE;
    }
}

static int files_beside(const char *path) {
    char folder[600];
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
    DIR *listing = opendir(folder);
    int count = 0;
    cr_assert(listing != NULL);
    for (const struct dirent *entry; (entry = readdir(listing));) count += entry->d_type == DT_REG;
    closedir(listing);
    return count;
}

/* At every system call: either the old file or the new one is there, and no other. */
Test(convert, signals_leave_nothing) {
    const char *weights = in_scratch("weights.safetensors");
    CONVERT(MODEL, weights);
    cr_assert(got.code == 0, "%s", got.out);
    const char *const ways[][2] = {{weights, in_scratch("made.h5")}, {MODEL, in_scratch("made.safetensors")}};
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t way = 0; way < 2; way++)
        for (int there = 0; there < 2; there++) {
            bool reached = true;
            int at = 0;
            for (; reached; at++) {
                const int number = numbers[at % 3];
                unlink(ways[way][1]);
                if (there) write_file(ways[way][1], "old", 3);
                const int before = files_beside(weights),
                          status = interrupted(ways[way][0], ways[way][1], number, at, &reached);
                const bool made = access(ways[way][1], F_OK) == 0;
                cr_assert(reached ? WIFSIGNALED(status) && WTERMSIG(status) == number : status == 0,
                          "call %d: status 0x%x", at, status);
                cr_assert(files_beside(weights) == before + (made && !there), "call %d: a file is left", at);
            }
            cr_assert(at > 5, "only %d system calls", at);
            unlink(ways[way][1]);
        }
    clean_up();
}
#endif

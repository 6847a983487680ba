/* SPDX-License-Identifier: Apache-2.0 */
/* attention-convert: real models of every Keras version to the last bit, the way back, hostile files of every kind.
 * ATTN_TEST_DATA may name a folder with more: models/ and the trained files. */
#include "tests/convert_files.h"
#include "tests/suite.h"

#include "tools/attention-convert/sandbox.h"

#include <fcntl.h>
#include <hdf5.h>
#include <math.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zip.h>

#define MODELS TEST_DATA "/keras"

static char scratch[64] = "/tmp/attention-convert-XXXXXX";

/* The path of a file in the scratch folder; stays valid. */
static const char *in_scratch(const char *name) {
    static char paths[16][256];
    char path[256];
    if (strstr(scratch, "XXXXXX")) cr_assert(mkdtemp(scratch) != NULL);
    snprintf(path, sizeof path, "%s/%s", scratch, name);
    size_t i = 0;
    while (*paths[i] && strcmp(paths[i], path) != 0) cr_assert(++i < 16);
    return strcpy(paths[i], path);
}

static void clean_up(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", scratch);
    cr_assert(strstr(scratch, "XXXXXX") || system(command) == 0);
}

static answer got;

#define CONVERT(...) convert(&got, (const char *const[]){__VA_ARGS__, NULL})

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

/* The full folder, or NULL with a line that says so. */
static const char *full_models(void) {
    static char path[512];
    const char *folder = getenv("ATTN_TEST_DATA");
    if (!folder) {
        printf("skipped: the full folder of models (ATTN_TEST_DATA is not set)\n");
        return NULL;
    }
    snprintf(path, sizeof path, "%s/models", folder);
    return path;
}

Test(convert, models_to_the_bit) {
    const size_t files = for_models(MODELS, check_model);
    cr_assert(files == 13 && models_checked == files, "%zu files, %zu checked", files, models_checked);
    clean_up();
}

Test(convert, all_models_to_the_bit) {
    const char *folder = full_models();
    if (!folder) return;
    const size_t files = for_models(folder, check_model);
    cr_assert(files >= 140 && models_checked == files, "%zu files, %zu checked", files, models_checked);
    clean_up();
}

/* ---- Predictions: LSTM, attention, dense; in plain code but for the attention ---------------------------------------- */

static float *read_floats(const attn_weights_file *file, const char *name, int64_t *shape) {
    const attn_weights_tensor *tensor = attn_weights_find(file, name);
    cr_assert(tensor != NULL, "no %s", name);
    float *data = malloc(tensor->bytes + 1);
    cr_assert(attn_weights_read(file, tensor, ATTN_WEIGHTS_F32, data, tensor->bytes) == ATTN_OK);
    for (int i = 0; i < tensor->rank; i++) shape[i] = tensor->shape[i];
    return data;
}

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

/* One item: x (T, in) to states (T, units); gates in the order i, f, g, o. */
static void lstm(const float *x, int64_t T, int64_t in, const float *kernel, const float *recurrent, const float *bias,
                 int64_t units, float *h) {
    double *c = calloc((size_t)units, sizeof *c), *gate = calloc((size_t)units * 4, sizeof *gate);
    for (int64_t t = 0; t < T; t++) {
        for (int64_t j = 0; j < 4 * units; j++) {
            gate[j] = (double)bias[j];
            for (int64_t i = 0; i < in; i++) gate[j] += (double)x[t * in + i] * (double)kernel[i * 4 * units + j];
            for (int64_t i = 0; t > 0 && i < units; i++)
                gate[j] += (double)h[(t - 1) * units + i] * (double)recurrent[i * 4 * units + j];
        }
        for (int64_t j = 0; j < units; j++) {
            c[j] = sigmoid(gate[units + j]) * c[j] + sigmoid(gate[j]) * tanh(gate[2 * units + j]);
            h[t * units + j] = (float)(sigmoid(gate[3 * units + j]) * tanh(c[j]));
        }
    }
    free(c);
    free(gate);
}

static void run_attention(const attn_weights_file *file, const char *name, const float *h, int64_t B, int64_t T,
                          float *output, int64_t *units) {
    attn_weights_layer layer = ATTN_WEIGHTS_LAYER_INIT;
    attn_context *context;
    attn_plan *plan;
    cr_assert(attn_weights_load_layer(file, name, NULL, &layer) == ATTN_OK, "%s", attn_last_error_message());
    cr_assert(attn_context_create(NULL, &context) == ATTN_OK, "%s", attn_last_error_message());
    attn_layer_desc desc = ATTN_LAYER_DESC_INIT;
    desc.score = layer.score;
    desc.batch = B;
    desc.timesteps = T;
    desc.features = layer.features;
    desc.units = *units = layer.units;
    cr_assert(attn_layer_forward_plan(context, &desc, &plan) == ATTN_OK, "%s", attn_last_error_message());
    attn_layer_forward_args args = ATTN_LAYER_FORWARD_ARGS_INIT;
    args.h = h;
    args.weights = layer.weights;
    args.output = output;
    args.workspace_size = attn_plan_workspace_size(plan);
    args.workspace = aligned_alloc(ATTN_WORKSPACE_ALIGNMENT, args.workspace_size + ATTN_WORKSPACE_ALIGNMENT);
    cr_assert(attn_layer_forward(plan, &args) == ATTN_OK, "%s", attn_last_error_message());
    free(args.workspace);
    attn_plan_destroy(plan);
    attn_context_destroy(context);
    attn_weights_layer_free(&layer);
}

typedef struct names {
    const char *lstm, *attention, *dense; /* NULL: without */
} names;

static names names_of(const model_file *of) {
    if (strncmp(of->model, "named", 5) == 0 && !of->by_groups) return (names){"encoder", "my_attention", "head"};
    if (strncmp(of->model, "attention_only", 14) == 0) return (names){NULL, "attention", NULL};
    return (names){"lstm", "attention", "dense"};
}

static size_t predicted;

static void check_prediction(const model_file *of) {
    static const char *const chains[] = {"sequential", "functional", "attention_only", "named"};
    bool chain = false;
    for (size_t i = 0; i < 4; i++) chain |= strncmp(of->model, chains[i], strlen(chains[i])) == 0;
    if (!chain) return;
    const char *path = in_scratch("model.safetensors");
    CONVERT(of->path, path);
    attn_weights_file *made = open_made(path), *expected = open_expected(of);
    const names in = names_of(of);
    char name[160];
    int64_t x_shape[3], y_shape[2], kernel_shape[2], ignored[2], units;
    snprintf(name, sizeof name, "%s/input", of->model);
    float *x = read_floats(expected, name, x_shape);
    snprintf(name, sizeof name, "%s/prediction", of->model);
    float *y = read_floats(expected, name, y_shape);
    const int64_t B = x_shape[0], T = x_shape[1];
    float *h = x;
    if (in.lstm) {
        snprintf(name, sizeof name, "%s/kernel", in.lstm);
        float *kernel = read_floats(made, name, kernel_shape);
        snprintf(name, sizeof name, "%s/recurrent_kernel", in.lstm);
        float *recurrent = read_floats(made, name, ignored);
        snprintf(name, sizeof name, "%s/bias", in.lstm);
        float *bias = read_floats(made, name, ignored);
        const int64_t H = kernel_shape[1] / 4;
        h = calloc((size_t)(B * T * H), sizeof *h);
        for (int64_t b = 0; b < B; b++)
            lstm(x + b * T * x_shape[2], T, x_shape[2], kernel, recurrent, bias, H, h + b * T * H);
        free(kernel);
        free(recurrent);
        free(bias);
    }
    float *a = calloc((size_t)(B * 512), sizeof *a);
    run_attention(made, in.attention, h, B, T, a, &units);
    float *kernel = NULL, *bias = NULL;
    if (in.dense) {
        snprintf(name, sizeof name, "%s/kernel", in.dense);
        kernel = read_floats(made, name, kernel_shape);
        snprintf(name, sizeof name, "%s/bias", in.dense);
        bias = read_floats(made, name, ignored);
    }
    for (int64_t b = 0; b < B; b++)
        for (int64_t k = 0; k < y_shape[1]; k++) {
            double sum = in.dense ? (double)bias[k] : (double)a[b * units + k];
            for (int64_t i = 0; in.dense && i < units; i++)
                sum += (double)a[b * units + i] * (double)kernel[i * y_shape[1] + k];
            cr_assert(fabs(sum - (double)y[b * y_shape[1] + k]) < 2e-6, "%s: item %d: %.9g, Keras says %.9g", of->name,
                      (int)b, sum, (double)y[b * y_shape[1] + k]);
        }
    if (h != x) free(h);
    free(x);
    free(y);
    free(a);
    free(kernel);
    free(bias);
    attn_weights_close(made);
    attn_weights_close(expected);
    predicted++;
}

Test(convert, predictions_are_kerass) {
    for_models(MODELS, check_prediction);
    cr_assert(predicted >= 6, "%zu models predicted", predicted);
    const char *folder = full_models();
    if (folder) for_models(folder, check_prediction);
    cr_assert(!folder || predicted >= 90, "%zu models predicted", predicted);
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
    cr_assert(attn_weights_count(a) == attn_weights_count(b), "%s: %zu and %zu tensors", of->name,
              attn_weights_count(a), attn_weights_count(b));
    for (size_t i = 0; i < attn_weights_count(a); i++) {
        const attn_weights_tensor *tensor = attn_weights_tensor_at(a, i);
        cr_assert(same_tensor(a, tensor, b, attn_weights_find(b, tensor->name)), "%s: %s differs", of->name,
                  tensor->name);
    }
    attn_weights_close(a);
    attn_weights_close(b);
    came_back++;
}

Test(convert, way_back) {
    for_models(MODELS, check_way_back);
    cr_assert(came_back == 13);
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
                {{MODELS "/sequential_luong_tf2.8.h5", "/tmp/x.h5"}, 1},
                {{MODELS "/expected_tf2.8.safetensors", "/tmp/x.safetensors"}, 1},
                {{MODELS "/expected_tf2.8.safetensors", "/tmp/x.weights.h5"}, 1},
                {{"/nowhere/at/all.h5", "/tmp/x.safetensors"}, 4},
                {{"/dev/zero", "/tmp/x.safetensors"}, 4},
                {{MODELS, "/tmp/x.safetensors"}, 4},
                {{in_scratch("fifo"), "/tmp/x.safetensors"}, 4},
                {{MODELS "/sequential_luong_tf2.8.h5", "/nowhere/at/all.safetensors"}, 4},
                {{"/proc/self/mem", "/tmp/x.safetensors"}, 4},
                {{"--help"}, 0},
                {{"--version"}, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        convert(&got, rows[i].arguments);
        cr_assert(got.code == rows[i].code, "row %zu: exit %d, %s", i, got.code, got.out);
        cr_assert(*got.out, "row %zu says nothing", i);
    }
    clean_up();
}

/* ---- Hostile files --------------------------------------------------------------------------------------------------------- */

/* A copy of a sound model whose luong_w has been removed, open for a test to put something else there. */
#define LUONG_W "/model_weights/attention/attention/luong_w/kernel:0"

static hid_t spoil(const char *path) {
    size_t size;
    char *data = read_file(MODELS "/sequential_luong_tf2.8.h5", &size);
    write_file(path, data, size);
    free(data);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    const hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    cr_assert(file >= 0 && H5Ldelete(file, LUONG_W, H5P_DEFAULT) >= 0);
    return file;
}

static void put(hid_t file, hid_t type, int rank, const hsize_t *shape, hid_t plan, bool write) {
    const hid_t space = rank ? H5Screate_simple(rank, shape, NULL) : H5Screate(H5S_SCALAR);
    const hid_t dataset = H5Dcreate2(file, LUONG_W, type, space, H5P_DEFAULT, plan, H5P_DEFAULT);
    float zeros[4096] = {0};
    cr_assert(dataset >= 0);
    if (write) cr_assert(H5Dwrite(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, zeros) >= 0);
    H5Dclose(dataset);
    H5Sclose(space);
}

static void expect_refusal(const char *path, int code, const char *message) {
    struct timespec from, to;
    unlink(in_scratch("refused.safetensors"));
    clock_gettime(CLOCK_MONOTONIC, &from);
    CONVERT(path, in_scratch("refused.safetensors"));
    clock_gettime(CLOCK_MONOTONIC, &to);
    cr_assert(got.code == code && strstr(got.out, message), "want %d and \"%s\", got %d: %s", code, message, got.code,
              got.out);
    cr_assert(access(in_scratch("refused.safetensors"), F_OK) != 0, "%s: something was written", message);
    cr_assert(to.tv_sec - from.tv_sec < 10, "%s: took %d s", message, (int)(to.tv_sec - from.tv_sec));
}

static const hsize_t eight_by_eight[] = {8, 8};

Test(convert, links_are_refused) {
    const char *path = in_scratch("bad.h5");
    hid_t file = spoil(path);
    H5Lcreate_soft("/model_weights/lstm", file, LUONG_W, H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
    expect_refusal(path, 2, "kernel:0: is a soft link");
    file = spoil(path);
    H5Lcreate_external("/etc/passwd", "/", file, LUONG_W, H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
    expect_refusal(path, 2, "kernel:0: is an external link");
    file = spoil(path);
    H5Lcreate_hard(file, "/", file, "/model_weights/attention/loop", H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
    expect_refusal(path, 2, "nested more than");
    clean_up();
}

Test(convert, storage_is_refused) {
    const char *path = in_scratch("bad.h5");
    const struct {
        int kind;
        const char *message;
    } rows[] = {{0, "has filters"},
                {1, "has external storage"},
                {2, "has virtual storage"},
                {3, "has chunked storage"},
                {4, "has no data"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const hid_t file = spoil(path), plan = H5Pcreate(H5P_DATASET_CREATE),
                    space = H5Screate_simple(2, eight_by_eight, NULL);
        if (rows[i].kind == 0 || rows[i].kind == 3) H5Pset_chunk(plan, 2, eight_by_eight);
        if (rows[i].kind == 0) H5Pset_deflate(plan, 6);
        if (rows[i].kind == 1) H5Pset_external(plan, "/etc/passwd", 0, 256);
        if (rows[i].kind == 2) H5Pset_virtual(plan, space, "/etc/passwd", "/x", space);
        put(file, H5T_IEEE_F32LE, 2, eight_by_eight, plan, rows[i].kind == 0 || rows[i].kind == 3);
        H5Sclose(space);
        H5Pclose(plan);
        H5Fclose(file);
        expect_refusal(path, 2, rows[i].message);
    }
    clean_up();
}

Test(convert, wrong_weights_are_refused) {
    const char *path = in_scratch("bad.h5");
    const hsize_t huge[] = {1 << 20, 1 << 20}, wrong[] = {8, 9}, cube[] = {8, 8, 1}, none[] = {0, 0};
    const struct {
        hid_t type;
        int rank;
        const hsize_t *shape;
        const char *message;
    } rows[] = {{H5T_IEEE_F32BE, 2, eight_by_eight, "little-endian"},
                {H5T_C_S1, 2, eight_by_eight, "little-endian"},
                {H5T_STD_I32LE, 2, eight_by_eight, "not of floating point"},
                {H5T_IEEE_F32LE, 2, wrong, "luong_w has"},
                {H5T_IEEE_F32LE, 3, cube, "not a matrix"},
                {H5T_IEEE_F32LE, 0, NULL, "not a matrix"},
                {H5T_IEEE_F32LE, 2, none, "without elements"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const hid_t file = spoil(path);
        put(file, rows[i].type, rows[i].rank, rows[i].shape, H5P_DEFAULT, rows[i].type != H5T_C_S1);
        H5Fclose(file);
        expect_refusal(path, 2, rows[i].message);
    }
    const hid_t file = spoil(path), late = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_alloc_time(late, H5D_ALLOC_TIME_LATE);
    put(file, H5T_IEEE_F32LE, 2, huge, late, false);
    H5Pclose(late);
    H5Fclose(file);
    expect_refusal(path, 2, "larger than its file");
    clean_up();
}

static void replace_config(const char *path, const char *text) {
    const hid_t file = spoil(path), type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
    put(file, H5T_IEEE_F32LE, 2, eight_by_eight, H5P_DEFAULT, true);
    H5Adelete(file, "model_config");
    H5Tset_size(type, strlen(text) + 1);
    const hid_t plan = H5Acreate2(file, "model_config", type, space, H5P_DEFAULT, H5P_DEFAULT);
    cr_assert(plan >= 0 && H5Awrite(plan, type, text) >= 0);
    H5Aclose(plan);
    H5Sclose(space);
    H5Tclose(type);
    H5Fclose(file);
}

#define ATTENTION_CONFIG(units, score)                                                                                 \
    "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"s\",\"layers\":[{\"class_name\":\"LSTM\",\"config\":{"      \
    "\"name\":\"lstm\",\"units\":8}},"                                                                                 \
    "{\"class_name\":\"Attention\",\"config\":{\"name\":\"attention\",\"units\":" units ",\"score\":\"" score "\"}},"  \
    "{\"class_name\":\"Dense\",\"config\":{\"name\":\"dense\",\"units\":1}}]}}"

Test(convert, weights_against_the_configuration) {
    const char *path = in_scratch("bad.h5");
    replace_config(path, ATTENTION_CONFIG("6", "luong"));
    CONVERT(path, in_scratch("good.safetensors"));
    cr_assert(got.code == 0, "%s", got.out);
    replace_config(path, ATTENTION_CONFIG("7", "luong"));
    expect_refusal(path, 2, "its configuration says luong with 7");
    replace_config(path, ATTENTION_CONFIG("6", "bahdanau"));
    expect_refusal(path, 2, "its configuration says bahdanau");
    replace_config(path, "{\"class_name\":\"Sequential\",\"config\":{\"layers\":[]}}");
    expect_refusal(path, 3, "no attention layer");
    replace_config(path, "{\"class_name\":");
    expect_refusal(path, 2, "model_config: byte");
    clean_up();
}

/* A file of Keras's own making without the layer: an LSTM and a Dense with the attention's group renamed away. */
Test(convert, no_attention_layer) {
    const char *path = in_scratch("none.h5");
    const hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
    expect_refusal(path, 2, "without the groups that Keras writes");
    write_file(path, "\211HDF\r\n\032\n", 8);
    expect_refusal(path, 2, "not a readable HDF5 file");
    write_file(path, "hello", 5);
    expect_refusal(path, 2, "neither a Keras file nor safetensors");
    write_file(path, "", 0);
    expect_refusal(path, 2, "neither a Keras file nor safetensors");
    clean_up();
}

Test(convert, too_many_objects) {
    const char *path = in_scratch("many.h5");
    const hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    const hid_t group = H5Gcreate2(file, "g", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    for (int i = 0; i < 60000; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", i);
        H5Lcreate_hard(file, "g", group, name, H5P_DEFAULT, H5P_DEFAULT);
    }
    H5Gclose(group);
    H5Fclose(file);
    expect_refusal(path, 2, "more objects than are read");
    clean_up();
}

/* ---- Archives ------------------------------------------------------------------------------------------------------------------ */

typedef struct member {
    const char *name;
    const char *data;
    size_t size;
    bool deflate;
} member;

static void make_archive(const char *path, const member *members, size_t count) {
    unlink(path);
    zip_t *archive = zip_open(path, ZIP_CREATE, NULL);
    cr_assert(archive != NULL);
    for (size_t i = 0; i < count; i++) {
        const zip_int64_t index =
            zip_file_add(archive, members[i].name, zip_source_buffer(archive, members[i].data, members[i].size, 0), 0);
        cr_assert(index >= 0, "%s", zip_strerror(archive));
        zip_set_file_compression(archive, (zip_uint64_t)index, members[i].deflate ? ZIP_CM_DEFLATE : ZIP_CM_STORE, 0);
    }
    cr_assert(zip_close(archive) == 0);
}

static char *read_member(const char *path, const char *name, size_t *size) {
    zip_t *archive = zip_open(path, ZIP_RDONLY, NULL);
    zip_stat_t about;
    cr_assert(archive && zip_stat(archive, name, 0, &about) == 0);
    char *data = malloc(about.size + 1);
    zip_file_t *file = zip_fopen(archive, name, 0);
    *size = (size_t)zip_fread(file, data, about.size);
    data[*size] = '\0';
    zip_fclose(file);
    zip_discard(archive);
    return data;
}

Test(convert, archives) {
    static char zeros[8 << 20];
    const char *sound = MODELS "/bidirectional_bahdanau_tf2.15.keras", *path = in_scratch("bad.keras");
    size_t config_size, weights_size;
    char *config = read_member(sound, "config.json", &config_size),
         *weights = read_member(sound, "model.weights.h5", &weights_size);
    const char *version = "{\"keras_version\": \"3.1.0\"}";
    const member good[] = {{"config.json", config, config_size, true},
                           {"model.weights.h5", weights, weights_size, true},
                           {"metadata.json", version, strlen(version), false}};
    make_archive(path, good, 3);
    CONVERT(path, in_scratch("good.safetensors"));
    cr_assert(got.code == 0, "%s", got.out);
    make_archive(path, good, 1);
    expect_refusal(path, 2, "no member model.weights.h5");
    make_archive(path, good + 1, 1);
    expect_refusal(path, 2, "no member config.json");
    const member paths[] = {good[0], good[1], {"../evil", "x", 1, false}},
                 inner[] = {good[0], good[1], {"assets/x", "x", 1, false}};
    make_archive(path, paths, 3);
    expect_refusal(path, 2, "\"../evil\" has a path");
    make_archive(path, inner, 3);
    expect_refusal(path, 2, "\"assets/x\" has a path");
    const member bomb[] = {good[0], {"model.weights.h5", zeros, sizeof zeros, true}};
    make_archive(path, bomb, 2);
    expect_refusal(path, 2, "absurd ratio");
    const member text[] = {good[0], {"model.weights.h5", "no HDF5", 7, false}};
    make_archive(path, text, 2);
    expect_refusal(path, 2, "not an HDF5 file");
    const char *other = "{\"class_name\":\"Sequential\",\"config\":{\"layers\":[{\"class_name\":\"Dense\",\"config\":{"
                        "\"name\":\"d\",\"units\":1}}]}}";
    const member keras3[] = {{"config.json", other, strlen(other), false}, good[1], good[2]};
    make_archive(path, keras3, 3);
    expect_refusal(path, 3, "Keras 3.1.0");
    size_t size;
    char *archive = read_file(sound, &size);
    archive[size / 2] ^= 1; /* within the weights */
    write_file(path, archive, size);
    expect_refusal(path, 2, "model.weights.h5");
    free(archive);
    free(config);
    free(weights);
    clean_up();
}

/* ---- Every truncation, many flips: an error or a right result, never a crash ------------------------------------------------------ */

/* Reads a spoiled file as the program does, without the start of a program. */
static int read_spoiled(const char *data, size_t size, report *result) {
    const reader_options options = {.layer = NULL};
    const int input = memfd_create("spoiled", MFD_CLOEXEC);
    int made = -1;
    cr_assert(input >= 0 && write(input, data, size) == (ssize_t)size);
    const int code = sandbox_run(input, size, &options, result, &made);
    close(input);
    if (code != EXIT_CONVERTED) return code;
    attn_weights_file *file;
    cr_assert(attn_weights_open_fd(made, 0, &file) == ATTN_OK && attn_weights_count(file) > 0, "%s",
              attn_last_error_message());
    attn_weights_close(file);
    close(made);
    return code;
}

static void spoil_all(const char *path, size_t step, size_t flips) {
    size_t size, converted = 0;
    char *data = read_file(path, &size);
    report result;
    cr_assert(read_spoiled(data, size, &result) == EXIT_CONVERTED, "%s: %s", path, result.message);
    for (size_t kept = 1; kept < size; kept += step) {
        const int code = read_spoiled(data, kept, &result);
        cr_assert(code >= EXIT_REFUSED && code <= EXIT_LIMIT && *result.message, "%s: %zu bytes: %d", path, kept, code);
    }
    uint64_t state = 7;
    for (size_t i = 0; i < flips; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        const size_t bit = (size_t)(state >> 20) % (size * 8);
        data[bit / 8] = (char)(data[bit / 8] ^ 1 << bit % 8);
        const int code = read_spoiled(data, size, &result);
        cr_assert(code == EXIT_CONVERTED || (code >= EXIT_REFUSED && code <= EXIT_LIMIT && *result.message),
                  "%s: bit %zu: %d", path, bit, code);
        converted += code == EXIT_CONVERTED;
        data[bit / 8] = (char)(data[bit / 8] ^ 1 << bit % 8);
    }
    cr_assert(converted < flips, "%s: every flip converted", path);
    free(data);
}

Test(convert, spoiled_hdf5) { spoil_all(MODELS "/functional_luong_tf2.8.weights.h5", 61, 400); }
Test(convert, spoiled_archive) { spoil_all(MODELS "/functional_bahdanau_tf2.15.keras", 173, 300); }

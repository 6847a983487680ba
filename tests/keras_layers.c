/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/keras_layers.h"

#include "tests/suite.h"

#include <math.h>

float *read_floats(const attn_weights_file *file, const char *name, int64_t *shape) {
    const attn_weights_tensor *tensor = attn_weights_find(file, name);
    cr_assert(tensor != NULL, "no %s", name);
    float *data = malloc(tensor->bytes + 1);
    cr_assert(attn_weights_read(file, tensor, ATTN_WEIGHTS_F32, data, tensor->bytes) == ATTN_OK);
    for (int i = 0; i < tensor->rank; i++) shape[i] = tensor->shape[i];
    return data;
}

static float *read_weight(const attn_weights_file *file, const char *layer, const char *weight, int64_t *shape) {
    char name[160];
    snprintf(name, sizeof name, "%s/%s", layer, weight);
    return read_floats(file, name, shape);
}

float *run_embedding(const attn_weights_file *file, const char *name, const uint16_t *tokens, int64_t count,
                     int64_t *width) {
    int64_t shape[ATTN_WEIGHTS_MAX_RANK];
    float *rows = read_weight(file, name, "embeddings", shape);
    *width = shape[1];
    float *x = malloc((size_t)(count * *width) * sizeof *x);
    for (int64_t i = 0; i < count; i++) memcpy(x + i * *width, rows + tokens[i] * *width, (size_t)*width * sizeof *x);
    free(rows);
    return x;
}

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

/* gate += row . kernel (count, width) */
static void add_product(double *gate, const float *row, const float *kernel, int64_t count, int64_t width) {
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < width; j++) gate[j] += (double)row[i] * (double)kernel[i * width + j];
}

typedef struct lstm {
    float *kernel, *recurrent, *bias;
    int64_t in, units;
} lstm;

/* One item: x (T, in) to states (T, units); gates in the order i, f, g, o. */
static void run_item(const lstm *of, const float *x, int64_t T, float *h, double *gate, double *c) {
    const int64_t units = of->units;
    for (int64_t i = 0; i < units; i++) c[i] = 0;
    for (int64_t t = 0; t < T; t++) {
        for (int64_t j = 0; j < 4 * units; j++) gate[j] = (double)of->bias[j];
        add_product(gate, x + t * of->in, of->kernel, of->in, 4 * units);
        if (t > 0) add_product(gate, h + (t - 1) * units, of->recurrent, units, 4 * units);
        for (int64_t j = 0; j < units; j++) {
            c[j] = sigmoid(gate[units + j]) * c[j] + sigmoid(gate[j]) * tanh(gate[2 * units + j]);
            h[t * units + j] = (float)(sigmoid(gate[3 * units + j]) * tanh(c[j]));
        }
    }
}

float *run_lstm(const attn_weights_file *file, const char *name, const float *x, int64_t B, int64_t T, int64_t in,
                int64_t *units) {
    int64_t shape[ATTN_WEIGHTS_MAX_RANK], ignored[ATTN_WEIGHTS_MAX_RANK];
    const lstm of = {.kernel = read_weight(file, name, "kernel", shape),
                     .recurrent = read_weight(file, name, "recurrent_kernel", ignored),
                     .bias = read_weight(file, name, "bias", ignored),
                     .in = in,
                     .units = shape[1] / 4};
    cr_assert(shape[0] == in);
    *units = of.units;
    float *h = calloc((size_t)(B * T * of.units), sizeof *h);
    double *gate = malloc((size_t)of.units * 4 * sizeof *gate), *c = malloc((size_t)of.units * sizeof *c);
    for (int64_t b = 0; b < B; b++) run_item(&of, x + b * T * in, T, h + b * T * of.units, gate, c);
    free(gate);
    free(c);
    free(of.kernel);
    free(of.recurrent);
    free(of.bias);
    return h;
}

float *run_attention(const attn_weights_file *file, const char *name, const float *h, int64_t B, int64_t T,
                     int64_t *units) {
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
    args.output = calloc((size_t)(B * layer.units), sizeof(float));
    args.workspace_size = attn_plan_workspace_size(plan);
    args.workspace = aligned_alloc(ATTN_WORKSPACE_ALIGNMENT, args.workspace_size + ATTN_WORKSPACE_ALIGNMENT);
    cr_assert(attn_layer_forward(plan, &args) == ATTN_OK, "%s", attn_last_error_message());
    free(args.workspace);
    attn_plan_destroy(plan);
    attn_context_destroy(context);
    attn_weights_layer_free(&layer);
    return args.output;
}

float *run_dense(const attn_weights_file *file, const char *name, const float *x, int64_t B, int64_t *units) {
    int64_t shape[ATTN_WEIGHTS_MAX_RANK], ignored[ATTN_WEIGHTS_MAX_RANK];
    float *kernel = read_weight(file, name, "kernel", shape), *bias = read_weight(file, name, "bias", ignored);
    const int64_t in = shape[0];
    *units = shape[1];
    float *y = malloc((size_t)(B * *units) * sizeof *y);
    for (int64_t b = 0; b < B; b++)
        for (int64_t k = 0; k < *units; k++) {
            double sum = (double)bias[k];
            for (int64_t i = 0; i < in; i++) sum += (double)x[b * in + i] * (double)kernel[i * *units + k];
            y[b * *units + k] = (float)sum;
        }
    free(kernel);
    free(bias);
    return y;
}

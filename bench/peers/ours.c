/* libattention as one of the workers of compare.py; protocol.py describes the requests.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "worker.h"

#include <stdlib.h>
#include <string.h>

/* Gradients are written in this order. */
enum { H, LUONG_W, BAHDANAU_V, BAHDANAU_W1, BAHDANAU_W2, W_C, GRAD_OUTPUT, TENSORS };
enum { RAW, PREPARED, VARIANTS };

typedef struct tensor {
    const char *name;
    const char *score; /* NULL: of both scores */
    size_t count;
    float *data;
} tensor;

typedef struct loaded_case {
    attn_plan *plan, *backward_plan; /* the second in training alone */
    tensor tensors[TENSORS];
    float *output, *gradients[TENSORS];
    size_t output_count;
    void *workspace, *backward_workspace, *prepared, *kept;
    attn_layer_forward_args args[VARIANTS];
    attn_layer_backward_args backward;
} loaded_case;

static loaded_case current;

static void *allocate(size_t size) {
    size_t rounded = (size + ATTN_WORKSPACE_ALIGNMENT) / ATTN_WORKSPACE_ALIGNMENT * ATTN_WORKSPACE_ALIGNMENT;
    void *memory = aligned_alloc(ATTN_WORKSPACE_ALIGNMENT, rounded);
    if (!memory) {
        fprintf(stderr, "no memory for %zu bytes\n", size);
        exit(EXIT_FAILURE);
    }
    return memory;
}

static void unload(loaded_case *c) {
    attn_plan_destroy(c->plan);
    attn_plan_destroy(c->backward_plan);
    for (int i = 0; i < TENSORS; i++) {
        free(c->tensors[i].data);
        free(c->gradients[i]);
    }
    free(c->output);
    free(c->workspace);
    free(c->backward_workspace);
    free(c->prepared);
    free(c->kept);
    memset(c, 0, sizeof *c);
}

static bool read_tensor(tensor *t, const char *directory) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.f32", directory, t->name);
    t->data = allocate(t->count * sizeof *t->data);
    FILE *file = fopen(path, "rb");
    bool complete = file && fread(t->data, sizeof *t->data, t->count, file) == t->count;
    if (file) fclose(file);
    return complete;
}

/* Reads the tensors of the score; false when a file is missing or short. */
static bool read_tensors(loaded_case *c, const attn_layer_desc *desc, const char *score, const char *directory) {
    size_t d = (size_t)desc->features, u = (size_t)desc->units;
    const tensor tensors[TENSORS] = {
        [H] = {.name = "h", .count = (size_t)desc->batch * (size_t)desc->timesteps * d},
        [LUONG_W] = {.name = "luong_w", .score = "luong", .count = d * d},
        [BAHDANAU_V] = {.name = "bahdanau_v", .score = "bahdanau", .count = d},
        [BAHDANAU_W1] = {.name = "bahdanau_w1", .score = "bahdanau", .count = d * d},
        [BAHDANAU_W2] = {.name = "bahdanau_w2", .score = "bahdanau", .count = d * d},
        [W_C] = {.name = "w_c", .count = 2 * d * u},
        [GRAD_OUTPUT] = {.name = "grad_output", .count = (size_t)desc->batch * u},
    };
    memcpy(c->tensors, tensors, sizeof tensors);
    for (int i = 0; i < (c->backward_plan ? TENSORS : GRAD_OUTPUT); i++)
        if (!tensors[i].score || strcmp(tensors[i].score, score) == 0)
            if (!read_tensor(&c->tensors[i], directory)) return false;
    return true;
}

/* The two ways to run: weights as Keras stores them, and prepared once. */
static attn_status make_variants(loaded_case *c) {
    attn_layer_weights weights = ATTN_LAYER_WEIGHTS_INIT;
    weights.luong_w = c->tensors[LUONG_W].data;
    weights.bahdanau_w1 = c->tensors[BAHDANAU_W1].data;
    weights.bahdanau_w2 = c->tensors[BAHDANAU_W2].data;
    weights.bahdanau_v = c->tensors[BAHDANAU_V].data;
    weights.w_c = c->tensors[W_C].data;

    attn_layer_forward_args args = ATTN_LAYER_FORWARD_ARGS_INIT;
    args.h = c->tensors[H].data;
    args.output = c->output;
    args.workspace_size = attn_plan_workspace_size(c->plan);
    args.workspace = c->workspace = allocate(args.workspace_size);
    c->args[RAW] = c->args[PREPARED] = args;
    c->args[RAW].weights = weights;

    size_t prepared_size = attn_plan_prepared_size(c->plan);
    if (prepared_size == 0 || c->backward_plan) return ATTN_OK; /* training changes the weights with each step */
    c->args[PREPARED].prepared = c->prepared = allocate(prepared_size);
    return attn_layer_prepare(c->plan, &weights, c->prepared, prepared_size);
}

static void make_backward(loaded_case *c) {
    const attn_layer_forward_args *forward = &c->args[RAW];
    for (int i = 0; i < GRAD_OUTPUT; i++)
        if (c->tensors[i].data) c->gradients[i] = allocate(c->tensors[i].count * sizeof(float));
    attn_layer_backward_args args = ATTN_LAYER_BACKWARD_ARGS_INIT;
    args.h = forward->h;
    args.weights = forward->weights;
    args.kept_size = attn_plan_kept_size(c->backward_plan);
    args.kept = c->kept = allocate(args.kept_size);
    args.grad_output = c->tensors[GRAD_OUTPUT].data;
    args.grad_h = c->gradients[H];
    args.gradients.luong_w = c->gradients[LUONG_W];
    args.gradients.bahdanau_w1 = c->gradients[BAHDANAU_W1];
    args.gradients.bahdanau_w2 = c->gradients[BAHDANAU_W2];
    args.gradients.bahdanau_v = c->gradients[BAHDANAU_V];
    args.gradients.w_c = c->gradients[W_C];
    args.workspace_size = attn_plan_workspace_size(c->backward_plan);
    args.workspace = c->backward_workspace = allocate(args.workspace_size);
    c->backward = args;
    c->args[RAW].kept = c->kept;
    c->args[RAW].kept_size = args.kept_size;
}

static attn_status make_plans(loaded_case *c, attn_context *context, attn_layer_desc *desc, bool training) {
    if (training) desc->flags = ATTN_LAYER_TRAINING;
    const attn_status status = attn_layer_forward_plan(context, desc, &c->plan);
    return training && status == ATTN_OK ? attn_layer_backward_plan(context, desc, &c->backward_plan) : status;
}

static bool run(int variant) {
    const loaded_case *c = &current;
    return worker_succeeded(attn_layer_forward(c->plan, &c->args[variant])) &&
           (!c->backward_plan || worker_succeeded(attn_layer_backward(c->backward_plan, &c->backward)));
}

static void answer_variants(const loaded_case *c) {
    char names[VARIANTS][256];
    const char *const both[] = {names[RAW], names[PREPARED]}, *implementation = attn_plan_implementation(c->plan);
    snprintf(names[RAW], sizeof names[RAW], "%s%s%s", implementation, c->backward_plan ? " + " : "",
             c->backward_plan ? attn_plan_implementation(c->backward_plan) : "");
    snprintf(names[PREPARED], sizeof names[PREPARED], "%s, prepared", implementation);
    worker_variants(both, c->prepared ? 2 : 1);
}

static void load(attn_context *context, const worker_case *wanted) {
    loaded_case *const c = &current;
    attn_layer_desc desc = ATTN_LAYER_DESC_INIT;
    desc.score = strcmp(wanted->score, "luong") == 0 ? ATTN_SCORE_LUONG : ATTN_SCORE_BAHDANAU;
    desc.batch = wanted->batch;
    desc.timesteps = wanted->timesteps;
    desc.features = wanted->features;
    desc.units = wanted->units;

    unload(c);
    if (!worker_succeeded(make_plans(c, context, &desc, strcmp(wanted->direction, "training") == 0))) return;
    c->output_count = (size_t)wanted->batch * (size_t)wanted->units;
    c->output = allocate(c->output_count * sizeof *c->output);
    if (!read_tensors(c, &desc, wanted->score, wanted->directory)) {
        worker_error("the inputs can't be read");
        return;
    }
    if (!worker_succeeded(make_variants(c))) return;
    if (c->backward_plan) make_backward(c);
    answer_variants(c);
}

/* What is not written shall be seen: 2 is no tanh, and NaN no gradient. */
static void poison(const loaded_case *c) {
    for (size_t i = 0; i < c->output_count; i++) c->output[i] = 2;
    for (int i = 0; i < GRAD_OUTPUT; i++)
        if (c->gradients[i]) memset(c->gradients[i], 0xff, c->tensors[i].count * sizeof(float));
}

static bool write_results(int variant, FILE *file) {
    const loaded_case *c = &current;
    poison(c);
    if (!run(variant)) return false;
    bool complete = fwrite(c->output, sizeof *c->output, c->output_count, file) == c->output_count;
    for (int i = 0; i < GRAD_OUTPUT; i++)
        if (c->gradients[i] && fwrite(c->gradients[i], sizeof(float), c->tensors[i].count, file) != c->tensors[i].count)
            complete = false;
    return complete;
}

static void end(void) { unload(&current); }

int main(int argc, char **argv) {
    const worker w = {"[\"forward\", \"training\"]", VARIANTS, load, run, write_results, end};
    return worker_serve(&w, argc > 1 ? atoi(argv[1]) : 0);
}

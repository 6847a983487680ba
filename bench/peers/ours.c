/* libattention as one of the workers of compare.py; protocol.py describes the requests.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "attention/attention.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    H,
    LUONG_W,
    BAHDANAU_V,
    BAHDANAU_W1,
    BAHDANAU_W2,
    W_C,
    GRAD_OUTPUT,
    TENSORS
}; /* gradients are written in this order */
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

static void print_string(const char *text) {
    putchar('"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') putchar('\\');
        putchar((unsigned char)*text < ' ' ? ' ' : *text);
    }
    putchar('"');
}

static void answer_error(const char *message) {
    printf("{\"error\": ");
    print_string(message);
    puts("}");
}

/* Answers the library's message when the status is an error. */
static bool succeeded(attn_status status) {
    if (status != ATTN_OK) answer_error(attn_last_error_message());
    return status == ATTN_OK;
}

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

static attn_status run(const loaded_case *c, int variant) {
    const attn_status status = attn_layer_forward(c->plan, &c->args[variant]);
    return c->backward_plan && status == ATTN_OK ? attn_layer_backward(c->backward_plan, &c->backward) : status;
}

static void load(loaded_case *c, attn_context *context, const char *words) {
    char score[16], direction[32], directory[4000];
    long long b, t, d, u;
    if (sscanf(words, "%15s %31s %lld %lld %lld %lld %3999s", score, direction, &b, &t, &d, &u, directory) != 7 ||
        (strcmp(direction, "forward") != 0 && strcmp(direction, "training") != 0)) {
        answer_error("not a case");
        return;
    }
    attn_layer_desc desc = ATTN_LAYER_DESC_INIT;
    desc.score = strcmp(score, "luong") == 0 ? ATTN_SCORE_LUONG : ATTN_SCORE_BAHDANAU;
    desc.batch = b;
    desc.timesteps = t;
    desc.features = d;
    desc.units = u;

    unload(c);
    if (!succeeded(make_plans(c, context, &desc, strcmp(direction, "training") == 0))) return;
    c->output_count = (size_t)b * (size_t)u;
    c->output = allocate(c->output_count * sizeof *c->output);
    if (!read_tensors(c, &desc, score, directory)) {
        answer_error("the inputs can't be read");
        return;
    }
    if (!succeeded(make_variants(c))) return;
    if (c->backward_plan) make_backward(c);

    const char *implementation = attn_plan_implementation(c->plan);
    printf("{\"variants\": [\"%s", implementation);
    if (c->backward_plan) printf(" + %s", attn_plan_implementation(c->backward_plan));
    putchar('"');
    if (c->prepared) printf(", \"%s, prepared\"", implementation);
    puts("]}");
}

/* What is not written shall be seen: 2 is no tanh, and NaN no gradient. */
static void poison(const loaded_case *c) {
    for (size_t i = 0; i < c->output_count; i++) c->output[i] = 2;
    for (int i = 0; i < GRAD_OUTPUT; i++)
        if (c->gradients[i]) memset(c->gradients[i], 0xff, c->tensors[i].count * sizeof(float));
}

static bool write_results(const loaded_case *c, FILE *file) {
    bool complete = fwrite(c->output, sizeof *c->output, c->output_count, file) == c->output_count;
    for (int i = 0; i < GRAD_OUTPUT; i++)
        if (c->gradients[i] && fwrite(c->gradients[i], sizeof(float), c->tensors[i].count, file) != c->tensors[i].count)
            complete = false;
    return complete;
}

static void write_output(const loaded_case *c, const char *words) {
    char path[4096];
    int variant;
    if (sscanf(words, "%d %4095s", &variant, path) != 2 || variant < 0 || variant >= VARIANTS) {
        answer_error("output: not a variant and a file");
        return;
    }
    poison(c);
    if (!succeeded(run(c, variant))) return;
    FILE *file = fopen(path, "wb");
    bool complete = file && write_results(c, file);
    if (file && fclose(file) != 0) complete = false;
    if (complete)
        puts("{}");
    else
        answer_error(strerror(errno));
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void time_calls(const loaded_case *c, const char *words) {
    int variant;
    double warm;
    long count;
    if (sscanf(words, "%d %lf %ld", &variant, &warm, &count) != 3 || variant < 0 || variant >= VARIANTS) {
        answer_error("time: not a variant, seconds and a count");
        return;
    }
    double end = now() + warm;
    attn_status status = ATTN_OK;
    do status = run(c, variant);
    while (status == ATTN_OK && now() < end);
    double start = now();
    for (long i = 0; i < count && status == ATTN_OK; i++) status = run(c, variant);
    double seconds = now() - start;
    if (succeeded(status)) printf("{\"seconds\": %.9g}\n", seconds);
}

int main(int argc, char **argv) {
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.threads = argc > 1 ? atoi(argv[1]) : 0;
    attn_context *context;
    if (attn_context_create(&options, &context) != ATTN_OK) {
        fprintf(stderr, "%s\n", attn_last_error_message());
        return EXIT_FAILURE;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    char version[512];
    snprintf(version, sizeof version, "%s, %s, %d threads, %s", attn_version(), attn_context_isa(context),
             attn_context_threads(context), attn_context_blas(context));
    printf("{\"software\": \"libattention\", \"version\": ");
    print_string(version);
    puts(", \"directions\": [\"forward\", \"training\"]}");

    static char line[8192];
    loaded_case current = {0};
    while (fgets(line, sizeof line, stdin)) {
        if (strncmp(line, "case ", 5) == 0)
            load(&current, context, line + 5);
        else if (strncmp(line, "output ", 7) == 0)
            write_output(&current, line + 7);
        else if (strncmp(line, "time ", 5) == 0)
            time_calls(&current, line + 5);
        else
            answer_error("no such request");
    }
    unload(&current);
    attn_context_destroy(context);
    return EXIT_SUCCESS;
}

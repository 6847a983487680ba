/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/gpu/layer.h"

#include "bench/gpu/device.h"
#include "bench/gpu/table.h"
#include "tests/kit.h"
#include "tests/kit_number.h"

#include <stdio.h>
#include <stdlib.h>

enum { IMPLEMENTATIONS = 16, DISTINCT = 8, IMDB_BATCH = 64, LARGE_BATCH = 1024, GRADIENTS = KIT_ALL_GRADIENTS };

/* A problem on the host and on the device, with the plans that are being measured. */
typedef struct layer {
    const char *module;
    kit_problem *problem;
    attn_layer_forward_args forward;
    attn_layer_backward_args backward, host_backward;
    attn_plan *forward_plan, *backward_plan;
    size_t bytes; /* of H */
    double bandwidth;
} layer;

static size_t floats(int64_t a, int64_t b) { return (size_t)(a * b) * sizeof(float); }

/* ---- Placing --------------------------------------------------------------------------------------- */

static size_t weights_bytes(const attn_layer_desc *d, int which) {
    const size_t square = floats(d->features, d->features);
    const size_t bytes[] = {square, square, square, floats(d->features, 1), floats(2 * d->features, d->units)};
    return bytes[which];
}

static void place_weights(const attn_layer_desc *d, const attn_layer_weights *from, attn_layer_weights *to) {
    to->luong_w = gpu_put(from->luong_w, weights_bytes(d, 0));
    to->bahdanau_w1 = gpu_put(from->bahdanau_w1, weights_bytes(d, 1));
    to->bahdanau_w2 = gpu_put(from->bahdanau_w2, weights_bytes(d, 2));
    to->bahdanau_v = gpu_put(from->bahdanau_v, weights_bytes(d, 3));
    to->w_c = gpu_put(from->w_c, weights_bytes(d, 4));
}

static void place_forward(layer *l) {
    const attn_layer_desc *d = &l->problem->desc;
    l->forward = l->problem->args;
    l->forward.context = l->forward.attention_weights = l->forward.lse = NULL;
    l->bytes = (size_t)(d->batch * d->timesteps * d->features) * kit_element_size(d->h_dtype ? d->h_dtype : d->dtype);
    l->forward.h = gpu_put(l->problem->args.h, l->bytes);
    l->forward.output = gpu_alloc(floats(d->batch, d->units));
    place_weights(d, &l->problem->args.weights, &l->forward.weights);
}

/* Where each gradient lies on the device and on the host, and its bytes. */
typedef struct gradient {
    void **device, *host;
    size_t bytes;
} gradient;
enum { PARTS = 6 };

static void list_gradients(layer *l, gradient parts[PARTS]) {
    const attn_layer_desc *d = &l->problem->desc;
    attn_layer_gradients *device = &l->backward.gradients, *host = &l->host_backward.gradients;
    parts[0] = (gradient){&l->backward.grad_h, l->host_backward.grad_h, l->bytes};
    parts[1] = (gradient){&device->luong_w, host->luong_w, weights_bytes(d, 0)};
    parts[2] = (gradient){&device->bahdanau_w1, host->bahdanau_w1, weights_bytes(d, 1)};
    parts[3] = (gradient){&device->bahdanau_w2, host->bahdanau_w2, weights_bytes(d, 2)};
    parts[4] = (gradient){&device->bahdanau_v, host->bahdanau_v, weights_bytes(d, 3)};
    parts[5] = (gradient){&device->w_c, host->w_c, weights_bytes(d, 4)};
}

static void place_backward(layer *l) {
    gradient parts[PARTS];
    l->host_backward = kit_problem_back_ready(l->problem, KIT_OUTPUT, GRADIENTS, 0);
    l->backward = l->host_backward;
    l->backward.h = l->forward.h, l->backward.weights = l->forward.weights;
    l->backward.grad_output =
        gpu_put(l->host_backward.grad_output, floats(l->problem->desc.batch, l->problem->desc.units));
    list_gradients(l, parts);
    for (int i = 0; i < PARTS; i++) *parts[i].device = parts[i].host ? gpu_alloc(parts[i].bytes) : NULL;
}

/* ---- Running --------------------------------------------------------------------------------------- */

static void must(attn_status status) {
    if (!status) return;
    fprintf(stderr, "attention-bench-gpu: %s\n", attn_last_error_message());
    exit(1);
}

static void run_forward(const void *of) {
    const layer *l = of;
    must(attn_layer_forward(l->forward_plan, &l->forward));
}

static void run_backward(const void *of) {
    const layer *l = of;
    must(attn_layer_backward(l->backward_plan, &l->backward));
}

static void run_both(const void *of) {
    run_forward(of);
    run_backward(of);
}

/* The largest error over its gate. */
static double error_of_forward(layer *l) {
    const attn_layer_desc *d = &l->problem->desc;
    run_forward(l);
    kit_problem_poison(l->problem);
    gpu_get(l->problem->args.output, l->forward.output, floats(d->batch, d->units));
    l->problem->given = KIT_OUTPUT;
    return kit_problem_check(l->problem).error;
}

static double error_of_backward(layer *l) {
    gradient parts[PARTS];
    run_forward(l);
    run_backward(l);
    list_gradients(l, parts);
    kit_problem_poison_back(l->problem);
    for (int i = 0; i < PARTS; i++)
        if (parts[i].host) gpu_get(parts[i].host, *parts[i].device, parts[i].bytes);
    return kit_problem_check_back(l->problem).error;
}

/* ---- Rows ------------------------------------------------------------------------------------------ */

typedef enum direction { FORWARD, BACKWARD, BOTH } direction;
static const char *const directions[] = {"forward", "backward", "both"};

static target wanted_of(const layer *l, direction way) {
    static const struct {
        attn_score score;
        direction way;
        int64_t least, most; /* batch */
        target wanted;
    } targets[] = {
        {ATTN_SCORE_LUONG, FORWARD, LARGE_BATCH, INT64_MAX, {TARGET_PERCENT, 80}},
        {ATTN_SCORE_LUONG, BACKWARD, LARGE_BATCH, INT64_MAX, {TARGET_PERCENT, 75}},
        {ATTN_SCORE_LUONG, FORWARD, IMDB_BATCH, IMDB_BATCH, {TARGET_REPLAY, 12}},
        {ATTN_SCORE_BAHDANAU, FORWARD, IMDB_BATCH, IMDB_BATCH, {TARGET_REPLAY, 20}},
    };
    const attn_layer_desc *d = &l->problem->desc;
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++)
        if (targets[i].score == d->score && targets[i].way == way && d->batch >= targets[i].least &&
            d->batch <= targets[i].most)
            return targets[i].wanted;
    return (target){TARGET_NONE, 0};
}

static void name_row(const layer *l, direction way, char *text, size_t room) {
    const attn_layer_desc *d = &l->problem->desc;
    snprintf(text, room, "%s %s %lld x %lld %s", kit_score_name(d->score), directions[way], (long long)d->batch,
             (long long)d->timesteps, kit_dtype_name(d->h_dtype ? d->h_dtype : d->dtype));
}

/* The plans are there; checked, then timed. */
static void measure(layer *l, direction way) {
    static void (*const runs[])(const void *) = {run_forward, run_backward, run_both};
    const double passes[] = {1, 2, 3}; /* over H or its gradient */
    row r = {.implementation = attn_plan_implementation(way == FORWARD ? l->forward_plan : l->backward_plan)};
    name_row(l, way, r.what, sizeof r.what);
    r.error = way == FORWARD ? error_of_forward(l) : error_of_backward(l);
    if (!(r.error <= 1)) {
        table_wrong(r.what, r.implementation, r.error);
        return;
    }
    r.limit = 1e-3 * passes[way] * (double)l->bytes / l->bandwidth;
    r.wanted = wanted_of(l, way);
    r.found = times_of((task){runs[way], l});
    table_row(&r);
}

static bool plan(layer *l, attn_plan **plan, const char *implementation, bool backward, bool training) {
    attn_layer_desc desc = l->problem->desc;
    desc.flags = training ? ATTN_LAYER_TRAINING : 0;
    attn_context *context = gpu_context(l->module, implementation);
    const attn_status status = (backward ? attn_layer_backward_plan : attn_layer_forward_plan)(context, &desc, plan);
    attn_context_destroy(context);
    return status == ATTN_OK;
}

/* What the plans ask for. */
static void get_memory(layer *l) {
    l->forward.workspace_size = attn_plan_workspace_size(l->forward_plan);
    l->forward.workspace = gpu_alloc(l->forward.workspace_size);
    l->forward.kept_size = l->backward.kept_size = attn_plan_kept_size(l->forward_plan);
    l->forward.kept = gpu_alloc(l->forward.kept_size);
    l->backward.kept = l->forward.kept;
    if (!l->backward_plan) return;
    l->backward.workspace_size = attn_plan_workspace_size(l->backward_plan);
    l->backward.workspace = gpu_alloc(l->backward.workspace_size);
}

/* By these implementations (NULL: the library's choice) in one direction. */
static void measure_by(layer *l, const char *forward, const char *backward, direction way) {
    const size_t mark = gpu_mark();
    char what[64];
    l->forward_plan = l->backward_plan = NULL;
    if (plan(l, &l->forward_plan, forward, false, way != FORWARD) &&
        (way == FORWARD || plan(l, &l->backward_plan, backward, true, true))) {
        get_memory(l);
        measure(l, way);
    } else {
        name_row(l, way, what, sizeof what);
        table_refused(what, attn_last_error_message());
    }
    attn_plan_destroy(l->forward_plan);
    attn_plan_destroy(l->backward_plan);
    gpu_free_since(mark);
}

static void measure_each(layer *l, direction way) {
    const attn_layer_desc *d = &l->problem->desc;
    const char *names[IMPLEMENTATIONS];
    attn_context *context = gpu_context(l->module, NULL);
    const size_t count = kit_implementations(context, directions[way], d->score, d->dtype, names, IMPLEMENTATIONS);
    for (size_t i = 0; i < count; i++)
        measure_by(l, way == FORWARD ? names[i] : NULL, way == BACKWARD ? names[i] : NULL, way);
    attn_context_destroy(context);
}

void layer_rows(const char *module, attn_score score, attn_dtype stored, layer_sizes sizes, double bandwidth) {
    kit_case spec = *kit_find_case(score == ATTN_SCORE_BAHDANAU ? "bahdanau_imdb_f32" : "luong_imdb_f32");
    spec.score = score, spec.h_dtype = stored;
    spec.batch = sizes.batch, spec.timesteps = sizes.timesteps, spec.features = sizes.features,
    spec.units = sizes.units;
    spec.distinct = sizes.batch < DISTINCT ? sizes.batch : DISTINCT;
    layer l = {.module = module, .problem = kit_problem_make(&spec, KIT_GUARD_FRONT), .bandwidth = bandwidth};
    const size_t mark = gpu_mark();
    place_forward(&l);
    if (stored) {
        measure_by(&l, NULL, NULL, FORWARD); /* there is one that reads such an H */
    } else {
        measure_each(&l, FORWARD);
        place_backward(&l);
        measure_each(&l, BACKWARD);
        measure_by(&l, NULL, NULL, BOTH);
    }
    gpu_free_since(mark);
    kit_problem_free(l.problem);
}

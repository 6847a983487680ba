/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/kit.h"

#include "attention/attention_cuda.h"
#include "tests/kit_content.h"
#include "tests/kit_device.h"
#include "tests/kit_number.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { H, QUERY, LUONG_W, W1, W2, V, W_C, MASK, INPUTS };
enum { OUTPUT, CONTEXT, WEIGHTS, LSE, OUTPUTS };

static const char *const output_names[OUTPUTS] = {"output", "context", "attention_weights", "lse"};

struct kit_buffers {
    kit_tensor inputs[INPUTS], outputs[OUTPUTS];
    int32_t *starts, *lengths;
    uint64_t hash; /* of the inputs */
};

static void fatal(const char *what) {
    fprintf(stderr, "test kit: %s: %s\n", what, attn_last_error_message());
    abort();
}

void *kit_array(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (!memory) fatal("out of memory");
    return memory;
}

/* ---- Making ---------------------------------------------------------------------------------------- */

static reference_input resolve(const kit_case *spec, size_t items) {
    const bool given = spec->queries != ATTN_LAST_STEP;
    const int64_t Dq = spec->query_features ? spec->query_features : spec->features;
    const int64_t A = spec->score_width ? spec->score_width : spec->features;
    return (reference_input){.score = spec->score,
                             .given_query = given,
                             .batch = items,
                             .timesteps = (size_t)spec->timesteps,
                             .features = (size_t)spec->features,
                             .queries = given ? (size_t)spec->queries : 1,
                             .query_features = (size_t)Dq,
                             .score_width = (size_t)A,
                             .units = (size_t)spec->units,
                             .mask_per_query = spec->options & KIT_MASK_QUERIES};
}

static size_t distinct_items(const kit_case *spec) {
    return (size_t)(spec->distinct && spec->distinct < spec->batch ? spec->distinct : spec->batch);
}

reference_input kit_problem_input(const kit_problem *problem) {
    reference_input in = resolve(&problem->spec, distinct_items(&problem->spec));
    const kit_content *c = &problem->content;
    in.h = c->h, in.query = c->query, in.luong_w = c->luong_w, in.bahdanau_w1 = c->bahdanau_w1;
    in.bahdanau_w2 = c->bahdanau_w2, in.bahdanau_v = c->bahdanau_v, in.w_c = c->w_c;
    in.starts = c->starts, in.lengths = c->lengths, in.mask = c->mask;
    return in;
}

static bool seen_by_any(const reference_input *in, size_t item, size_t s) {
    size_t start, end;
    reference_range(in, item, &start, &end);
    if (!in->given_query && s + 1 == end && start < end) return true; /* h_t */
    for (size_t i = 0; i < in->queries; i++)
        if (reference_attended(in, item, i, s)) return true;
    return false;
}

static void put_states(const kit_problem *problem, const kit_tensor *t, const double *values, bool hide) {
    const reference_input in = kit_problem_input(problem);
    for (size_t item = 0; item < t->items; item++)
        for (size_t row = 0; row < t->rows; row++) {
            const size_t from = item % in.batch;
            if (!hide || seen_by_any(&in, from, row))
                kit_tensor_put(t, item, row, values + (from * t->rows + row) * t->width);
        }
}

/* Weights are dense: one row. */
static kit_tensor put_weights(const double *values, size_t count, size_t element, kit_guard guard) {
    const kit_tensor t = kit_tensor_make(
        &(kit_tensor){.element = element, .items = 1, .rows = 1, .width = values ? count : 0}, 0, guard);
    if (values && count) kit_tensor_put(&t, 0, 0, values);
    return t;
}

/* The mask lies as (B, Tq or 1, T), or time-major as (Tq or 1, T, B). */
static void put_mask(kit_problem *problem, const reference_input *in, unsigned layout) {
    const size_t B = (size_t)problem->spec.batch, T = in->timesteps, rows = in->mask_per_query ? in->queries : 1;
    const bool time_major = layout & KIT_TIME_MAJOR;
    kit_tensor shape = {.element = 1, .items = B, .rows = rows, .width = T};
    if (time_major) shape = (kit_tensor){.element = 1, .items = rows, .rows = T, .width = B};
    const kit_tensor t = kit_tensor_make(&shape, layout & KIT_SLICES, problem->guard);
    attn_layer_forward_args *args = &problem->args;
    for (size_t i = 0; i < B * rows * T; i++) {
        const size_t item = i / (rows * T), row = i / T % rows, s = i % T;
        const size_t at =
            time_major ? row * t.item_stride + s * t.row_stride + item : item * t.item_stride + row * t.row_stride + s;
        t.data[at] = (char)in->mask[(item % in->batch * rows + row) * T + s];
    }
    args->mask = (const uint8_t *)t.data;
    if (in->mask_per_query) args->mask_query_stride = (int64_t)(time_major ? t.item_stride : t.row_stride);
    if (time_major || layout & KIT_SLICES) args->mask_batch_stride = (int64_t)(time_major ? 1 : t.item_stride);
    if (time_major) args->mask_time_stride = (int64_t)t.row_stride;
    problem->buffers->inputs[MASK] = t;
}

static int32_t *put_counts(const kit_problem *problem, const int32_t *counts) {
    const size_t B = (size_t)problem->spec.batch;
    if (!counts) return NULL;
    int32_t *copy = kit_alloc(B * sizeof *copy, problem->guard);
    for (size_t b = 0; b < B; b++) copy[b] = counts[b % distinct_items(&problem->spec)];
    return copy;
}

static void lay_inputs(kit_problem *problem, const reference_input *in) {
    const size_t element = problem->spec.dtype == ATTN_FLOAT32 ? sizeof(float) : sizeof(double),
                 B = (size_t)problem->spec.batch;
    const size_t D = in->features, Dq = in->query_features, A = in->score_width;
    const unsigned layout = problem->spec.options & (KIT_TIME_MAJOR | KIT_SLICES);
    const kit_guard guard = problem->guard;
    struct kit_buffers *buffers = problem->buffers;
    kit_tensor *t = buffers->inputs;
    attn_layer_forward_args *args = &problem->args;

    const attn_dtype stored = problem->desc.h_dtype ? problem->desc.h_dtype : problem->spec.dtype;
    const kit_tensor states = {
        .element = kit_element_size(stored), .items = B, .rows = in->timesteps, .width = D, .short_dtype = stored};
    t[H] = kit_tensor_make(&states, layout, guard);
    put_states(problem, &t[H], in->h, true);
    args->h = t[H].data;
    if (layout) args->h_batch_stride = (int64_t)t[H].item_stride, args->h_time_stride = (int64_t)t[H].row_stride;
    if (in->given_query) {
        t[QUERY] = kit_tensor_make(&(kit_tensor){.element = element, .items = B, .rows = in->queries, .width = Dq},
                                   layout, guard);
        put_states(problem, &t[QUERY], in->query, false);
        args->query = t[QUERY].data;
        if (layout)
            args->query_batch_stride = (int64_t)t[QUERY].item_stride,
            args->query_row_stride = (int64_t)t[QUERY].row_stride;
    }
    t[LUONG_W] = put_weights(in->luong_w, D * Dq, element, guard);
    t[W1] = put_weights(in->bahdanau_w1, Dq * A, element, guard);
    t[W2] = put_weights(in->bahdanau_w2, D * A, element, guard);
    t[V] = put_weights(in->bahdanau_v, A, element, guard);
    t[W_C] = put_weights(in->w_c, (D + Dq) * in->units, element, guard);
    args->weights.luong_w = in->luong_w ? t[LUONG_W].data : NULL;
    args->weights.bahdanau_w1 = in->bahdanau_w1 ? t[W1].data : NULL;
    args->weights.bahdanau_w2 = in->bahdanau_w2 ? t[W2].data : NULL;
    args->weights.bahdanau_v = in->bahdanau_v ? t[V].data : NULL;
    args->weights.w_c = in->w_c ? t[W_C].data : NULL;
    if (in->mask) put_mask(problem, in, layout);
    args->starts = buffers->starts = put_counts(problem, in->starts);
    args->lengths = buffers->lengths = put_counts(problem, in->lengths);
}

static void lay_outputs(kit_problem *problem, const reference_input *in) {
    const size_t element = problem->spec.dtype == ATTN_FLOAT32 ? sizeof(float) : sizeof(double),
                 B = (size_t)problem->spec.batch;
    const unsigned layout = problem->spec.options & KIT_SLICES;
    const size_t rows[OUTPUTS] = {in->queries, in->queries, in->queries, 1};
    const size_t widths[OUTPUTS] = {in->units, in->features, in->timesteps, in->queries};
    kit_tensor *t = problem->buffers->outputs;
    attn_layer_forward_args *args = &problem->args;
    for (int i = 0; i < OUTPUTS; i++) {
        const kit_tensor shape = {.element = element, .items = B, .rows = rows[i], .width = widths[i]};
        t[i] = kit_tensor_make(&shape, layout, problem->guard);
    }
    args->output = in->units ? t[OUTPUT].data : NULL;
    args->context = t[CONTEXT].data, args->attention_weights = t[WEIGHTS].data, args->lse = t[LSE].data;
    if (!layout) return;
    args->output_batch_stride = in->units ? (int64_t)t[OUTPUT].item_stride : 0;
    args->output_row_stride = in->units ? (int64_t)t[OUTPUT].row_stride : 0;
    args->context_batch_stride = (int64_t)t[CONTEXT].item_stride,
    args->context_row_stride = (int64_t)t[CONTEXT].row_stride;
    args->attention_weights_batch_stride = (int64_t)t[WEIGHTS].item_stride;
    args->attention_weights_row_stride = (int64_t)t[WEIGHTS].row_stride;
    args->lse_batch_stride = (int64_t)t[LSE].item_stride;
}

static uint64_t hash_inputs(const struct kit_buffers *buffers) {
    uint64_t hash = 0;
    for (int i = 0; i < INPUTS; i++) hash = kit_tensor_hash(&buffers->inputs[i], hash);
    return hash;
}

kit_problem *kit_problem_from(const kit_case *spec, const kit_content *content, kit_guard guard) {
    kit_problem *problem = kit_array(1, sizeof *problem);
    problem->spec = *spec;
    problem->content = *content;
    problem->guard = guard;
    problem->buffers = kit_array(1, sizeof *problem->buffers);
    problem->desc = (attn_layer_desc)ATTN_LAYER_DESC_INIT;
    problem->desc.score = spec->score, problem->desc.dtype = spec->dtype;
    problem->desc.batch = spec->batch, problem->desc.timesteps = spec->timesteps,
    problem->desc.features = spec->features;
    problem->desc.queries = spec->queries, problem->desc.query_features = spec->query_features;
    problem->desc.score_width = spec->score_width, problem->desc.units = spec->units;
    problem->desc.h_dtype = spec->h_dtype;
    problem->args = (attn_layer_forward_args)ATTN_LAYER_FORWARD_ARGS_INIT;
    const reference_input in = kit_problem_input(problem);
    lay_inputs(problem, &in);
    lay_outputs(problem, &in);
    problem->buffers->hash = hash_inputs(problem->buffers);
    return problem;
}

kit_problem *kit_problem_make(const kit_case *spec, kit_guard guard) {
    const reference_input sizes = resolve(spec, distinct_items(spec));
    const kit_content content = kit_fill_content(spec, &sizes);
    /* What is stored is what is computed with. */
    for (size_t i = 0; spec->h_dtype && i < sizes.batch * sizes.timesteps * sizes.features; i++)
        content.h[i] = kit_round(spec->h_dtype, content.h[i]);
    return kit_problem_from(spec, &content, guard);
}

void kit_problem_free(kit_problem *problem) {
    if (!problem) return;
    kit_content *c = &problem->content;
    void *const arrays[] = {c->h,
                            c->query,
                            c->luong_w,
                            c->bahdanau_w1,
                            c->bahdanau_w2,
                            c->bahdanau_v,
                            c->w_c,
                            c->starts,
                            c->lengths,
                            c->mask,
                            problem->expected.output,
                            problem->expected.context,
                            problem->expected.attention_weights,
                            problem->expected.lse,
                            problem->gates.output,
                            problem->gates.context,
                            problem->gates.attention_weights,
                            problem->gates.lse};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) free(arrays[i]);
    for (int i = 0; i < INPUTS; i++) kit_free(problem->buffers->inputs[i].memory);
    for (int i = 0; i < OUTPUTS; i++) kit_free(problem->buffers->outputs[i].memory);
    kit_gradients_free(problem->gradients);
    kit_free(problem->kept);
    kit_free(problem->buffers->starts);
    kit_free(problem->buffers->lengths);
    free(problem->buffers);
    free(problem);
}

/* ---- Expecting --------------------------------------------------------------------------------------- */

/* Multiplications that the reference makes: quadruple precision takes some 50 ns for each. */
static double reference_work(const reference_input *in) {
    const double rows = (double)in->batch * (double)in->queries * (double)in->timesteps * (double)in->features;
    return rows * (in->score == ATTN_SCORE_BAHDANAU ? (double)in->score_width : 2);
}

void kit_problem_gates(kit_problem *problem, double factor) {
    const reference_input in = kit_problem_input(problem);
    const size_t rows = in.batch * in.queries;
    const size_t counts[OUTPUTS] = {rows * in.units, rows * in.features, rows * in.timesteps, rows};
    double **arrays[OUTPUTS] = {&problem->gates.output, &problem->gates.context, &problem->gates.attention_weights,
                                &problem->gates.lse};
    for (int i = 0; i < OUTPUTS; i++) *arrays[i] = kit_array(counts[i], sizeof **arrays[i]);
    const kit_results *e = &problem->expected;
    const reference_result result = {e->output, e->context, e->attention_weights, e->lse};
    gates_layer(&in, &result, problem->spec.dtype, &problem->gates);
    for (int i = 0; i < OUTPUTS; i++)
        for (size_t j = 0; j < counts[i]; j++) (*arrays[i])[j] *= factor;
}

void kit_problem_expect(kit_problem *problem) {
    if (problem->expected.lse) return;
    const reference_input in = kit_problem_input(problem);
    const size_t rows = in.batch * in.queries;
    kit_results *e = &problem->expected;
    e->output = kit_array(rows * in.units, sizeof *e->output);
    e->context = kit_array(rows * in.features, sizeof *e->context);
    e->attention_weights = kit_array(rows * in.timesteps, sizeof *e->attention_weights);
    e->lse = kit_array(rows, sizeof *e->lse);
    const reference_result result = {e->output, e->context, e->attention_weights, e->lse};
    const bool quad = problem->spec.dtype == ATTN_FLOAT64 && reference_work(&in) < 4e6;
    if (quad)
        reference_layer_quad(&in, &result);
    else
        reference_layer_float64(&in, &result);
    kit_problem_gates(problem, problem->spec.dtype == ATTN_FLOAT64 && !quad ? 2 : 1);
}

/* ---- Running ------------------------------------------------------------------------------------------ */

void kit_problem_poison(kit_problem *problem) {
    for (int i = 0; i < OUTPUTS; i++) kit_tensor_poison(&problem->buffers->outputs[i]);
}

static attn_status run(kit_problem *problem, const attn_plan *plan, unsigned outputs, bool prepare) {
    attn_layer_forward_args args = problem->args;
    if (!(outputs & KIT_CONTEXT)) args.context = NULL;
    if (!(outputs & KIT_WEIGHTS)) args.attention_weights = NULL;
    if (!(outputs & KIT_LSE)) args.lse = NULL;
    problem->given = (outputs & ~(unsigned)KIT_OUTPUT) | (args.output ? KIT_OUTPUT : 0);
    const size_t prepared_size = attn_plan_prepared_size(plan);
    char *prepared = NULL;
    attn_status status = ATTN_OK;
    if (prepare) {
        prepared = kit_alloc(prepared_size, problem->guard);
        status = attn_layer_prepare(plan, &args.weights, prepared, prepared_size);
        args.prepared = prepared;
        args.weights = (attn_layer_weights)ATTN_LAYER_WEIGHTS_INIT;
    }
    kit_problem_poison(problem);
    args.workspace_size = attn_plan_workspace_size(plan);
    args.workspace = kit_alloc(args.workspace_size, problem->guard);
    kit_free(problem->kept);
    args.kept_size = problem->kept_size = attn_plan_kept_size(plan);
    args.kept = problem->kept = args.kept_size ? kit_alloc(args.kept_size, problem->guard) : NULL;
    if (status == ATTN_OK) status = attn_layer_forward(plan, &args);
    kit_device_wait();
    kit_free(args.workspace);
    kit_free(prepared);
    return status;
}

attn_status kit_problem_run(kit_problem *problem, const attn_plan *plan, unsigned outputs) {
    return run(problem, plan, outputs, false);
}

attn_status kit_problem_run_prepared(kit_problem *problem, const attn_plan *plan, unsigned outputs) {
    return run(problem, plan, outputs, attn_plan_prepared_size(plan) > 0);
}

bool kit_problem_inputs_unchanged(const kit_problem *problem) {
    return hash_inputs(problem->buffers) == problem->buffers->hash;
}

/* ---- Judging ------------------------------------------------------------------------------------------- */

/* An output row has `width` elements: for lse the queries are the width. */
static void check_output(const kit_problem *problem, int which, const long double *expected, const double *gate,
                         kit_verdict *verdict) {
    const kit_tensor *t = &problem->buffers->outputs[which];
    const size_t distinct = distinct_items(&problem->spec);
    for (size_t item = 0; item < t->items; item++)
        for (size_t row = 0; row < t->rows; row++)
            for (size_t i = 0; i < t->width; i++) {
                const size_t at = (item % distinct * t->rows + row) * t->width + i;
                const double value = kit_tensor_get(t, item, row, i),
                             error = gates_error((long double)value, expected[at], gate[at]);
                if (error <= verdict->error) continue;
                verdict->error = error;
                snprintf(verdict->where, sizeof verdict->where, "%s[%zu][%zu][%zu] is %.9g, expected %.9Lg, gate %.3g",
                         output_names[which], item, row, i, value, expected[at], gate[at]);
            }
    if (kit_tensor_gaps_untouched(t)) return;
    verdict->error = INFINITY;
    snprintf(verdict->where, sizeof verdict->where, "%s: written between the rows", output_names[which]);
}

kit_verdict kit_problem_check(kit_problem *problem) {
    kit_problem_expect(problem);
    kit_verdict verdict = {0, "exact"};
    const long double *const expected[OUTPUTS] = {problem->expected.output, problem->expected.context,
                                                  problem->expected.attention_weights, problem->expected.lse};
    const double *const limits[OUTPUTS] = {problem->gates.output, problem->gates.context,
                                           problem->gates.attention_weights, problem->gates.lse};
    for (int i = 0; i < OUTPUTS; i++)
        if (problem->given & 1u << i) check_output(problem, i, expected[i], limits[i], &verdict);
    if (!kit_problem_inputs_unchanged(problem)) {
        verdict.error = INFINITY;
        snprintf(verdict.where, sizeof verdict.where, "an input was written to");
    }
    return verdict;
}

void *kit_problem_output(const kit_problem *problem, unsigned which, size_t *bytes) {
    int index = 0;
    while (!(which >> index & 1)) index++;
    const kit_tensor *t = &problem->buffers->outputs[index];
    *bytes = 0;
    if (!(problem->given & which)) return NULL;
    return kit_tensor_copy(t, bytes);
}

/* ---- Implementations ---------------------------------------------------------------------------------- */

size_t kit_implementations(attn_context *context, const char *pass, attn_score score, attn_dtype dtype,
                           const char **names, size_t room) {
    char suffix[64];
    snprintf(suffix, sizeof suffix, ":%s:%s:%s", kit_score_name(score), pass, kit_dtype_name(dtype));
    size_t count = 0;
    const char *name;
    for (size_t i = 0; count < room && (name = attn_context_implementation_name(context, i)); i++) {
        const size_t length = strlen(name), tail = strlen(suffix);
        if (length > tail && !strcmp(name + length - tail, suffix)) names[count++] = name;
    }
    return count;
}

void kit_use_cuda(const char *module) { kit_device_use(module); }

attn_context *kit_context(int threads, const char *implementation) {
    attn_cuda_options cuda = ATTN_CUDA_OPTIONS_INIT;
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    cuda.module = kit_device_module();
    if (cuda.module) options.cuda = &cuda, options.device = ATTN_DEVICE_CUDA;
    options.threads = threads;
    options.implementation = implementation;
    attn_context *context;
    if (attn_context_create(&options, &context)) fatal("no context");
    return context;
}

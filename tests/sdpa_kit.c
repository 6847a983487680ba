/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sdpa_kit.h"

#include "tests/kit_content.h"
#include "tests/kit_device.h"
#include "tests/kit_number.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GAP_ROW = 3, GAP_HEAD = 5, GAP_ITEM = 7 }; /* elements behind the rows of a slice */

/* ---- Tensors ---------------------------------------------------------------------------------------- */

static sdpa_tensor make_tensor(attn_dtype dtype, size_t items, size_t heads, size_t rows, size_t width,
                               unsigned options, kit_guard guard) {
    sdpa_tensor t = {.dtype = dtype,
                     .element = kit_element_size(dtype),
                     .count = {items, heads, rows, width},
                     .stride = {0, 0, 0, 1}};
    const bool slices = options & SDPA_SLICES;
    const size_t row = width + (slices ? GAP_ROW : 0), head = slices ? GAP_HEAD : 0, item = slices ? GAP_ITEM : 0;
    if (options & SDPA_TOKENS) {
        t.stride[1] = row;
        t.stride[2] = heads * row + head;
        t.stride[0] = rows * t.stride[2] + item;
    } else {
        t.stride[2] = row;
        t.stride[1] = rows * row + head;
        t.stride[0] = heads * t.stride[1] + item;
    }
    if (items && heads && rows && width)
        t.elements = 1 + (items - 1) * t.stride[0] + (heads - 1) * t.stride[1] + (rows - 1) * t.stride[2] + width - 1;
    t.memory = kit_alloc(t.elements * t.element, guard);
    return t;
}

static size_t place(const sdpa_tensor *t, size_t item, size_t head, size_t row, size_t i) {
    return (item * t->stride[0] + head * t->stride[1] + row * t->stride[2] + i) * t->element;
}

double sdpa_get(const sdpa_tensor *t, size_t item, size_t head, size_t row, size_t i) {
    return kit_get(t->dtype, t->memory + place(t, item, head, row, i), 0);
}

typedef void (*visit)(const sdpa_tensor *t, size_t at, size_t index, void *user);

/* Every element: where it is, and its number in dense order. */
static void each(const sdpa_tensor *t, visit visitor, void *user) {
    size_t index = 0;
    for (size_t b = 0; b < t->count[0]; b++)
        for (size_t h = 0; h < t->count[1]; h++)
            for (size_t r = 0; r < t->count[2]; r++)
                for (size_t i = 0; i < t->count[3]; i++) visitor(t, place(t, b, h, r, i), index++, user);
}

static void fill_one(const sdpa_tensor *t, size_t at, size_t index, void *user) {
    kit_put(t->dtype, t->memory + at, 0, ((const double *)user)[index]);
}

static void spoil_one(const sdpa_tensor *t, size_t at, size_t index, void *user) {
    (void)index;
    memset((char *)user + at, 0xff, t->element);
}

static bool gaps_untouched(const sdpa_tensor *t) {
    const size_t bytes = t->elements * t->element;
    unsigned char *copy = kit_array(bytes + 1, 1);
    memcpy(copy, t->memory, bytes);
    each(t, spoil_one, copy);
    bool untouched = true;
    for (size_t i = 0; i < bytes; i++) untouched = untouched && copy[i] == 0xff;
    free(copy);
    return untouched;
}

/* FNV-1a */
static uint64_t hash_bytes(const void *bytes, size_t size, uint64_t hash) {
    for (size_t i = 0; i < size; i++) hash = (hash ^ ((const unsigned char *)bytes)[i]) * UINT64_C(0x100000001b3);
    return hash;
}

/* ---- Cases ------------------------------------------------------------------------------------------ */

#define SDPA(row_name, b, hq, hkv, sq, sk, dqk, dv, ...)                                                               \
    {.name = #row_name,                                                                                                \
     .batch = b,                                                                                                       \
     .query_heads = hq,                                                                                                \
     .key_heads = hkv,                                                                                                 \
     .queries = sq,                                                                                                    \
     .keys = sk,                                                                                                       \
     .head_dim = dqk,                                                                                                  \
     .value_dim = dv,                                                                                                  \
     __VA_ARGS__},
static const sdpa_case rows[] = {
#include "tests/sdpa_cases.def"
};

enum { ROWS = sizeof rows / sizeof *rows, DTYPES = ATTN_BFLOAT16 + 1 };

const sdpa_case *sdpa_cases(size_t *count) {
    static sdpa_case cases[DTYPES * ROWS];
    static bool made;
    for (size_t i = 0; i < DTYPES * ROWS && !made; i++) {
        cases[i] = rows[i / DTYPES];
        cases[i].dtype = (attn_dtype)(i % DTYPES);
        snprintf(cases[i].name, sizeof cases[i].name, "%s_%s", rows[i / DTYPES].name, kit_dtype_name(cases[i].dtype));
        cases[i].seed = hash_bytes(cases[i].name, strlen(cases[i].name), UINT64_C(0xcbf29ce484222325));
    }
    made = true;
    *count = DTYPES * ROWS;
    return cases;
}

const sdpa_case *sdpa_find_case(const char *name) {
    size_t count;
    const sdpa_case *cases = sdpa_cases(&count);
    for (size_t i = 0; i < count; i++)
        if (!strcmp(cases[i].name, name)) return &cases[i];
    return NULL;
}

/* ---- Content ---------------------------------------------------------------------------------------- */

static uint64_t next_bits(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* The sum of four uniform numbers, of variance 1: near enough to a normal one. */
static double next_number(uint64_t *state) {
    double sum = 0;
    for (int i = 0; i < 4; i++) sum += (double)(next_bits(state) >> 11) * 0x1p-53 - 0.5;
    return sum * sqrt(3.0);
}

static double *numbers(const sdpa_case *spec, attn_dtype dtype, uint64_t *state, size_t count, double spread) {
    double *values = kit_array(count + 1, sizeof *values);
    for (size_t i = 0; i < count; i++) {
        values[i] = spec->fill == KIT_INTEGER ? (double)(next_bits(state) % 5) - 2 : spread * next_number(state);
        values[i] = kit_round(dtype, values[i]);
    }
    return values;
}

static size_t product(const size_t shape[4]) { return shape[0] * shape[1] * shape[2] * shape[3]; }

static void set_shape(size_t shape[4], int64_t a, int64_t b, int64_t c, int64_t d) {
    shape[0] = (size_t)a, shape[1] = (size_t)b, shape[2] = (size_t)c, shape[3] = (size_t)d;
}

static void fill_masks(const sdpa_case *spec, uint64_t *state, sdpa_content *content) {
    const unsigned o = spec->options;
    const int64_t B = spec->batch, H = spec->query_heads, Q = spec->queries, K = spec->keys;
    if (o & (SDPA_MASK | SDPA_MASK_KEYS | SDPA_MASK_HEADS)) {
        set_shape(content->mask_shape, o & SDPA_MASK_HEADS ? 1 : B, o & SDPA_MASK_HEADS ? H : 1,
                  o & SDPA_MASK_KEYS ? 1 : Q, K);
        content->mask = kit_array(product(content->mask_shape) + 1, 1);
        for (size_t i = 0; i < product(content->mask_shape); i++) {
            const bool hidden = o & SDPA_MASK_EMPTY && i / (size_t)K % 3 == 0;
            content->mask[i] = !hidden && next_bits(state) % 3 ? 1 + (uint8_t)(next_bits(state) % 255) : 0;
        }
    }
    if (o & (SDPA_BIAS | SDPA_BIAS_KEYS | SDPA_BIAS_ROWS)) {
        set_shape(content->bias_shape, o & SDPA_BIAS_KEYS ? 1 : B, o & SDPA_BIAS_ROWS ? 1 : H,
                  o & SDPA_BIAS_KEYS ? 1 : Q, o & SDPA_BIAS_ROWS ? 1 : K);
        content->bias = numbers(spec, spec->dtype, state, product(content->bias_shape), 2);
        for (size_t i = 0; i < product(content->bias_shape) && o & SDPA_BIAS; i++)
            if (next_bits(state) % 5 == 0) content->bias[i] = -INFINITY;
    }
}

/* Rows of one item and head after the other. */
static void fill_hostile(const sdpa_case *spec, uint64_t *state, double *values, size_t heads, size_t rows_,
                         size_t width) {
    for (size_t i = 0; i < heads * rows_ * width; i++) {
        const size_t row = i / width % rows_;
        const double value = kit_hostile_value(spec->fill, state, values[i - row * width], row, rows_, width);
        values[i] = kit_round(spec->dtype, value);
    }
}

static void fill_values(const sdpa_case *spec, double *v, size_t rows_, size_t width) {
    for (size_t i = 0; i < rows_ * width; i++) {
        if (spec->fill == KIT_CONSTANT) v[i] = 0.375 + 0.125 * (double)(i % width % 3);
        if (spec->fill == KIT_REPEATED && i >= width) v[i] = v[i - width];
        if (spec->fill == KIT_ONE_HOT) v[i] = i / width % width == i % width;
    }
}

static attn_sdpa_desc describe(const sdpa_case *spec, const sdpa_content *content) {
    attn_sdpa_desc desc = ATTN_SDPA_DESC_INIT;
    desc.dtype = spec->dtype, desc.causal = spec->causal, desc.scale = spec->scale, desc.softcap = spec->softcap;
    desc.batch = spec->batch, desc.query_heads = spec->query_heads, desc.key_heads = spec->key_heads;
    desc.queries = spec->queries, desc.keys = spec->keys, desc.head_dim = spec->head_dim;
    desc.value_dim = spec->value_dim ? spec->value_dim : ATTN_HEAD_DIM;
    desc.window_left = spec->left - 1, desc.window_right = spec->right - 1;
    desc.flags = ATTN_SDPA_WEIGHTS | (content->mask ? ATTN_SDPA_MASK : 0) | (content->bias ? ATTN_SDPA_BIAS : 0) |
                 (content->key_lengths ? ATTN_SDPA_KEY_LENGTHS : 0) | (content->alibi_slopes ? ATTN_SDPA_ALIBI : 0) |
                 (content->sinks ? ATTN_SDPA_SINKS : 0);
    return desc;
}

/* NaN where no query of an item and key head may look. */
static void poison_unseen(const sdpa_case *spec, sdpa_content *content) {
    const attn_sdpa_desc desc = describe(spec, content);
    const int64_t heads = sdpa_key_heads(&desc), group = heads ? spec->query_heads / heads : 0;
    const int64_t D = spec->head_dim, V = sdpa_value_dim(&desc);
    for (int64_t b = 0; b < spec->batch; b++)
        for (int64_t g = 0; g < heads; g++)
            for (int64_t j = 0; j < spec->keys; j++) {
                bool seen = false;
                for (int64_t h = g * group; h < (g + 1) * group && !seen; h++)
                    for (int64_t i = 0; i < spec->queries && !seen; i++)
                        seen = sdpa_attended(&desc, spec->offset, content, b, h, i, j);
                const int64_t row = (b * heads + g) * spec->keys + j;
                for (int64_t d = 0; d < D && !seen; d++) content->k[row * D + d] = NAN;
                for (int64_t d = 0; d < V && !seen; d++) content->v[row * V + d] = NAN;
            }
}

static sdpa_content fill_content(const sdpa_case *spec) {
    uint64_t state = spec->seed;
    const size_t heads = (size_t)(spec->key_heads ? spec->key_heads : spec->query_heads), B = (size_t)spec->batch,
                 Hq = (size_t)spec->query_heads, K = (size_t)spec->keys, D = (size_t)spec->head_dim,
                 V = spec->value_dim ? (size_t)spec->value_dim : D;
    sdpa_content content = {.q = numbers(spec, spec->dtype, &state, B * Hq * (size_t)spec->queries * D,
                                         spec->spread != 0 ? spec->spread : 1),
                            .k = numbers(spec, spec->dtype, &state, B * heads * K * D, 1),
                            .v = numbers(spec, spec->dtype, &state, B * heads * K * V, 1)};
    fill_values(spec, content.v, B * heads * K, V);
    if (kit_is_hostile(spec->fill)) {
        const sdpa_case equal = {.dtype = spec->dtype, .fill = KIT_EQUAL};
        fill_hostile(spec, &state, content.k, B * heads, K, D);
        fill_hostile(spec, &state, content.v, B * heads, K, V);
        fill_hostile(&equal, &state, content.q, B * Hq, (size_t)spec->queries, D);
        for (size_t i = 0; i < B * Hq * (size_t)spec->queries * D; i++)
            content.q[i] = kit_round(spec->dtype, content.q[i] * (spec->spread != 0 ? spec->spread : 1));
    }
    fill_masks(spec, &state, &content);
    if (spec->options & SDPA_LENGTHS) {
        content.key_lengths = kit_array(B + 1, sizeof *content.key_lengths);
        for (size_t b = 0; b < B; b++)
            content.key_lengths[b] = b == 0 ? (int32_t)K : b == 1 ? 0 : (int32_t)(next_bits(&state) % (K + 1));
    }
    if (spec->options & SDPA_ALIBI)
        content.alibi_slopes = numbers(spec, kit_number_dtype(spec->dtype), &state, Hq, 0.3);
    if (spec->options & SDPA_SINKS) content.sinks = numbers(spec, kit_number_dtype(spec->dtype), &state, Hq, 1);
    poison_unseen(spec, &content);
    return content;
}

/* ---- Problems --------------------------------------------------------------------------------------- */

static void *put_small(const double *values, size_t count, attn_dtype dtype, kit_guard guard) {
    if (!values) return NULL;
    void *memory = kit_alloc(count * kit_element_size(dtype), guard);
    for (size_t i = 0; i < count; i++) kit_put(dtype, memory, i, values[i]);
    return memory;
}

static void *put_bytes(const void *bytes, size_t size, kit_guard guard) {
    void *memory = bytes ? kit_alloc(size, guard) : NULL;
    if (bytes) memcpy(memory, bytes, size);
    return memory;
}

static int64_t repeat(const size_t *shape, size_t stride, int d) { return shape[d] == 1 ? 0 : (int64_t)stride; }

static void set_inputs(sdpa_problem *p) {
    attn_sdpa_forward_args *a = &p->args;
    const sdpa_tensor *q = &p->inputs[SDPA_Q], *k = &p->inputs[SDPA_K], *v = &p->inputs[SDPA_V],
                      *bias = &p->inputs[SDPA_INPUT_BIAS];
    a->query_offset = p->spec.offset;
    a->q = q->memory, a->k = k->memory, a->v = v->memory;
    a->q_batch_stride = (int64_t)q->stride[0], a->q_head_stride = (int64_t)q->stride[1],
    a->q_row_stride = (int64_t)q->stride[2];
    a->k_batch_stride = (int64_t)k->stride[0], a->k_head_stride = (int64_t)k->stride[1],
    a->k_row_stride = (int64_t)k->stride[2];
    a->v_batch_stride = (int64_t)v->stride[0], a->v_head_stride = (int64_t)v->stride[1],
    a->v_row_stride = (int64_t)v->stride[2];
    a->key_lengths = p->key_lengths, a->alibi_slopes = p->alibi_slopes, a->sinks = p->sinks;
    if ((a->mask = p->mask)) {
        const size_t *n = p->content.mask_shape;
        a->mask_batch_stride = repeat(n, n[1] * n[2] * n[3], 0), a->mask_head_stride = repeat(n, n[2] * n[3], 1);
        a->mask_query_stride = repeat(n, n[3], 2), a->mask_key_stride = repeat(n, 1, 3);
    }
    if (p->content.bias) {
        a->bias = bias->memory;
        a->bias_batch_stride = repeat(bias->count, bias->stride[0], 0),
        a->bias_head_stride = repeat(bias->count, bias->stride[1], 1);
        a->bias_query_stride = repeat(bias->count, bias->stride[2], 2),
        a->bias_key_stride = repeat(bias->count, bias->stride[3], 3);
    }
}

static void set_outputs(sdpa_problem *p) {
    attn_sdpa_forward_args *a = &p->args;
    const sdpa_tensor *o = &p->outputs[SDPA_OUTPUT], *l = &p->outputs[SDPA_LSE], *w = &p->outputs[SDPA_WEIGHTS];
    a->output = o->memory, a->lse = l->memory, a->attention_weights = w->memory;
    a->output_batch_stride = (int64_t)o->stride[0], a->output_head_stride = (int64_t)o->stride[1],
    a->output_row_stride = (int64_t)o->stride[2];
    a->lse_batch_stride = (int64_t)l->stride[0], a->lse_head_stride = (int64_t)l->stride[1];
    a->attention_weights_batch_stride = (int64_t)w->stride[0], a->attention_weights_head_stride = (int64_t)w->stride[1],
    a->attention_weights_row_stride = (int64_t)w->stride[2];
}

static uint64_t hash_inputs(const sdpa_problem *p) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (int i = 0; i < SDPA_INPUTS; i++)
        hash = hash_bytes(p->inputs[i].memory, p->inputs[i].elements * p->inputs[i].element, hash);
    if (p->mask) hash = hash_bytes(p->mask, product(p->content.mask_shape), hash);
    return hash;
}

void sdpa_problem_store(sdpa_problem *p) {
    double *const values[SDPA_INPUTS] = {p->content.q, p->content.k, p->content.v, p->content.bias};
    for (int i = 0; i < SDPA_INPUTS; i++)
        if (values[i]) each(&p->inputs[i], fill_one, values[i]);
    p->input_hash = hash_inputs(p);
}

sdpa_problem *sdpa_problem_from(const sdpa_case *spec, const sdpa_content *content, kit_guard guard) {
    sdpa_problem *p = kit_array(1, sizeof *p);
    *p = (sdpa_problem){.spec = *spec, .args = ATTN_SDPA_FORWARD_ARGS_INIT, .content = *content};
    p->desc = describe(spec, content);
    const attn_dtype dtype = spec->dtype, number = kit_number_dtype(dtype);
    const size_t B = (size_t)spec->batch, Hq = (size_t)spec->query_heads, Hk = (size_t)sdpa_key_heads(&p->desc),
                 Q = (size_t)spec->queries, K = (size_t)spec->keys, D = (size_t)spec->head_dim,
                 V = (size_t)sdpa_value_dim(&p->desc);
    const size_t *bias = content->bias_shape;
    const unsigned o = spec->options;
    p->inputs[SDPA_Q] = make_tensor(dtype, B, Hq, Q, D, o, guard);
    p->inputs[SDPA_K] = make_tensor(dtype, B, Hk, K, D, o, guard);
    p->inputs[SDPA_V] = make_tensor(dtype, B, Hk, K, V, o, guard);
    p->inputs[SDPA_INPUT_BIAS] = make_tensor(dtype, bias[0], bias[1], bias[2], bias[3], o, guard);
    p->outputs[SDPA_OUTPUT] = make_tensor(dtype, B, Hq, Q, V, o, guard);
    p->outputs[SDPA_LSE] = make_tensor(number, B, Hq, 1, Q, o & ~(unsigned)SDPA_TOKENS, guard);
    p->outputs[SDPA_WEIGHTS] = make_tensor(dtype, B, Hq, Q, K, o & ~(unsigned)SDPA_TOKENS, guard);
    p->mask = put_bytes(content->mask, product(content->mask_shape), guard);
    p->key_lengths = put_bytes(content->key_lengths, B * sizeof *content->key_lengths, guard);
    p->alibi_slopes = put_small(content->alibi_slopes, Hq, number, guard);
    p->sinks = put_small(content->sinks, Hq, number, guard);
    set_inputs(p);
    set_outputs(p);
    sdpa_problem_store(p);
    return p;
}

sdpa_problem *sdpa_problem_make(const sdpa_case *spec, kit_guard guard) {
    const sdpa_content content = fill_content(spec);
    return sdpa_problem_from(spec, &content, guard);
}

void sdpa_content_free(sdpa_content *c) {
    void *const arrays[] = {c->q, c->k, c->v, c->key_lengths, c->mask, c->bias, c->alibi_slopes, c->sinks};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) free(arrays[i]);
}

void sdpa_problem_free(sdpa_problem *p) {
    if (!p) return;
    for (int i = 0; i < SDPA_INPUTS; i++) kit_free(p->inputs[i].memory);
    for (int i = 0; i < SDPA_OUTPUTS; i++) kit_free(p->outputs[i].memory);
    void *const guarded[] = {p->mask, p->key_lengths, p->alibi_slopes, p->sinks};
    for (size_t i = 0; i < sizeof guarded / sizeof *guarded; i++) kit_free(guarded[i]);
    void *const arrays[] = {p->expected.output,       p->expected.lse,       p->expected.attention_weights,
                            p->expected.output_gates, p->expected.lse_gates, p->expected.attention_weights_gates};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) free(arrays[i]);
    sdpa_content_free(&p->content);
    free(p);
}

attn_status sdpa_problem_run(sdpa_problem *p, const attn_plan *plan) {
    for (int i = 0; i < SDPA_OUTPUTS; i++)
        memset(p->outputs[i].memory, 0xff, p->outputs[i].elements * p->outputs[i].element);
    attn_sdpa_forward_args args = p->args;
    args.workspace_size = attn_plan_workspace_size(plan);
    args.workspace = kit_alloc(args.workspace_size, KIT_GUARD_BEHIND);
    const attn_status status = attn_sdpa_forward(plan, &args);
    kit_device_wait();
    kit_free(args.workspace);
    return status;
}

/* ---- Verdict ---------------------------------------------------------------------------------------- */

void sdpa_problem_expect(sdpa_problem *p) {
    if (p->expected.output) return;
    const size_t rows_ = (size_t)(p->spec.batch * p->spec.query_heads * p->spec.queries),
                 outputs = rows_ * (size_t)sdpa_value_dim(&p->desc) + 1, weights = rows_ * (size_t)p->spec.keys + 1;
    p->expected = (sdpa_expected){.output = kit_array(outputs, sizeof(long double)),
                                  .lse = kit_array(rows_ + 1, sizeof(long double)),
                                  .attention_weights = kit_array(weights, sizeof(long double)),
                                  .output_gates = kit_array(outputs, sizeof(double)),
                                  .lse_gates = kit_array(rows_ + 1, sizeof(double)),
                                  .attention_weights_gates = kit_array(weights, sizeof(double))};
    if (rows_) sdpa_reference(&p->desc, p->spec.offset, &p->content, &p->expected);
}

typedef struct comparison {
    const char *name;
    const long double *expected;
    const double *gates;
    kit_verdict *verdict;
} comparison;

static void compare_one(const sdpa_tensor *t, size_t at, size_t index, void *user) {
    const comparison *c = user;
    const double value = kit_get(t->dtype, t->memory + at, 0);
    const double error = gates_error((long double)value, c->expected[index], c->gates[index]);
    if (!(error > c->verdict->error)) return;
    c->verdict->error = error;
    snprintf(c->verdict->where, sizeof c->verdict->where, "%s[%zu] is %.9g, expected %.9Lg, gate %.3g", c->name, index,
             value, c->expected[index], c->gates[index]);
}

kit_verdict sdpa_problem_check(sdpa_problem *p) {
    sdpa_problem_expect(p);
    kit_verdict verdict = {0, "nothing differs"};
    const comparison comparisons[SDPA_OUTPUTS] = {
        {"output", p->expected.output, p->expected.output_gates, &verdict},
        {"lse", p->expected.lse, p->expected.lse_gates, &verdict},
        {"attention_weights", p->expected.attention_weights, p->expected.attention_weights_gates, &verdict}};
    const bool asked[SDPA_OUTPUTS] = {p->args.output, p->args.lse, p->args.attention_weights};
    for (int i = 0; i < SDPA_OUTPUTS; i++) {
        if (asked[i]) each(&p->outputs[i], compare_one, (void *)&comparisons[i]);
        if (gaps_untouched(&p->outputs[i])) continue;
        verdict.error = INFINITY;
        snprintf(verdict.where, sizeof verdict.where, "something was written between the rows of %s",
                 comparisons[i].name);
    }
    if (hash_inputs(p) != p->input_hash) {
        verdict.error = INFINITY;
        snprintf(verdict.where, sizeof verdict.where, "an input changed");
    }
    return verdict;
}

static void copy_one(const sdpa_tensor *t, size_t at, size_t index, void *user) {
    memcpy((char *)user + index * t->element, t->memory + at, t->element);
}

void *sdpa_problem_bits(const sdpa_problem *p, size_t *bytes) {
    *bytes = 0;
    char *all = NULL;
    for (int i = 0; i < SDPA_OUTPUTS; i++) {
        const size_t size = product(p->outputs[i].count) * p->outputs[i].element;
        all = realloc(all, *bytes + size + 1);
        if (!all) abort();
        each(&p->outputs[i], copy_one, all + *bytes);
        *bytes += size;
    }
    return all;
}

size_t sdpa_implementations(attn_context *context, attn_dtype dtype, const char **names, size_t room) {
    char suffix[32];
    snprintf(suffix, sizeof suffix, ":sdpa:forward:%s", kit_dtype_name(dtype));
    size_t count = 0;
    const char *name;
    for (size_t i = 0; count < room && (name = attn_context_implementation_name(context, i)); i++) {
        const size_t length = strlen(name), tail = strlen(suffix);
        if (length > tail && !strcmp(name + length - tail, suffix)) names[count++] = name;
    }
    return count;
}

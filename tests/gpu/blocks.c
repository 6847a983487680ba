/* SPDX-License-Identifier: Apache-2.0 */
/* The building blocks as subjects, on numbers whose results are exact in every type: products of small integers, softmax of equal scores among a
 * power of two of keys. */
#include "tests/gpu/subject.h"
#include "tests/kit_number.h"

#include "attention/blocks.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADS = 3, ROWS = 20, COLUMNS = 64, DEPTH = 32, OPERANDS = 3 };
enum { A, B, C };                 /* of a product; the weights, their gradients and the scores' of a backward softmax */
enum { SCORES = A, WEIGHTS = C }; /* of a forward one */

typedef struct block {
    attn_dtype dtype;
    void *data[OPERANDS];
    size_t count[OPERANDS];
    uint8_t *mask; /* every other key */
} block;

static double get(const block *b, int which, size_t i) { return kit_get(b->dtype, b->data[which], i); }

static size_t bytes_of(const block *b, int which) { return b->count[which] * kit_element_size(b->dtype); }

/* Small integers, but for what the call writes. */
static block *make(attn_dtype dtype, size_t a, size_t b, size_t c) {
    block *made = calloc(1, sizeof *made);
    *made = (block){.dtype = dtype, .count = {a, b, c}};
    for (int which = 0; which < OPERANDS; which++) {
        made->data[which] = kit_alloc(bytes_of(made, which), KIT_GUARD_BEHIND);
        for (size_t i = 0; i < made->count[which] && which != C; i++)
            kit_put(dtype, made->data[which], i, (double)((i * 7 + i / 5) % 5) - 2);
    }
    return made;
}

static void forget(const subject *s) {
    block *b = s->problem;
    for (int which = 0; which < OPERANDS; which++) kit_free(b->data[which]);
    kit_free(b->mask);
    free(b);
}

static void poison(const subject *s) {
    const block *b = s->problem;
    memset(b->data[C], 0xff, bytes_of(b, C));
}

static void *bits(const subject *s, size_t *bytes) {
    const block *b = s->problem;
    *bytes = bytes_of(b, C);
    return memcpy(malloc(*bytes), b->data[C], *bytes);
}

static void negate(const block *b, int which) {
    for (size_t i = 0; i < b->count[which]; i++) kit_put(b->dtype, b->data[which], i, -get(b, which, i));
}

static void start(subject *s, const subject_kind *kind, block *b, const char *what, const char *module) {
    *s = (subject){.kind = kind, .problem = b, .element = kit_element_size(b->dtype)};
    s->negated = bytes_of(b, C);
    snprintf(s->name, sizeof s->name, "%s %s", what, kit_dtype_name(b->dtype));
    subject_open(s, module, NULL);
}

/* ---- Product --------------------------------------------------------------------------------------- */

static bool run_product(const subject *s) {
    const block *b = s->problem;
    attn_matmul_args args = ATTN_MATMUL_ARGS_INIT;
    args.a = b->data[A], args.b = b->data[B], args.c = b->data[C];
    args.a_head_stride = ROWS * DEPTH, args.b_head_stride = DEPTH * COLUMNS;
    args.workspace = s->workspace, args.workspace_size = s->workspace_size;
    return attn_matmul(s->plan, &args) == ATTN_OK;
}

static bool right_product(subject *s) {
    const block *b = s->problem;
    bool right = true;
    for (size_t i = 0; i < b->count[C]; i++) {
        const size_t head = i / (ROWS * COLUMNS), row = i / COLUMNS % ROWS, column = i % COLUMNS;
        double sum = 0;
        for (size_t k = 0; k < DEPTH; k++)
            sum += get(b, A, (head * ROWS + row) * DEPTH + k) * get(b, B, (head * DEPTH + k) * COLUMNS + column);
        right = right && get(b, C, i) == sum;
    }
    return right;
}

static void negate_left(const subject *s) { negate(s->problem, A); }

static const subject_kind product = {run_product, right_product, poison, bits, negate_left, forget};

bool subject_matmul(subject *s, attn_dtype dtype, const char *module) {
    start(s, &product, make(dtype, HEADS * ROWS * DEPTH, HEADS * DEPTH * COLUMNS, HEADS * ROWS * COLUMNS), "product",
          module);
    attn_matmul_desc desc = ATTN_MATMUL_DESC_INIT;
    desc.dtype = dtype, desc.batch = 1, desc.heads = HEADS;
    desc.rows = ROWS, desc.columns = COLUMNS, desc.depth = DEPTH;
    if (attn_matmul_plan(s->context, &desc, &s->plan)) return false;
    subject_get_workspace(s);
    return true;
}

/* ---- Softmax --------------------------------------------------------------------------------------- */

static bool run_softmax(const subject *s) {
    const block *b = s->problem;
    attn_softmax_forward_args args = ATTN_SOFTMAX_FORWARD_ARGS_INIT;
    args.scores = b->data[SCORES], args.mask = b->mask, args.attention_weights = b->data[WEIGHTS];
    args.workspace = s->workspace, args.workspace_size = s->workspace_size;
    return attn_softmax_forward(s->plan, &args) == ATTN_OK;
}

static bool right_softmax(subject *s) {
    const block *b = s->problem;
    bool right = true;
    for (size_t i = 0; i < b->count[WEIGHTS]; i++) right = right && get(b, WEIGHTS, i) == (i % 2 ? 2.0 / COLUMNS : 0);
    return right;
}

static bool run_softmax_back(const subject *s) {
    const block *b = s->problem;
    attn_softmax_backward_args args = ATTN_SOFTMAX_BACKWARD_ARGS_INIT;
    args.attention_weights = b->data[A], args.grad_attention_weights = b->data[B], args.grad_scores = b->data[C];
    args.workspace = s->workspace, args.workspace_size = s->workspace_size;
    return attn_softmax_backward(s->plan, &args) == ATTN_OK;
}

static bool right_softmax_back(subject *s) {
    const block *b = s->problem;
    bool right = true;
    for (size_t row = 0; row < HEADS * ROWS; row++) {
        double mean = 0;
        for (size_t i = 0; i < COLUMNS; i++) mean += get(b, B, row * COLUMNS + i) / COLUMNS;
        for (size_t i = 0; i < COLUMNS; i++) {
            const double expected = (get(b, B, row * COLUMNS + i) - mean) / COLUMNS;
            right = right && get(b, C, row * COLUMNS + i) == expected;
        }
    }
    return right;
}

static void negate_incoming(const subject *s) { negate(s->problem, B); }

static const subject_kind softmax = {run_softmax, right_softmax, poison, bits, NULL, forget},
                          softmax_back = {run_softmax_back, right_softmax_back, poison, bits, negate_incoming, forget};

/* Equal scores, of which every other one is hidden; or equal weights, with gradients that have few digits. */
static block *make_rows(attn_dtype dtype, bool backward) {
    const size_t count = HEADS * ROWS * COLUMNS;
    block *b = make(dtype, count, count, count);
    for (size_t i = 0; i < count; i++) {
        kit_put(dtype, b->data[A], i, backward ? 1.0 / COLUMNS : 0.75);
        kit_put(dtype, b->data[B], i, i % COLUMNS < COLUMNS / 2 ? 1 : -3);
    }
    if (backward) return b;
    b->mask = kit_alloc(count, KIT_GUARD_BEHIND);
    for (size_t i = 0; i < count; i++) b->mask[i] = i % 2;
    return b;
}

bool subject_softmax(subject *s, bool backward, attn_dtype dtype, const char *module) {
    start(s, backward ? &softmax_back : &softmax, make_rows(dtype, backward), backward ? "softmax backward" : "softmax",
          module);
    attn_softmax_desc desc = ATTN_SOFTMAX_DESC_INIT;
    desc.dtype = dtype, desc.batch = 1, desc.heads = HEADS, desc.queries = ROWS, desc.keys = COLUMNS;
    const attn_status status = backward ? attn_softmax_backward_plan(s->context, &desc, &s->plan)
                                        : attn_softmax_forward_plan(s->context, &desc, &s->plan);
    if (status) return false;
    subject_get_workspace(s);
    return true;
}

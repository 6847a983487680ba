/* SPDX-License-Identifier: Apache-2.0 */
/* The building blocks against their definitions in long double: the batched matrix product, the masked softmax both ways, and attention
 * put together from them, forward and backward. */
#include "attention/blocks.h"
#include "tests/kit_content.h"
#include "tests/kit_device.h"
#include "tests/kit_number.h"
#include "tests/suite.h"

#include <math.h>

/* ---- Numbers ------------------------------------------------------------------------------------------ */

typedef struct numbers {
    attn_dtype dtype;
    size_t count;
    char *data; /* in guarded memory */
} numbers;

static double at(const numbers *n, size_t i) { return kit_get(n->dtype, n->data, i); }

static void put(const numbers *n, size_t i, double value) { kit_put(n->dtype, n->data, i, value); }

/* NaN, as guarded memory is. */
static numbers blank(attn_dtype dtype, size_t count) {
    return (numbers){dtype, count, kit_alloc(count * kit_element_size(dtype), KIT_GUARD_BEHIND)};
}

static numbers filled(attn_dtype dtype, size_t count, uint64_t seed) {
    const numbers n = blank(dtype, count);
    for (size_t i = 0; i < count; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        put(&n, i, (double)(seed >> 11) * 0x1p-52 - 1);
    }
    return n;
}

/* Rows of so many numbers, each as a hostile case has a column; stored column by column where `across`. */
static numbers hostile(attn_dtype dtype, size_t rows, size_t width, kit_fill fill, uint64_t seed, bool across) {
    const numbers n = blank(dtype, rows * width);
    for (size_t row = 0; row < rows; row++) {
        uint64_t state = seed + row;
        double first = 0;
        for (size_t i = 0; i < width; i++) {
            const double value = kit_hostile_value(fill, &state, first, i, width, 1);
            first = i ? first : value;
            put(&n, across ? i * rows + row : row * width + i, value);
        }
    }
    return n;
}

static void close_to(const char *what, const char *name, double value, long double expected, double gate) {
    const double error = gates_error((long double)value, expected, gate);
    cr_assert(error <= 1, "%s: %s: is %.9g, expected %.9Lg, gate %g", what, name, value, expected, gate);
}

static attn_dtype dtype_of(const char *name) {
    int dtype = ATTN_FLOAT32;
    while (dtype < ATTN_BFLOAT16 && strcmp(strrchr(name, ':') + 1, kit_dtype_name((attn_dtype)dtype))) dtype++;
    return (attn_dtype)dtype;
}

/* Calls the test for every implementation of a block that this machine can run, in every dtype that it has. */
static void on_each(const char *block, void (*test)(const char *name, attn_dtype dtype)) {
    attn_context *context = kit_context(1, NULL);
    const char *name, *best = attn_context_isa(context);
    size_t tested = 0;
    for (size_t i = 0; (name = attn_context_implementation_name(context, i)); i++) {
        char field[48];
        snprintf(field, sizeof field, ":%s:", block);
        if (!strstr(name, field)) continue;
        if (strstr(name, "avx512") && strcmp(best, "avx512")) continue;
        if (strstr(name, "avx2") && !strcmp(best, "scalar")) continue;
        if (strstr(name, "openblas") && strstr(attn_context_blas(context), "no OpenBLAS")) continue;
        test(name, dtype_of(name));
        tested++;
    }
    cr_assert(tested >= 2, "%s: %zu implementations", block, tested);
    attn_context_destroy(context);
}

/* ---- Matrix product ------------------------------------------------------------------------------------ */

typedef struct product_case {
    int64_t batch, heads, rows, columns, depth;
    double alpha, beta;
    bool shared; /* one matrix b for all */
} product_case;

static const product_case products[] = {
    {1, 1, 1, 1, 1, 1, 0, false},    {2, 3, 5, 7, 11, 1, 0, false},   {1, 2, 70, 300, 40, 1, 0, false},
    {2, 2, 9, 4, 33, 0.5, 2, false}, {2, 2, 17, 19, 64, -1, 1, true}, {1, 1, 65, 257, 130, 1, 1, false},
    {1, 1, 3, 1, 50, 1, 0, false},   {1, 1, 1, 90, 50, 2, 0, false},  {2, 1, 6, 5, 0, 1, 0.5, false},
    {1, 2, 6, 5, 8, 0, 0, false},    {0, 2, 3, 4, 5, 1, 0, false},    {2, 2, 20, 30, 700, 1, 0, true},
};
enum { PRODUCTS = sizeof products / sizeof *products };

static attn_status multiply(const char *name, int threads, attn_dtype dtype, const product_case *p, uint64_t flags,
                            const numbers *a, const numbers *b, const numbers *c) {
    attn_context *context = kit_context(threads, name);
    attn_matmul_desc desc = ATTN_MATMUL_DESC_INIT;
    attn_matmul_args args = ATTN_MATMUL_ARGS_INIT;
    desc.dtype = dtype, desc.flags = flags, desc.batch = p->batch, desc.heads = p->heads, desc.rows = p->rows;
    desc.columns = p->columns, desc.depth = p->depth;
    attn_plan *plan;
    attn_status status = attn_matmul_plan(context, &desc, &plan);
    attn_context_destroy(context);
    if (status) return status;
    args.alpha = p->alpha, args.beta = p->beta;
    args.a = a->data, args.b = b->data, args.c = c->data;
    args.a_head_stride = p->rows * p->depth, args.a_batch_stride = p->heads * args.a_head_stride;
    args.b_head_stride = p->shared ? 0 : p->columns * p->depth, args.b_batch_stride = p->heads * args.b_head_stride;
    args.workspace_size = attn_plan_workspace_size(plan);
    args.workspace = kit_alloc(args.workspace_size, KIT_GUARD_BEHIND);
    status = attn_matmul(plan, &args);
    kit_device_wait();
    kit_free(args.workspace);
    attn_plan_destroy(plan);
    return status;
}

static void check_product_of(const char *name, attn_dtype dtype, const product_case *p, uint64_t flags,
                             const numbers *a, const numbers *b) {
    const size_t matrices = (size_t)(p->batch * p->heads), M = (size_t)p->rows, N = (size_t)p->columns,
                 K = (size_t)p->depth;
    const numbers c = p->beta != 0 ? filled(dtype, matrices * M * N, 3) : blank(dtype, matrices * M * N),
                  before = filled(dtype, matrices * M * N, 3);
    cr_assert(multiply(name, 2, dtype, p, flags, a, b, &c) == ATTN_OK, "%s: %s", name, attn_last_error_message());
    for (size_t i = 0; i < matrices * M * N; i++) {
        const size_t matrix = i / N / M, row = i / N % M, column = i % N, other = p->shared ? 0 : matrix;
        long double sum = 0;
        double size = 0;
        for (size_t k = 0; k < K; k++) {
            const double x = at(a, matrix * M * K + (flags & ATTN_MATMUL_TRANSPOSE_A ? k * M + row : row * K + k)),
                         y = at(b, other * K * N + (flags & ATTN_MATMUL_TRANSPOSE_B ? column * K + k : k * N + column));
            sum += (long double)x * (long double)y;
            size += fabs(x * y);
        }
        const long double kept = p->beta != 0 ? (long double)p->beta * (long double)at(&before, i) : 0;
        const double scale = fabs(p->alpha) * size * 2 * kit_unit(dtype) * (4 * sqrt((double)K) + 8);
        close_to("matmul", name, at(&c, i), (long double)p->alpha * sum + kept,
                 scale + 2 * kit_unit(dtype) * fabs((double)kept) + kit_smallest(dtype) +
                     kit_storage_error(dtype, fabs((double)((long double)p->alpha * sum + kept)) + scale));
    }
    kit_free(c.data), kit_free(before.data);
}

static void check_product(const char *name, attn_dtype dtype, const product_case *p, uint64_t flags) {
    const size_t matrices = (size_t)(p->batch * p->heads), a_size = (size_t)(p->rows * p->depth),
                 b_size = (size_t)(p->columns * p->depth);
    const numbers a = filled(dtype, matrices * a_size, 1), b = filled(dtype, (p->shared ? 1 : matrices) * b_size, 2);
    check_product_of(name, dtype, p, flags, &a, &b);
    kit_free(a.data), kit_free(b.data);
}

static void all_products(const char *name, attn_dtype dtype) {
    for (uint64_t flags = 0; flags < 4; flags++)
        for (size_t i = 0; i < PRODUCTS; i++) check_product(name, dtype, &products[i], flags);
}

/* Products whose terms are hard on a chain of additions. */
static void long_products(const char *name, attn_dtype dtype) {
    static const int64_t depths[] = {1, 255, 256, 257, 4097, 100000};
    enum { DEPTHS = sizeof depths / sizeof *depths, SHAPES = 2 };
    for (size_t i = 0; i < DEPTHS * SHAPES; i++) {
        const int64_t depth = depths[i / SHAPES],
                      side = depth == 100000 ? 1 + (int64_t)(i % SHAPES) : 1 + 4 * (int64_t)(i % SHAPES);
        const product_case p = {1, 1, side, side, depth, 1, 0, false};
        const size_t sides = (size_t)side, k = (size_t)depth;
        for (uint64_t flags = 0; flags < 4; flags++)
            for (int fill = KIT_EQUAL; fill <= KIT_GROWING; fill++) {
                const numbers a = hostile(dtype, sides, k, (kit_fill)fill, 1, flags & ATTN_MATMUL_TRANSPOSE_A),
                              b = hostile(dtype, sides, k, KIT_EQUAL, 9, !(flags & ATTN_MATMUL_TRANSPOSE_B));
                check_product_of(name, dtype, &p, flags, &a, &b);
                kit_free(a.data), kit_free(b.data);
            }
    }
}

Test(blocks, long_products_of_hostile_numbers) { on_each("matmul:forward", long_products); }

Test(blocks, products_match_their_definition) { on_each("matmul:forward", all_products); }

static void product_bits(const char *name, attn_dtype dtype) {
    const product_case p = {3, 2, 130, 300, 90, 1, 0, false};
    const size_t count = 6 * 130 * 300;
    const numbers a = filled(dtype, 6 * 130 * 90, 1), b = filled(dtype, 6 * 300 * 90, 2), first = blank(dtype, count);
    cr_assert(multiply(name, 1, dtype, &p, 0, &a, &b, &first) == ATTN_OK);
    for (int threads = 2; threads <= 8; threads = threads == 3 ? 8 : threads + 1) {
        const numbers c = blank(dtype, count);
        cr_assert(multiply(name, threads, dtype, &p, 0, &a, &b, &c) == ATTN_OK);
        cr_assert(!memcmp(first.data, c.data, count * kit_element_size(dtype)), "%s with %d threads", name, threads);
        kit_free(c.data);
    }
    kit_free(a.data), kit_free(b.data), kit_free(first.data);
}

Test(blocks, threads_change_no_bit_of_a_product) { on_each("matmul:forward", product_bits); }

/* ---- Softmax ------------------------------------------------------------------------------------------ */

typedef struct softmax_case {
    int64_t batch, heads, queries, keys, offset;
    attn_causal causal;
    double scale;
    bool mask, lengths, in_place;
    kit_fill fill; /* of hostile ones; else random numbers */
} softmax_case;

static const softmax_case softmaxes[] = {
    {1, 1, 1, 1, 0, ATTN_CAUSAL_NONE, 0, false, false, false, KIT_NORMAL},
    {2, 3, 5, 37, 0, ATTN_CAUSAL_NONE, 0.3, false, false, false, KIT_NORMAL},
    {2, 3, 5, 37, 0, ATTN_CAUSAL_NONE, 40, true, true, true, KIT_NORMAL},
    {3, 2, 9, 20, 0, ATTN_CAUSAL_TOP_LEFT, 0, false, true, true, KIT_NORMAL},
    {3, 2, 9, 20, 0, ATTN_CAUSAL_BOTTOM_RIGHT, 2, true, true, false, KIT_NORMAL},
    {1, 2, 9, 20, -4, ATTN_CAUSAL_TOP_LEFT, 2, true, false, false, KIT_NORMAL},
    {2, 1, 3, 0, 0, ATTN_CAUSAL_NONE, 0, false, false, false, KIT_NORMAL},
    {1, 2, 3, 1500, 0, ATTN_CAUSAL_BOTTOM_RIGHT, 2, true, true, true, KIT_NORMAL},
    {1, 2, 600, 70, 0, ATTN_CAUSAL_NONE, 3, true, false, false, KIT_NORMAL},
    {2, 2, 4, 90, 0, ATTN_CAUSAL_NONE, 300, false, true, false, KIT_NORMAL}, /* beyond what an exponential holds */
};
enum { SOFTMAXES = sizeof softmaxes / sizeof *softmaxes };

/* One softmax: what goes in, what came out. */
typedef struct softmax_run {
    const softmax_case *spec;
    attn_dtype dtype;
    size_t rows, keys;
    numbers scores, weights, lse;
    uint8_t *mask; /* (B, 1, Sq, Skv) */
    int32_t *lengths;
} softmax_run;

static bool attended(const softmax_run *r, size_t row, size_t key) {
    const softmax_case *s = r->spec;
    const int64_t query = (int64_t)row % s->queries, item = (int64_t)row / s->queries / s->heads;
    const int64_t length = r->lengths ? r->lengths[item] : s->keys;
    const int64_t position = query + s->offset + (s->causal == ATTN_CAUSAL_BOTTOM_RIGHT ? length - s->queries : 0);
    if ((int64_t)key >= length || (s->causal && (int64_t)key > position)) return false;
    return !r->mask || r->mask[(size_t)(item * s->queries + query) * r->keys + key];
}

static softmax_run prepare(const softmax_case *s, attn_dtype dtype) {
    softmax_run r = {.spec = s, .dtype = dtype, .keys = (size_t)s->keys};
    r.rows = (size_t)(s->batch * s->heads * s->queries);
    r.scores =
        kit_is_hostile(s->fill) ? hostile(dtype, r.rows, r.keys, s->fill, 7, false) : filled(dtype, r.rows * r.keys, 7);
    r.weights = blank(dtype, r.rows * r.keys);
    r.lse = blank(kit_number_dtype(dtype), r.rows);
    if (s->mask) {
        r.mask = kit_alloc((size_t)(s->batch * s->queries) * r.keys, KIT_GUARD_BEHIND);
        for (size_t i = 0; i < (size_t)(s->batch * s->queries) * r.keys; i++)
            r.mask[i] = i * i % 7 < 3 && i / r.keys % 4;
    }
    if (s->lengths) {
        r.lengths = kit_alloc((size_t)s->batch * sizeof *r.lengths, KIT_GUARD_BEHIND);
        for (int64_t b = 0; b < s->batch; b++) r.lengths[b] = (int32_t)(b == 1 ? 0 : s->keys - b);
    }
    for (size_t i = 0; i < r.rows * r.keys; i++)
        if (!attended(&r, i / r.keys, i % r.keys)) put(&r.scores, i, NAN); /* never read */
    return r;
}

static void release(softmax_run *r) {
    kit_free(r->scores.data), kit_free(r->weights.data), kit_free(r->lse.data);
    kit_free(r->mask), kit_free(r->lengths);
}

static attn_softmax_desc softmax_desc(const softmax_run *r) {
    attn_softmax_desc desc = ATTN_SOFTMAX_DESC_INIT;
    desc.dtype = r->dtype, desc.causal = r->spec->causal, desc.scale = r->spec->scale, desc.batch = r->spec->batch;
    desc.heads = r->spec->heads, desc.queries = r->spec->queries, desc.keys = r->spec->keys;
    return desc;
}

static attn_status run_forward(const char *name, int threads, softmax_run *r) {
    attn_context *context = kit_context(threads, name);
    const attn_softmax_desc desc = softmax_desc(r);
    attn_softmax_forward_args args = ATTN_SOFTMAX_FORWARD_ARGS_INIT;
    attn_plan *plan;
    attn_status status = attn_softmax_forward_plan(context, &desc, &plan);
    attn_context_destroy(context);
    if (status) return status;
    if (r->spec->in_place) memcpy(r->weights.data, r->scores.data, r->rows * r->keys * kit_element_size(r->dtype));
    args.scores = r->spec->in_place ? r->weights.data : r->scores.data;
    args.attention_weights = r->weights.data, args.lse = r->lse.data;
    args.key_lengths = r->lengths, args.mask = r->mask, args.query_offset = r->spec->offset;
    args.mask_query_stride = r->spec->keys, args.mask_batch_stride = r->spec->queries * r->spec->keys;
    args.workspace_size = attn_plan_workspace_size(plan);
    args.workspace = kit_alloc(args.workspace_size, KIT_GUARD_BEHIND);
    status = attn_softmax_forward(plan, &args);
    kit_device_wait();
    kit_free(args.workspace);
    attn_plan_destroy(plan);
    return status;
}

static void check_forward(const char *name, const softmax_run *r) {
    const double u = kit_unit(r->dtype), scale = r->spec->scale != 0 ? r->spec->scale : 1;
    for (size_t row = 0; row < r->rows; row++) {
        long double sum = 0;
        double largest = 0;
        size_t count = 0;
        for (size_t j = 0; j < r->keys; j++) {
            if (!attended(r, row, j)) continue;
            const double score = scale * at(&r->scores, row * r->keys + j);
            sum += expl((long double)score), largest = fabs(score) > largest ? fabs(score) : largest, count++;
        }
        const double c = 4 * largest + sqrt((double)count) + 8;
        const double logarithm =
            r->spec->fill ? 2 * log(fmax((double)count, 1)) : 0; /* numerics.md; short rows do without */
        close_to("lse", name, at(&r->lse, row), count ? logl(sum) : -INFINITY, u * (4 * largest + logarithm + 8));
        for (size_t j = 0; j < r->keys; j++) {
            const double score = at(&r->scores, row * r->keys + j);
            const long double p = attended(r, row, j) ? expl((long double)scale * (long double)score) / sum : 0;
            const double found = at(&r->weights, row * r->keys + j);
            const double gate = 2 * u * c * (double)p + kit_smallest(r->dtype);
            close_to("weight", name, found, p, p != 0 ? gate + kit_storage_error(r->dtype, (double)p + gate) : 0);
        }
    }
}

static void all_softmaxes(const char *name, attn_dtype dtype) {
    for (size_t i = 0; i < SOFTMAXES; i++) {
        softmax_run r = prepare(&softmaxes[i], dtype);
        cr_assert(run_forward(name, 2, &r) == ATTN_OK, "%s: %s", name, attn_last_error_message());
        check_forward(name, &r);
        release(&r);
    }
}

Test(blocks, softmax_matches_its_definition) { on_each("softmax:forward", all_softmaxes); }

static const int64_t long_keys[] = {1, 255, 256, 257, 4097, 100000};
enum { LONG_KEYS = sizeof long_keys / sizeof *long_keys, FILLS = KIT_GROWING - KIT_EQUAL + 1 };

/* Small scores, so that they do not widen the bounds; growing ones to 200. */
static softmax_case long_case(size_t number) {
    const kit_fill fill = (kit_fill)(KIT_EQUAL + number % FILLS);
    const double scale = fill == KIT_GROWING ? 12 : fill == KIT_ONE_HUGE ? 1 : 0.01;
    return (softmax_case){
        .batch = 1, .heads = 1, .queries = 2, .keys = long_keys[number / FILLS], .scale = scale, .fill = fill};
}

static void long_softmaxes(const char *name, attn_dtype dtype) {
    for (size_t i = 0; i < LONG_KEYS * FILLS; i++) {
        const softmax_case spec = long_case(i);
        softmax_run r = prepare(&spec, dtype);
        cr_assert(run_forward(name, 2, &r) == ATTN_OK, "%s: %s", name, attn_last_error_message());
        check_forward(name, &r);
        release(&r);
    }
}

Test(blocks, long_softmaxes_of_hostile_numbers) { on_each("softmax:forward", long_softmaxes); }

static void softmax_bits(const char *name, attn_dtype dtype) {
    softmax_case spec = softmaxes[SOFTMAXES - 1];
    spec.keys = 300;
    softmax_run first = prepare(&spec, dtype);
    cr_assert(run_forward(name, 1, &first) == ATTN_OK);
    for (int threads = 2; threads <= 8; threads = threads == 3 ? 8 : threads + 1) {
        softmax_run r = prepare(&spec, dtype);
        cr_assert(run_forward(name, threads, &r) == ATTN_OK);
        cr_assert(!memcmp(first.weights.data, r.weights.data, r.rows * r.keys * kit_element_size(dtype)), "%s", name);
        release(&r);
    }
    release(&first);
}

Test(blocks, threads_change_no_bit_of_a_softmax) { on_each("softmax:forward", softmax_bits); }

static attn_status run_backward(const char *name, const softmax_run *r, const void *grad_weights, const void *grad_lse,
                                void *grad_scores) {
    attn_context *context = kit_context(2, name);
    const attn_softmax_desc desc = softmax_desc(r);
    attn_softmax_backward_args args = ATTN_SOFTMAX_BACKWARD_ARGS_INIT;
    attn_plan *plan;
    attn_status status = attn_softmax_backward_plan(context, &desc, &plan);
    attn_context_destroy(context);
    if (status) return status;
    args.attention_weights = r->weights.data, args.grad_attention_weights = grad_weights, args.grad_lse = grad_lse;
    args.grad_scores = grad_scores;
    args.workspace_size = attn_plan_workspace_size(plan);
    args.workspace = kit_alloc(args.workspace_size, KIT_GUARD_BEHIND);
    status = attn_softmax_backward(plan, &args);
    kit_device_wait();
    kit_free(args.workspace);
    attn_plan_destroy(plan);
    return status;
}

static void check_backward(const char *name, const softmax_run *r, const numbers *grad, const numbers *grad_lse,
                           const numbers *found) {
    const double u = kit_unit(r->dtype), scale = r->spec->scale != 0 ? r->spec->scale : 1;
    for (size_t row = 0; row < r->rows; row++) {
        long double mean = 0;
        double size = 0;
        const double lse = grad_lse ? at(grad_lse, row) : 0;
        for (size_t j = 0; j < r->keys; j++) {
            const double p = at(&r->weights, row * r->keys + j), g = at(grad, row * r->keys + j);
            if (p == 0) continue;
            mean += (long double)p * (long double)g, size += fabs(p * g);
        }
        for (size_t j = 0; j < r->keys; j++) {
            const double p = at(&r->weights, row * r->keys + j), g = at(grad, row * r->keys + j);
            const long double expected =
                p == 0 ? 0 : (long double)scale * (long double)p * ((long double)g - mean + (long double)lse);
            const double terms = p == 0 ? 0 : fabs(scale * p) * (fabs(g) + size + fabs(lse));
            const double gate = 2 * u * (4 * sqrt((double)r->keys) + 8) * terms + kit_smallest(r->dtype);
            close_to("gradient", name, at(found, row * r->keys + j), expected,
                     p != 0 ? gate + kit_storage_error(r->dtype, fabs((double)expected) + gate) : 0);
        }
    }
}

static void all_backwards(const char *name, attn_dtype dtype) {
    char forward[64];
    snprintf(forward, sizeof forward, "%.*s:softmax:forward:%s", (int)(strstr(name, ":softmax") - name), name,
             kit_dtype_name(dtype));
    for (size_t i = 0; i < 2 * SOFTMAXES; i++) {
        softmax_run r = prepare(&softmaxes[i / 2], dtype);
        const size_t count = r.rows * r.keys;
        cr_assert(run_forward(forward, 1, &r) == ATTN_OK, "%s", attn_last_error_message());
        const numbers grad = filled(dtype, count, 11), lse = filled(kit_number_dtype(dtype), r.rows, 13),
                      found = blank(dtype, count);
        for (size_t j = 0; j < count; j++)
            if (!attended(&r, j / r.keys, j % r.keys)) put(&grad, j, NAN);
        const bool in_place = i % 2;
        if (in_place) memcpy(found.data, grad.data, count * kit_element_size(dtype));
        cr_assert(run_backward(name, &r, in_place ? found.data : grad.data, in_place ? NULL : lse.data, found.data) ==
                      ATTN_OK,
                  "%s: %s", name, attn_last_error_message());
        check_backward(name, &r, &grad, in_place ? NULL : &lse, &found);
        kit_free(grad.data), kit_free(lse.data), kit_free(found.data);
        release(&r);
    }
}

static void long_backwards(const char *name, attn_dtype dtype) {
    char forward[64];
    snprintf(forward, sizeof forward, "%.*s:softmax:forward:%s", (int)(strstr(name, ":softmax") - name), name,
             kit_dtype_name(dtype));
    for (size_t i = 0; i < LONG_KEYS * FILLS; i++) {
        const softmax_case spec = long_case(i);
        softmax_run r = prepare(&spec, dtype);
        cr_assert(run_forward(forward, 1, &r) == ATTN_OK, "%s", attn_last_error_message());
        const numbers grad = hostile(dtype, r.rows, r.keys, spec.fill, 11, false),
                      lse = filled(kit_number_dtype(dtype), r.rows, 13), found = blank(dtype, r.rows * r.keys);
        cr_assert(run_backward(name, &r, grad.data, lse.data, found.data) == ATTN_OK, "%s: %s", name,
                  attn_last_error_message());
        check_backward(name, &r, &grad, &lse, &found);
        kit_free(grad.data), kit_free(lse.data), kit_free(found.data);
        release(&r);
    }
}

Test(blocks, long_softmax_gradients_of_hostile_numbers) { on_each("softmax:backward", long_backwards); }

Test(blocks, softmax_gradients_match_their_definition) { on_each("softmax:backward", all_backwards); }

static void nan_rows(const char *name, attn_dtype dtype) {
    const softmax_case spec = {1, 1, 3, 20, 0, ATTN_CAUSAL_TOP_LEFT, 0, false, false, false, KIT_NORMAL};
    softmax_run r = prepare(&spec, dtype);
    put(&r.scores, 2 * 20 + 1, NAN);
    cr_assert(run_forward(name, 1, &r) == ATTN_OK);
    for (size_t j = 0; j < 20; j++) {
        cr_assert(!isnan(at(&r.weights, 20 + j)), "%s", name);
        cr_assert(j <= 2 ? isnan(at(&r.weights, 40 + j)) : at(&r.weights, 40 + j) == 0, "%s: key %zu", name, j);
    }
    cr_assert(at(&r.weights, 0) == 1, "%s: one attended key", name);
    release(&r);
}

Test(blocks, nan_stays_in_its_row) { on_each("softmax:forward", nan_rows); }

/* A score of -inf hides its key, all of them the row. */
static void hidden_rows(const char *name, attn_dtype dtype) {
    const softmax_case spec = {1, 1, 2, 20, 0, ATTN_CAUSAL_NONE, 0, false, false, false, KIT_NORMAL};
    softmax_run r = prepare(&spec, dtype);
    for (size_t j = 0; j < 39; j++) put(&r.scores, j, -INFINITY);
    cr_assert(run_forward(name, 1, &r) == ATTN_OK);
    for (size_t j = 0; j < 40; j++) cr_assert(at(&r.weights, j) == (j == 39), "%s: key %zu", name, j);
    cr_assert(at(&r.lse, 0) == -INFINITY && at(&r.lse, 1) == at(&r.scores, 39), "%s", name);
    release(&r);
}

Test(blocks, softmax_of_infinite_scores) { on_each("softmax:forward", hidden_rows); }

/* ---- Attention from blocks ------------------------------------------------------------------------------ */

/* dQ, dK and dV of one head through five products and two softmaxes, against differences of the loss sum(O * G). */
enum { Q = 4, K = 6, D = 5, V = 3 };

static long double loss(const double *q, const double *k, const double *v, const double *g, double scale) {
    long double total = 0;
    for (int i = 0; i < Q; i++) {
        long double weights[K], sum = 0;
        for (int j = 0; j < K; j++) {
            long double score = 0;
            for (int d = 0; d < D; d++) score += (long double)q[i * D + d] * (long double)k[j * D + d];
            sum += weights[j] = expl((long double)scale * score);
        }
        for (int j = 0; j < K; j++)
            for (int d = 0; d < V; d++)
                total += weights[j] / sum * (long double)v[j * V + d] * (long double)g[i * V + d];
    }
    return total;
}

static void product_of(uint64_t flags, int64_t rows, int64_t columns, int64_t depth, const double *a, const double *b,
                       double *c) {
    attn_context *context = kit_context(1, NULL);
    attn_matmul_desc desc = ATTN_MATMUL_DESC_INIT;
    attn_matmul_args args = ATTN_MATMUL_ARGS_INIT;
    desc.dtype = ATTN_FLOAT64, desc.flags = flags, desc.batch = 1, desc.rows = rows, desc.columns = columns;
    desc.depth = depth;
    attn_plan *plan;
    cr_assert(attn_matmul_plan(context, &desc, &plan) == ATTN_OK, "%s", attn_last_error_message());
    args.a = a, args.b = b, args.c = c;
    args.workspace_size = attn_plan_workspace_size(plan);
    args.workspace = kit_alloc(args.workspace_size, KIT_GUARD_BEHIND);
    cr_assert(attn_matmul(plan, &args) == ATTN_OK, "%s", attn_last_error_message());
    kit_free(args.workspace);
    attn_plan_destroy(plan);
    attn_context_destroy(context);
}

static void compare_differences(const char *what, double *values, int count, const double *gradient, const double *q,
                                const double *k, const double *v, const double *g, double scale) {
    for (int i = 0; i < count; i++) {
        const double before = values[i], step = 1e-5;
        values[i] = before + step;
        const long double above = loss(q, k, v, g, scale);
        values[i] = before - step;
        const long double below = loss(q, k, v, g, scale);
        values[i] = before;
        const double expected = (double)((above - below) / (2 * (long double)step));
        cr_assert(fabs(gradient[i] - expected) <= 1e-8 + 1e-6 * fabs(expected), "%s[%d]: is %g, differences say %g",
                  what, i, gradient[i], expected);
    }
}

Test(blocks, attention_and_its_gradients_from_blocks) {
    const double scale = 0.7;
    const softmax_case spec = {1, 1, Q, K, 0, ATTN_CAUSAL_NONE, 0.7, false, false, true, KIT_NORMAL};
    const numbers q = filled(ATTN_FLOAT64, Q * D, 1), k = filled(ATTN_FLOAT64, K * D, 2),
                  v = filled(ATTN_FLOAT64, K * V, 3), g = filled(ATTN_FLOAT64, Q * V, 4);
    double *const data[] = {(double *)(void *)q.data, (double *)(void *)k.data, (double *)(void *)v.data,
                            (double *)(void *)g.data};
    softmax_run r = prepare(&spec, ATTN_FLOAT64);
    double output[Q * V], grad_weights[Q * K], grad_q[Q * D], grad_k[K * D], grad_v[K * V];
    product_of(ATTN_MATMUL_TRANSPOSE_B, Q, K, D, data[0], data[1], (double *)(void *)r.scores.data);
    cr_assert(run_forward(NULL, 1, &r) == ATTN_OK);
    const double *weights = (double *)(void *)r.weights.data;
    product_of(0, Q, V, K, weights, data[2], output);
    long double found = 0;
    for (int i = 0; i < Q * V; i++) found += (long double)output[i] * (long double)data[3][i];
    const double expected = (double)loss(data[0], data[1], data[2], data[3], scale);
    cr_assert(fabs((double)found - expected) < 1e-14, "loss %Lg, expected %g", found, expected);
    product_of(ATTN_MATMUL_TRANSPOSE_A, K, V, Q, weights, data[3], grad_v);
    product_of(ATTN_MATMUL_TRANSPOSE_B, Q, K, V, data[3], data[2], grad_weights);
    cr_assert(run_backward(NULL, &r, grad_weights, NULL, grad_weights) == ATTN_OK, "%s", attn_last_error_message());
    product_of(0, Q, D, K, grad_weights, data[1], grad_q);
    product_of(ATTN_MATMUL_TRANSPOSE_A, K, D, Q, grad_weights, data[0], grad_k);
    compare_differences("grad_q", data[0], Q * D, grad_q, data[0], data[1], data[2], data[3], scale);
    compare_differences("grad_k", data[1], K * D, grad_k, data[0], data[1], data[2], data[3], scale);
    compare_differences("grad_v", data[2], K * V, grad_v, data[0], data[1], data[2], data[3], scale);
    release(&r);
    kit_free(q.data), kit_free(k.data), kit_free(v.data), kit_free(g.data);
}

/* ---- Faults ------------------------------------------------------------------------------------------- */

static void said(attn_status found, attn_status status, const char *text) {
    cr_assert(found == status, "%s: status %d: %s", text, (int)found, attn_last_error_message());
    cr_assert(strstr(attn_last_error_message(), text), "%s: %s", text, attn_last_error_message());
}

Test(blocks, faulty_products) {
    attn_context *context = kit_context(1, NULL);
    attn_matmul_desc desc = ATTN_MATMUL_DESC_INIT;
    attn_plan *plan;
    desc.batch = desc.rows = desc.columns = desc.depth = 4;
    attn_matmul_desc bad = desc;
    bad.flags = 4;
    said(attn_matmul_plan(context, &bad, &plan), ATTN_ERROR_UNSUPPORTED, "desc.flags: has unknown bits 0x4");
    bad = desc, bad.depth = -1;
    said(attn_matmul_plan(context, &bad, &plan), ATTN_ERROR_SHAPE, "desc.depth: is -1");
    bad = desc, bad.rows = bad.columns = INT64_MAX / 4;
    said(attn_matmul_plan(context, &bad, &plan), ATTN_ERROR_OVERFLOW, "rows * columns");
    said(attn_matmul_plan(context, NULL, &plan), ATTN_ERROR_INVALID_ARGUMENT, "desc: is NULL");
    cr_assert(attn_matmul_plan(context, &desc, &plan) == ATTN_OK);
    float a[64], b[64], c[64];
    attn_matmul_args args = ATTN_MATMUL_ARGS_INIT, wrong;
    args.a = a, args.b = b, args.c = c;
    args.a_batch_stride = args.b_batch_stride = 16;
    args.workspace_size = attn_plan_workspace_size(plan);
    args.workspace = kit_alloc(args.workspace_size, KIT_GUARD_BEHIND);
    wrong = args, wrong.a = NULL;
    said(attn_matmul(plan, &wrong), ATTN_ERROR_INVALID_ARGUMENT, "a: is NULL");
    wrong = args, wrong.b_row_stride = 3;
    said(attn_matmul(plan, &wrong), ATTN_ERROR_SHAPE, "b_row_stride: is 3");
    wrong = args, wrong.c = a;
    said(attn_matmul(plan, &wrong), ATTN_ERROR_OVERLAP, "c: overlaps a");
    wrong = args, wrong.alpha = NAN;
    said(attn_matmul(plan, &wrong), ATTN_ERROR_INVALID_ARGUMENT, "args.alpha: is nan");
    wrong = args, wrong.depth = 5;
    said(attn_matmul(plan, &wrong), ATTN_ERROR_RANGE, "args.depth: is 5");
    wrong = args, wrong.workspace_size--;
    said(attn_matmul(plan, &wrong), ATTN_ERROR_WORKSPACE, "workspace_size: is ");
    attn_sdpa_forward_args other = ATTN_SDPA_FORWARD_ARGS_INIT;
    said(attn_sdpa_forward(plan, &other), ATTN_ERROR_INVALID_ARGUMENT, "plan: is one of the matmul");
    kit_free(args.workspace);
    attn_plan_destroy(plan);
    attn_context_destroy(context);
}

Test(blocks, faulty_softmaxes) {
    attn_context *context = kit_context(1, NULL);
    attn_softmax_desc desc = ATTN_SOFTMAX_DESC_INIT;
    attn_plan *plan;
    desc.batch = 2, desc.queries = 3, desc.keys = 4;
    attn_softmax_desc bad = desc;
    bad.flags = 1;
    said(attn_softmax_forward_plan(context, &bad, &plan), ATTN_ERROR_UNSUPPORTED, "desc.flags: has unknown bits 0x1");
    bad = desc, bad.scale = INFINITY;
    said(attn_softmax_backward_plan(context, &bad, &plan), ATTN_ERROR_INVALID_ARGUMENT, "desc.scale: is inf");
    bad = desc, bad.causal = (attn_causal)9;
    said(attn_softmax_forward_plan(context, &bad, &plan), ATTN_ERROR_UNSUPPORTED, "desc.causal: is 9");
    cr_assert(attn_softmax_forward_plan(context, &desc, &plan) == ATTN_OK);
    float scores[24] = {0}, weights[24];
    const int32_t lengths[] = {4, 5};
    attn_softmax_forward_args args = ATTN_SOFTMAX_FORWARD_ARGS_INIT, wrong;
    args.scores = scores, args.attention_weights = weights;
    args.workspace_size = attn_plan_workspace_size(plan);
    args.workspace = kit_alloc(args.workspace_size, KIT_GUARD_BEHIND);
    wrong = args, wrong.key_lengths = lengths;
    said(attn_softmax_forward(plan, &wrong), ATTN_ERROR_RANGE, "key_lengths[1]: is 5, want 0 to 4");
    wrong = args, wrong.attention_weights = scores + 1;
    said(attn_softmax_forward(plan, &wrong), ATTN_ERROR_OVERLAP, "attention_weights: overlaps scores");
    wrong = args, wrong.attention_weights = scores, wrong.attention_weights_row_stride = 5;
    said(attn_softmax_forward(plan, &wrong), ATTN_ERROR_OVERLAP, "attention_weights: overlaps scores");
    attn_softmax_backward_args other = ATTN_SOFTMAX_BACKWARD_ARGS_INIT;
    said(attn_softmax_backward(plan, &other), ATTN_ERROR_INVALID_ARGUMENT, "plan: is one of the softmax forward");
    kit_free(args.workspace);
    attn_plan_destroy(plan);
    attn_context_destroy(context);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/gpu/blocks.h"

#include "attention/blocks.h"
#include "bench/gpu/device.h"
#include "bench/gpu/table.h"
#include "tests/kit.h"
#include "tests/kit_number.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const unsigned bfloat_ones = 0x3f803f80u, float_one = 0x3f800000u;

static void must(attn_status status) {
    if (!status) return;
    fprintf(stderr, "attention-bench-gpu: %s\n", attn_last_error_message());
    exit(1);
}

/* The largest distance of the device's numbers from what they must be, over the bound of 16 roundings; `expected` repeats. */
static double error_of(attn_dtype dtype, const void *memory, int64_t count, const double *expected, int64_t period) {
    const size_t bytes = (size_t)count * kit_element_size(dtype);
    const double u = dtype == ATTN_FLOAT32 ? 0x1p-24 : 0x1p-8;
    char *found = malloc(bytes);
    double worst = 0;
    gpu_get(found, memory, bytes);
    for (int64_t i = 0; i < count; i++) {
        const double wanted = expected[i % period], error = fabs(kit_get(dtype, found, (size_t)i) - wanted);
        if (!(error <= worst * 16 * u * wanted)) worst = wanted > 0 ? error / (16 * u * wanted) : INFINITY;
    }
    free(found);
    return worst;
}

/* ---- Attention by composition ---------------------------------------------------------------------- */

typedef struct attention {
    attn_plan *whole, *products[2];
    attn_sdpa_forward_args args;
    attn_matmul_args of_products[2];
} attention;

static void run_whole(const void *of) {
    const attention *a = of;
    must(attn_sdpa_forward(a->whole, &a->args));
}

static void run_products(const void *of) {
    const attention *a = of;
    for (int i = 0; i < 2; i++) must(attn_matmul(a->products[i], &a->of_products[i]));
}

static bool plan_product(attn_context *context, int64_t heads, int64_t rows, int64_t columns, int64_t depth,
                         uint64_t flags, attn_plan **plan, attn_matmul_args *args) {
    attn_matmul_desc desc = ATTN_MATMUL_DESC_INIT;
    desc.dtype = ATTN_BFLOAT16, desc.flags = flags, desc.batch = 1, desc.heads = heads;
    desc.rows = rows, desc.columns = columns, desc.depth = depth;
    *args = (attn_matmul_args)ATTN_MATMUL_ARGS_INIT;
    args->a_head_stride = rows * depth, args->b_head_stride = columns * depth;
    return attn_matmul_plan(context, &desc, plan) == ATTN_OK;
}

static bool plan_attention(attn_context *context, int64_t heads, int64_t length, int64_t width, attention *a) {
    attn_sdpa_desc desc = ATTN_SDPA_DESC_INIT;
    desc.dtype = ATTN_BFLOAT16, desc.batch = 1, desc.query_heads = heads, desc.head_dim = width;
    desc.queries = desc.keys = length;
    a->args = (attn_sdpa_forward_args)ATTN_SDPA_FORWARD_ARGS_INIT;
    return !attn_sdpa_forward_plan(context, &desc, &a->whole) &&
           plan_product(context, heads, length, length, width, ATTN_MATMUL_TRANSPOSE_B, &a->products[0],
                        &a->of_products[0]) &&
           plan_product(context, heads, length, width, length, 0, &a->products[1], &a->of_products[1]);
}

/* Tensors full of ones: so all scores are equal, and the output is 1. */
static void place_attention(attention *a, size_t rows, size_t scores) {
    void *q = gpu_fill(bfloat_ones, rows), *k = gpu_fill(bfloat_ones, rows), *out = gpu_alloc(rows);
    a->args.q = q, a->args.k = a->args.v = k, a->args.output = out;
    a->args.workspace_size = attn_plan_workspace_size(a->whole);
    a->args.workspace = gpu_alloc(a->args.workspace_size);
    attn_matmul_args *first = &a->of_products[0], *second = &a->of_products[1];
    first->a = q, first->b = k, first->c = gpu_alloc(scores);
    second->a = first->c, second->b = k, second->c = gpu_alloc(rows);
    first->workspace_size = second->workspace_size = attn_plan_workspace_size(a->products[0]);
    first->workspace = second->workspace = gpu_alloc(first->workspace_size);
}

void blocks_attention_row(attn_context *context, int64_t heads, int64_t length, int64_t width, double bandwidth) {
    const size_t mark = gpu_mark(), scores = (size_t)(heads * length * length) * 2;
    const double one = 1;
    attention a = {NULL, {NULL, NULL}, ATTN_SDPA_FORWARD_ARGS_INIT, {ATTN_MATMUL_ARGS_INIT, ATTN_MATMUL_ARGS_INIT}};
    row r = {.wanted = {TARGET_TIMES, 1.15}};
    snprintf(r.what, sizeof r.what, "attention %lld x %lld x %lld bf16", (long long)heads, (long long)length,
             (long long)width);
    if (!plan_attention(context, heads, length, width, &a)) {
        table_refused(r.what, attn_last_error_message());
    } else {
        place_attention(&a, (size_t)(heads * length * width) * 2, scores);
        r.implementation = attn_plan_implementation(a.whole);
        run_whole(&a);
        r.error = error_of(ATTN_BFLOAT16, a.args.output, heads * length * width, &one, 1);
        r.limit = times_warm((task){run_products, &a}) + 4e-3 * (double)scores / bandwidth;
        r.found = times_of((task){run_whole, &a});
        if (r.error <= 1)
            table_row(&r);
        else
            table_wrong(r.what, r.implementation, r.error);
    }
    attn_plan_destroy(a.whole);
    for (int i = 0; i < 2; i++) attn_plan_destroy(a.products[i]);
    gpu_free_since(mark);
}

/* ---- Masked softmax -------------------------------------------------------------------------------- */

typedef struct softmax {
    attn_plan *plan;
    attn_softmax_forward_args args;
} softmax;

static void run_softmax(const void *of) {
    const softmax *s = of;
    must(attn_softmax_forward(s->plan, &s->args));
}

void blocks_softmax_row(attn_context *context, attn_dtype dtype, int64_t heads, int64_t length, double bandwidth) {
    const int64_t count = heads * length * length;
    const size_t mark = gpu_mark(), bytes = (size_t)count * kit_element_size(dtype);
    const double expected[2] = {0, 2.0 / (double)length};
    attn_softmax_desc desc = ATTN_SOFTMAX_DESC_INIT;
    desc.dtype = dtype, desc.batch = 1, desc.heads = heads, desc.queries = desc.keys = length;
    softmax s = {NULL, ATTN_SOFTMAX_FORWARD_ARGS_INIT};
    row r = {.limit = 2e-3 * (double)bytes / bandwidth};
    snprintf(r.what, sizeof r.what, "softmax %lld x %lld x %lld %s", (long long)heads, (long long)length,
             (long long)length, kit_dtype_name(dtype));
    if (attn_softmax_forward_plan(context, &desc, &s.plan)) {
        table_refused(r.what, attn_last_error_message());
        return;
    }
    s.args.scores = gpu_fill(dtype == ATTN_FLOAT32 ? float_one : bfloat_ones, bytes);
    s.args.mask = gpu_fill(0x01000100u, (size_t)(length * length)), s.args.mask_query_stride = length;
    s.args.attention_weights = gpu_alloc(bytes);
    s.args.workspace_size = attn_plan_workspace_size(s.plan), s.args.workspace = gpu_alloc(s.args.workspace_size);
    r.implementation = attn_plan_implementation(s.plan);
    run_softmax(&s);
    r.error = error_of(dtype, s.args.attention_weights, count, expected, 2);
    r.found = times_of((task){run_softmax, &s});
    if (r.error <= 1)
        table_row(&r);
    else
        table_wrong(r.what, r.implementation, r.error);
    attn_plan_destroy(s.plan);
    gpu_free_since(mark);
}

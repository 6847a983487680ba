/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/gpu/peaks.h"

#include "attention/blocks.h"
#include "bench/gpu/device.h"
#include "bench/gpu/times.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct copy {
    driver_pointer to, from;
    size_t bytes;
} copy;

static void run_copy(const void *of) {
    const copy *c = of;
    DRIVER_MUST(gpu_driver->copy(c->to, c->from, c->bytes, gpu_stream));
}

double peaks_copy(bool small) {
    const size_t mark = gpu_mark(), bytes = small ? 4096 : (size_t)1 << 30;
    const copy c = {(driver_pointer)(uintptr_t)gpu_fill(1, bytes), (driver_pointer)(uintptr_t)gpu_fill(2, bytes),
                    bytes};
    const double time = times_best((task){run_copy, &c});
    gpu_free_since(mark);
    return 2e-3 * (double)bytes / time;
}

typedef struct product {
    attn_plan *plan;
    attn_matmul_args args;
} product;

static void run_product(const void *of) {
    const product *p = of;
    if (!attn_matmul(p->plan, &p->args)) return;
    fprintf(stderr, "attention-bench-gpu: %s\n", attn_last_error_message());
    exit(1);
}

double peaks_product(attn_context *context, attn_dtype dtype, bool small) {
    const int64_t n = small ? 8 : dtype == ATTN_FLOAT32 ? 4096 : 8192;
    const size_t mark = gpu_mark(), bytes = (size_t)(n * n) * (dtype == ATTN_FLOAT32 ? 4 : 2);
    const unsigned one = dtype == ATTN_FLOAT32 ? 0x3f800000u : 0x3f803f80u;
    attn_matmul_desc desc = ATTN_MATMUL_DESC_INIT;
    desc.dtype = dtype, desc.batch = 1, desc.rows = desc.columns = desc.depth = n;
    product p = {NULL, ATTN_MATMUL_ARGS_INIT};
    if (attn_matmul_plan(context, &desc, &p.plan)) return NAN;
    p.args.a = gpu_fill(one, bytes), p.args.b = gpu_fill(one, bytes), p.args.c = gpu_alloc(bytes);
    p.args.workspace_size = attn_plan_workspace_size(p.plan), p.args.workspace = gpu_alloc(p.args.workspace_size);
    const double time = times_best((task){run_product, &p});
    attn_plan_destroy(p.plan);
    gpu_free_since(mark);
    return 2e-6 * (double)n * (double)n * (double)n / time;
}

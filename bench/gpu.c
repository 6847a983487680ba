/* SPDX-License-Identifier: Apache-2.0 */
/* attention-bench-gpu MODULE: forward passes of the layer on the first GPU, each checked before it is timed.
 *
 *   warm    runs one behind the other, the time of all over their number: what of H fits the level 2 cache stays there
 *   cold    single runs, each after a write of more than the level 2 cache holds
 *   replay  a captured graph of runs, one behind the other: no launch by the CPU in between
 *
 * The limit is what H's bytes take at the bandwidth of a copy of the device's memory, measured in the same run; a copy's bytes are counted as
 * read and as written. Attention by composition stands beside its two products alone and the time to write and read the scores twice. */
#include "attention/attention_cuda.h"
#include "attention/blocks.h"
#include "tests/driver.h"
#include "tests/kit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WARM_RUNS = 200, COLD_RUNS = 30, GRAPH_RUNS = 50, COPIES = 20, FLUSH_WORDS = 64 << 20 };
static const size_t copy_bytes = (size_t)1 << 30;

static const driver *device;
static driver_stream stream;
static driver_pointer flushed;

/* ---- Times ----------------------------------------------------------------------------------------- */

static driver_event events[2];

static void start(void) { DRIVER_MUST(device->event_record(events[0], stream)); }

/* Microseconds since start, on the device. */
static double stop(void) {
    float milliseconds;
    DRIVER_MUST(device->event_record(events[1], stream));
    DRIVER_MUST(device->event_wait(events[1]));
    DRIVER_MUST(device->event_elapsed(&milliseconds, events[0], events[1]));
    return 1e3 * (double)milliseconds;
}

static int by_value(const void *a, const void *b) {
    const double left = *(const double *)a, right = *(const double *)b;
    return left < right ? -1 : left > right;
}

/* GB/s, reads and writes counted. */
static double copy_bandwidth(void) {
    driver_pointer from, to;
    DRIVER_MUST(device->alloc(&from, copy_bytes));
    DRIVER_MUST(device->alloc(&to, copy_bytes));
    double best = 0;
    for (int i = 0; i < COPIES; i++) {
        start();
        DRIVER_MUST(device->copy(to, from, copy_bytes, stream));
        const double bandwidth = 2e-3 * (double)copy_bytes / stop();
        best = bandwidth > best ? bandwidth : best;
    }
    DRIVER_MUST(device->free(from));
    DRIVER_MUST(device->free(to));
    return best;
}

/* ---- A workload ------------------------------------------------------------------------------------ */

enum { PIECES = 8 };

typedef struct workload {
    kit_problem *problem;
    attn_plan *plan;
    attn_layer_forward_args args; /* with the device's pointers */
    driver_pointer memory[PIECES];
    size_t output_bytes;
} workload;

/* A copy of the host's array in the device's memory. */
static void *put(driver_pointer *memory, const void *from, size_t bytes) {
    if (!from || bytes == 0) return NULL;
    DRIVER_MUST(device->alloc(memory, bytes));
    DRIVER_MUST(device->to_device(*memory, from, bytes));
    return (void *)(uintptr_t)*memory;
}

static size_t floats(int64_t a, int64_t b, int64_t c) { return (size_t)(a * b * c) * sizeof(float); }

static void place(workload *w) {
    const attn_layer_desc *d = &w->problem->desc;
    const int64_t width = d->query_features ? d->query_features : d->features,
                  additive = d->score_width ? d->score_width : width;
    const attn_layer_forward_args *host = &w->problem->args;
    attn_layer_forward_args *args = &w->args;
    *args = *host;
    args->context = args->attention_weights = args->lse = NULL;
    w->output_bytes = floats(d->batch, 1, d->units);
    args->h = put(&w->memory[0], host->h, floats(d->batch, d->timesteps, d->features));
    args->output = put(&w->memory[1], host->output, w->output_bytes);
    args->weights.luong_w = put(&w->memory[2], host->weights.luong_w, floats(d->features, width, 1));
    args->weights.bahdanau_w1 = put(&w->memory[3], host->weights.bahdanau_w1, floats(width, additive, 1));
    args->weights.bahdanau_w2 = put(&w->memory[4], host->weights.bahdanau_w2, floats(d->features, additive, 1));
    args->weights.bahdanau_v = put(&w->memory[5], host->weights.bahdanau_v, floats(additive, 1, 1));
    args->weights.w_c = put(&w->memory[6], host->weights.w_c, floats(d->features + width, d->units, 1));
    args->workspace_size = attn_plan_workspace_size(w->plan);
    if (args->workspace_size) DRIVER_MUST(device->alloc(&w->memory[7], args->workspace_size));
    args->workspace = (void *)(uintptr_t)w->memory[7];
}

static void forget(workload *w) {
    DRIVER_MUST(device->synchronize());
    for (int i = 0; i < PIECES; i++)
        if (w->memory[i]) DRIVER_MUST(device->free(w->memory[i]));
    attn_plan_destroy(w->plan);
    kit_problem_free(w->problem);
}

static void run(const workload *w) {
    if (!attn_layer_forward(w->plan, &w->args)) return;
    fprintf(stderr, "attention-bench-gpu: %s\n", attn_last_error_message());
    exit(1);
}

/* The largest error over its gate. */
static double error_of(workload *w) {
    run(w);
    DRIVER_MUST(device->stream_wait(stream));
    kit_problem_poison(w->problem);
    DRIVER_MUST(device->to_host(w->problem->args.output, w->memory[1], w->output_bytes));
    w->problem->given = KIT_OUTPUT;
    return kit_problem_check(w->problem).error;
}

static double warm(const workload *w) {
    for (int i = 0; i < 5; i++) run(w);
    start();
    for (int i = 0; i < WARM_RUNS; i++) run(w);
    return stop() / WARM_RUNS;
}

static double cold(const workload *w) {
    double times[COLD_RUNS];
    for (int i = 0; i < COLD_RUNS; i++) {
        DRIVER_MUST(device->fill(flushed, (unsigned)i, FLUSH_WORDS, stream));
        start();
        run(w);
        times[i] = stop();
    }
    qsort(times, COLD_RUNS, sizeof *times, by_value);
    return times[COLD_RUNS / 2];
}

static double replay(const workload *w) {
    driver_graph graph;
    driver_graph_exec exec;
    DRIVER_MUST(device->capture_begin(stream, DRIVER_CAPTURE_THREAD));
    for (int i = 0; i < GRAPH_RUNS; i++) run(w);
    DRIVER_MUST(device->capture_end(stream, &graph));
    DRIVER_MUST(device->graph_instantiate(&exec, graph, 0));
    DRIVER_MUST(device->graph_launch(exec, stream));
    start();
    for (int i = 0; i < 4; i++) DRIVER_MUST(device->graph_launch(exec, stream));
    const double time = stop() / (4 * GRAPH_RUNS);
    DRIVER_MUST(device->graph_exec_destroy(exec));
    DRIVER_MUST(device->graph_destroy(graph));
    return time;
}

static void measure(attn_context *context, attn_score score, int64_t batch, int64_t timesteps, double bandwidth) {
    kit_case spec = *kit_find_case(score == ATTN_SCORE_LUONG ? "luong_imdb_f32" : "bahdanau_imdb_f32");
    spec.batch = batch, spec.timesteps = timesteps, spec.distinct = batch < 8 ? batch : 8;
    workload w = {.problem = kit_problem_make(&spec, KIT_GUARD_FRONT)};
    printf("%-9s %5lld x %4lld x %lld -> %lld   ", kit_score_name(score), (long long)batch, (long long)timesteps,
           (long long)spec.features, (long long)spec.units);
    if (attn_layer_forward_plan(context, &w.problem->desc, &w.plan)) {
        printf("refused: %s\n", attn_last_error_message());
        kit_problem_free(w.problem);
        return;
    }
    place(&w);
    const double error = error_of(&w);
    if (error <= 1) {
        const double limit = 1e-3 * (double)floats(batch, timesteps, spec.features) / bandwidth;
        const double times[] = {warm(&w), cold(&w), replay(&w)};
        printf("%9.2f %9.2f %9.2f %9.2f %6.1f%% %7.3f  %s\n", times[0], times[1], times[2], limit,
               100 * limit / times[1], error, attn_plan_implementation(w.plan));
    } else {
        printf("wrong: error over gate %.3g\n", error);
    }
    forget(&w);
}

/* ---- Attention by composition ----------------------------------------------------------------------- */

enum { TENSORS = 6 };

/* A bfloat16 tensor of so many elements, all of them 1. */
static void *ones(driver_pointer *memory, int64_t elements) {
    DRIVER_MUST(device->alloc(memory, (size_t)elements * 2));
    DRIVER_MUST(device->fill(*memory, 0x3f803f80u, (size_t)elements / 2, stream));
    return (void *)(uintptr_t)*memory;
}

static void *scratch(driver_pointer *memory, size_t bytes) {
    if (bytes) DRIVER_MUST(device->alloc(memory, bytes));
    return (void *)(uintptr_t)*memory;
}

typedef struct product {
    attn_plan *plan;
    attn_matmul_args args;
} product;

static bool plan_product(attn_context *context, int64_t heads, int64_t rows, int64_t columns, int64_t depth,
                         uint64_t flags, product *p) {
    attn_matmul_desc desc = ATTN_MATMUL_DESC_INIT;
    desc.dtype = ATTN_BFLOAT16, desc.flags = flags, desc.batch = 1, desc.heads = heads;
    desc.rows = rows, desc.columns = columns, desc.depth = depth;
    p->args = (attn_matmul_args)ATTN_MATMUL_ARGS_INIT;
    p->args.a_head_stride = rows * depth, p->args.b_head_stride = columns * depth;
    return attn_matmul_plan(context, &desc, &p->plan) == ATTN_OK;
}

/* Microseconds of a run, warm. */
static double time_attention(const attn_plan *plan, const attn_sdpa_forward_args *args) {
    bool ok = attn_sdpa_forward(plan, args) == ATTN_OK;
    start();
    for (int i = 0; i < COPIES; i++) ok = attn_sdpa_forward(plan, args) == ATTN_OK && ok;
    const double time = stop() / COPIES;
    return ok ? time : NAN;
}

static double time_products(const product *products) {
    bool ok = true;
    for (int round = 0; round <= COPIES; round++) {
        if (round == 1) start();
        for (int i = 0; i < 2; i++) ok = attn_matmul(products[i].plan, &products[i].args) == ATTN_OK && ok;
    }
    const double time = stop() / COPIES;
    return ok ? time : NAN;
}

/* The whole beside its two products alone and the time to write and read the scores twice. */
static void measure_attention(attn_context *context, int64_t heads, int64_t length, int64_t width, double bandwidth) {
    driver_pointer memory[TENSORS] = {0};
    attn_sdpa_desc desc = ATTN_SDPA_DESC_INIT;
    attn_sdpa_forward_args args = ATTN_SDPA_FORWARD_ARGS_INIT;
    product products[2] = {{0}};
    attn_plan *plan = NULL;
    desc.dtype = ATTN_BFLOAT16, desc.batch = 1, desc.query_heads = heads, desc.head_dim = width;
    desc.queries = desc.keys = length;
    printf("attention %4lld x %5lld x %lld bf16      ", (long long)heads, (long long)length, (long long)width);
    if (attn_sdpa_forward_plan(context, &desc, &plan) ||
        !plan_product(context, heads, length, length, width, ATTN_MATMUL_TRANSPOSE_B, &products[0]) ||
        !plan_product(context, heads, length, width, length, 0, &products[1])) {
        printf("refused: %s\n", attn_last_error_message());
    } else {
        void *q = ones(&memory[0], heads * length * width), *k = ones(&memory[1], heads * length * width);
        void *out = ones(&memory[2], heads * length * width), *scores = ones(&memory[3], heads * length * length);
        args.q = q, args.k = args.v = k, args.output = out;
        args.workspace_size = attn_plan_workspace_size(plan);
        args.workspace = scratch(&memory[4], args.workspace_size);
        products[0].args.a = q, products[0].args.b = k, products[0].args.c = scores;
        products[1].args.a = scores, products[1].args.b = k, products[1].args.c = out;
        const size_t room = attn_plan_workspace_size(products[0].plan);
        products[0].args.workspace = products[1].args.workspace = scratch(&memory[5], room);
        products[0].args.workspace_size = products[1].args.workspace_size = room;
        const double whole = time_attention(plan, &args), alone = time_products(products);
        const double limit = alone + 4 * 2e-3 * (double)(heads * length * length) / bandwidth;
        printf("%9.1f, products %.1f, with the scores' bytes %.1f: %.2f times\n", whole, alone, limit, whole / limit);
    }
    DRIVER_MUST(device->synchronize());
    for (int i = 0; i < TENSORS; i++)
        if (memory[i]) DRIVER_MUST(device->free(memory[i]));
    attn_plan_destroy(plan);
    for (int i = 0; i < 2; i++) attn_plan_destroy(products[i].plan);
}

int main(int argc, char **argv) {
    if (argc != 2) return fputs("usage: attention-bench-gpu MODULE\n", stderr), 2;
    const char *why;
    device = driver_open(&why);
    if (!device) return fprintf(stderr, "attention-bench-gpu: %s\n", why), 3;
    DRIVER_MUST(device->stream_create(&stream, DRIVER_STREAM_NON_BLOCKING));
    for (int i = 0; i < 2; i++) DRIVER_MUST(device->event_create(&events[i], 0));
    DRIVER_MUST(device->alloc(&flushed, (size_t)FLUSH_WORDS * 4));
    attn_cuda_options cuda = ATTN_CUDA_OPTIONS_INIT;
    cuda.module = argv[1], cuda.stream = stream;
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.device = ATTN_DEVICE_CUDA, options.cuda = &cuda;
    attn_context *context;
    if (attn_context_create(&options, &context))
        return fprintf(stderr, "attention-bench-gpu: %s\n", attn_last_error_message()), 1;
    char name[128] = "";
    int version = 0;
    DRIVER_MUST(device->device_name(name, sizeof name, 0));
    DRIVER_MUST(device->version(&version));
    const double bandwidth = copy_bandwidth();
    printf("%s, driver for CUDA %d.%d, copy %.0f GB/s (read and written); microseconds, float32\n", name,
           version / 1000, version % 1000 / 10, bandwidth);
    printf("%-37s %9s %9s %9s %9s %7s %7s\n", "", "warm", "cold", "replay", "limit", "cold", "error");
    const int64_t batches[] = {1, 64, 1024, 4096};
    for (size_t s = 0; s < 2; s++)
        for (size_t b = 0; b < sizeof batches / sizeof *batches; b++)
            measure(context, s ? ATTN_SCORE_BAHDANAU : ATTN_SCORE_LUONG, batches[b], 500, bandwidth);
    measure_attention(context, 32, 4096, 128, bandwidth);
    measure_attention(context, 64, 2048, 64, bandwidth);
    measure_attention(context, 512, 512, 128, bandwidth);
    attn_context_destroy(context);
    return 0;
}

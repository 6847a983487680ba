/* SPDX-License-Identifier: Apache-2.0 */
/* attention-bench-gpu MODULE [--small] [--out FILE]: the layer, attention by composition and the masked softmax on the first GPU, each row checked
 * before it is timed, beside the limit of the device and what is wanted of it. --small takes sizes that an emulated module computes in seconds; --out
 * writes all that is printed to a file as well. Exit status 1 where a row is wrong. */
#include "bench/gpu/blocks.h"
#include "bench/gpu/device.h"
#include "bench/gpu/layer.h"
#include "bench/gpu/peaks.h"
#include "bench/gpu/table.h"
#include "bench/gpu/times.h"
#include "tools/streams.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct options {
    const char *module, *out;
    bool small;
} options;

static bool parse(int argc, char **argv, options *o) {
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--small"))
            o->small = true;
        else if (!strcmp(argv[i], "--out") && i + 1 < argc)
            o->out = argv[++i];
        else if (argv[i][0] == '-' || o->module)
            return false;
        else
            o->module = argv[i];
    }
    return o->module;
}

/* Returns the copy's GB/s. */
static double say_what_is_measured(const options *o, attn_context *context) {
    char device[512];
    gpu_describe(device, sizeof device);
    const double bandwidth = peaks_copy(o->small);
    table_say("%s\n", device);
    table_say("libattention %s, sources %s, %s, %s\n", attn_version(), BENCH_COMMIT, attn_context_isa(context),
              attn_context_blas(context));
    table_say("copy %.0f GB/s (read and written), products %.1f TFLOP/s in float32, %.1f in bfloat16\n", bandwidth,
              peaks_product(context, ATTN_FLOAT32, o->small), peaks_product(context, ATTN_BFLOAT16, o->small));
    table_say("microseconds; the limit is bytes at the copy's rate (attention: its two products alone, and the scores "
              "written and read twice), of it: "
              "cold\n\n");
    return bandwidth;
}

static void measure_layer(const options *o, double bandwidth) {
    static const attn_score scores[] = {ATTN_SCORE_LUONG, ATTN_SCORE_DOT, ATTN_SCORE_BAHDANAU};
    static const int64_t batches[] = {1, 64, 1024, 4096}, small_batches[] = {1, 16};
    const size_t count = o->small ? sizeof small_batches / sizeof *small_batches : sizeof batches / sizeof *batches;
    for (size_t s = 0; s < sizeof scores / sizeof *scores; s++)
        for (size_t b = 0; b < count; b++) {
            const layer_sizes full = {batches[b], 500, 100, 128}, tiny = {small_batches[b % 2], 5, 4, 3};
            const layer_sizes sizes = o->small ? tiny : full;
            layer_rows(o->module, scores[s], ATTN_FLOAT32, sizes, bandwidth);
            if (scores[s] != ATTN_SCORE_BAHDANAU) layer_rows(o->module, scores[s], ATTN_BFLOAT16, sizes, bandwidth);
        }
}

static void measure_blocks(const options *o, attn_context *context, double bandwidth) {
    static const int64_t attentions[][3] = {{32, 4096, 128}, {64, 2048, 64}, {512, 512, 128}};
    if (o->small) {
        blocks_attention_row(context, 2, 8, 4, bandwidth);
    } else {
        for (size_t i = 0; i < sizeof attentions / sizeof *attentions; i++)
            blocks_attention_row(context, attentions[i][0], attentions[i][1], attentions[i][2], bandwidth);
    }
    blocks_softmax_row(context, ATTN_FLOAT32, o->small ? 2 : 8, o->small ? 8 : 4096, bandwidth);
    blocks_softmax_row(context, ATTN_BFLOAT16, o->small ? 2 : 8, o->small ? 8 : 4096, bandwidth);
}

int main(int argc, char **argv) {
    options o = {0};
    streams_begin("attention-bench-gpu", 1);
    if (!parse(argc, argv, &o)) return fputs("usage: attention-bench-gpu MODULE [--small] [--out FILE]\n", stderr), 2;
    if (!table_open(o.out)) return 2;
    if (!gpu_open()) return 3;
    times_open(o.small);
    attn_context *context = gpu_context(o.module, NULL);
    const double bandwidth = say_what_is_measured(&o, context);
    table_head();
    measure_layer(&o, bandwidth);
    measure_blocks(&o, context, bandwidth);
    attn_context_destroy(context);
    return table_close() ? 0 : 1;
}

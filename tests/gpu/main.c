/* SPDX-License-Identifier: Apache-2.0 */
/* attention_gpu MODULE [--quick]: what only a GPU and its driver can show, beside the cases that attention_cases runs there: runs captured
 * in graphs, runs beside others, and the CPU's results beside CUDA's. --quick leaves out what takes an emulated module long. Closes with
 * 'N passed, M failed'. */
#include "tests/gpu/checks.h"
#include "tests/kit_device.h"
#include "tests/walk.h"

#include <stdio.h>
#include <string.h>

static tally counted;
static const char *module;

void tally_count(tally *t, bool ok, const char *name, const char *what) {
    if (ok)
        t->passed++;
    else
        t->failed++, fprintf(stderr, "FAIL %s: %s\n", name, what);
}

/* The layer's cases, whose outputs lie densely. */
static const struct layer_row {
    const char *name;
    attn_dtype stored;
    bool quick;
} layers[] = {
    {"luong_t500_f32", 0, true},
    {"luong_odd_f32", ATTN_BFLOAT16, true},
    {"luong_range_mask_f32", 0, true},
    {"luong_queries_all_f32", 0, true},
    {"dot_d129_f32", 0, true},
    {"dot_d129_f32", ATTN_FLOAT16, true},
    {"bahdanau_odd_f32", 0, true},
    {"bahdanau_d64_f32", 0, false},
    {"bahdanau_queries_all_f32", 0, false},
};

static const char *const attentions[] = {"everything_f32", "mask_and_bias_bf16", "one_query_grouped_f16"};
static const attn_dtype dtypes[] = {ATTN_FLOAT32, ATTN_BFLOAT16, ATTN_FLOAT16};

/* Checks a subject that could be made. */
static void graph_of(subject *s, bool made) {
    if (made)
        check_graph(&counted, s);
    else
        printf("skipped: %s: %s\n", s->name, attn_last_error_message());
    subject_close(s);
}

static void graphs_of_layer(const struct layer_row *row) {
    const kit_case *spec = kit_find_case(row->name);
    const char *names[WALK_IMPLEMENTATIONS];
    subject s;
    size_t count = walk_usable(spec, names);
    for (size_t i = 0; i < count; i++) graph_of(&s, subject_forward(&s, spec, row->stored, module, names[i]));
    count = row->stored ? 0 : walk_usable_backward(spec, names);
    for (size_t i = 0; i < count; i++) graph_of(&s, subject_backward(&s, spec, module, names[i]));
}

static void check_graphs(bool quick) {
    subject s;
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++)
        if (layers[i].quick || !quick) graphs_of_layer(&layers[i]);
    for (size_t i = 0; i < sizeof attentions / sizeof *attentions; i++)
        graph_of(&s, subject_attention(&s, attentions[i], module));
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        graph_of(&s, subject_matmul(&s, dtypes[i], module));
        graph_of(&s, subject_softmax(&s, false, dtypes[i], module));
        graph_of(&s, subject_softmax(&s, true, dtypes[i], module));
    }
}

/* Two passes of the layer; then two that share a library below. */
static void check_pairs(bool quick) {
    static const char *const pairs[][2] = {{"luong_d129_f32", "luong_queries_all_f32"},
                                           {"bahdanau_odd_f32", "luong_odd_f32"}};
    const int rounds = quick ? 5 : 50;
    subject one, other;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        const bool made = subject_forward(&one, kit_find_case(pairs[i][0]), 0, module, NULL);
        if (subject_backward(&other, kit_find_case(pairs[i][1]), module, NULL) && made)
            check_streams(&counted, &one, &other, rounds);
        else
            tally_count(&counted, false, pairs[i][0], "is refused");
        subject_close(&one);
        subject_close(&other);
    }
    const bool made = subject_attention(&one, attentions[0], module);
    if (subject_matmul(&other, ATTN_FLOAT32, module) && made) check_streams(&counted, &one, &other, rounds);
    subject_close(&one);
    subject_close(&other);
}

/* Multiplications of the additive score, the costliest. */
static int64_t work_of(const kit_case *spec) {
    const int64_t width =
        spec->score == ATTN_SCORE_BAHDANAU ? spec->score_width ? spec->score_width : spec->features : 4;
    return spec->batch * spec->timesteps * spec->features * width;
}

static void check_cases(bool quick) {
    size_t count;
    const kit_case *cases = kit_cases(&count);
    for (size_t i = 0; i < count; i++)
        if (cases[i].dtype == ATTN_FLOAT32 && work_of(&cases[i]) < (quick ? 2000 : 10000000))
            check_against_cpu(&counted, &cases[i]);
}

int main(int argc, char **argv) {
    const bool quick = argc == 3 && !strcmp(argv[2], "--quick");
    if (argc != 2 && !quick) return fputs("usage: attention_gpu MODULE [--quick]\n", stderr), 2;
    const char *why;
    module = argv[1];
    subject_driver = driver_open(&why);
    if (!subject_driver) return fprintf(stderr, "attention_gpu: %s\n", why), 3;
    kit_device_use(module);
    check_graphs(quick);
    check_pairs(quick);
    check_cases(quick);
    printf("%d passed, %d failed\n", counted.passed, counted.failed);
    return counted.failed || !counted.passed;
}

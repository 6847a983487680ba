/* SPDX-License-Identifier: Apache-2.0 */
/* attention_gpu MODULE: what only a real GPU can show, beside the cases that attention_cases runs on it. Closes with 'N passed, M failed'. */
#include "attention/attention_cuda.h"
#include "tests/driver.h"
#include "tests/kit.h"
#include "tests/kit_device.h"
#include "tests/sdpa_kit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 50, OUTPUTS = 4 };

static const driver *device;
static int passed, failed;

static void count(bool ok, const char *what, const char *name) {
    if (ok)
        passed++;
    else
        failed++, fprintf(stderr, "FAIL %s: %s\n", name, what);
}

/* A case that is ready to run on a stream of its own. */
typedef struct subject {
    kit_problem *problem;
    attn_context *context;
    attn_plan *plan;
    driver_stream stream;
    attn_layer_forward_args args;
    void *first[OUTPUTS]; /* bytes of the first run's outputs */
    size_t bytes[OUTPUTS];
} subject;

static subject make(const char *name, const char *module) {
    subject s = {.problem = kit_problem_make(kit_find_case(name), KIT_GUARD_BEHIND)};
    DRIVER_MUST(device->stream_create(&s.stream, DRIVER_STREAM_NON_BLOCKING));
    attn_cuda_options cuda = ATTN_CUDA_OPTIONS_INIT;
    cuda.module = module, cuda.stream = s.stream;
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.device = ATTN_DEVICE_CUDA, options.cuda = &cuda;
    if (attn_context_create(&options, &s.context) || attn_layer_forward_plan(s.context, &s.problem->desc, &s.plan)) {
        fprintf(stderr, "attention_gpu: %s\n", attn_last_error_message());
        exit(1);
    }
    s.args = s.problem->args;
    s.args.workspace_size = attn_plan_workspace_size(s.plan);
    s.args.workspace = kit_alloc(s.args.workspace_size, KIT_GUARD_BEHIND);
    s.problem->given = KIT_ALL_OUTPUTS;
    return s;
}

static void clear(subject *s) {
    kit_free(s->args.workspace);
    attn_plan_destroy(s->plan);
    attn_context_destroy(s->context);
    DRIVER_MUST(device->stream_destroy(s->stream));
    kit_problem_free(s->problem);
    for (int i = 0; i < OUTPUTS; i++) free(s->first[i]);
}

static bool run(const subject *s) { return attn_layer_forward(s->plan, &s->args) == ATTN_OK; }

/* Runs, judges, and remembers. */
static void run_first(subject *s) {
    kit_problem_poison(s->problem);
    bool ok = run(s);
    DRIVER_MUST(device->stream_wait(s->stream));
    ok = ok && kit_problem_check(s->problem).error <= 1;
    count(ok, "the first run is wrong", s->problem->spec.name);
    for (int i = 0; i < OUTPUTS; i++) s->first[i] = kit_problem_output(s->problem, 1u << i, &s->bytes[i]);
}

/* Whether the outputs are those of the first run, the layer's own output negated where `negated`. */
static bool same_as_first(const subject *s, bool negated) {
    bool same = true;
    for (int i = 0; i < OUTPUTS; i++) {
        size_t bytes;
        unsigned char *now = kit_problem_output(s->problem, 1u << i, &bytes);
        for (size_t at = 3; negated && i == 0 && at < bytes; at += 4) now[at] ^= 0x80;
        same = same && bytes == s->bytes[i] && (bytes == 0 || !memcmp(now, s->first[i], bytes));
        free(now);
    }
    return same;
}

static bool replay(const subject *s, driver_graph_exec graph) {
    kit_problem_poison(s->problem);
    const bool ok = !device->graph_launch(graph, s->stream);
    DRIVER_MUST(device->stream_wait(s->stream));
    return ok;
}

/* A captured run does nothing until it is replayed, then gives the same bits, and sees what changed in between. */
static void check_graph(const char *name, const char *module) {
    subject s = make(name, module);
    run_first(&s);
    driver_graph graph;
    driver_graph_exec exec;
    kit_problem_poison(s.problem);
    DRIVER_MUST(device->capture_begin(s.stream, DRIVER_CAPTURE_THREAD));
    const bool captured = run(&s);
    DRIVER_MUST(device->capture_end(s.stream, &graph));
    count(captured, "a run can't be captured", name);
    count(!same_as_first(&s, false), "a captured run ran", name);
    DRIVER_MUST(device->graph_instantiate(&exec, graph, 0));
    for (int i = 0; i < 2; i++) count(replay(&s, exec) && same_as_first(&s, false), "a replay gives other bits", name);
    float *w_c = (float *)(uintptr_t)s.args.weights.w_c;
    const kit_case *spec = &s.problem->spec;
    const int64_t query = spec->query_features ? spec->query_features : spec->features;
    for (int64_t i = 0; i < (spec->features + query) * spec->units; i++) w_c[i] = -w_c[i];
    count(replay(&s, exec) && same_as_first(&s, true), "a replay does not see new weights", name);
    DRIVER_MUST(device->graph_exec_destroy(exec));
    DRIVER_MUST(device->graph_destroy(graph));
    clear(&s);
}

static void check_streams(const char *one, const char *other, const char *module) {
    subject pair[2] = {make(one, module), make(other, module)};
    bool ok = true;
    for (int i = 0; i < 2; i++) {
        run_first(&pair[i]);
        kit_problem_poison(pair[i].problem);
    }
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < 2; i++) ok = run(&pair[i]) && ok;
    for (int i = 0; i < 2; i++) DRIVER_MUST(device->stream_wait(pair[i].stream));
    for (int i = 0; i < 2; i++)
        count(ok && same_as_first(&pair[i], false), "beside another stream it gives other bits", one);
    for (int i = 0; i < 2; i++) clear(&pair[i]);
}

static void poison_attention(const sdpa_problem *problem) {
    for (int i = 0; i < SDPA_OUTPUTS; i++)
        memset(problem->outputs[i].memory, 0xff, problem->outputs[i].elements * problem->outputs[i].element);
}

/* Whether its outputs are these. */
static bool has_bits(const sdpa_problem *problem, const void *bits) {
    size_t bytes;
    void *now = sdpa_problem_bits(problem, &bytes);
    const bool same = !memcmp(now, bits, bytes);
    free(now);
    return same;
}

static void replay_attention(sdpa_problem *problem, const attn_plan *plan, driver_stream stream) {
    const char *name = problem->spec.name;
    size_t bytes;
    void *first = sdpa_problem_bits(problem, &bytes);
    attn_sdpa_forward_args args = problem->args;
    args.workspace_size = attn_plan_workspace_size(plan);
    args.workspace = kit_alloc(args.workspace_size, KIT_GUARD_BEHIND);
    driver_graph graph;
    driver_graph_exec exec;
    poison_attention(problem);
    DRIVER_MUST(device->capture_begin(stream, DRIVER_CAPTURE_THREAD));
    const bool captured = attn_sdpa_forward(plan, &args) == ATTN_OK;
    DRIVER_MUST(device->capture_end(stream, &graph));
    count(captured, "a run can't be captured", name);
    count(!has_bits(problem, first), "a captured run ran", name);
    DRIVER_MUST(device->graph_instantiate(&exec, graph, 0));
    for (int i = 0; i < 2; i++) {
        poison_attention(problem);
        const bool launched = !device->graph_launch(exec, stream);
        DRIVER_MUST(device->stream_wait(stream));
        count(launched && has_bits(problem, first), "a replay gives other bits", name);
    }
    DRIVER_MUST(device->graph_exec_destroy(exec));
    DRIVER_MUST(device->graph_destroy(graph));
    kit_free(args.workspace);
    free(first);
}

/* Attention on cuBLAS: right, captured without running, replayed to the same bits. */
static void check_attention(const char *name, const char *module) {
    sdpa_problem *problem = sdpa_problem_make(sdpa_find_case(name), KIT_GUARD_BEHIND);
    driver_stream stream;
    DRIVER_MUST(device->stream_create(&stream, DRIVER_STREAM_NON_BLOCKING));
    attn_cuda_options cuda = ATTN_CUDA_OPTIONS_INIT;
    cuda.module = module, cuda.stream = stream;
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.device = ATTN_DEVICE_CUDA, options.cuda = &cuda;
    attn_context *context = NULL;
    attn_plan *plan = NULL;
    if (attn_context_create(&options, &context) || attn_sdpa_forward_plan(context, &problem->desc, &plan)) {
        printf("skipped: %s: %s\n", name, attn_last_error_message());
    } else {
        count(sdpa_problem_run(problem, plan) == ATTN_OK && sdpa_problem_check(problem).error <= 1, "is wrong", name);
        replay_attention(problem, plan, stream);
    }
    attn_plan_destroy(plan);
    attn_context_destroy(context);
    DRIVER_MUST(device->stream_destroy(stream));
    sdpa_problem_free(problem);
}

int main(int argc, char **argv) {
    if (argc != 2) return fputs("usage: attention_gpu MODULE\n", stderr), 2;
    const char *why;
    device = driver_open(&why);
    if (!device) return fprintf(stderr, "attention_gpu: %s\n", why), 3;
    kit_device_use(argv[1]);
    check_graph("luong_t500_f32", argv[1]);
    check_graph("dot_d129_f32", argv[1]);
    check_attention("everything_f32", argv[1]);
    check_attention("mask_and_bias_bf16", argv[1]);
    check_attention("one_query_grouped_f16", argv[1]);
    check_streams("luong_d129_f32", "luong_queries_all_f32", argv[1]);
    printf("%d passed, %d failed\n", passed, failed);
    return failed || !passed;
}

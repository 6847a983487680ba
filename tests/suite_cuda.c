/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts on CUDA, by the emulated module: how they come about or fail to, and what runs do about errors of the runtime. The cases themselves
 * are walked by attention_cases --cuda. */
#include "tests/suite_emulated.h"

#include <sys/wait.h>
#include <unistd.h>

static void expect_cpu_usable(void) {
    attn_context *context;
    cr_assert(attn_context_create(NULL, &context) == ATTN_OK, "%s", attn_last_error_message());
    kit_problem *problem = kit_problem_make(find_case("luong_odd_f32"), KIT_GUARD_BEHIND);
    attn_plan *plan;
    cr_assert(attn_layer_forward_plan(context, &problem->desc, &plan) == ATTN_OK);
    expect_healthy(problem, plan, "on the CPU");
    attn_plan_destroy(plan);
    attn_context_destroy(context);
    kit_problem_free(problem);
}

static void expect_refused(const attn_cuda_options *cuda, attn_status wanted, const char *part) {
    attn_context *context = (attn_context *)1;
    const attn_status status = create(cuda, &context);
    cr_assert(status == wanted, "%s: %s", attn_status_string(status), attn_last_error_message());
    cr_assert(!context);
    cr_assert(strstr(attn_last_error_message(), part), "no \"%s\" in: %s", part, attn_last_error_message());
    expect_cpu_usable();
}

Test(cuda, modules) {
    attn_cuda_options cuda = ATTN_CUDA_OPTIONS_INIT;
#ifndef MODULE_BESIDE
    expect_refused(NULL, ATTN_ERROR_NO_MODULE, "not beside the library");
#endif
    cuda.module = "/nowhere/libattention_cuda.so";
    expect_refused(&cuda, ATTN_ERROR_NO_MODULE, "/nowhere");
    cuda.module = "/dev/null";
    expect_refused(&cuda, ATTN_ERROR_NO_MODULE, "can't be loaded");
    cuda.module = UNFIT_FOLDER "/libunfit_module_no_entry.so";
    expect_refused(&cuda, ATTN_ERROR_MODULE_VERSION, "attn_cuda_module");
    cuda.module = UNFIT_FOLDER "/libunfit_module_version.so";
    expect_refused(&cuda, ATTN_ERROR_MODULE_VERSION, "0.0.1");
    cuda.module = UNFIT_FOLDER "/libunfit_module_interface.so";
    expect_refused(&cuda, ATTN_ERROR_MODULE_VERSION, "another build");
}

/* NVIDIA's runtime in the module of a build by nvcc, on a machine that may have no GPU: an answer, and one that is the machine's. */
Test(cuda, real_module) {
    attn_cuda_options cuda = ATTN_CUDA_OPTIONS_INIT;
    cuda.module = getenv("ATTN_TEST_CUDA_MODULE");
#ifdef MODULE_BESIDE
    if (!cuda.module) cuda.module = "";
#endif
    if (!cuda.module) {
        fprintf(stderr, "skipped: ATTN_TEST_CUDA_MODULE names no module\n");
        return;
    }
    attn_context *context;
    const attn_status status = create(&cuda, &context);
    cr_assert(status == ATTN_OK || (status >= ATTN_ERROR_NO_DRIVER && status <= ATTN_ERROR_ARCHITECTURE), "%s: %s",
              attn_status_string(status), attn_last_error_message());
    attn_context_destroy(context);
    expect_cpu_usable();
}

Test(cuda, machines) {
    attn_emulated *const m = machine();
    const attn_emulated sound = *m;
    attn_cuda_options cuda = emulated_options();
    m->driver = 0;
    expect_refused(&cuda, ATTN_ERROR_NO_DRIVER, "no CUDA driver");
    *m = sound, m->driver = 12080;
    expect_refused(&cuda, ATTN_ERROR_OLD_DRIVER, "older");
    *m = sound, m->devices = 0;
    expect_refused(&cuda, ATTN_ERROR_NO_DEVICE, "device 0");
    *m = sound, cuda.ordinal = 1;
    expect_refused(&cuda, ATTN_ERROR_NO_DEVICE, "device 1");
    cuda.ordinal = 0, m->without_code = 1;
    expect_refused(&cuda, ATTN_ERROR_ARCHITECTURE, "no code");
    *m = sound, m->record = 1;
    expect_refused(&cuda, ATTN_ERROR_PENDING, "cudaGetLastError");
    cr_assert(m->record == 1, "the caller's error was taken");
    *m = sound, m->lost = 700;
    expect_refused(&cuda, ATTN_ERROR_DEVICE_LOST, "failed");
    *m = sound;
    attn_context *context;
    cr_assert(create(&cuda, &context) == ATTN_OK, "%s", attn_last_error_message());
    cr_assert(!strcmp(attn_context_isa(context), "sm90") && strstr(attn_context_cpu_features(context), "emulated"));
    cr_assert(attn_context_threads(context) == 1 && *attn_context_blas(context));
    cr_assert(!strcmp(attn_context_implementation_name(context, 0), "cuda:simt:luong:forward:f32"));
    attn_context_destroy(context);
}

Test(cuda, options) {
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    attn_cuda_options cuda = emulated_options();
    attn_context *context;
    options.cuda = &cuda;
    cr_assert(attn_context_create(&options, &context) == ATTN_ERROR_INVALID_ARGUMENT);
    options.device = (attn_device_kind)2;
    cr_assert(attn_context_create(&options, &context) == ATTN_ERROR_UNSUPPORTED);
    options.device = ATTN_DEVICE_CUDA, options.isa = "avx2";
    cr_assert(attn_context_create(&options, &context) == ATTN_ERROR_INVALID_ARGUMENT);
    options.isa = NULL, cuda.flags = 1;
    cr_assert(attn_context_create(&options, &context) == ATTN_ERROR_UNSUPPORTED);
    cuda.flags = 0, cuda.ordinal = -1;
    cr_assert(attn_context_create(&options, &context) == ATTN_ERROR_INVALID_ARGUMENT);
    cuda.ordinal = 0, options.implementation = "cpu:scalar";
    cr_assert(attn_context_create(&options, &context) == ATTN_ERROR_UNSUPPORTED);
    options.implementation = "cuda:simt", cuda.struct_size = 4;
    cr_assert(attn_context_create(&options, &context) == ATTN_ERROR_INVALID_ARGUMENT);
    cuda = emulated_options();
    cr_assert(attn_context_create(&options, &context) == ATTN_OK, "%s", attn_last_error_message());
    attn_context_destroy(context);
}

static void expect_storage(attn_context *context, attn_score score, attn_dtype dtype, attn_dtype stored,
                           attn_status wanted, const char *part) {
    attn_layer_desc desc = ATTN_LAYER_DESC_INIT;
    desc.batch = 2, desc.timesteps = 5, desc.features = 4, desc.units = 3;
    desc.score = score, desc.dtype = dtype, desc.h_dtype = stored;
    const struct {
        attn_status (*plan)(attn_context *, const attn_layer_desc *, attn_plan **);
        uint64_t flags;
    } passes[] = {{attn_layer_forward_plan, 0},
                  {attn_layer_forward_plan, ATTN_LAYER_TRAINING},
                  {attn_layer_backward_plan, ATTN_LAYER_RECOMPUTE}};
    for (size_t i = 0; i < sizeof passes / sizeof *passes; i++) {
        attn_plan *plan;
        desc.flags = passes[i].flags;
        const attn_status status = passes[i].plan(context, &desc, &plan);
        cr_assert(status == wanted, "%zu: %s: %s", i, attn_status_string(status), attn_last_error_message());
        cr_assert(!part || strstr(attn_last_error_message(), part), "no \"%s\" in: %s", part,
                  attn_last_error_message());
        attn_plan_destroy(plan);
    }
}

/* H in 16 bits: who reads it, and who says that it does not. */
Test(cuda, storage_of_h) {
    const attn_cuda_options cuda = emulated_options();
    attn_context *gpu, *cpu;
    cr_assert(create(&cuda, &gpu) == ATTN_OK && attn_context_create(NULL, &cpu) == ATTN_OK);
    const attn_status no = ATTN_ERROR_UNSUPPORTED;
    for (int score = ATTN_SCORE_LUONG; score <= ATTN_SCORE_DOT; score++) {
        expect_storage(gpu, score, ATTN_FLOAT32, ATTN_FLOAT16, ATTN_OK, NULL);
        expect_storage(gpu, score, ATTN_FLOAT32, ATTN_BFLOAT16, ATTN_OK, NULL);
        expect_storage(cpu, score, ATTN_FLOAT32, ATTN_FLOAT16, no, "reads no H in f16");
        expect_storage(cpu, score, ATTN_FLOAT32, ATTN_BFLOAT16, no, "reads no H in bf16");
    }
    expect_storage(cpu, ATTN_SCORE_DOT, ATTN_FLOAT64, ATTN_FLOAT64, ATTN_OK, NULL);
    expect_storage(gpu, ATTN_SCORE_LUONG, ATTN_FLOAT64, ATTN_FLOAT16, no, "desc.h_dtype: is f16, want 0");
    expect_storage(gpu, ATTN_SCORE_LUONG, ATTN_FLOAT32, ATTN_FLOAT64, no, "desc.h_dtype: is 1");
    expect_storage(gpu, ATTN_SCORE_LUONG, ATTN_FLOAT32, (attn_dtype)7, no, "desc.h_dtype: is 7");
    attn_context_destroy(gpu);
    attn_context_destroy(cpu);
}

/* Forward and backward through one problem in training; `gap` bytes lie between the starts of grad_h and w_c's gradient, which ends the memory. */
static attn_status run_close(kit_problem *problem, attn_context *context, size_t gap) {
    attn_layer_desc desc = problem->desc;
    desc.flags = ATTN_LAYER_TRAINING;
    attn_plan *forward, *backward;
    cr_assert(attn_layer_forward_plan(context, &desc, &forward) == ATTN_OK, "%s", attn_last_error_message());
    cr_assert(attn_layer_backward_plan(context, &desc, &backward) == ATTN_OK, "%s", attn_last_error_message());
    cr_assert(kit_problem_run(problem, forward, KIT_CONTEXT) == ATTN_OK, "%s", attn_last_error_message());
    attn_layer_backward_args args = kit_problem_back_args(problem, KIT_CONTEXT, 0);
    const size_t of_w_c = (size_t)(2 * desc.features * desc.units) * sizeof(float);
    char *const memory = kit_alloc(gap + of_w_c, KIT_GUARD_BEHIND);
    args.grad_h = memory, args.gradients.w_c = memory + gap;
    args.workspace_size = attn_plan_workspace_size(backward);
    args.workspace = kit_alloc(args.workspace_size, KIT_GUARD_BEHIND);
    const attn_status status = attn_layer_backward(backward, &args);
    kit_free(args.workspace);
    kit_free(memory);
    attn_plan_destroy(forward);
    attn_plan_destroy(backward);
    return status;
}

/* The gradient of an H in 16 bits takes up as much memory as that of any other, and is aligned as such. */
Test(cuda, gradient_of_short_h) {
    const attn_cuda_options cuda = emulated_options();
    kit_case spec = *find_case("luong_d8_f32");
    spec.h_dtype = ATTN_BFLOAT16;
    kit_problem *problem = kit_problem_make(&spec, KIT_GUARD_BEHIND);
    const size_t bytes = (size_t)(spec.batch * spec.timesteps * spec.features) * sizeof(float);
    attn_context *context;
    cr_assert(create(&cuda, &context) == ATTN_OK);
    cr_assert(run_close(problem, context, bytes) == ATTN_OK, "%s", attn_last_error_message());
    cr_assert(run_close(problem, context, bytes - sizeof(float)) == ATTN_ERROR_OVERLAP);
    cr_assert(run_close(problem, context, bytes / 2) == ATTN_ERROR_OVERLAP);
    cr_assert(run_close(problem, context, bytes + 2) == ATTN_ERROR_ALIGNMENT);
    attn_context_destroy(context);
    kit_problem_free(problem);
}

/* A plan on device 0 of two, and the problem that it is for. */
typedef struct fixture {
    kit_problem *problem;
    attn_plan *plan;
} fixture;

static fixture make_fixture(const char *name, int ordinal, void *stream) {
    fixture f = {.problem = kit_problem_make(find_case(name), KIT_GUARD_BEHIND)};
    attn_cuda_options cuda = emulated_options();
    cuda.ordinal = ordinal, cuda.stream = stream;
    attn_context *context;
    cr_assert(create(&cuda, &context) == ATTN_OK, "%s", attn_last_error_message());
    cr_assert(attn_layer_forward_plan(context, &f.problem->desc, &f.plan) == ATTN_OK, "%s", attn_last_error_message());
    attn_context_destroy(context);
    return f;
}

static void free_fixture(fixture *f) {
    attn_plan_destroy(f->plan);
    kit_problem_free(f->problem);
}

Test(cuda, device_and_stream) {
    attn_emulated *const m = machine();
    m->devices = 3, m->current = 2;
    int stream;
    fixture f = make_fixture("luong_range_mask_f32", 1, &stream);
    expect_healthy(f.problem, f.plan, "on another device");
    cr_assert(m->current == 2, "the current device is %d", m->current);
    cr_assert(m->stream == &stream && m->launches == 4);
    free_fixture(&f);
}

/* The n-th call of the runtime fails, for every n: a status, no error left behind, and the next run is sound. */
Test(cuda, failing_calls) {
    attn_emulated *const m = machine();
    static const struct {
        int error;
        attn_status status;
    } faults[] = {{2, ATTN_ERROR_OUT_OF_MEMORY}, {1, ATTN_ERROR_INTERNAL}};
    m->devices = 2;
    fixture f = make_fixture("luong_odd_f32", 1, NULL);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        m->fail_with = faults[i].error;
        size_t n = 0;
        for (bool reached = true; reached; n++) {
            m->fail_at = n + 1;
            attn_context *context;
            const attn_cuda_options cuda = emulated_options();
            attn_status status = create(&cuda, &context);
            reached = m->fail_at == 0;
            cr_assert(status == (reached ? faults[i].status : ATTN_OK), "creation, call %zu: %d", n, status);
            cr_assert(!m->record);
            attn_context_destroy(context);
        }
        cr_assert(n > 4, "%zu calls", n);
        n = 0;
        for (bool reached = true; reached; n++) {
            m->fail_at = n + 1;
            const attn_status status = kit_problem_run(f.problem, f.plan, KIT_ALL_OUTPUTS);
            reached = m->fail_at == 0;
            /* What puts the caller's device back comes after the work: nothing is left to report then. */
            cr_assert(status == (reached ? faults[i].status : ATTN_OK) || (reached && n >= 6), "run, call %zu: %d", n,
                      status);
            cr_assert(!m->record);
            m->current = 0;
        }
        cr_assert(n > 6, "%zu calls", n);
        m->fail_at = 0;
        expect_healthy(f.problem, f.plan, "after failures");
    }
    free_fixture(&f);
}

Test(cuda, errors_of_others) {
    attn_emulated *const m = machine();
    fixture f = make_fixture("dot_odd_f32", 0, NULL);
    m->record = 1;
    cr_assert(kit_problem_run(f.problem, f.plan, KIT_ALL_OUTPUTS) == ATTN_ERROR_PENDING);
    cr_assert(strstr(attn_last_error_message(), "nothing was computed"), "%s", attn_last_error_message());
    cr_assert(m->record == 1 && m->launches == 0);
    m->record = 0;
    expect_healthy(f.problem, f.plan, "when it was taken");
    m->lost = 700;
    cr_assert(kit_problem_run(f.problem, f.plan, KIT_ALL_OUTPUTS) == ATTN_ERROR_DEVICE_LOST);
    m->lost = 0;
    free_fixture(&f);
}

Test(cuda, forked_child) {
    fixture f = make_fixture("luong_odd_f32", 0, NULL);
    const pid_t child = fork();
    cr_assert(child >= 0);
    if (child == 0) {
        const bool refused = kit_problem_run(f.problem, f.plan, KIT_ALL_OUTPUTS) == ATTN_ERROR_FORKED;
        attn_plan_destroy(f.plan);
        _exit(refused ? 0 : 1);
    }
    int status;
    cr_assert(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    expect_healthy(f.problem, f.plan, "in the parent");
    free_fixture(&f);
}

/* Ranges that leave [0, T] give what the clamped ones give. */
Test(cuda, clamped_ranges) {
    fixture f = make_fixture("luong_range_f32", 0, NULL);
    int32_t *const starts = (int32_t *)f.problem->args.starts, *const lengths = (int32_t *)f.problem->args.lengths;
    const int32_t T = (int32_t)f.problem->desc.timesteps;
    const struct {
        int32_t start, length, as_start, as_length;
    } ranges[] = {{-5, 7, 0, 7}, {3, INT32_MAX, 3, T - 3}, {INT32_MAX, 4, T, 0}, {INT32_MIN, INT32_MIN, 0, 0}};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        for (int64_t b = 0; b < f.problem->desc.batch; b++)
            starts[b] = ranges[i].as_start, lengths[b] = ranges[i].as_length;
        bits clamped = run_bits(f.problem, f.plan);
        for (int64_t b = 0; b < f.problem->desc.batch; b++) starts[b] = ranges[i].start, lengths[b] = ranges[i].length;
        bits wild = run_bits(f.problem, f.plan);
        cr_assert(bits_equal(&clamped, &wild), "range %zu", i);
        bits_free(&clamped);
        bits_free(&wild);
    }
    free_fixture(&f);
}

static attn_status run_back(fixture *f, attn_context **context) {
    attn_cuda_options cuda = emulated_options();
    attn_layer_desc desc = f->problem->desc;
    attn_plan *forward = NULL, *backward = NULL;
    desc.flags = ATTN_LAYER_TRAINING;
    attn_status status = create(&cuda, context);
    if (!status) status = attn_layer_forward_plan(*context, &desc, &forward);
    if (!status) status = attn_layer_backward_plan(*context, &desc, &backward);
    if (!status) status = kit_problem_run(f->problem, forward, KIT_CONTEXT);
    if (!status) status = kit_problem_back(f->problem, backward, KIT_ALL_OUTPUTS, KIT_ALL_GRADIENTS, 0);
    attn_plan_destroy(forward);
    attn_plan_destroy(backward);
    attn_context_destroy(*context);
    return status;
}

/* The same for the two passes of training, whose calls all report what they meet. */
Test(cuda, failing_calls_in_training) {
    attn_emulated *const m = machine();
    fixture f = make_fixture("luong_odd_f32", 0, NULL);
    m->fail_with = 2;
    size_t n = 0;
    for (bool reached = true; reached; n++) {
        attn_context *context;
        m->fail_at = n + 1;
        const attn_status status = run_back(&f, &context);
        reached = m->fail_at == 0;
        cr_assert(status == (reached ? ATTN_ERROR_OUT_OF_MEMORY : ATTN_OK), "call %zu: %d", n, status);
        cr_assert(!m->record);
    }
    cr_assert(n > 20, "%zu calls", n);
    const kit_verdict verdict = kit_problem_check_back(f.problem);
    cr_assert(verdict.error <= 1, "%s", verdict.where);
    free_fixture(&f);
}

/* An item's bits do not depend on the order of blocks and threads, nor on the rest of the batch. */
Test(cuda, same_bits) {
    attn_emulated *const m = machine();
    fixture f = make_fixture("luong_range_d100_f32", 0, NULL);
    bits first = run_bits(f.problem, f.plan);
    for (uint64_t seed = 2; seed < 5; seed++) {
        m->seed = seed;
        bits again = run_bits(f.problem, f.plan);
        cr_assert(bits_equal(&first, &again), "seed %d", (int)seed);
        bits_free(&again);
    }
    bits_free(&first);
    free_fixture(&f);
}

static void find_reason(void *user, const char *implementation, int chosen, const char *refusal) {
    const char **reason = user;
    if (!chosen && !strcmp(implementation, "cuda:mma:bahdanau:forward:f32")) *reason = refusal;
}

/* Tensor cores are taken where the architecture has them, and asked of no other. */
Test(cuda, architectures) {
    static const struct {
        int capability;
        const char *chosen, *reason;
    } cases[] = {{75, "cuda:simt:bahdanau:forward:f32", "architecture 80"},
                 {80, "cuda:mma:bahdanau:forward:f32", NULL},
                 {120, "cuda:mma:bahdanau:forward:f32", NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        machine()->capability = cases[i].capability;
        fixture f = make_fixture("bahdanau_odd_f32", 0, NULL);
        cr_assert(!strcmp(attn_plan_implementation(f.plan), cases[i].chosen), "sm%d: %s", cases[i].capability,
                  attn_plan_implementation(f.plan));
        expect_healthy(f.problem, f.plan, cases[i].chosen);
        attn_context *context;
        const attn_cuda_options cuda = emulated_options();
        const char *reason = NULL;
        cr_assert(create(&cuda, &context) == ATTN_OK);
        cr_assert(attn_layer_forward_explain(context, &f.problem->desc, find_reason, &reason) == ATTN_OK);
        cr_assert(cases[i].reason ? reason && strstr(reason, cases[i].reason) : !reason, "sm%d: %s",
                  cases[i].capability, reason ? reason : "no reason");
        attn_context_destroy(context);
        free_fixture(&f);
    }
}

/* One step whose projection is 1 and a thousand terms of nearly half of 1's last place: each is lost to a sum that they are added to one by one, and to one that is
 * cut wherever it is added to, but not to one of sums of 32. */
Test(cuda, long_sums) {
    enum { FEATURES = 1024 };
    const kit_case spec = {.name = "long_sums",
                           .row = "long_sums",
                           .score = ATTN_SCORE_BAHDANAU,
                           .dtype = ATTN_FLOAT32,
                           .batch = 1,
                           .timesteps = 1,
                           .features = FEATURES,
                           .queries = 1,
                           .query_features = 1,
                           .score_width = 1};
    static const char *const names[] = {"cuda:simt", "cuda:mma", "cuda:cublas"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        kit_content content = {.h = calloc(FEATURES, sizeof(double)),
                               .query = calloc(1, sizeof(double)),
                               .bahdanau_w1 = calloc(1, sizeof(double)),
                               .bahdanau_w2 = calloc(FEATURES, sizeof(double)),
                               .bahdanau_v = calloc(1, sizeof(double))};
        for (size_t d = 0; d < FEATURES; d++) content.h[d] = d ? 0x1.fp-25 : 1, content.bahdanau_w2[d] = 1;
        content.bahdanau_v[0] = 1;
        kit_problem *problem = kit_problem_from(&spec, &content, KIT_GUARD_BEHIND);
        const attn_cuda_options cuda = emulated_options();
        attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
        attn_context *context;
        attn_plan *plan;
        options.device = ATTN_DEVICE_CUDA, options.cuda = &cuda, options.implementation = names[i];
        cr_assert(attn_context_create(&options, &context) == ATTN_OK, "%s", attn_last_error_message());
        cr_assert(attn_layer_forward_plan(context, &problem->desc, &plan) == ATTN_OK, "%s", attn_last_error_message());
        attn_context_destroy(context);
        cr_assert(kit_problem_run(problem, plan, KIT_LSE) == ATTN_OK, "%s", attn_last_error_message());
        const kit_verdict verdict = kit_problem_check(problem);
        cr_assert(verdict.error <= 1, "%s: error/gate %g: %s", names[i], verdict.error, verdict.where);
        attn_plan_destroy(plan);
        kit_problem_free(problem);
    }
}

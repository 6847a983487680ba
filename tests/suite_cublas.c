/* SPDX-License-Identifier: Apache-2.0 */
/* cuBLAS in the CUDA backend, by the emulated module: how it is found, what becomes of handles, what runs do about calls that fail. The cases
 * themselves are those of suite_sdpa and suite_blocks, which run on a module that ATTN_TEST_ON names. */
#include "tests/sdpa_kit.h"
#include "tests/suite_emulated.h"

#include "attention/blocks.h"

#include <sys/wait.h>
#include <unistd.h>

typedef struct cublas_functions {
    int (*create)(struct cublasContext **handle);
    int (*destroy)(struct cublasContext *handle);
    int (*set_stream)(struct cublasContext *handle, void *stream);
    int (*get_stream)(struct cublasContext *handle, void **stream);
    int (*set_workspace)(struct cublasContext *handle, void *workspace, size_t size);
    int (*set[3])(struct cublasContext *handle, int mode);
    int (*get[3])(struct cublasContext *handle, int *mode);
} cublas_functions;

static cublas_functions find_functions(void) {
    cublas_functions f;
    emulated_function("cublasCreate_v2", &f.create);
    emulated_function("cublasDestroy_v2", &f.destroy);
    emulated_function("cublasSetStream_v2", &f.set_stream);
    emulated_function("cublasGetStream_v2", &f.get_stream);
    emulated_function("cublasSetWorkspace_v2", &f.set_workspace);
    static const char *const modes[] = {"MathMode", "PointerMode_v2", "AtomicsMode"};
    for (int i = 0; i < 3; i++) {
        char name[48];
        snprintf(name, sizeof name, "cublasSet%s", modes[i]);
        emulated_function(name, &f.set[i]);
        snprintf(name, sizeof name, "cublasGet%s", modes[i]);
        emulated_function(name, &f.get[i]);
    }
    return f;
}

static attn_context *context_with(const attn_cuda_options *cuda) {
    attn_context *context;
    cr_assert(create(cuda, &context) == ATTN_OK, "%s", attn_last_error_message());
    return context;
}

static attn_status plan_product(attn_context *context, attn_plan **plan) {
    attn_matmul_desc desc = ATTN_MATMUL_DESC_INIT;
    desc.batch = desc.rows = desc.columns = desc.depth = 4;
    return attn_matmul_plan(context, &desc, plan);
}

static void expect_no_products(const char *reason) {
    const attn_cuda_options cuda = emulated_options();
    attn_context *context = context_with(&cuda);
    attn_plan *plan;
    cr_assert(plan_product(context, &plan) == ATTN_ERROR_UNSUPPORTED);
    cr_assert(strstr(attn_last_error_message(), reason), "%s", attn_last_error_message());
    cr_assert(strstr(attn_context_blas(context), reason), "%s", attn_context_blas(context));
    kit_problem *problem = kit_problem_make(find_case("luong_odd_f32"), KIT_GUARD_BEHIND);
    cr_assert(attn_layer_forward_plan(context, &problem->desc, &plan) == ATTN_OK, "%s", attn_last_error_message());
    expect_healthy(problem, plan, "without cuBLAS");
    attn_plan_destroy(plan);
    attn_context_destroy(context);
    kit_problem_free(problem);
}

Test(cublas, missing_or_old) {
    attn_emulated *const m = machine();
    m->without_cublas = 1;
    expect_no_products("no cuBLAS");
    m->without_cublas = 0, m->old_cublas = 1;
    expect_no_products("older than version 12");
    m->old_cublas = 0;
    const attn_cuda_options cuda = emulated_options();
    attn_context *context = context_with(&cuda);
    cr_assert(!strcmp(attn_context_blas(context), "cuBLAS 13.0.2"), "%s", attn_context_blas(context));
    attn_context_destroy(context);
}

/* A handle is made when a plan first needs one, and goes with the context. */
Test(cublas, handles) {
    attn_emulated *const m = machine();
    const attn_cuda_options cuda = emulated_options();
    attn_context *context = context_with(&cuda);
    cr_assert(m->handles == 0);
    attn_plan *plans[2];
    for (int i = 0; i < 2; i++) cr_assert(plan_product(context, &plans[i]) == ATTN_OK, "%s", attn_last_error_message());
    cr_assert(m->handles == 1);
    attn_context_destroy(context);
    for (int i = 0; i < 2; i++) {
        cr_assert(m->handles == 1);
        attn_plan_destroy(plans[i]);
    }
    cr_assert(m->handles == 0);
}

/* Attention on the module: a problem and its plan. */
typedef struct fixture {
    sdpa_problem *problem;
    attn_plan *plan;
} fixture;

static fixture make_fixture(const char *name, const attn_cuda_options *cuda) {
    fixture f = {.problem = sdpa_problem_make(sdpa_find_case(name), KIT_GUARD_BEHIND)};
    attn_context *context = context_with(cuda);
    cr_assert(attn_sdpa_forward_plan(context, &f.problem->desc, &f.plan) == ATTN_OK, "%s", attn_last_error_message());
    attn_context_destroy(context);
    return f;
}

static void expect_right(fixture *f) {
    cr_assert(sdpa_problem_run(f->problem, f->plan) == ATTN_OK, "%s", attn_last_error_message());
    const kit_verdict verdict = sdpa_problem_check(f->problem);
    cr_assert(verdict.error <= 1, "error/gate %g: %s", verdict.error, verdict.where);
}

static void free_fixture(fixture *f) {
    attn_plan_destroy(f->plan);
    sdpa_problem_free(f->problem);
}

Test(cublas, device_and_stream) {
    attn_emulated *const m = machine();
    int stream;
    attn_cuda_options cuda = emulated_options();
    m->devices = 2, cuda.ordinal = 1, cuda.stream = (struct CUstream_st *)&stream;
    fixture f = make_fixture("everything_bf16", &cuda);
    expect_right(&f);
    cr_assert(m->stream == &stream && m->current == 0 && m->products > 2);
    free_fixture(&f);
    cr_assert(m->current == 0);
}

/* Neither what is drawn nor a run before changes a bit. */
Test(cublas, same_bits) {
    attn_emulated *const m = machine();
    const attn_cuda_options cuda = emulated_options();
    fixture f = make_fixture("everything_f32", &cuda);
    expect_right(&f);
    size_t size;
    void *first = sdpa_problem_bits(f.problem, &size);
    for (uint64_t seed = 2; seed < 5; seed++) {
        m->seed = seed;
        expect_right(&f);
        void *again = sdpa_problem_bits(f.problem, &size);
        cr_assert(!memcmp(first, again, size), "seed %d", (int)seed);
        free(again);
    }
    free(first);
    free_fixture(&f);
}

/* The n-th call fails, for every n: a status, no error and no handle left behind, and the next run is sound. */
Test(cublas, failing_calls) {
    attn_emulated *const m = machine();
    static const struct {
        int error;
        attn_status status;
    } faults[] = {{2, ATTN_ERROR_OUT_OF_MEMORY}, {1, ATTN_ERROR_INTERNAL}};
    const attn_cuda_options cuda = emulated_options();
    m->devices = 2;
    fixture f = make_fixture("mask_and_bias_f16", &cuda);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        m->fail_with = faults[i].error;
        size_t n = 0;
        for (bool reached = true; reached; n++) {
            attn_context *context = context_with(&cuda);
            attn_plan *plan;
            m->fail_at = n + 1;
            const attn_status status = plan_product(context, &plan);
            reached = m->fail_at == 0;
            m->fail_at = 0;
            /* A plan asks twice before it gives up. */
            cr_assert(status == ATTN_OK, "plan, call %zu: %d", n, status);
            cr_assert(!m->record && m->handles == 2, "%zu handles", m->handles);
            attn_plan_destroy(plan);
            attn_context_destroy(context);
        }
        cr_assert(n > 3, "%zu calls", n);
        n = 0;
        for (bool reached = true; reached; n++) {
            m->fail_at = n + 1;
            const attn_status status = sdpa_problem_run(f.problem, f.plan);
            reached = m->fail_at == 0;
            cr_assert(status == (reached ? faults[i].status : ATTN_OK), "run, call %zu: %d", n, status);
            cr_assert(!m->record);
        }
        cr_assert(n > 30, "%zu calls", n);
        m->fail_at = 0;
        expect_right(&f);
    }
    free_fixture(&f);
}

/* C = A B + C of two by two, from numbers whose products are exact. */
static attn_status run_product(const attn_plan *plan) {
    const float a[] = {1, 2, 3, 4}, b[] = {5, 6, 7, 8};
    float c[] = {1, 1, 1, 1};
    attn_matmul_args args = ATTN_MATMUL_ARGS_INIT;
    args.a = a, args.b = b, args.c = c, args.beta = 1;
    args.workspace_size = attn_plan_workspace_size(plan);
    args.workspace = kit_alloc(args.workspace_size, KIT_GUARD_BEHIND);
    const attn_status status = attn_matmul(plan, &args);
    kit_free(args.workspace);
    cr_assert(status || (c[0] == 20 && c[1] == 23 && c[2] == 44 && c[3] == 51), "%g %g %g %g", (double)c[0],
              (double)c[1], (double)c[2], (double)c[3]);
    return status;
}

/* Four equal scores. */
static attn_status run_softmax(const attn_plan *plan) {
    const float scores[] = {3, 3, 3, 3};
    float weights[4];
    attn_softmax_forward_args args = ATTN_SOFTMAX_FORWARD_ARGS_INIT;
    args.scores = scores, args.attention_weights = weights;
    const attn_status status = attn_softmax_forward(plan, &args);
    for (int i = 0; i < 4 && !status; i++) cr_assert(weights[i] == 0.25F, "%g", (double)weights[i]);
    return status;
}

/* The first of four equal weights gets a gradient of 1: w (g - w) of each. */
static attn_status run_softmax_back(const attn_plan *plan) {
    const float weights[] = {0.25F, 0.25F, 0.25F, 0.25F}, given[] = {1, 0, 0, 0};
    float gradient[4];
    attn_softmax_backward_args args = ATTN_SOFTMAX_BACKWARD_ARGS_INIT;
    args.attention_weights = weights, args.grad_attention_weights = given, args.grad_scores = gradient;
    const attn_status status = attn_softmax_backward(plan, &args);
    for (int i = 0; i < 4 && !status; i++)
        cr_assert(gradient[i] == (i == 0 ? 0.1875F : -0.0625F), "%g", (double)gradient[i]);
    return status;
}

static attn_plan *plan_block(attn_context *context, int which) {
    attn_matmul_desc product = ATTN_MATMUL_DESC_INIT;
    attn_softmax_desc softmax = ATTN_SOFTMAX_DESC_INIT;
    attn_plan *plan;
    product.batch = 1, product.rows = product.columns = product.depth = 2;
    softmax.batch = softmax.queries = 1, softmax.keys = 4;
    const attn_status status = which == 0   ? attn_matmul_plan(context, &product, &plan)
                               : which == 1 ? attn_softmax_forward_plan(context, &softmax, &plan)
                                            : attn_softmax_backward_plan(context, &softmax, &plan);
    cr_assert(status == ATTN_OK, "%s", attn_last_error_message());
    return plan;
}

/* As for attention: a status, no error left behind, and the next run is sound. */
Test(cublas, failing_calls_of_blocks) {
    attn_emulated *const m = machine();
    static attn_status (*const runs[])(const attn_plan *) = {run_product, run_softmax, run_softmax_back};
    const attn_cuda_options cuda = emulated_options();
    m->devices = 2, m->fail_with = 2;
    for (int which = 0; which < 3; which++) {
        attn_context *context = context_with(&cuda);
        attn_plan *plan = plan_block(context, which);
        size_t n = 0;
        for (bool reached = true; reached; n++) {
            m->fail_at = n + 1;
            const attn_status status = runs[which](plan);
            reached = m->fail_at == 0;
            m->fail_at = 0;
            cr_assert(status == (reached ? ATTN_ERROR_OUT_OF_MEMORY : ATTN_OK), "block %d, call %zu: %d", which, n,
                      status);
            cr_assert(!m->record && m->current == 0);
            cr_assert(runs[which](plan) == ATTN_OK, "block %d, after call %zu", which, n);
        }
        cr_assert(n > 2, "block %d: %zu calls", which, n);
        attn_plan_destroy(plan);
        attn_context_destroy(context);
    }
}

Test(cublas, lost_device) {
    attn_emulated *const m = machine();
    const attn_cuda_options cuda = emulated_options();
    fixture f = make_fixture("plain_f32", &cuda);
    m->lost = 700;
    cr_assert(sdpa_problem_run(f.problem, f.plan) == ATTN_ERROR_DEVICE_LOST);
    m->lost = 0;
    free_fixture(&f);
}

/* A child neither runs nor destroys what its parent made. */
Test(cublas, forked_child) {
    attn_emulated *const m = machine();
    const attn_cuda_options cuda = emulated_options();
    fixture f = make_fixture("plain_f32", &cuda);
    const pid_t child = fork();
    cr_assert(child >= 0);
    if (child == 0) {
        const bool refused = sdpa_problem_run(f.problem, f.plan) == ATTN_ERROR_FORKED;
        attn_plan_destroy(f.plan);
        _exit(refused && m->handles == 1 ? 0 : 1);
    }
    int status;
    cr_assert(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    expect_right(&f);
    free_fixture(&f);
}

/* A handle of the caller's, on a stream of its own, set so that it would give other results: they are right, and it is as it was. */
static void lend(void *its_stream, void *ours) {
    attn_emulated *const m = machine();
    const cublas_functions blas = find_functions();
    struct cublasContext *handle;
    static const int modes[] = {3, 1, 1}; /* TF32, pointers on the device, atomics */
    cr_assert(blas.create(&handle) == 0 && blas.set_stream(handle, its_stream) == 0);
    for (int i = 0; i < 3; i++) cr_assert(blas.set[i](handle, modes[i]) == 0);
    attn_cuda_options cuda = emulated_options();
    cuda.cublas = handle, cuda.stream = ours;
    fixture f = make_fixture("everything_f32", &cuda);
    void *first = NULL;
    for (int run = 0; run < 3; run++) {
        m->fail_at = run == 1 ? 40 : 0;
        if (m->fail_at)
            cr_assert(sdpa_problem_run(f.problem, f.plan) != ATTN_OK && m->fail_at == 0);
        else
            expect_right(&f);
        size_t size;
        void *stream, *found = sdpa_problem_bits(f.problem, &size);
        cr_assert(run != 2 || !memcmp(first, found, size), "another run gives other bits");
        if (run == 0)
            first = found;
        else
            free(found);
        cr_assert(m->stream == ours);
        cr_assert(blas.get_stream(handle, &stream) == 0 && stream == its_stream);
        for (int i = 0; i < 3; i++) {
            int mode;
            cr_assert(blas.get[i](handle, &mode) == 0 && mode == modes[i], "mode %d is %d", i, mode);
        }
    }
    free(first);
    free_fixture(&f);
    cr_assert(m->handles == 1);
    blas.destroy(handle);
}

Test(cublas, handle_of_the_caller) {
    int streams[2];
    lend(&streams[0], &streams[1]);
    lend(&streams[0], &streams[0]);
}

/* On the context's own stream a lent handle keeps its workspace. */
Test(cublas, workspace_of_the_caller) {
    const cublas_functions blas = find_functions();
    enum { BYTES = 1 << 16 };
    unsigned char *workspace = aligned_alloc(256, BYTES);
    struct cublasContext *handle;
    int stream;
    cr_assert(blas.create(&handle) == 0 && blas.set_stream(handle, &stream) == 0);
    cr_assert(workspace && blas.set_workspace(handle, workspace, BYTES) == 0);
    attn_cuda_options cuda = emulated_options();
    cuda.cublas = handle, cuda.stream = (struct CUstream_st *)&stream;
    fixture f = make_fixture("plain_f32", &cuda);
    for (int run = 0; run < 2; run++) {
        memset(workspace, 0, BYTES);
        expect_right(&f);
        cr_assert(workspace[0] == 0xff, "the products of run %d had another workspace", run);
    }
    free_fixture(&f);
    blas.destroy(handle);
    free(workspace);
}

/* Lengths that leave [0, Skv] are as the nearest that do not. */
Test(cublas, clamped_lengths) {
    const attn_cuda_options cuda = emulated_options();
    fixture f = make_fixture("lengths_f32", &cuda);
    const int32_t keys = (int32_t)f.problem->desc.keys;
    static const int32_t wild[] = {-1, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < 3; i++) {
        size_t size;
        f.problem->key_lengths[2] = wild[i] < 0 ? 0 : keys;
        cr_assert(sdpa_problem_run(f.problem, f.plan) == ATTN_OK);
        void *clamped = sdpa_problem_bits(f.problem, &size);
        f.problem->key_lengths[2] = wild[i];
        cr_assert(sdpa_problem_run(f.problem, f.plan) == ATTN_OK);
        void *found = sdpa_problem_bits(f.problem, &size);
        cr_assert(!memcmp(clamped, found, size), "length %d", (int)wild[i]);
        free(clamped);
        free(found);
    }
    free_fixture(&f);
}

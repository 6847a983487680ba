/* SPDX-License-Identifier: Apache-2.0 */
/* The layer by composition on cuBLAS, by the emulated module: when it is chosen, that its passes fit those of the fused kernels, what it does about calls
 * that fail, lent handles and ranges. The cases themselves are walked by attention_cases --cuda. */
#include "tests/suite_emulated.h"

static attn_context *context_for(const attn_cuda_options *cuda, const char *implementation) {
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    attn_context *context;
    options.device = ATTN_DEVICE_CUDA, options.cuda = cuda, options.implementation = implementation;
    cr_assert(attn_context_create(&options, &context) == ATTN_OK, "%s", attn_last_error_message());
    return context;
}

/* ---- The choice --------------------------------------------------------------------------------------- */

typedef attn_status (*plan_function)(attn_context *, const attn_layer_desc *, attn_plan **);
static const plan_function plan_pass[2] = {attn_layer_forward_plan, attn_layer_backward_plan};

static attn_layer_desc wide_desc(int64_t features) {
    attn_layer_desc desc = ATTN_LAYER_DESC_INIT;
    desc.batch = 2, desc.timesteps = 5, desc.features = features, desc.units = 3;
    return desc;
}

static void expect_plan(attn_context *context, const attn_layer_desc *desc, int pass, const char *name) {
    attn_plan *plan;
    cr_assert(plan_pass[pass](context, desc, &plan) == ATTN_OK, "%s", attn_last_error_message());
    cr_assert(!strcmp(attn_plan_implementation(plan), name), "%s", attn_plan_implementation(plan));
    attn_plan_destroy(plan);
}

static void expect_no_plan(attn_context *context, const attn_layer_desc *desc, int pass, const char *reason) {
    attn_plan *plan;
    cr_assert(plan_pass[pass](context, desc, &plan) == ATTN_ERROR_UNSUPPORTED);
    cr_assert(strstr(attn_last_error_message(), reason), "no \"%s\" in: %s", reason, attn_last_error_message());
}

/* Behind the fused kernels, and in their place where they refuse. */
Test(composition, chosen) {
    const attn_cuda_options cuda = emulated_options();
    attn_context *context = context_for(&cuda, NULL), *forced = context_for(&cuda, "cuda:cublas");
    const attn_layer_desc narrow = wide_desc(1024), wide = wide_desc(1025);
    expect_plan(context, &narrow, 0, "cuda:simt:luong:forward:f32");
    expect_plan(context, &narrow, 1, "cuda:simt:luong:backward:f32");
    expect_plan(context, &wide, 0, "cuda:cublas:luong:forward:f32");
    expect_plan(context, &wide, 1, "cuda:cublas:luong:backward:f32");
    expect_plan(forced, &narrow, 0, "cuda:cublas:luong:forward:f32");
    attn_context_destroy(context);
    attn_context_destroy(forced);
}

Test(composition, refused) {
    attn_emulated *const m = machine();
    const attn_cuda_options cuda = emulated_options();
    attn_layer_desc wide = wide_desc(1025);
    m->without_cublas = 1;
    attn_context *context = context_for(&cuda, NULL);
    for (int pass = 0; pass < 2; pass++) expect_no_plan(context, &wide, pass, "no cuBLAS");
    attn_context_destroy(context);
    m->without_cublas = 0;
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.device = ATTN_DEVICE_CUDA, options.cuda = &cuda, options.flags = ATTN_CONTEXT_BATCH_INVARIANT;
    cr_assert(attn_context_create(&options, &context) == ATTN_OK);
    for (int pass = 0; pass < 2; pass++) expect_no_plan(context, &wide, pass, "not batch-invariant");
    attn_context_destroy(context);
    context = context_for(&cuda, "cuda:cublas");
    wide.h_dtype = ATTN_BFLOAT16;
    expect_no_plan(context, &wide, 0, "reads no H in bf16");
    attn_context_destroy(context);
}

/* ---- Training ----------------------------------------------------------------------------------------- */

typedef struct fixture {
    kit_problem *problem;
    attn_plan *plans[2]; /* forward, backward */
} fixture;

/* A problem and its plans in training, each by an implementation. */
static fixture make_fixture(const char *name, const attn_cuda_options *cuda, uint64_t flags, const char *forward,
                            const char *backward) {
    fixture f = {.problem = kit_problem_make(find_case(name), KIT_GUARD_BEHIND)};
    attn_layer_desc desc = f.problem->desc;
    desc.flags = ATTN_LAYER_TRAINING | flags;
    for (int pass = 0; pass < 2; pass++) {
        attn_context *context = context_for(cuda, pass ? backward : forward);
        cr_assert(plan_pass[pass](context, &desc, &f.plans[pass]) == ATTN_OK, "%s", attn_last_error_message());
        attn_context_destroy(context);
    }
    return f;
}

static void free_fixture(fixture *f) {
    for (int pass = 0; pass < 2; pass++) attn_plan_destroy(f->plans[pass]);
    kit_problem_free(f->problem);
}

static attn_status train(fixture *f) {
    const attn_status status = kit_problem_run(f->problem, f->plans[0], KIT_ALL_OUTPUTS);
    if (status) return status;
    return kit_problem_back(f->problem, f->plans[1], KIT_ALL_OUTPUTS, KIT_ALL_GRADIENTS, 0);
}

static void expect_right(fixture *f, const char *what) {
    cr_assert(train(f) == ATTN_OK, "%s: %s", what, attn_last_error_message());
    kit_verdict verdict = kit_problem_check(f->problem);
    cr_assert(verdict.error <= 1, "%s: forward: error/gate %g: %s", what, verdict.error, verdict.where);
    verdict = kit_problem_check_back(f->problem);
    cr_assert(verdict.error <= 1, "%s: backward: error/gate %g: %s", what, verdict.error, verdict.where);
}

/* One layout of what is kept: either pass follows the other's of the fused kernels. */
static void expect_pairs(const char *name, uint64_t flags, const char *fused) {
    const attn_cuda_options cuda = emulated_options();
    for (int pair = 0; pair < 3; pair++) {
        fixture f =
            make_fixture(name, &cuda, flags, pair == 1 ? fused : "cuda:cublas", pair == 2 ? fused : "cuda:cublas");
        char what[160];
        snprintf(what, sizeof what, "%s: %s, then %s", name, attn_plan_implementation(f.plans[0]),
                 attn_plan_implementation(f.plans[1]));
        expect_right(&f, what);
        free_fixture(&f);
    }
}

Test(composition, luong_with_fused) {
    expect_pairs("luong_queries_all_f32", 0, "cuda:simt");
    expect_pairs("luong_b65_f32", 0, "cuda:simt");
}

Test(composition, dot_with_fused) {
    expect_pairs("dot_range_mask_f32", 0, "cuda:simt");
    expect_pairs("dot_front_padding_f32", 0, "cuda:simt");
}

Test(composition, bahdanau_with_fused) {
    expect_pairs("bahdanau_queries_masks_f32", 0, "cuda:simt");
    expect_pairs("bahdanau_queries_many_f32", ATTN_LAYER_RECOMPUTE, "cuda:simt");
}

/* ---- Runs ------------------------------------------------------------------------------------------- */

/* The n-th call of both passes fails, for every n: a status, no error left behind, and the next run is sound. */
static void expect_failures(const char *name, uint64_t flags) {
    attn_emulated *const m = machine();
    const attn_cuda_options cuda = emulated_options();
    fixture f = make_fixture(name, &cuda, flags, "cuda:cublas", "cuda:cublas");
    m->fail_with = 2;
    size_t n = 0;
    for (bool reached = true; reached; n++) {
        m->fail_at = n + 1;
        const attn_status status = train(&f);
        reached = m->fail_at == 0;
        cr_assert(status == (reached ? ATTN_ERROR_OUT_OF_MEMORY : ATTN_OK), "%s: call %zu: %d", name, n, status);
        cr_assert(!m->record);
    }
    cr_assert(n > 30, "%s: %zu calls", name, n);
    m->fail_at = 0;
    expect_right(&f, "after failures");
    free_fixture(&f);
}

Test(composition, failing_calls) {
    expect_failures("luong_odd_f32", 0);
    expect_failures("bahdanau_odd_f32", 0);
    expect_failures("bahdanau_queries_masks_short_f32", ATTN_LAYER_RECOMPUTE);
}

/* A handle of the caller's on another stream, set so that it would give other results: they are right, and it is as it was. */
Test(composition, handle_of_the_caller) {
    attn_emulated *const m = machine();
    int streams[2];
    static const char *const names[3] = {"MathMode", "PointerMode_v2", "AtomicsMode"};
    static const int modes[3] = {3, 1, 1}; /* TF32, pointers on the device, atomics */
    struct cublasContext *handle;
    int (*make)(struct cublasContext **), (*destroy)(struct cublasContext *);
    int (*set_stream)(struct cublasContext *, void *), (*get_stream)(struct cublasContext *, void **);
    int (*set[3])(struct cublasContext *, int), (*get[3])(struct cublasContext *, int *);
    emulated_function("cublasCreate_v2", &make);
    emulated_function("cublasDestroy_v2", &destroy);
    emulated_function("cublasSetStream_v2", &set_stream);
    emulated_function("cublasGetStream_v2", &get_stream);
    cr_assert(make(&handle) == 0 && set_stream(handle, &streams[0]) == 0);
    for (int i = 0; i < 3; i++) {
        char name[48];
        snprintf(name, sizeof name, "cublasSet%s", names[i]);
        emulated_function(name, &set[i]);
        snprintf(name, sizeof name, "cublasGet%s", names[i]);
        emulated_function(name, &get[i]);
        cr_assert(set[i](handle, modes[i]) == 0);
    }
    attn_cuda_options cuda = emulated_options();
    cuda.cublas = handle, cuda.stream = (struct CUstream_st *)&streams[1];
    fixture f = make_fixture("luong_d64_f32", &cuda, 0, "cuda:cublas", "cuda:cublas");
    expect_right(&f, "on a lent handle");
    cr_assert(m->stream == &streams[1]);
    void *stream;
    cr_assert(get_stream(handle, &stream) == 0 && stream == &streams[0]);
    for (int i = 0; i < 3; i++) {
        int mode;
        cr_assert(get[i](handle, &mode) == 0 && mode == modes[i], "mode %d is %d", i, mode);
    }
    free_fixture(&f);
    cr_assert(m->handles == 1);
    destroy(handle);
}

static void take_bits(fixture *f, bits taken[2]) {
    taken[0] = run_bits(f->problem, f->plans[0]);
    cr_assert(train(f) == ATTN_OK, "%s", attn_last_error_message());
    taken[1] = gradient_bits(f->problem);
}

static void expect_same(const bits first[2], bits again[2], const char *what, int which) {
    for (int pass = 0; pass < 2; pass++) {
        cr_assert(bits_equal(&first[pass], &again[pass]), "%s %d, pass %d", what, which, pass);
        bits_free(&again[pass]);
    }
}

/* Neither what is drawn nor a run before changes a bit. */
Test(composition, same_bits) {
    const attn_cuda_options cuda = emulated_options();
    fixture f = make_fixture("bahdanau_queries_masks_f32", &cuda, 0, "cuda:cublas", "cuda:cublas");
    bits first[2], again[2];
    take_bits(&f, first);
    for (int seed = 2; seed < 4; seed++) {
        machine()->seed = (uint64_t)seed;
        take_bits(&f, again);
        expect_same(first, again, "seed", seed);
    }
    for (int pass = 0; pass < 2; pass++) bits_free(&first[pass]);
    free_fixture(&f);
}

/* Ranges that leave [0, T] give what the clamped ones give. */
Test(composition, clamped_ranges) {
    const attn_cuda_options cuda = emulated_options();
    fixture f = make_fixture("luong_queries_range_f32", &cuda, 0, "cuda:cublas", "cuda:cublas");
    int32_t *const starts = (int32_t *)f.problem->args.starts, *const lengths = (int32_t *)f.problem->args.lengths;
    const int32_t T = (int32_t)f.problem->desc.timesteps;
    const struct {
        int32_t start, length, as_start, as_length;
    } ranges[] = {{-5, 7, 0, 7}, {3, INT32_MAX, 3, T - 3}, {INT32_MAX, 4, T, 0}, {INT32_MIN, INT32_MIN, 0, 0}};
    for (int i = 0; i < 4; i++) {
        bits clamped[2], wild[2];
        for (int64_t b = 0; b < f.problem->desc.batch; b++)
            starts[b] = ranges[i].as_start, lengths[b] = ranges[i].as_length;
        take_bits(&f, clamped);
        for (int64_t b = 0; b < f.problem->desc.batch; b++) starts[b] = ranges[i].start, lengths[b] = ranges[i].length;
        take_bits(&f, wild);
        expect_same(clamped, wild, "range", i);
        for (int pass = 0; pass < 2; pass++) bits_free(&clamped[pass]);
    }
    free_fixture(&f);
}

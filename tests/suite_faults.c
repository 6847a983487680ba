/* SPDX-License-Identifier: Apache-2.0 */
/* Every fault a caller can make: its status, a message that names the argument, the value found and the value wanted, and
 * nothing written. */
#include "tests/suite.h"

#include <limits.h>
#include <stdint.h>

enum { B = 2, T = 5, D = 4, TQ = 3, DQ = 6, A = 7, U = 3 };

/* A sound call, for a fault to be put into. */
typedef struct call {
    attn_context *context;
    attn_layer_desc desc;
    attn_layer_forward_args args;
    attn_plan *plan;
    float h[B * T * D], query[B * TQ * DQ], luong_w[D * DQ], w_c[(D + DQ) * U], w1[DQ * A], w2[D * A], v[A];
    float output[B * TQ * U], context_[B * TQ * D], weights[B * TQ * T], lse[B * TQ];
    int32_t starts[B], lengths[B];
    uint8_t mask[B * TQ * T];
    _Alignas(ATTN_WORKSPACE_ALIGNMENT) char workspace[1 << 18], prepared[1 << 18];
} call;

static void expect(attn_status got, attn_status want, const char *part, const char *what) {
    const char *message = attn_last_error_message();
    cr_assert(got == want, "%s: %s (%s), wanted %s", what, attn_status_string(got), message, attn_status_string(want));
    cr_assert(strstr(message, part), "%s: the message \"%s\" does not name %s", what, message, part);
}

static call *make(attn_score score, bool given) {
    call *c = aligned_alloc(ATTN_WORKSPACE_ALIGNMENT, (sizeof *c + ATTN_WORKSPACE_ALIGNMENT - 1) /
                                                          ATTN_WORKSPACE_ALIGNMENT * ATTN_WORKSPACE_ALIGNMENT);
    memset(c, 0, sizeof *c);
    c->context = kit_context(2, NULL);
    c->desc = (attn_layer_desc)ATTN_LAYER_DESC_INIT;
    c->desc.score = score, c->desc.batch = B, c->desc.timesteps = T, c->desc.features = D, c->desc.units = U;
    if (given) c->desc.queries = TQ;
    if (given && score != ATTN_SCORE_DOT) c->desc.query_features = DQ;
    if (score == ATTN_SCORE_BAHDANAU) c->desc.score_width = A;
    c->args = (attn_layer_forward_args)ATTN_LAYER_FORWARD_ARGS_INIT;
    c->args.h = c->h, c->args.query = given ? c->query : NULL;
    c->args.weights.luong_w = c->luong_w, c->args.weights.bahdanau_w1 = c->w1, c->args.weights.bahdanau_w2 = c->w2;
    c->args.weights.bahdanau_v = c->v, c->args.weights.w_c = c->w_c;
    c->args.output = c->output, c->args.context = c->context_, c->args.attention_weights = c->weights,
    c->args.lse = c->lse;
    c->args.workspace = c->workspace, c->args.workspace_size = sizeof c->workspace;
    for (int i = 0; i < B; i++) c->lengths[i] = T;
    cr_assert(attn_layer_forward_plan(c->context, &c->desc, &c->plan) == ATTN_OK, "%s", attn_last_error_message());
    cr_assert(attn_plan_workspace_size(c->plan) <= sizeof c->workspace &&
              attn_plan_prepared_size(c->plan) <= sizeof c->prepared);
    cr_assert(attn_layer_forward(c->plan, &c->args) == ATTN_OK, "the sound call: %s", attn_last_error_message());
    return c;
}

static void drop(call *c) {
    attn_plan_destroy(c->plan);
    attn_context_destroy(c->context);
    free(c);
}

/* Runs a faulty call: the status, the message, and outputs that were not touched. */
static void refuse(call *c, attn_status want, const char *part, const char *what) {
    memset(c->output, 0x5a, sizeof c->output);
    memset(c->context_, 0x5a, sizeof c->context_);
    memset(c->weights, 0x5a, sizeof c->weights);
    memset(c->lse, 0x5a, sizeof c->lse);
    expect(attn_layer_forward(c->plan, &c->args), want, part, what);
    const char *const outputs[] = {(char *)c->output, (char *)c->context_, (char *)c->weights, (char *)c->lse};
    const size_t sizes[] = {sizeof c->output, sizeof c->context_, sizeof c->weights, sizeof c->lse};
    for (int i = 0; i < 4; i++)
        for (size_t j = 0; j < sizes[i]; j++) cr_assert(outputs[i][j] == 0x5a, "%s: output %d was written", what, i);
}

#define WITH(c, field, value, status, part)                                                                            \
    do {                                                                                                               \
        const attn_layer_forward_args sound = (c)->args;                                                               \
        (c)->args.field = value;                                                                                       \
        refuse(c, status, part, #field " = " #value);                                                                  \
        (c)->args = sound;                                                                                             \
    } while (0)

/* ---- Arguments of a run ------------------------------------------------------------------------------------------ */

Test(faults, null_pointers) {
    call *c = make(ATTN_SCORE_LUONG, true);
    expect(attn_layer_forward(NULL, &c->args), ATTN_ERROR_INVALID_ARGUMENT, "plan", "plan NULL");
    expect(attn_layer_forward(c->plan, NULL), ATTN_ERROR_INVALID_ARGUMENT, "args", "args NULL");
    WITH(c, h, NULL, ATTN_ERROR_INVALID_ARGUMENT, "h: is NULL");
    WITH(c, query, NULL, ATTN_ERROR_INVALID_ARGUMENT, "query: is NULL");
    WITH(c, output, NULL, ATTN_ERROR_INVALID_ARGUMENT, "output: is NULL");
    WITH(c, workspace, NULL, ATTN_ERROR_INVALID_ARGUMENT, "workspace");
    WITH(c, weights.luong_w, NULL, ATTN_ERROR_INVALID_ARGUMENT, "luong_w: is NULL");
    WITH(c, weights.w_c, NULL, ATTN_ERROR_INVALID_ARGUMENT, "w_c: is NULL");
    drop(c);
    c = make(ATTN_SCORE_BAHDANAU, true);
    WITH(c, weights.bahdanau_w1, NULL, ATTN_ERROR_INVALID_ARGUMENT, "bahdanau_w1: is NULL");
    WITH(c, weights.bahdanau_w2, NULL, ATTN_ERROR_INVALID_ARGUMENT, "bahdanau_w2: is NULL");
    WITH(c, weights.bahdanau_v, NULL, ATTN_ERROR_INVALID_ARGUMENT, "bahdanau_v: is NULL");
    drop(c);
}

Test(faults, nothing_asked_for) {
    call *c = make(ATTN_SCORE_DOT, false);
    attn_plan_destroy(c->plan);
    c->desc.units = 0;
    cr_assert(attn_layer_forward_plan(c->context, &c->desc, &c->plan) == ATTN_OK, "%s", attn_last_error_message());
    c->args.output = c->args.context = c->args.attention_weights = c->args.lse = NULL;
    refuse(c, ATTN_ERROR_INVALID_ARGUMENT, "context", "nothing asked for");
    drop(c);
}

Test(faults, unasked_query) {
    call *c = make(ATTN_SCORE_LUONG, false);
    WITH(c, query, c->query, ATTN_ERROR_INVALID_ARGUMENT, "query");
    WITH(c, queries, 2, ATTN_ERROR_RANGE, "queries: is 2");
    drop(c);
}

Test(faults, sizes_of_a_run) {
    call *c = make(ATTN_SCORE_LUONG, true);
    WITH(c, batch, B + 1, ATTN_ERROR_RANGE, "batch: is 3");
    WITH(c, timesteps, T + 1, ATTN_ERROR_RANGE, "timesteps: is 6");
    WITH(c, queries, TQ + 1, ATTN_ERROR_RANGE, "queries: is 4");
    WITH(c, batch, -2, ATTN_ERROR_SHAPE, "batch: is -2");
    WITH(c, timesteps, INT64_MIN, ATTN_ERROR_SHAPE, "timesteps: is -9223372036854775808");
    WITH(c, queries, -7, ATTN_ERROR_SHAPE, "queries: is -7");
    WITH(c, batch, INT64_MAX, ATTN_ERROR_RANGE, "batch");
    drop(c);
}

Test(faults, ranges) {
    call *c = make(ATTN_SCORE_LUONG, true);
    c->args.starts = c->starts, c->args.lengths = c->lengths;
    const struct {
        int32_t start, length;
    } bad[] = {
        {0, T + 1},    {1, T}, {T, 1}, {-1, 2}, {0, -1}, {T + 1, 0}, {INT32_MAX, INT32_MAX}, {INT32_MIN, INT32_MIN},
        {1, INT32_MAX}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        c->starts[1] = bad[i].start, c->lengths[1] = bad[i].length;
        refuse(c, ATTN_ERROR_RANGE, "[1]", "a bad range"); /* the message names the item */
    }
    c->starts[1] = T + 1, c->lengths[1] = 0;
    WITH(c, lengths, NULL, ATTN_ERROR_RANGE, "starts[1]: is 6");
    c->starts[1] = 0, c->lengths[1] = T + 1;
    WITH(c, starts, NULL, ATTN_ERROR_RANGE, "lengths[1]: is 6");
    c->starts[1] = T, c->lengths[1] = 0;
    cr_assert(attn_layer_forward(c->plan, &c->args) == ATTN_OK, "an empty range at the end is sound: %s",
              attn_last_error_message());
    drop(c);
}

Test(faults, workspace) {
    call *c = make(ATTN_SCORE_BAHDANAU, true);
    const size_t size = attn_plan_workspace_size(c->plan);
    cr_assert(size > 0 && size % ATTN_WORKSPACE_ALIGNMENT == 0, "%zu", size);
    char wanted[32];
    snprintf(wanted, sizeof wanted, "%zu", size);
    WITH(c, workspace_size, size - 1, ATTN_ERROR_WORKSPACE, wanted);
    WITH(c, workspace_size, 0, ATTN_ERROR_WORKSPACE, wanted);
    WITH(c, workspace, c->workspace + 4, ATTN_ERROR_ALIGNMENT, "workspace");
    WITH(c, workspace, c->workspace + 32, ATTN_ERROR_ALIGNMENT, "workspace");
    c->args.workspace_size = size;
    cr_assert(attn_layer_forward(c->plan, &c->args) == ATTN_OK, "the exact size: %s", attn_last_error_message());
    drop(c);
}

Test(faults, alignment) {
    call *c = make(ATTN_SCORE_LUONG, true);
    WITH(c, h, (char *)c->h + 1, ATTN_ERROR_ALIGNMENT, "h");
    WITH(c, query, (char *)c->query + 2, ATTN_ERROR_ALIGNMENT, "query");
    WITH(c, weights.luong_w, (char *)c->luong_w + 3, ATTN_ERROR_ALIGNMENT, "luong_w");
    WITH(c, weights.w_c, (char *)c->w_c + 2, ATTN_ERROR_ALIGNMENT, "w_c");
    WITH(c, output, (char *)c->output + 1, ATTN_ERROR_ALIGNMENT, "output");
    WITH(c, context, (char *)c->context_ + 2, ATTN_ERROR_ALIGNMENT, "context");
    WITH(c, attention_weights, (char *)c->weights + 2, ATTN_ERROR_ALIGNMENT, "attention_weights");
    WITH(c, lse, (char *)c->lse + 2, ATTN_ERROR_ALIGNMENT, "lse");
    WITH(c, lengths, (int32_t *)((char *)c->lengths + 1), ATTN_ERROR_ALIGNMENT, "lengths");
    WITH(c, starts, (int32_t *)((char *)c->starts + 2), ATTN_ERROR_ALIGNMENT, "starts");
    drop(c);
}

Test(faults, overlap) {
    call *c = make(ATTN_SCORE_LUONG, true);
    WITH(c, output, c->h, ATTN_ERROR_OVERLAP, "output: overlaps h");
    WITH(c, output, c->h + B * T * D - 1, ATTN_ERROR_OVERLAP, "output: overlaps h");
    WITH(c, context, c->query, ATTN_ERROR_OVERLAP, "context: overlaps query");
    WITH(c, attention_weights, c->w_c, ATTN_ERROR_OVERLAP, "attention_weights: overlaps");
    WITH(c, lse, c->luong_w, ATTN_ERROR_OVERLAP, "lse: overlaps");
    WITH(c, context, c->output, ATTN_ERROR_OVERLAP, "overlaps");
    WITH(c, lse, c->lse - 1, ATTN_ERROR_OVERLAP, "overlaps");
    WITH(c, context, (float *)c->workspace, ATTN_ERROR_OVERLAP, "overlaps");
    drop(c);
}

/* Outputs whose rows lie between each other's rows touch nothing of each other's. */
Test(faults, interleaved_slices_are_accepted) {
    call *c = make(ATTN_SCORE_LUONG, true);
    float shared[B * TQ][U + D + T];
    c->args.output = &shared[0][0], c->args.context = &shared[0][U], c->args.attention_weights = &shared[0][U + D];
    c->args.output_row_stride = c->args.context_row_stride = c->args.attention_weights_row_stride = U + D + T;
    cr_assert(attn_layer_forward(c->plan, &c->args) == ATTN_OK, "%s", attn_last_error_message());
    c->args.attention_weights = &shared[0][U + D - 1];
    expect(attn_layer_forward(c->plan, &c->args), ATTN_ERROR_OVERLAP, "overlaps", "slices that touch");
    drop(c);
}

Test(faults, inputs_may_overlap) {
    call *c = make(ATTN_SCORE_DOT, true);
    c->args.query = c->h;
    c->args.weights.w_c = c->h;
    cr_assert(attn_layer_forward(c->plan, &c->args) == ATTN_OK, "%s", attn_last_error_message());
    drop(c);
}

Test(faults, strides) {
    call *c = make(ATTN_SCORE_LUONG, true);
    WITH(c, h_time_stride, D - 1, ATTN_ERROR_SHAPE, "h_time_stride: is 3");
    WITH(c, h_time_stride, -D, ATTN_ERROR_SHAPE, "h_time_stride: is -4");
    WITH(c, h_batch_stride, -1, ATTN_ERROR_SHAPE, "h_batch_stride: is -1");
    WITH(c, h_batch_stride, INT64_MAX, ATTN_ERROR_OVERFLOW, "h");
    WITH(c, h_time_stride, INT64_MAX / 2, ATTN_ERROR_OVERFLOW, "h");
    WITH(c, query_row_stride, DQ - 1, ATTN_ERROR_SHAPE, "query_row_stride: is 5");
    WITH(c, output_row_stride, U - 1, ATTN_ERROR_SHAPE, "output_row_stride: is 2");
    WITH(c, output_batch_stride, INT64_MAX / 4, ATTN_ERROR_OVERFLOW, "output");
    WITH(c, lse_batch_stride, -1, ATTN_ERROR_SHAPE, "lse_batch_stride: is -1");
    drop(c);
}

Test(faults, struct_size) {
    call *c = make(ATTN_SCORE_LUONG, true);
    WITH(c, struct_size, 0, ATTN_ERROR_INVALID_ARGUMENT, "struct_size: is 0");
    WITH(c, struct_size, SIZE_MAX, ATTN_ERROR_INVALID_ARGUMENT, "struct_size");
    WITH(c, weights.struct_size, 1, ATTN_ERROR_INVALID_ARGUMENT, "weights.struct_size: is 1");
    drop(c);
}

/* A newer caller's structures are longer: their unknown fields must be zero. */
Test(faults, newer_structures) {
    call *c = make(ATTN_SCORE_LUONG, true);
    struct {
        attn_layer_desc desc;
        int64_t unknown;
    } newer = {c->desc, 0};
    newer.desc.struct_size = sizeof newer;
    attn_plan *plan = NULL;
    cr_assert(attn_layer_forward_plan(c->context, &newer.desc, &plan) == ATTN_OK, "%s", attn_last_error_message());
    attn_plan_destroy(plan);
    newer.unknown = 1;
    expect(attn_layer_forward_plan(c->context, &newer.desc, &plan), ATTN_ERROR_UNSUPPORTED, "desc", "an unknown field");
    cr_assert(!plan, "a plan beside an error");
    struct {
        attn_layer_forward_args args;
        void *unknown;
    } more = {c->args, NULL};
    more.args.struct_size = sizeof more;
    cr_assert(attn_layer_forward(c->plan, &more.args) == ATTN_OK, "%s", attn_last_error_message());
    more.unknown = &more;
    expect(attn_layer_forward(c->plan, &more.args), ATTN_ERROR_UNSUPPORTED, "args", "an unknown field");
    drop(c);
}

/* ---- Descriptors ----------------------------------------------------------------------------------------------------- */

static void refuse_plan(const call *c, const attn_layer_desc *desc, attn_status want, const char *part,
                        const char *what) {
    attn_plan *plan = (attn_plan *)(uintptr_t)c;
    expect(attn_layer_forward_plan(c->context, desc, &plan), want, part, what);
    cr_assert(!plan, "%s: *plan is not NULL", what);
}

#define DESC(c, field, value, status, part)                                                                            \
    do {                                                                                                               \
        attn_layer_desc faulty = (c)->desc;                                                                            \
        faulty.field = value;                                                                                          \
        refuse_plan(c, &faulty, status, part, #field " = " #value);                                                    \
    } while (0)

Test(faults, descriptors) {
    call *c = make(ATTN_SCORE_LUONG, true);
    attn_plan *plan;
    expect(attn_layer_forward_plan(NULL, &c->desc, &plan), ATTN_ERROR_INVALID_ARGUMENT, "context", "context NULL");
    expect(attn_layer_forward_plan(c->context, NULL, &plan), ATTN_ERROR_INVALID_ARGUMENT, "desc", "desc NULL");
    expect(attn_layer_forward_plan(c->context, &c->desc, NULL), ATTN_ERROR_INVALID_ARGUMENT, "plan", "plan NULL");
    DESC(c, struct_size, 8, ATTN_ERROR_INVALID_ARGUMENT, "struct_size: is 8");
    DESC(c, flags, 4, ATTN_ERROR_UNSUPPORTED, "flags: has unknown bits 0x4");
    DESC(c, score, (attn_score)9, ATTN_ERROR_UNSUPPORTED, "score: is 9");
    DESC(c, score, (attn_score)-1, ATTN_ERROR_UNSUPPORTED, "score: is -1");
    DESC(c, dtype, (attn_dtype)2, ATTN_ERROR_UNSUPPORTED, "dtype: is 2");
    DESC(c, batch, -1, ATTN_ERROR_SHAPE, "batch: is -1");
    DESC(c, timesteps, -5, ATTN_ERROR_SHAPE, "timesteps: is -5");
    DESC(c, features, 0, ATTN_ERROR_SHAPE, "features: is 0");
    DESC(c, features, -3, ATTN_ERROR_SHAPE, "features: is -3");
    DESC(c, queries, -2, ATTN_ERROR_SHAPE, "queries: is -2");
    DESC(c, query_features, -1, ATTN_ERROR_SHAPE, "query_features: is -1");
    DESC(c, units, -1, ATTN_ERROR_SHAPE, "units: is -1");
    DESC(c, score_width, 3, ATTN_ERROR_SHAPE, "score_width: is 3");
    DESC(c, queries, ATTN_LAST_STEP, ATTN_ERROR_SHAPE, "query_features: is 6");
    drop(c);
    c = make(ATTN_SCORE_DOT, true);
    DESC(c, query_features, D + 1, ATTN_ERROR_SHAPE, "query_features: is 5, want 4");
    drop(c);
}

/* Products that overflow, whatever the order of the factors, and whatever factor is 0. */
Test(faults, overflow) {
    const int64_t huge[] = {INT64_MAX, INT64_MAX / 2, INT64_C(1) << 62, INT64_C(1) << 60, INT64_C(1) << 40};
    for (int score = ATTN_SCORE_LUONG; score <= ATTN_SCORE_DOT; score++) {
        call *c = make((attn_score)score, true);
        for (size_t i = 0; i < sizeof huge / sizeof *huge; i++)
            for (size_t j = 0; j < sizeof huge / sizeof *huge; j++)
                for (int zero = 0; zero < 2; zero++) {
                    attn_layer_desc desc = c->desc;
                    desc.batch = huge[i], desc.timesteps = huge[j], desc.queries = zero ? 0 : 1;
                    refuse_plan(c, &desc, ATTN_ERROR_OVERFLOW, "do not fit", "batch and timesteps");
                    desc.batch = zero ? 0 : 1, desc.features = huge[j], desc.timesteps = huge[i];
                    desc.query_features = 0;
                    refuse_plan(c, &desc, ATTN_ERROR_OVERFLOW, "do not fit", "timesteps and features");
                    desc = c->desc;
                    desc.units = huge[i], desc.batch = zero ? 0 : huge[j];
                    if (!zero || huge[i] > INT64_C(1) << 55)
                        refuse_plan(c, &desc, ATTN_ERROR_OVERFLOW, "do not fit", "units");
                }
        drop(c);
    }
}

/* What plans must also fit in a workspace: sizes just below the limits either plan or say no. */
Test(faults, near_the_limits) {
    call *c = make(ATTN_SCORE_BAHDANAU, true);
    for (int shift = 20; shift < 63; shift++)
        for (int field = 0; field < 5; field++) {
            attn_layer_desc desc = c->desc;
            int64_t *const fields[] = {&desc.batch, &desc.timesteps, &desc.queries, &desc.units, &desc.score_width};
            *fields[field] = INT64_C(1) << shift;
            attn_plan *plan;
            const attn_status status = attn_layer_forward_plan(c->context, &desc, &plan);
            cr_assert(status == ATTN_OK || status == ATTN_ERROR_OVERFLOW || status == ATTN_ERROR_UNSUPPORTED,
                      "2^%d: %s", shift, attn_last_error_message());
            cr_assert(!plan || (attn_plan_workspace_size(plan) < (size_t)PTRDIFF_MAX &&
                                attn_plan_workspace_size(plan) % ATTN_WORKSPACE_ALIGNMENT == 0));
            attn_plan_destroy(plan);
        }
    drop(c);
}

/* ---- Contexts ----------------------------------------------------------------------------------------------------------- */

static void refuse_context(const attn_context_options *options, attn_status want, const char *part, const char *what) {
    attn_context *context = (attn_context *)(uintptr_t)options;
    expect(attn_context_create(options, &context), want, part, what);
    cr_assert(!context, "%s: *context is not NULL", what);
}

static void *allocate_nothing(void *user, size_t size) { return (void)user, (void)size, (void *)NULL; }

Test(faults, contexts) {
    const attn_context_options sound = ATTN_CONTEXT_OPTIONS_INIT;
    attn_context_options options = sound;
    expect(attn_context_create(&options, NULL), ATTN_ERROR_INVALID_ARGUMENT, "context", "NULL");
    options.struct_size = 3;
    refuse_context(&options, ATTN_ERROR_INVALID_ARGUMENT, "struct_size: is 3", "struct_size");
    options = sound, options.flags = UINT64_C(1) << 40;
    refuse_context(&options, ATTN_ERROR_UNSUPPORTED, "flags", "flags");
    options = sound, options.threads = -1;
    refuse_context(&options, ATTN_ERROR_INVALID_ARGUMENT, "threads: is -1", "threads");
    options = sound, options.threads = INT_MAX;
    refuse_context(&options, ATTN_ERROR_INVALID_ARGUMENT, "threads: is 2147483647", "threads");
    options = sound, options.allocate = allocate_nothing;
    refuse_context(&options, ATTN_ERROR_INVALID_ARGUMENT, "release", "allocate alone");
    options = sound, options.isa = "sse9";
    refuse_context(&options, ATTN_ERROR_UNSUPPORTED, "\"sse9\"", "isa");
    options = sound, options.implementation = "cpu:abacus";
    refuse_context(&options, ATTN_ERROR_UNSUPPORTED, "\"cpu:abacus\"", "implementation");
    options.implementation = "cpu:scal"; /* fields, not letters */
    refuse_context(&options, ATTN_ERROR_UNSUPPORTED, "\"cpu:scal\"", "implementation");
}

Test(faults, environment) {
    setenv("ATTN_CPU_ISA", "mmx", 1);
    refuse_context(NULL, ATTN_ERROR_UNSUPPORTED, "ATTN_CPU_ISA: is \"mmx\"", "ATTN_CPU_ISA");
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.isa = "scalar"; /* the option goes first */
    attn_context *context;
    cr_assert(attn_context_create(&options, &context) == ATTN_OK, "%s", attn_last_error_message());
    cr_assert(!strcmp(attn_context_isa(context), "scalar"));
    attn_context_destroy(context);
    setenv("ATTN_CPU_ISA", "", 1);
    setenv("ATTN_IMPL", "gpu", 1);
    refuse_context(NULL, ATTN_ERROR_UNSUPPORTED, "ATTN_IMPL: is \"gpu\"", "ATTN_IMPL");
    setenv("ATTN_IMPL", "", 1);
    cr_assert(attn_context_create(NULL, &context) == ATTN_OK, "empty counts as unset: %s", attn_last_error_message());
    attn_context_destroy(context);
    setenv("ATTN_IMPL", "cpu:scalar", 1);
    call *c = make(ATTN_SCORE_LUONG, false);
    cr_assert(!strcmp(attn_plan_implementation(c->plan), "cpu:scalar:luong:forward:f32"), "%s",
              attn_plan_implementation(c->plan));
    drop(c);
}

/* A forced name that fits no operation of this kind. */
Test(faults, forced_implementation_of_another_score) {
    attn_context *context = kit_context(1, "cpu:scalar:dot:forward:f64");
    attn_layer_desc desc = ATTN_LAYER_DESC_INIT;
    desc.batch = desc.timesteps = desc.features = desc.units = 1;
    attn_plan *plan;
    expect(attn_layer_forward_plan(context, &desc, &plan), ATTN_ERROR_UNSUPPORTED,
           "not the forced cpu:scalar:dot:forward:f64", "forced");
    attn_context_destroy(context);
}

/* ---- Prepared weights ------------------------------------------------------------------------------------------------------ */

Test(faults, prepare) {
    call *c = make(ATTN_SCORE_BAHDANAU, true);
    const size_t size = attn_plan_prepared_size(c->plan);
    expect(attn_layer_prepare(NULL, &c->args.weights, c->prepared, sizeof c->prepared), ATTN_ERROR_INVALID_ARGUMENT,
           "plan", "plan");
    expect(attn_layer_prepare(c->plan, NULL, c->prepared, sizeof c->prepared), ATTN_ERROR_INVALID_ARGUMENT, "weights",
           "weights");
    if (size == 0) {
        WITH(c, prepared, c->prepared, ATTN_ERROR_INVALID_ARGUMENT, "prepared");
        drop(c);
        return;
    }
    expect(attn_layer_prepare(c->plan, &c->args.weights, NULL, size), ATTN_ERROR_INVALID_ARGUMENT, "prepared",
           "prepared");
    expect(attn_layer_prepare(c->plan, &c->args.weights, c->prepared, size - 1), ATTN_ERROR_WORKSPACE, "want", "size");
    expect(attn_layer_prepare(c->plan, &c->args.weights, c->prepared + 8, size), ATTN_ERROR_ALIGNMENT, "prepared",
           "misaligned");
    attn_layer_weights weights = c->args.weights;
    weights.bahdanau_w2 = NULL;
    expect(attn_layer_prepare(c->plan, &weights, c->prepared, size), ATTN_ERROR_INVALID_ARGUMENT, "bahdanau_w2",
           "a weight is missing");
    weights.bahdanau_w2 = c->prepared;
    expect(attn_layer_prepare(c->plan, &weights, c->prepared, size), ATTN_ERROR_OVERLAP, "overlaps", "in place");
    cr_assert(attn_layer_prepare(c->plan, &c->args.weights, c->prepared, size) == ATTN_OK, "%s",
              attn_last_error_message());
    WITH(c, prepared, c->prepared + 64, ATTN_ERROR_INVALID_ARGUMENT, "prepared"); /* not what prepare wrote */
    drop(c);
}

/* ---- NULL and the last message ---------------------------------------------------------------------------------------------- */

Test(faults, null_is_harmless) {
    attn_context_destroy(NULL);
    attn_plan_destroy(NULL);
    cr_assert(attn_context_threads(NULL) == 0 && !*attn_context_isa(NULL) && !*attn_context_cpu_features(NULL) &&
              !*attn_context_blas(NULL));
    cr_assert(!attn_context_implementation_name(NULL, 0) && !*attn_plan_implementation(NULL));
    cr_assert(attn_plan_workspace_size(NULL) == 0 && attn_plan_prepared_size(NULL) == 0);
    cr_assert(!strcmp(attn_status_string((attn_status)99), "unknown status") &&
              !strcmp(attn_status_string((attn_status)-1), "unknown status"));
    for (int i = ATTN_OK; i <= ATTN_ERROR_DEVICE_LOST; i++) cr_assert(*attn_status_string((attn_status)i));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Random problems: both passes against the reference; and overlap against its definition, byte by byte: random calls inside one arena,
 * where everything may lie across everything, and the region arithmetic by itself. A call is refused as overlapping exactly when a byte
 * that it writes is another's too; a refused call writes nothing, and an accepted one writes nothing but its own. */
#include "lib/region.h"
#include "tests/suite.h"

/* ---- Calls ----------------------------------------------------------------------------------------- */

enum { SIDE = 5, STRIDE = 48, REACH = 1 << 14, ARENA = 1 << 20, CALLS = 3000 };
enum { READ = 1, WRITTEN = 2 };

typedef struct arena {
    unsigned char *bytes, *before, *use; /* use: READ and WRITTEN, by the tensors of the call */
    bool overlap;
    uint64_t state;
} arena;

static size_t any(arena *a, size_t below) {
    a->state ^= a->state << 13;
    a->state ^= a->state >> 7;
    a->state ^= a->state << 17;
    return (size_t)(a->state >> 33) % below;
}

static arena make_arena(uint64_t seed) {
    arena a = {aligned_alloc(ATTN_WORKSPACE_ALIGNMENT, ARENA), malloc(ARENA), malloc(ARENA), false, seed};
    cr_assert(a.bytes && a.before && a.use);
    for (size_t i = 0; i < ARENA / sizeof(float); i++) ((float *)a.bytes)[i] = (float)any(&a, 2001) / 1000 - 1;
    return a;
}

static void free_arena(arena *a) {
    free(a->bytes);
    free(a->before);
    free(a->use);
}

static void use_bytes(arena *a, size_t at, size_t size, int how) {
    for (size_t i = at; i < at + size; i++) {
        if ((how == WRITTEN && a->use[i]) || a->use[i] & WRITTEN) a->overlap = true;
        a->use[i] |= (unsigned char)how;
    }
}

/* A place for outer x inner rows with random strides, some dense (0; rows without a stride always), and the note of what they occupy. */
static void *place(arena *a, size_t outer, size_t inner, size_t row, size_t element, int how, int64_t *outer_stride,
                   int64_t *inner_stride) {
    const size_t at = any(a, REACH / element) * element;
    if (inner_stride) *inner_stride = any(a, 2) ? 0 : (int64_t)(row + any(a, STRIDE));
    *outer_stride = any(a, 3) ? 0 : (int64_t)(1 + any(a, SIDE * STRIDE));
    const size_t step = inner_stride && *inner_stride ? (size_t)*inner_stride : row;
    const size_t jump = *outer_stride ? (size_t)*outer_stride : inner * step;
    for (size_t i = 0; i < outer; i++)
        for (size_t j = 0; j < inner; j++) use_bytes(a, at + (i * jump + j * step) * element, row * element, how);
    return a->bytes + at;
}

static void *place_dense(arena *a, size_t count, size_t element, int how) {
    const size_t at = any(a, REACH / element) * element;
    use_bytes(a, at, count * element, how);
    return a->bytes + at;
}

static void *place_aligned(arena *a, size_t size, int how) {
    const size_t at = any(a, 2 * REACH / ATTN_WORKSPACE_ALIGNMENT) * ATTN_WORKSPACE_ALIGNMENT;
    if (how) use_bytes(a, at, size, how);
    return a->bytes + at;
}

static attn_layer_desc any_desc(arena *a) {
    attn_layer_desc desc = ATTN_LAYER_DESC_INIT;
    desc.score = (attn_score)any(a, 3);
    desc.dtype = (attn_dtype)any(a, 2);
    desc.batch = (int64_t)any(a, SIDE);
    desc.timesteps = (int64_t)any(a, SIDE);
    desc.features = 1 + (int64_t)any(a, SIDE);
    if (any(a, 2)) desc.queries = (int64_t)any(a, SIDE);
    desc.units = (int64_t)any(a, SIDE);
    return desc;
}

static attn_layer_weights any_weights(arena *a, const attn_layer_desc *desc, size_t element) {
    const size_t d = (size_t)desc->features;
    attn_layer_weights weights = ATTN_LAYER_WEIGHTS_INIT;
    if (desc->score == ATTN_SCORE_LUONG) weights.luong_w = place_dense(a, d * d, element, READ);
    if (desc->score == ATTN_SCORE_BAHDANAU) {
        weights.bahdanau_w1 = place_dense(a, d * d, element, READ);
        weights.bahdanau_w2 = place_dense(a, d * d, element, READ);
        weights.bahdanau_v = place_dense(a, d, element, READ);
    }
    weights.w_c = place_dense(a, 2 * d * (size_t)desc->units, element, READ);
    return weights;
}

static attn_layer_forward_args any_args(arena *a, const attn_layer_desc *desc, size_t workspace_size) {
    const size_t element = desc->dtype == ATTN_FLOAT64 ? sizeof(double) : sizeof(float);
    const size_t b = (size_t)desc->batch, t = (size_t)desc->timesteps, d = (size_t)desc->features,
                 u = (size_t)desc->units;
    const size_t tq = desc->queries < 0 ? 1 : (size_t)desc->queries;
    attn_layer_forward_args args = ATTN_LAYER_FORWARD_ARGS_INIT;
    args.h = place(a, b, t, d, element, READ, &args.h_batch_stride, &args.h_time_stride);
    if (desc->queries >= 0)
        args.query = place(a, b, tq, d, element, READ, &args.query_batch_stride, &args.query_row_stride);
    if (any(a, 2)) args.mask = place(a, b, 1, t, 1, READ, &args.mask_batch_stride, NULL);
    args.weights = any_weights(a, desc, element);
    args.output = place(a, b, tq, u, element, WRITTEN, &args.output_batch_stride, &args.output_row_stride);
    if (u == 0 || any(a, 2))
        args.context = place(a, b, tq, d, element, WRITTEN, &args.context_batch_stride, &args.context_row_stride);
    if (any(a, 2))
        args.attention_weights = place(a, b, tq, t, element, WRITTEN, &args.attention_weights_batch_stride,
                                       &args.attention_weights_row_stride);
    if (any(a, 2)) args.lse = place(a, b, 1, tq, element, WRITTEN, &args.lse_batch_stride, NULL);
    args.workspace = place_aligned(a, workspace_size, WRITTEN);
    args.workspace_size = workspace_size;
    return args;
}

/* Whether every byte that nothing may write is as it was. */
static bool unchanged(const arena *a, bool written) {
    for (size_t i = 0; i < ARENA; i++)
        if (a->bytes[i] != a->before[i] && !(written && a->use[i] & WRITTEN)) return false;
    return true;
}

static void call_at_random(arena *a, attn_context *context, size_t counts[2]) {
    attn_plan *plan;
    const attn_layer_desc desc = any_desc(a);
    cr_assert(attn_layer_forward_plan(context, &desc, &plan) == ATTN_OK, "%s", attn_last_error_message());
    const size_t workspace_size = attn_plan_workspace_size(plan);
    cr_assert(workspace_size <= ARENA / 2, "a workspace of %zu bytes for a tiny problem", workspace_size);
    memset(a->use, 0, ARENA);
    a->overlap = false;
    const uint64_t state = a->state;
    const attn_layer_forward_args args = any_args(a, &desc, workspace_size);
    memcpy(a->before, a->bytes, ARENA);
    const attn_status status = attn_layer_forward(plan, &args);
    cr_assert(status == (a->overlap ? ATTN_ERROR_OVERLAP : ATTN_OK), "state %llx: %s, %s", (unsigned long long)state,
              attn_status_string(status), a->overlap ? "though memory overlaps" : attn_last_error_message());
    cr_assert(unchanged(a, !status), "state %llx: %s wrote memory that is not its own", (unsigned long long)state,
              attn_plan_implementation(plan));
    memcpy(a->bytes, a->before, ARENA);
    counts[status != ATTN_OK]++;
    attn_plan_destroy(plan);
}

Test(random, overlap_is_found_exactly) {
    arena a = make_arena(UINT64_C(0x9e3779b97f4a7c15));
    attn_context *context = kit_context(1, NULL);
    size_t counts[2] = {0};
    for (int i = 0; i < CALLS; i++) call_at_random(&a, context, counts);
    cr_assert(counts[0] > CALLS / 10 && counts[1] > CALLS / 10, "%zu accepted, %zu refused: too few to tell", counts[0],
              counts[1]);
    attn_context_destroy(context);
    free_arena(&a);
}

/* ---- Backward calls ------------------------------------------------------------------------------- */

static attn_layer_gradients any_gradients(arena *a, const attn_layer_desc *desc, size_t element) {
    const size_t d = (size_t)desc->features;
    attn_layer_gradients out = ATTN_LAYER_GRADIENTS_INIT;
    if (desc->score == ATTN_SCORE_LUONG && any(a, 2)) out.luong_w = place_dense(a, d * d, element, WRITTEN);
    if (desc->score == ATTN_SCORE_BAHDANAU && any(a, 2)) out.bahdanau_w1 = place_dense(a, d * d, element, WRITTEN);
    if (desc->score == ATTN_SCORE_BAHDANAU && any(a, 2)) out.bahdanau_w2 = place_dense(a, d * d, element, WRITTEN);
    if (desc->score == ATTN_SCORE_BAHDANAU && any(a, 2)) out.bahdanau_v = place_dense(a, d, element, WRITTEN);
    if (desc->units && any(a, 2)) out.w_c = place_dense(a, 2 * d * (size_t)desc->units, element, WRITTEN);
    return out;
}

static attn_layer_backward_args any_back_args(arena *a, const attn_layer_desc *desc, const attn_plan *plan) {
    const size_t element = desc->dtype == ATTN_FLOAT64 ? sizeof(double) : sizeof(float);
    const size_t b = (size_t)desc->batch, t = (size_t)desc->timesteps, d = (size_t)desc->features,
                 u = (size_t)desc->units;
    const bool given = desc->queries >= 0;
    const size_t tq = given ? (size_t)desc->queries : 1;
    attn_layer_backward_args args = ATTN_LAYER_BACKWARD_ARGS_INIT;
    args.accumulate = any(a, 8);
    args.h = place(a, b, t, d, element, READ, &args.h_batch_stride, &args.h_time_stride);
    if (given) args.query = place(a, b, tq, d, element, READ, &args.query_batch_stride, &args.query_row_stride);
    args.weights = any_weights(a, desc, element);
    if (u && any(a, 2))
        args.grad_output =
            place(a, b, tq, u, element, READ, &args.grad_output_batch_stride, &args.grad_output_row_stride);
    args.grad_context =
        place(a, b, tq, d, element, READ, &args.grad_context_batch_stride, &args.grad_context_row_stride);
    if (any(a, 2))
        args.grad_attention_weights = place(a, b, tq, t, element, READ, &args.grad_attention_weights_batch_stride,
                                            &args.grad_attention_weights_row_stride);
    if (any(a, 2)) args.grad_lse = place(a, b, 1, tq, element, READ, &args.grad_lse_batch_stride, NULL);
    args.grad_h = place(a, b, t, d, element, WRITTEN, &args.grad_h_batch_stride, &args.grad_h_time_stride);
    if (given && any(a, 2))
        args.grad_query =
            place(a, b, tq, d, element, WRITTEN, &args.grad_query_batch_stride, &args.grad_query_row_stride);
    args.gradients = any_gradients(a, desc, element);
    args.kept_size = attn_plan_kept_size(plan);
    args.kept = place_aligned(a, args.kept_size, b && tq ? READ : 0); /* nothing is kept of no rows */
    args.workspace_size = attn_plan_workspace_size(plan);
    args.workspace = place_aligned(a, args.workspace_size, WRITTEN);
    return args;
}

/* What a forward pass in training keeps of a problem of these sizes. */
static void keep(attn_context *context, const attn_layer_desc *desc, void *kept, size_t size) {
    attn_layer_desc training = *desc;
    training.flags = ATTN_LAYER_TRAINING;
    attn_plan *plan;
    cr_assert(attn_layer_forward_plan(context, &training, &plan) == ATTN_OK, "%s", attn_last_error_message());
    arena inputs = make_arena(1);
    attn_layer_forward_args args = ATTN_LAYER_FORWARD_ARGS_INIT;
    double *const zeros = calloc(REACH, sizeof *zeros);
    args.h = zeros, args.query = desc->queries >= 0 ? zeros : NULL;
    if (desc->score == ATTN_SCORE_LUONG) args.weights.luong_w = zeros;
    if (desc->score == ATTN_SCORE_BAHDANAU)
        args.weights.bahdanau_w1 = args.weights.bahdanau_w2 = args.weights.bahdanau_v = zeros;
    args.weights.w_c = zeros;
    args.context = inputs.bytes + ARENA / 2;
    args.output = desc->units ? inputs.bytes + ARENA / 2 + REACH : NULL;
    args.workspace = inputs.bytes, args.workspace_size = attn_plan_workspace_size(plan);
    args.kept = kept, args.kept_size = size;
    cr_assert(attn_layer_forward(plan, &args) == ATTN_OK, "%s", attn_last_error_message());
    free(zeros);
    free_arena(&inputs);
    attn_plan_destroy(plan);
}

static void call_back_at_random(arena *a, attn_context *context, size_t counts[2]) {
    attn_plan *plan;
    const attn_layer_desc desc = any_desc(a);
    cr_assert(attn_layer_backward_plan(context, &desc, &plan) == ATTN_OK, "%s", attn_last_error_message());
    cr_assert(attn_plan_workspace_size(plan) + attn_plan_kept_size(plan) <= ARENA / 4, "much for a tiny problem");
    void *const kept = aligned_alloc(ATTN_WORKSPACE_ALIGNMENT, attn_plan_kept_size(plan));
    keep(context, &desc, kept, attn_plan_kept_size(plan));
    memset(a->use, 0, ARENA);
    a->overlap = false;
    const uint64_t state = a->state;
    const attn_layer_backward_args args = any_back_args(a, &desc, plan);
    memcpy((void *)(uintptr_t)args.kept, kept, args.kept_size);
    memcpy(a->before, a->bytes, ARENA);
    const attn_status status = attn_layer_backward(plan, &args);
    cr_assert(status == (a->overlap ? ATTN_ERROR_OVERLAP : ATTN_OK), "state %llx: %s, %s", (unsigned long long)state,
              attn_status_string(status), a->overlap ? "though memory overlaps" : attn_last_error_message());
    cr_assert(unchanged(a, !status), "state %llx: %s wrote memory that is not its own", (unsigned long long)state,
              attn_plan_implementation(plan));
    memcpy(a->bytes, a->before, ARENA);
    counts[status != ATTN_OK]++;
    free(kept);
    attn_plan_destroy(plan);
}

Test(random, overlap_of_gradients_is_found_exactly) {
    arena a = make_arena(UINT64_C(0x853c49e6748fea9b));
    attn_context *context = kit_context(1, NULL);
    size_t counts[2] = {0};
    for (int i = 0; i < CALLS; i++) call_back_at_random(&a, context, counts);
    cr_assert(counts[0] > CALLS / 30 && counts[1] > CALLS / 10, "%zu accepted, %zu refused: too few to tell", counts[0],
              counts[1]);
    attn_context_destroy(context);
    free_arena(&a);
}

/* ---- Values ---------------------------------------------------------------------------------------- */

enum { PROBLEMS = 400 };

static int64_t any_width(arena *a) {
    static const int64_t widths[] = {1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 100, 128, 130};
    return widths[any(a, sizeof widths / sizeof *widths)];
}

/* Anything that the reference computes soon. */
static kit_case any_case(arena *a) {
    for (;;) {
        kit_case spec = {.score = (attn_score)any(a, 3), .dtype = (attn_dtype)any(a, 2), .row = "any"};
        spec.batch = 1 + (int64_t)any(a, 9), spec.timesteps = any(a, 4) ? any_width(a) : 1 + (int64_t)any(a, 600);
        spec.features = any_width(a), spec.units = any(a, 8) ? any_width(a) : 0;
        spec.queries = any(a, 2) ? ATTN_LAST_STEP : 1 + (int64_t)any(a, 6);
        if (spec.score == ATTN_SCORE_BAHDANAU && any(a, 2)) spec.score_width = any_width(a);
        if (spec.queries > 0 && spec.score != ATTN_SCORE_DOT && any(a, 2)) spec.query_features = any_width(a);
        spec.fill = (kit_fill)any(a, KIT_CONSTANT); /* of random numbers, half of them hostile to sums */
        spec.weight_scale = any(a, 3) ? 1 : 0.1;
        spec.options = (unsigned)any(a, 128);
        if (!(spec.options & KIT_MASK) || spec.queries < 0) spec.options &= ~(unsigned)KIT_MASK_QUERIES;
        spec.seed = any(a, SIZE_MAX >> 33);
        const double width =
            spec.score == ATTN_SCORE_BAHDANAU ? (double)(spec.score_width ? spec.score_width : spec.features) : 4;
        const double work =
            (double)(spec.batch * (spec.queries < 0 ? 1 : spec.queries) * spec.timesteps * spec.features) * width;
        if (work < (spec.dtype == ATTN_FLOAT64 ? 1e5 : 1e6)) return spec;
    }
}

static void describe(const kit_case *spec, char *text, size_t room) {
    snprintf(text, room,
             "%s %s B=%lld T=%lld D=%lld U=%lld Tq=%lld Dq=%lld A=%lld fill %d weights %g options %#x seed %llx",
             kit_score_name(spec->score), kit_dtype_name(spec->dtype), (long long)spec->batch,
             (long long)spec->timesteps, (long long)spec->features, (long long)spec->units, (long long)spec->queries,
             (long long)spec->query_features, (long long)spec->score_width, (int)spec->fill, spec->weight_scale,
             spec->options, (unsigned long long)spec->seed);
}

static const char *any_name(arena *a, const char *const *names, size_t count) {
    cr_assert(count > 0, "no implementation");
    return names[any(a, count)];
}

/* A subset of what `all` says, never empty. */
static unsigned some(arena *a, unsigned all) {
    const unsigned chosen = (unsigned)any(a, all + 1) & all;
    return chosen ? chosen : all;
}

/* What can be taken from the case. */
static unsigned gradients_of(const kit_case *spec) {
    return KIT_GRAD_H | (spec->units ? KIT_GRAD_W_C : 0U) | (spec->queries >= 0 ? KIT_GRAD_QUERY : 0U) |
           (spec->score == ATTN_SCORE_LUONG ? KIT_GRAD_LUONG_W : 0U) |
           (spec->score == ATTN_SCORE_BAHDANAU ? KIT_GRAD_W1 | KIT_GRAD_W2 | KIT_GRAD_V : 0U);
}

static void compare_at_random(arena *a) {
    char text[256];
    const kit_case spec = any_case(a);
    describe(&spec, text, sizeof text);
    const uint64_t flags =
        ATTN_LAYER_TRAINING | (spec.score == ATTN_SCORE_BAHDANAU && !any(a, 3) ? ATTN_LAYER_RECOMPUTE : 0);
    const char *names[WALK_IMPLEMENTATIONS];
    const char *forward = any_name(a, names, walk_usable_flags(&spec, flags, names));
    kit_problem *problem = kit_problem_make(&spec, (kit_guard)any(a, 2));
    attn_layer_desc desc = problem->desc;
    desc.flags = flags;
    attn_plan *plan = walk_plan(&desc, forward, 1 + (int)any(a, 4));
    cr_assert(kit_problem_run(problem, plan, KIT_CONTEXT | (unsigned)any(a, 16)) == ATTN_OK, "%s: %s: %s", text,
              forward, attn_last_error_message());
    attn_plan_destroy(plan);
    kit_verdict verdict = kit_problem_check(problem);
    cr_assert(verdict.error <= 1, "%s: %s: %g: %s", text, forward, verdict.error, verdict.where);

    const char *backward = any_name(a, names, walk_usable_backward(&spec, names));
    const unsigned incoming = some(a, spec.units ? KIT_ALL_OUTPUTS : KIT_ALL_OUTPUTS & ~(unsigned)KIT_OUTPUT);
    plan = walk_plan(&desc, backward, 1 + (int)any(a, 4));
    cr_assert(kit_problem_back(problem, plan, incoming, some(a, gradients_of(&spec)), any(a, 8)) == ATTN_OK,
              "%s: %s: %s", text, backward, attn_last_error_message());
    attn_plan_destroy(plan);
    verdict = kit_problem_check_back(problem);
    cr_assert(verdict.error <= 1, "%s: %s after %s, from %#x: %g: %s", text, backward, forward, incoming, verdict.error,
              verdict.where);
    kit_problem_free(problem);
}

Test(random, both_passes_match_the_reference) {
    arena a = {.state = UINT64_C(0xda3e39cb94b95bdb)};
    for (int i = 0; i < PROBLEMS; i++) compare_at_random(&a);
}

/* ---- Regions --------------------------------------------------------------------------------------- */

enum { REGIONS = 60000, SPAN = 4096, VIEW_DIMS = 3 };

typedef struct view {
    size_t begin, element, count[VIEW_DIMS];
    ptrdiff_t stride[VIEW_DIMS];
} view;

/* Strides are often those of the view before, as slices of one buffer have them, and often dense. */
static view any_view(arena *a, const view *before, size_t element) {
    view v = {.begin = any(a, 100), .element = element};
    for (int d = 0; d < VIEW_DIMS; d++) v.count[d] = any(a, 6);
    v.stride[2] = any(a, 4) ? 1 : 1 + (ptrdiff_t)any(a, 3);
    v.stride[1] = any(a, 2) ? before->stride[1] : (ptrdiff_t)any(a, 20);
    v.stride[0] = any(a, 2) ? before->stride[0] : (ptrdiff_t)any(a, 60);
    if (any(a, 3) == 0) v.stride[1] = (ptrdiff_t)v.count[2] * v.stride[2];
    if (any(a, 3) == 0) v.stride[0] = (ptrdiff_t)v.count[1] * v.stride[1];
    return v;
}

/* Marks the view's bytes; whether it came over one twice. */
static bool mark(const view *v, unsigned char *map) {
    bool twice = false;
    memset(map, 0, SPAN);
    for (size_t i = 0; i < v->count[0]; i++)
        for (size_t j = 0; j < v->count[1]; j++)
            for (size_t k = 0; k < v->count[2]; k++)
                for (size_t e = 0; e < v->element; e++) {
                    const size_t element =
                        i * (size_t)v->stride[0] + j * (size_t)v->stride[1] + k * (size_t)v->stride[2];
                    unsigned char *byte = &map[v->begin + element * v->element + e];
                    twice |= *byte;
                    *byte = 1;
                }
    return twice;
}

static bool meet(const unsigned char *a, const unsigned char *b) {
    for (size_t i = 0; i < SPAN; i++)
        if (a[i] && b[i]) return true;
    return false;
}

Test(random, regions_match_their_bytes) {
    arena a = {.state = UINT64_C(0x2545f4914f6cdd1d)};
    static unsigned char maps[2][SPAN];
    view before = {.stride = {30, 10, 1}};
    size_t met = 0;
    for (int n = 0; n < REGIONS; n++) {
        attn_region regions[2];
        const size_t element = any(&a, 2) ? 1 : 4;
        for (int i = 0; i < 2; i++) {
            const view v = before = any_view(&a, &before, element);
            const bool twice = mark(&v, maps[i]), filled = v.count[0] && v.count[1] && v.count[2];
            const void *pointer = (const void *)(uintptr_t)(SPAN + v.begin);
            cr_assert(attn_region_make(&regions[i], pointer, element, VIEW_DIMS, v.count, v.stride));
            cr_assert(!filled || v.stride[2] != 1 ||
                          twice == attn_rows_overlap(v.count[0], (size_t)v.stride[0], v.count[1], (size_t)v.stride[1],
                                                     v.count[2]),
                      "rows of view %d", n);
        }
        const bool expected = meet(maps[0], maps[1]);
        cr_assert(attn_regions_overlap(&regions[0], &regions[1]) == expected, "views of pair %d", n);
        met += expected;
    }
    cr_assert(met > REGIONS / 10 && met < REGIONS / 2, "%zu of %d pairs overlap: too one-sided", met, (int)REGIONS);
}

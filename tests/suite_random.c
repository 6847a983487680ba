/* SPDX-License-Identifier: Apache-2.0 */
/* Overlap against its definition, byte by byte: random calls inside one arena, where everything may lie across everything, and
 * the region arithmetic by itself. A call is refused as overlapping exactly when a byte that it writes is another's too; a
 * refused call writes nothing, and an accepted one writes nothing but its own. */
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

static void *place_dense(arena *a, size_t count, size_t element) {
    const size_t at = any(a, REACH / element) * element;
    use_bytes(a, at, count * element, READ);
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
    if (desc->score == ATTN_SCORE_LUONG) args.weights.luong_w = place_dense(a, d * d, element);
    if (desc->score == ATTN_SCORE_BAHDANAU) {
        args.weights.bahdanau_w1 = place_dense(a, d * d, element);
        args.weights.bahdanau_w2 = place_dense(a, d * d, element);
        args.weights.bahdanau_v = place_dense(a, d, element);
    }
    args.weights.w_c = place_dense(a, 2 * d * u, element);
    args.output = place(a, b, tq, u, element, WRITTEN, &args.output_batch_stride, &args.output_row_stride);
    if (u == 0 || any(a, 2))
        args.context = place(a, b, tq, d, element, WRITTEN, &args.context_batch_stride, &args.context_row_stride);
    if (any(a, 2))
        args.attention_weights = place(a, b, tq, t, element, WRITTEN, &args.attention_weights_batch_stride,
                                       &args.attention_weights_row_stride);
    if (any(a, 2)) args.lse = place(a, b, 1, tq, element, WRITTEN, &args.lse_batch_stride, NULL);
    const size_t at = any(a, 2 * REACH / ATTN_WORKSPACE_ALIGNMENT) * ATTN_WORKSPACE_ALIGNMENT;
    args.workspace = a->bytes + at;
    args.workspace_size = workspace_size;
    use_bytes(a, at, workspace_size, WRITTEN);
    return args;
}

/* Whether every byte that nothing may write is as it was. */
static bool kept(const arena *a, bool written) {
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
    cr_assert(kept(a, !status), "state %llx: %s wrote memory that is not its own", (unsigned long long)state,
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

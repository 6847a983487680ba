/* What both passes of the composition begin with, the machinery of their steps, and the implementations.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "cpu/composition.h"

#include "cpu/composition_parts.h"

#include <limits.h>
#include <math.h>
#include <string.h>

/* Sizes of the units; the figures are float32 on a 2-core Zen 5, see docs/blas.md. */
enum {
    BLOCK_BYTES = 256 << 10, /* of H in a block: its second reading comes from L2 */
    BLOCK_ROWS_MOST = 512,
    BLOCK_ROWS_NARROW = 64, /* OpenBLAS sums the rows of a few columns in one chain; wide H has wider gates */
    NARROW_FEATURES = 32,
    BLOCK_ROWS_ADDITIVE = 3 * ATTN_OPENBLAS_ROWS, /* three products; the tanh makes H's second reading cheap */
    BLOCK_TILES_BACKWARD = 2,
    TILE_ROWS_BACKWARD = 2 * ATTN_OPENBLAS_ROWS, /* longer sums for the gradient of W2 */
    COLLECT_ROWS = 256,
    FOLD_ROWS = 32,
    FOLD_COLUMNS = 128,
    OUTPUT_ELEMENTS = ATTN_FINISH_ROWS * 128,
    THREADING_COST = 1 << 20 /* multiply-adds of a step below which waking a thread costs more than it saves */
};

/* ---- Sizes ---------------------------------------------------------------------------------------- */

static size_t most_rows(const attn_composition *c) {
    if (attn_is_additive(c)) return c->backward ? BLOCK_TILES_BACKWARD * c->tile_rows : BLOCK_ROWS_ADDITIVE;
    if (c->sizes.features < NARROW_FEATURES) return BLOCK_ROWS_NARROW;
    const size_t most = BLOCK_BYTES / c->element / c->sizes.features;
    return most < ATTN_OPENBLAS_ROWS ? ATTN_OPENBLAS_ROWS : least(most, BLOCK_ROWS_MOST);
}

static void measure(attn_composition *c) {
    const attn_layer_problem *p = &c->sizes;
    c->element = p->dtype == ATTN_FLOAT32 ? sizeof(float) : sizeof(double);
    c->queries = p->batch * p->queries;
    c->tile_rows = c->backward ? TILE_ROWS_BACKWARD : ATTN_OPENBLAS_ROWS;
    c->block_rows = p->timesteps ? least(most_rows(c), p->timesteps) : 1;
    c->blocks = p->timesteps ? divide_up(p->timesteps, c->block_rows) : 1;
    c->block_queries = least(ATTN_BLOCK_QUERIES, p->queries ? p->queries : 1);
    c->query_blocks = divide_up(p->queries, c->block_queries);
    c->score_columns = attn_is_additive(c) ? p->score_width : p->features;
    c->x_row = attn_padded(c, p->query_features);
    c->folded_row = p->score == ATTN_SCORE_DOT ? c->x_row : attn_padded(c, c->score_columns);
    c->context_row = c->rows_row = attn_padded(c, p->features);
    c->scores_row = attn_padded(c, c->block_rows);
    const bool products = attn_is_additive(c) && !(c->backward && attn_kept_has_tanh(p));
    c->folds = p->score == ATTN_SCORE_LUONG || products;
    c->panels = products && c->blas->small_products && !attn_openblas_fits(c->blas, p->score_width, p->features);
    c->product_columns = c->panels ? ATTN_PANEL_COLUMNS : p->score_width;
    c->product_row = attn_is_additive(c) ? attn_padded(c, c->backward ? p->score_width : c->product_columns) : 0;
}

static void carve_scratch(const attn_composition *c, attn_carver *carver, attn_composition_scratch *s) {
    const size_t sets = c->backward ? 2 : 1, tile = c->product_row ? c->tile_rows : 0;
    *s = (attn_composition_scratch){.rows = NULL};
    s->rows = attn_carve(carver, c->block_rows, c->rows_row * c->element);
    s->index = attn_carve(carver, c->block_rows, sizeof *s->index);
    s->scores = attn_carve(carver, sets * c->block_queries, c->scores_row * c->element);
    s->product = attn_carve(carver, tile, c->product_row * c->element);
    if (!c->backward) {
        s->output = attn_carve(carver, OUTPUT_ELEMENTS, c->element);
        return;
    }
    s->pair = attn_carve(carver, sets * c->block_queries, c->rows_row * c->element);
    s->tanh = attn_carve(carver, tile, c->product_row * c->element);
    s->gradient = attn_carve(carver, tile, c->product_row * c->element);
    s->grad_h = attn_carve(carver, c->block_rows, c->rows_row * c->element);
}

void attn_composition_carve_queries(attn_composition *c, attn_carver *carver) {
    const attn_layer_problem *p = &c->sizes;
    c->x = attn_carve(carver, c->queries, c->x_row * c->element);
    c->folded = c->folds ? attn_carve(carver, c->queries, c->folded_row * c->element) : c->x;
    c->w2 = attn_carve(carver, c->panels ? divide_up(p->score_width, ATTN_PANEL_COLUMNS) * ATTN_PANEL_COLUMNS : 0,
                       p->features * c->element);
}

void attn_composition_carve_slots(attn_composition *c, attn_carver *carver) {
    attn_carver one = {.base = NULL};
    attn_composition_scratch counted;
    carve_scratch(c, &one, &counted);
    c->scratch_size = attn_carved_size(&one);
    c->scratches = attn_carve(carver, c->slots, c->scratch_size);
}

attn_composition_range attn_composition_valid(const attn_composition *c, size_t item) {
    const attn_layer_call *call = c->call;
    size_t start = call->starts ? (size_t)call->starts[item] : 0;
    size_t length = call->lengths ? (size_t)call->lengths[item] : c->sizes.timesteps - start;
    return (attn_composition_range){start, start + length};
}

/* ---- Collect ---------------------------------------------------------------------------------------- */

static void collect_query(const attn_composition *c, size_t query) {
    const attn_layer_call *call = c->call;
    const size_t item = query / c->sizes.queries, bytes = c->sizes.query_features * c->element;
    void *x = attn_at(c, c->x, query, c->x_row, 0);
    if (c->sizes.given_query) {
        memcpy(x, attn_row(c, call->query, item, call->query_batch, query % c->sizes.queries, call->query_row), bytes);
        return;
    }
    attn_composition_range steps = attn_composition_valid(c, item);
    if (steps.start == steps.end)
        memset(x, 0, bytes);
    else
        memcpy(x, attn_row(c, call->h, item, call->h_batch, steps.end - 1, call->h_time), bytes);
}

/* Panel after panel, each (features, its columns) without gaps. */
static void pack_panel(const attn_composition *c, size_t panel) {
    const size_t width = c->sizes.score_width, first = panel * ATTN_PANEL_COLUMNS,
                 columns = least(ATTN_PANEL_COLUMNS, width - first);
    char *to = attn_at(c, c->w2, first, c->sizes.features, 0);
    for (size_t k = 0; k < c->sizes.features; k++)
        memcpy(to + k * columns * c->element, attn_at_const(c, c->call->bahdanau_w2, k, width, first),
               columns * c->element);
}

void attn_composition_collect(const attn_composition *c, size_t unit, const attn_composition_scratch *s) {
    (void)s;
    const size_t tiles = divide_up(c->queries, COLLECT_ROWS);
    if (unit >= tiles) {
        pack_panel(c, unit - tiles);
        return;
    }
    const size_t end = least(c->queries, (unit + 1) * COLLECT_ROWS);
    for (size_t query = unit * COLLECT_ROWS; query < end; query++) collect_query(c, query);
}

/* ---- Fold ------------------------------------------------------------------------------------------- */

void attn_composition_fold(const attn_composition *c, size_t unit, const attn_composition_scratch *s) {
    (void)s;
    const size_t tiles = divide_up(c->score_columns, FOLD_COLUMNS), row = unit / tiles * FOLD_ROWS,
                 column = unit % tiles * FOLD_COLUMNS, depth = c->sizes.query_features;
    const size_t rows = least(FOLD_ROWS, c->queries - row), columns = least(FOLD_COLUMNS, c->score_columns - column);
    const void *x = attn_at(c, c->x, row, c->x_row, 0);
    void *folded = attn_at(c, c->folded, row, c->folded_row, column);
    if (attn_is_additive(c))
        attn_openblas_gemm(c->blas, c->sizes.dtype, rows, columns, depth, x, c->x_row,
                           attn_at_const(c, c->call->bahdanau_w1, 0, 0, column), c->score_columns, folded,
                           c->folded_row, false);
    else
        attn_openblas_gemm_nt(c->blas, c->sizes.dtype, rows, columns, depth, x, c->x_row,
                              attn_at_const(c, c->call->luong_w, column, depth, 0), depth, folded, c->folded_row,
                              false);
}

void attn_composition_begin(attn_composition *c) {
    const attn_layer_problem *p = &c->sizes;
    const double queries = (double)c->queries, width = (double)p->query_features;
    const double panels = c->panels ? (double)p->score_width * (double)p->features : 0;
    attn_composition_step(c, attn_composition_collect,
                          divide_up(c->queries, COLLECT_ROWS) +
                              (c->panels ? divide_up(p->score_width, ATTN_PANEL_COLUMNS) : 0),
                          8 * (queries * width + panels));
    if (c->folds)
        attn_composition_step(c, attn_composition_fold,
                              divide_up(c->queries, FOLD_ROWS) * divide_up(c->score_columns, FOLD_COLUMNS),
                              queries * (double)c->score_columns * width);
}

/* ---- Blocks ----------------------------------------------------------------------------------------- */

bool attn_composition_attended(const attn_composition *c, const attn_composition_block *k, size_t query, size_t step) {
    return !k->mask || k->mask[(ptrdiff_t)query * c->call->mask_query + (ptrdiff_t)step * c->call->mask_time];
}

static bool attended_by_any(const attn_composition *c, const attn_composition_block *k, size_t step) {
    const size_t masks = c->call->mask_query ? k->queries : 1;
    for (size_t query = 0; query < masks; query++)
        if (attn_composition_attended(c, k, query, step)) return true;
    return false;
}

/* Rows as OpenBLAS can take them: where they lie, or gathered. */
static void find_rows(const attn_composition *c, attn_composition_block *k, const attn_composition_scratch *s) {
    const attn_layer_call *call = c->call;
    k->count = 0;
    for (size_t step = 0; step < k->end - k->first; step++)
        if (attended_by_any(c, k, step)) s->index[k->count++] = step;
    const bool whole = k->count == k->end - k->first;
    const char *h = k->count ? attn_row(c, call->h, k->item, call->h_batch, k->first, call->h_time) : NULL;
    if (whole && call->h_time >= (ptrdiff_t)c->sizes.features && call->h_time <= INT_MAX) {
        k->rows = h;
        k->row = (size_t)call->h_time;
    } else {
        for (size_t i = 0; i < k->count; i++)
            memcpy(attn_at(c, s->rows, i, c->rows_row, 0), attn_row(c, h, 0, 0, s->index[i], call->h_time),
                   c->sizes.features * c->element);
        k->rows = s->rows;
        k->row = c->rows_row;
    }
    k->index = whole ? NULL : s->index;
}

bool attn_composition_enter(const attn_composition *c, attn_composition_block *k, size_t number,
                            const attn_composition_scratch *s) {
    const attn_layer_call *call = c->call;
    const attn_composition_range steps = attn_composition_valid(c, k->item);
    k->first = steps.start + number * c->block_rows;
    if (number && k->first >= steps.end) return false;
    k->end = least(steps.end, k->first + c->block_rows);
    if (call->mask)
        k->mask = call->mask + (ptrdiff_t)k->item * call->mask_batch + (ptrdiff_t)k->query * call->mask_query +
                  (ptrdiff_t)k->first * call->mask_time;
    find_rows(c, k, s);
    return true;
}

void attn_composition_set_hidden(const attn_composition *c, void *score) {
    if (c->sizes.dtype == ATTN_FLOAT32)
        *(float *)score = -INFINITY;
    else
        *(double *)score = -INFINITY;
}

void attn_composition_hide(const attn_composition *c, const attn_composition_block *k, size_t query, size_t first,
                           size_t n, void *scores) {
    if (!k->mask || !c->call->mask_query || k->queries == 1) return;
    for (size_t j = 0; j < n; j++)
        if (!attn_composition_attended(c, k, query, k->index ? k->index[first + j] : first + j))
            attn_composition_set_hidden(c, attn_at(c, scores, 0, 0, j));
}

/* ---- Steps ------------------------------------------------------------------------------------------ */

static void take_units(void *argument, size_t slot) {
    attn_composition *c = argument;
    attn_composition_scratch s;
    carve_scratch(c, &(attn_carver){.base = c->scratches + slot * c->scratch_size}, &s);
    for (;;) {
        size_t unit = atomic_fetch_add_explicit(&c->next, 1, memory_order_relaxed);
        if (unit >= c->units) return;
        c->unit(c, unit, &s);
    }
}

void attn_composition_step(attn_composition *c,
                           void (*unit)(const attn_composition *, size_t, const attn_composition_scratch *),
                           size_t units, double cost) {
    c->unit = unit;
    c->units = units;
    atomic_store_explicit(&c->next, 0, memory_order_relaxed);
    const size_t tasks = least(units, c->slots);
    if (tasks > 1 && cost >= THREADING_COST)
        attn_threads_run(c->threads, tasks, take_units, c);
    else
        take_units(c, 0);
}

const attn_kernels_real *attn_composition_kernels(const attn_device *device, attn_dtype dtype) {
    static const attn_kernels *const tables[ATTN_CPU_ISAS] = {
        [ATTN_CPU_SCALAR] = &attn_kernels_scalar,
#if defined(__x86_64__)
        [ATTN_CPU_AVX2] = &attn_kernels_avx2,
        [ATTN_CPU_AVX512] = &attn_kernels_avx512,
#endif
    };
    return dtype == ATTN_FLOAT32 ? &tables[device->isa]->f32 : &tables[device->isa]->f64;
}

attn_composition attn_composition_describe(const attn_device *device, const attn_layer_problem *problem,
                                           bool backward) {
    attn_composition c = {
        .sizes = *problem,
        .blas = attn_cpu_openblas(device),
        .kernels = attn_composition_kernels(device, problem->dtype),
        .threads = device->threads,
        .backward = backward,
        .slots = (size_t)attn_threads_count(device->threads),
    };
    measure(&c);
    return c;
}

/* ---- The implementations ------------------------------------------------------------------------------ */

/* A query's product with itself has terms of one sign, and then GEMV's chains of sums leave the bound of lse: error over gate
 * 1.6 at D = 1024, 2.3 at 3000; float32 and the other scores stay inside. */
static const size_t longest_exact_row = 512;

static const char *refuse(const attn_implementation *implementation, const attn_device *device,
                          const attn_layer_problem *p, bool *hard) {
    (void)implementation;
    *hard = true;
    if (p->features > INT_MAX || p->query_features > INT_MAX || p->score_width > INT_MAX || p->units > INT_MAX)
        return "OpenBLAS counts in int: a row is too long";
    if (p->score == ATTN_SCORE_DOT && p->dtype == ATTN_FLOAT64 && p->features > longest_exact_row)
        return "OpenBLAS sums long rows of float64 with more error than is promised";
    const attn_openblas *blas = attn_cpu_openblas(device);
    return blas->usable ? NULL : blas->text;
}

#define PASS(pass, operation_value, score_name, score_value, dtype_name, dtype_value)                                  \
    {                                                                                                                  \
        .name = "cpu:openblas:" score_name ":" #pass ":" dtype_name, .operation = (operation_value),                   \
        .score = (score_value), .dtype = (dtype_value), .refuse = refuse,                                              \
        .workspace_size = attn_composition_##pass##_size, .run = attn_composition_##pass                               \
    }
#define FORWARD(...) PASS(forward, ATTN_OPERATION_LAYER_FORWARD, __VA_ARGS__)
#define BACKWARD(...) PASS(backward, ATTN_OPERATION_LAYER_BACKWARD, __VA_ARGS__)

const attn_implementation attn_composition_implementations[] = {
    FORWARD("luong", ATTN_SCORE_LUONG, "f32", ATTN_FLOAT32),
    FORWARD("bahdanau", ATTN_SCORE_BAHDANAU, "f32", ATTN_FLOAT32),
    FORWARD("dot", ATTN_SCORE_DOT, "f32", ATTN_FLOAT32),
    FORWARD("luong", ATTN_SCORE_LUONG, "f64", ATTN_FLOAT64),
    FORWARD("bahdanau", ATTN_SCORE_BAHDANAU, "f64", ATTN_FLOAT64),
    FORWARD("dot", ATTN_SCORE_DOT, "f64", ATTN_FLOAT64),
    BACKWARD("luong", ATTN_SCORE_LUONG, "f32", ATTN_FLOAT32),
    BACKWARD("bahdanau", ATTN_SCORE_BAHDANAU, "f32", ATTN_FLOAT32),
    BACKWARD("dot", ATTN_SCORE_DOT, "f32", ATTN_FLOAT32),
    BACKWARD("luong", ATTN_SCORE_LUONG, "f64", ATTN_FLOAT64),
    BACKWARD("bahdanau", ATTN_SCORE_BAHDANAU, "f64", ATTN_FLOAT64),
    BACKWARD("dot", ATTN_SCORE_DOT, "f64", ATTN_FLOAT64),
};
const size_t attn_composition_implementations_count =
    sizeof attn_composition_implementations / sizeof *attn_composition_implementations;

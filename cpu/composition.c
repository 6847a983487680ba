/* The layer as a composition: products by OpenBLAS, what lies between them by the kernels.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Four steps, each split into units that any thread may take; what a unit computes depends on its place alone.
 *   collect   queries to one dense matrix x; W2 into panels where OpenBLAS would stride through it
 *   fold      luong: q = x K^T; bahdanau: q = x W1; dot: q = x
 *   attend    for some queries of an item and a block of its rows: scores, softmax and context within the block
 *   finish    merge the blocks; context, weights, lse; output = tanh(c Wc_top + x Wc_bottom)
 * A block's hidden rows are never read: where there are any, the attended ones are gathered first. */
#include "cpu/composition.h"

#include "cpu/device.h"
#include "cpu/kernels.h"
#include "cpu/openblas.h"
#include "cpu/threads.h"
#include "lib/carve.h"

#include <limits.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>

/* Sizes of the units; the figures are float32 on a 2-core Zen 5, see docs/blas.md. */
enum {
    BLOCK_BYTES = 256 << 10, /* of H in a block: its second reading comes from L2 */
    BLOCK_ROWS_MOST = 512,
    BLOCK_ROWS_ADDITIVE = 3 * ATTN_OPENBLAS_ROWS, /* three products; the tanh makes H's second reading cheap */
    BLOCK_QUERIES = 32,                           /* the most that A B^T takes at full speed, see openblas.c */
    COLLECT_ROWS = 256,
    FOLD_ROWS = 32,
    FOLD_COLUMNS = 128,
    PANEL_COLUMNS = 64,
    FINISH_ROWS = 16,
    OUTPUT_COLUMNS = 128,
    THREADING_COST = 1 << 20 /* multiply-adds of a step below which waking a thread costs more than it saves */
};

typedef struct scratch {
    void *rows;    /* (block rows, features): gathered */
    size_t *index; /* (block rows): which rows they were */
    void *scores;  /* (block queries, block rows) */
    void *product; /* additive: (ATTN_OPENBLAS_ROWS, product columns) of H W2 */
    void *output;  /* (FINISH_ROWS, OUTPUT_COLUMNS) */
} scratch;

typedef struct composition composition;
struct composition {
    const attn_layer_call *call;
    attn_layer_problem sizes;
    const attn_openblas *blas;
    const attn_kernels_real *kernels;
    attn_threads *threads;
    size_t slots;   /* tasks that run at a time, each with scratch of its own */
    size_t element; /* bytes */
    size_t queries; /* of all items */
    size_t block_rows, blocks, block_queries, query_blocks;
    size_t score_columns; /* of the folded query */
    /* Row strides, in elements. */
    size_t x_row, folded_row, context_row, rows_row, scores_row, product_row;
    bool panels; /* W2 is packed, so many columns at a time */
    size_t product_columns;
    void *x, *folded, *w2;
    void *maxima, *sums, *contexts; /* (blocks, queries), contexts of context_row each */
    char *scratches;
    size_t scratch_size;
    /* The step in progress. */
    void (*unit)(const composition *c, size_t unit, const scratch *s);
    size_t units;
    atomic_size_t next;
};

/* ---- Sizes ---------------------------------------------------------------------------------------- */

static size_t least(size_t a, size_t b) { return a < b ? a : b; }
static size_t parts(size_t n, size_t size) { return n / size + (n % size != 0); }

/* Elements, rounded up to whole cache lines. */
static size_t padded(const composition *c, size_t n) {
    size_t step = ATTN_WORKSPACE_ALIGNMENT / c->element;
    return (n + step - 1) / step * step;
}

static bool additive(const composition *c) { return c->sizes.score == ATTN_SCORE_BAHDANAU; }

static void measure(composition *c) {
    const attn_layer_problem *p = &c->sizes;
    c->element = p->dtype == ATTN_FLOAT32 ? sizeof(float) : sizeof(double);
    c->queries = p->batch * p->queries;
    size_t most = BLOCK_BYTES / c->element / p->features;
    most = most < ATTN_OPENBLAS_ROWS ? ATTN_OPENBLAS_ROWS : least(most, BLOCK_ROWS_MOST);
    if (additive(c)) most = BLOCK_ROWS_ADDITIVE;
    c->block_rows = p->timesteps ? least(most, p->timesteps) : 1;
    c->blocks = p->timesteps ? parts(p->timesteps, c->block_rows) : 1;
    c->block_queries = least(BLOCK_QUERIES, p->queries ? p->queries : 1);
    c->query_blocks = parts(p->queries, c->block_queries);
    c->score_columns = additive(c) ? p->score_width : p->features;
    c->x_row = padded(c, p->query_features);
    c->folded_row = p->score == ATTN_SCORE_DOT ? c->x_row : padded(c, c->score_columns);
    c->context_row = c->rows_row = padded(c, p->features);
    c->scores_row = padded(c, c->block_rows);
    c->panels = additive(c) && c->blas->small_products && !attn_openblas_fits(c->blas, p->score_width, p->features);
    c->product_columns = c->panels ? PANEL_COLUMNS : p->score_width;
    c->product_row = additive(c) ? padded(c, c->product_columns) : 0;
}

static void carve_scratch(const composition *c, attn_carver *carver, scratch *s) {
    s->rows = attn_carve(carver, c->block_rows, c->rows_row * c->element);
    s->index = attn_carve(carver, c->block_rows, sizeof *s->index);
    s->scores = attn_carve(carver, c->block_queries, c->scores_row * c->element);
    s->product = attn_carve(carver, c->product_row ? ATTN_OPENBLAS_ROWS : 0, c->product_row * c->element);
    s->output = attn_carve(carver, FINISH_ROWS * OUTPUT_COLUMNS, c->element);
}

/* Counts the workspace, or hands it out. */
static size_t carve(composition *c, void *workspace) {
    const attn_layer_problem *p = &c->sizes;
    attn_carver carver = {.base = workspace};
    size_t partials;
    if (__builtin_mul_overflow(c->blocks, c->queries, &partials)) return SIZE_MAX;
    c->x = attn_carve(&carver, c->queries, c->x_row * c->element);
    c->folded = p->score == ATTN_SCORE_DOT ? c->x : attn_carve(&carver, c->queries, c->folded_row * c->element);
    c->w2 = attn_carve(&carver, c->panels ? parts(p->score_width, PANEL_COLUMNS) * PANEL_COLUMNS : 0,
                       p->features * c->element);
    c->maxima = attn_carve(&carver, partials, c->element);
    c->sums = attn_carve(&carver, partials, c->element);
    c->contexts = attn_carve(&carver, partials, c->context_row * c->element);
    attn_carver one = {.base = NULL};
    carve_scratch(c, &one, &(scratch){.rows = NULL});
    c->scratch_size = attn_carved_size(&one);
    c->scratches = attn_carve(&carver, c->slots, c->scratch_size);
    return attn_carved_size(&carver);
}

/* ---- Places --------------------------------------------------------------------------------------- */

/* The element at (row, column) of a matrix. */
static void *at(const composition *c, void *matrix, size_t row, size_t row_stride, size_t column) {
    return (char *)matrix + (row * row_stride + column) * c->element;
}

static const void *at_const(const composition *c, const void *matrix, size_t row, size_t row_stride, size_t column) {
    return (const char *)matrix + (row * row_stride + column) * c->element;
}

/* The row of a caller's tensor for an item and one of its queries or steps. */
static const char *tensor(const composition *c, const void *data, size_t item, ptrdiff_t batch, size_t row,
                          ptrdiff_t stride) {
    return (const char *)data + ((ptrdiff_t)item * batch + (ptrdiff_t)row * stride) * (ptrdiff_t)c->element;
}

static char *tensor_out(const composition *c, void *data, size_t item, ptrdiff_t batch, size_t row, ptrdiff_t stride) {
    return (char *)data + ((ptrdiff_t)item * batch + (ptrdiff_t)row * stride) * (ptrdiff_t)c->element;
}

typedef struct range {
    size_t start, end;
} range;

static range valid(const composition *c, size_t item) {
    const attn_layer_call *call = c->call;
    size_t start = call->starts ? (size_t)call->starts[item] : 0;
    size_t length = call->lengths ? (size_t)call->lengths[item] : c->sizes.timesteps - start;
    return (range){start, start + length};
}

/* One query's partial result in a block. */
static attn_partial partial(const composition *c, size_t block, size_t query) {
    size_t place = block * c->queries + query;
    return (attn_partial){at(c, c->maxima, place, 1, 0), at(c, c->sums, place, 1, 0),
                          at(c, c->contexts, place, c->context_row, 0), c->context_row};
}

static bool is_zero(const composition *c, const void *value) {
    return c->sizes.dtype == ATTN_FLOAT32 ? *(const float *)value == 0 : *(const double *)value == 0;
}

static void set_hidden(const composition *c, void *score) {
    if (c->sizes.dtype == ATTN_FLOAT32)
        *(float *)score = -INFINITY;
    else
        *(double *)score = -INFINITY;
}

/* ---- Collect ---------------------------------------------------------------------------------------- */

static void collect_query(const composition *c, size_t query) {
    const attn_layer_call *call = c->call;
    const size_t item = query / c->sizes.queries, bytes = c->sizes.query_features * c->element;
    void *x = at(c, c->x, query, c->x_row, 0);
    if (c->sizes.given_query) {
        memcpy(x, tensor(c, call->query, item, call->query_batch, query % c->sizes.queries, call->query_row), bytes);
        return;
    }
    range steps = valid(c, item);
    if (steps.start == steps.end)
        memset(x, 0, bytes);
    else
        memcpy(x, tensor(c, call->h, item, call->h_batch, steps.end - 1, call->h_time), bytes);
}

/* Panel after panel, each (features, its columns) without gaps. */
static void pack_panel(const composition *c, size_t panel) {
    const size_t width = c->sizes.score_width, first = panel * PANEL_COLUMNS,
                 columns = least(PANEL_COLUMNS, width - first);
    char *to = at(c, c->w2, first, c->sizes.features, 0);
    for (size_t k = 0; k < c->sizes.features; k++)
        memcpy(to + k * columns * c->element, at_const(c, c->call->bahdanau_w2, k, width, first), columns * c->element);
}

static void collect(const composition *c, size_t unit, const scratch *s) {
    (void)s;
    const size_t tiles = parts(c->queries, COLLECT_ROWS);
    if (unit >= tiles) {
        pack_panel(c, unit - tiles);
        return;
    }
    const size_t end = least(c->queries, (unit + 1) * COLLECT_ROWS);
    for (size_t query = unit * COLLECT_ROWS; query < end; query++) collect_query(c, query);
}

/* ---- Fold ------------------------------------------------------------------------------------------- */

static void fold(const composition *c, size_t unit, const scratch *s) {
    (void)s;
    const size_t tiles = parts(c->score_columns, FOLD_COLUMNS), row = unit / tiles * FOLD_ROWS,
                 column = unit % tiles * FOLD_COLUMNS, depth = c->sizes.query_features;
    const size_t rows = least(FOLD_ROWS, c->queries - row), columns = least(FOLD_COLUMNS, c->score_columns - column);
    const void *x = at(c, c->x, row, c->x_row, 0);
    void *folded = at(c, c->folded, row, c->folded_row, column);
    if (additive(c))
        attn_openblas_gemm(c->blas, c->sizes.dtype, rows, columns, depth, x, c->x_row,
                           at_const(c, c->call->bahdanau_w1, 0, 0, column), c->score_columns, folded, c->folded_row,
                           false);
    else
        attn_openblas_gemm_nt(c->blas, c->sizes.dtype, rows, columns, depth, x, c->x_row,
                              at_const(c, c->call->luong_w, column, depth, 0), depth, folded, c->folded_row);
}

/* ---- Attend ----------------------------------------------------------------------------------------- */

/* Some queries of an item and the rows of a block that any of them attends to. */
typedef struct block {
    size_t item, query, queries; /* the first of the item's, and how many */
    size_t first, end;           /* steps */
    const uint8_t *mask;         /* of the first query and step, or NULL */
    const size_t *index;         /* of the rows, counted from first; NULL: all of them */
    const void *rows;
    size_t count, row; /* rows and their stride */
} block;

static bool attended(const composition *c, const block *k, size_t query, size_t step) {
    return !k->mask || k->mask[(ptrdiff_t)query * c->call->mask_query + (ptrdiff_t)step * c->call->mask_time];
}

static bool attended_by_any(const composition *c, const block *k, size_t step) {
    const size_t masks = c->call->mask_query ? k->queries : 1;
    for (size_t query = 0; query < masks; query++)
        if (attended(c, k, query, step)) return true;
    return false;
}

/* Rows as OpenBLAS can take them: where they lie, or gathered. */
static void find_rows(const composition *c, block *k, const scratch *s) {
    const attn_layer_call *call = c->call;
    k->count = 0;
    for (size_t step = 0; step < k->end - k->first; step++)
        if (attended_by_any(c, k, step)) s->index[k->count++] = step;
    const bool whole = k->count == k->end - k->first;
    const char *h = k->count ? tensor(c, call->h, k->item, call->h_batch, k->first, call->h_time) : NULL;
    if (whole && call->h_time >= (ptrdiff_t)c->sizes.features && call->h_time <= INT_MAX) {
        k->rows = h;
        k->row = (size_t)call->h_time;
    } else {
        for (size_t i = 0; i < k->count; i++)
            memcpy(at(c, s->rows, i, c->rows_row, 0), tensor(c, h, 0, 0, s->index[i], call->h_time),
                   c->sizes.features * c->element);
        k->rows = s->rows;
        k->row = c->rows_row;
    }
    k->index = whole ? NULL : s->index;
}

static void multiplicative_scores(const composition *c, const block *k, const void *q, const scratch *s) {
    attn_openblas_gemm_nt(c->blas, c->sizes.dtype, k->queries, k->count, c->sizes.features, q, c->folded_row, k->rows,
                          k->row, s->scores, c->scores_row);
}

/* Columns of W2 outermost: a panel serves the whole block from L2. */
static void additive_scores(const composition *c, const block *k, const void *q, const scratch *s) {
    const size_t width = c->sizes.score_width, depth = c->sizes.features;
    for (size_t column = 0; column < width; column += c->product_columns) {
        const size_t columns = least(c->product_columns, width - column);
        const void *w2 = c->panels ? at(c, c->w2, column, depth, 0) : c->call->bahdanau_w2;
        for (size_t first = 0; first < k->count; first += ATTN_OPENBLAS_ROWS) {
            const size_t rows = least(ATTN_OPENBLAS_ROWS, k->count - first);
            attn_openblas_gemm(c->blas, c->sizes.dtype, rows, columns, depth, at_const(c, k->rows, first, k->row, 0),
                               k->row, w2, c->panels ? columns : width, s->product, c->product_row, false);
            for (size_t i = 0; i < k->queries; i++)
                c->kernels->tanh_scores(rows, columns, s->product, (ptrdiff_t)c->product_row,
                                        at_const(c, q, i, c->folded_row, column),
                                        at_const(c, c->call->bahdanau_v, 0, 0, column),
                                        at(c, s->scores, i, c->scores_row, first), column > 0);
        }
    }
}

/* Where each query has a mask of its own, a row may be there for another's sake. */
static void hide(const composition *c, const block *k, const scratch *s) {
    if (!k->mask || !c->call->mask_query || k->queries == 1) return;
    for (size_t i = 0; i < k->queries; i++)
        for (size_t j = 0; j < k->count; j++)
            if (!attended(c, k, i, k->index ? k->index[j] : j)) set_hidden(c, at(c, s->scores, i, c->scores_row, j));
}

/* The scores as they are, to where the weights will stand. */
static void keep_scores(const composition *c, const block *k, const scratch *s) {
    const attn_layer_call *call = c->call;
    if (!call->attention_weights) return;
    for (size_t i = 0; i < k->queries; i++) {
        char *row =
            tensor_out(c, call->attention_weights, k->item, call->weights_batch, k->query + i, call->weights_row);
        if (!k->index) {
            memcpy(row + k->first * c->element, at(c, s->scores, i, c->scores_row, 0), k->count * c->element);
            continue;
        }
        for (size_t step = k->first; step < k->end; step++) set_hidden(c, row + step * c->element);
        for (size_t j = 0; j < k->count; j++)
            memcpy(row + (k->first + k->index[j]) * c->element, at(c, s->scores, i, c->scores_row, j), c->element);
    }
}

static void block_context(const composition *c, const block *k, size_t number, const scratch *s) {
    const size_t query = k->item * c->sizes.queries + k->query;
    void *context = partial(c, number, query).context;
    for (size_t i = 0; i < k->queries; i++) {
        attn_partial p = partial(c, number, query + i);
        c->kernels->softmax_row(at(c, s->scores, i, c->scores_row, 0), k->count, p.maximum, p.sum);
    }
    if (k->count)
        attn_openblas_gemm(c->blas, c->sizes.dtype, k->queries, c->sizes.features, k->count, s->scores, c->scores_row,
                           k->rows, k->row, context, c->context_row, false);
    for (size_t i = 0; i < k->queries; i++) {
        attn_partial p = partial(c, number, query + i);
        if (is_zero(c, p.sum)) memset(p.context, 0, c->sizes.features * c->element);
    }
}

/* Blocks past an item's range are left out, save the first: finish merges as many as there are. */
static void attend(const composition *c, size_t unit, const scratch *s) {
    const attn_layer_call *call = c->call;
    const size_t number = unit % c->blocks, query_block = unit / c->blocks % c->query_blocks;
    block k = {.item = unit / c->blocks / c->query_blocks, .query = query_block * c->block_queries};
    const range steps = valid(c, k.item);
    k.first = steps.start + number * c->block_rows;
    if (number && k.first >= steps.end) return;
    k.end = least(steps.end, k.first + c->block_rows);
    k.queries = least(c->block_queries, c->sizes.queries - k.query);
    if (call->mask)
        k.mask = call->mask + (ptrdiff_t)k.item * call->mask_batch + (ptrdiff_t)k.query * call->mask_query +
                 (ptrdiff_t)k.first * call->mask_time;
    find_rows(c, &k, s);
    if (k.count) {
        const void *q = at(c, c->folded, k.item * c->sizes.queries + k.query, c->folded_row, 0);
        if (additive(c))
            additive_scores(c, &k, q, s);
        else
            multiplicative_scores(c, &k, q, s);
        hide(c, &k, s);
    }
    keep_scores(c, &k, s);
    block_context(c, &k, number, s);
}

/* ---- Finish ----------------------------------------------------------------------------------------- */

static void finish_weights(const composition *c, size_t item, size_t query, const attn_partial *p) {
    const attn_layer_call *call = c->call;
    const range steps = valid(c, item);
    char *row = tensor_out(c, call->attention_weights, item, call->weights_batch, query, call->weights_row);
    memset(row, 0, steps.start * c->element);
    c->kernels->weights(row + steps.start * c->element, steps.end - steps.start, p->maximum, p->sum);
    memset(row + steps.end * c->element, 0, (c->sizes.timesteps - steps.end) * c->element);
    if (!call->mask) return;
    /* A NaN sum makes NaN of hidden steps too. */
    const uint8_t *mask = call->mask + (ptrdiff_t)item * call->mask_batch + (ptrdiff_t)query * call->mask_query;
    for (size_t step = steps.start; step < steps.end; step++)
        if (!mask[(ptrdiff_t)step * call->mask_time]) memset(row + step * c->element, 0, c->element);
}

static void finish_query(const composition *c, size_t place) {
    const attn_layer_call *call = c->call;
    const size_t item = place / c->sizes.queries, query = place % c->sizes.queries, features = c->sizes.features;
    const range steps = valid(c, item);
    const attn_partial p = partial(c, 0, place);
    const size_t blocks = parts(steps.end - steps.start, c->block_rows);
    for (size_t number = 1; number < blocks; number++) {
        const attn_partial from = partial(c, number, place);
        c->kernels->merge(&p, &from, 1, features);
    }
    char *lse = call->lse ? tensor_out(c, call->lse, item, call->lse_batch, query, 1) : NULL;
    c->kernels->finish(&p, 1, features, p.context, (ptrdiff_t)c->context_row, lse);
    if (call->context)
        memcpy(tensor_out(c, call->context, item, call->context_batch, query, call->context_row), p.context,
               features * c->element);
    if (call->attention_weights) finish_weights(c, item, query, &p);
}

static size_t output_tiles(const composition *c) { return parts(c->sizes.units, OUTPUT_COLUMNS); }

static void output_tile(const composition *c, size_t unit, const scratch *s) {
    const attn_layer_call *call = c->call;
    const size_t tiles = output_tiles(c), row = unit / tiles * FINISH_ROWS, column = unit % tiles * OUTPUT_COLUMNS;
    const size_t rows = least(FINISH_ROWS, c->queries - row), columns = least(OUTPUT_COLUMNS, c->sizes.units - column);
    const size_t features = c->sizes.features, units = c->sizes.units;
    attn_openblas_gemm(c->blas, c->sizes.dtype, rows, columns, features, at(c, c->contexts, row, c->context_row, 0),
                       c->context_row, at_const(c, call->w_c, 0, units, column), units, s->output, OUTPUT_COLUMNS,
                       false);
    attn_openblas_gemm(c->blas, c->sizes.dtype, rows, columns, c->sizes.query_features, at(c, c->x, row, c->x_row, 0),
                       c->x_row, at_const(c, call->w_c, features, units, column), units, s->output, OUTPUT_COLUMNS,
                       true);
    for (size_t i = 0; i < rows; i++) {
        const size_t item = (row + i) / c->sizes.queries, query = (row + i) % c->sizes.queries;
        char *to = tensor_out(c, call->output, item, call->output_batch, query, call->output_row);
        c->kernels->tanh_row(at(c, s->output, i, OUTPUT_COLUMNS, 0), to + column * c->element, columns);
    }
}

static void finish(const composition *c, size_t unit, const scratch *s) {
    const size_t end = least(c->queries, (unit + 1) * FINISH_ROWS);
    for (size_t query = unit * FINISH_ROWS; query < end; query++) finish_query(c, query);
    if (output_tiles(c) == 1) output_tile(c, unit, s);
}

/* ---- Steps ------------------------------------------------------------------------------------------ */

static void take_units(void *argument, size_t slot) {
    composition *c = argument;
    scratch s;
    carve_scratch(c, &(attn_carver){.base = c->scratches + slot * c->scratch_size}, &s);
    for (;;) {
        size_t unit = atomic_fetch_add_explicit(&c->next, 1, memory_order_relaxed);
        if (unit >= c->units) return;
        c->unit(c, unit, &s);
    }
}

/* cost: about how many multiply-adds the whole step takes. */
static void step(composition *c, void (*unit)(const composition *, size_t, const scratch *), size_t units,
                 double cost) {
    c->unit = unit;
    c->units = units;
    atomic_store_explicit(&c->next, 0, memory_order_relaxed);
    const size_t tasks = least(units, c->slots);
    if (tasks > 1 && cost >= THREADING_COST)
        attn_threads_run(c->threads, tasks, take_units, c);
    else
        take_units(c, 0);
}

static const attn_kernels *kernels_of(const attn_device *device) {
    static const attn_kernels *const tables[ATTN_CPU_ISAS] = {
        [ATTN_CPU_SCALAR] = &attn_kernels_scalar,
#if defined(__x86_64__)
        [ATTN_CPU_AVX2] = &attn_kernels_avx2,
        [ATTN_CPU_AVX512] = &attn_kernels_avx512,
#endif
    };
    return tables[device->isa];
}

static composition describe(const attn_device *device, const attn_layer_problem *problem) {
    const attn_kernels *kernels = kernels_of(device);
    composition c = {
        .sizes = *problem,
        .blas = &device->openblas,
        .kernels = problem->dtype == ATTN_FLOAT32 ? &kernels->f32 : &kernels->f64,
        .threads = device->threads,
        .slots = (size_t)attn_threads_count(device->threads),
    };
    measure(&c);
    return c;
}

static attn_status run(const attn_implementation *implementation, attn_device *device,
                       const attn_layer_problem *planned, const attn_layer_call *call) {
    (void)implementation, (void)planned;
    composition c = describe(device, &call->sizes);
    c.call = call;
    carve(&c, call->workspace);
    if (!c.queries) return ATTN_OK;
    const attn_layer_problem *p = &c.sizes;
    const double queries = (double)c.queries, steps = (double)p->timesteps, features = (double)p->features;
    /* Rows read from memory cost as much as eight multiply-adds an element. */
    const double reading = 8 * (double)p->batch * steps * features, panels = c.panels ? (double)p->score_width : 0;
    const double scores = additive(&c) ? (double)p->batch * steps * (double)p->score_width * features : 0;
    step(&c, collect, parts(c.queries, COLLECT_ROWS) + (c.panels ? parts(p->score_width, PANEL_COLUMNS) : 0),
         8 * (queries * (double)p->query_features + panels * features));
    if (p->score != ATTN_SCORE_DOT)
        step(&c, fold, parts(c.queries, FOLD_ROWS) * parts(c.score_columns, FOLD_COLUMNS),
             queries * (double)c.score_columns * (double)p->query_features);
    step(&c, attend, p->batch * c.query_blocks * c.blocks, reading + scores + 2 * queries * steps * features);
    const double output = queries * (double)p->units * (features + (double)p->query_features);
    const double merging = queries * ((double)c.blocks * features + (call->attention_weights ? 8 * steps : 0));
    step(&c, finish, parts(c.queries, FINISH_ROWS), merging + (output_tiles(&c) == 1 ? output : 0));
    if (output_tiles(&c) > 1) step(&c, output_tile, parts(c.queries, FINISH_ROWS) * output_tiles(&c), output);
    return ATTN_OK;
}

/* ---- The implementations ------------------------------------------------------------------------------ */

/* A query's product with itself has terms of one sign, and then GEMV's chains of sums leave the bound of lse: error over gate
 * 1.6 at D = 1024, 2.3 at 3000; float32 and the other scores stay inside. */
static const size_t longest_exact_row = 512;

static const char *refuse(const attn_implementation *implementation, const attn_device *device,
                          const attn_layer_problem *p, bool *hard) {
    (void)implementation;
    *hard = true;
    if (!device->openblas.library) return device->openblas.text;
    if (p->training) return "keeps nothing for a backward pass";
    if (p->features > INT_MAX || p->query_features > INT_MAX || p->score_width > INT_MAX || p->units > INT_MAX)
        return "OpenBLAS counts in int: a row is too long";
    if (p->score == ATTN_SCORE_DOT && p->dtype == ATTN_FLOAT64 && p->features > longest_exact_row)
        return "OpenBLAS sums long rows of float64 with more error than is promised";
    return NULL;
}

static size_t workspace_size(const attn_implementation *implementation, const attn_device *device,
                             const attn_layer_problem *planned) {
    (void)implementation;
    composition c = describe(device, planned);
    return carve(&c, NULL);
}

#define COMPOSITION(score_name, score_value, dtype_name, dtype_value)                                                  \
    {                                                                                                                  \
        .name = "cpu:openblas:" score_name ":forward:" dtype_name, .operation = ATTN_OPERATION_LAYER_FORWARD,          \
        .score = (score_value), .dtype = (dtype_value), .refuse = refuse, .workspace_size = workspace_size, .run = run \
    }

const attn_implementation attn_composition_implementations[] = {
    COMPOSITION("luong", ATTN_SCORE_LUONG, "f32", ATTN_FLOAT32),
    COMPOSITION("bahdanau", ATTN_SCORE_BAHDANAU, "f32", ATTN_FLOAT32),
    COMPOSITION("dot", ATTN_SCORE_DOT, "f32", ATTN_FLOAT32),
    COMPOSITION("luong", ATTN_SCORE_LUONG, "f64", ATTN_FLOAT64),
    COMPOSITION("bahdanau", ATTN_SCORE_BAHDANAU, "f64", ATTN_FLOAT64),
    COMPOSITION("dot", ATTN_SCORE_DOT, "f64", ATTN_FLOAT64),
};
const size_t attn_composition_implementations_count =
    sizeof attn_composition_implementations / sizeof *attn_composition_implementations;

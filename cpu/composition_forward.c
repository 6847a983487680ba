/* The layer's forward pass as a composition: products by OpenBLAS, what lies between them by the kernels.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 *   collect   queries to one dense matrix x; W2 into panels where OpenBLAS would stride through it
 *   fold      luong: q = x K^T; bahdanau: q = x W1; dot: q = x
 *   attend    for some queries of an item and a block of its rows: scores, softmax and context within the block
 *   finish    merge the blocks; context, weights, lse; output = tanh(c Wc_top + x Wc_bottom)
 * A block's hidden rows are never read: where there are any, the attended ones are gathered first. In training the
 * steps leave on their way what the backward pass needs (kept.h). */
#include "cpu/composition_parts.h"
#include "cpu/tree.h"

#include <string.h>

enum { OUTPUT_COLUMNS = 128 };

/* Counts the workspace, or hands it out. */
static size_t carve(attn_composition *c, void *workspace) {
    attn_carver carver = {.base = workspace};
    size_t partials;
    if (__builtin_mul_overflow(c->blocks, c->queries, &partials)) return SIZE_MAX;
    attn_composition_carve_queries(c, &carver);
    c->maxima = attn_carve(&carver, partials, c->element);
    c->sums = attn_carve(&carver, partials, c->element);
    c->contexts = attn_carve(&carver, partials, c->context_row * c->element);
    attn_composition_carve_slots(c, &carver);
    return attn_carved_size(&carver);
}

/* One query's partial result in a block. */
static attn_partial partial(const attn_composition *c, size_t block, size_t query) {
    size_t place = block * c->queries + query;
    return (attn_partial){attn_at(c, c->maxima, place, 1, 0), attn_at(c, c->sums, place, 1, 0),
                          attn_at(c, c->contexts, place, c->context_row, 0), c->context_row};
}

static void multiplicative_scores(const attn_composition *c, const attn_composition_block *k, const void *q,
                                  const attn_composition_scratch *s) {
    attn_openblas_gemm_nt_exact(c->blas, c->sizes.dtype, k->queries, k->count, c->sizes.features, q, c->folded_row,
                                k->rows, k->row, s->scores, c->scores_row, false);
}

/* tanh of some rows and columns, kept where the rows lie one after the other, else by way of the product. */
static void keep_tanh(const attn_composition *c, const attn_composition_block *k, size_t first, size_t rows,
                      size_t column, size_t columns, const void *q, void *scores, const attn_composition_scratch *s) {
    const size_t query = k->item * c->sizes.queries + k->query, step = k->first + first;
    char *place = (char *)attn_kept_tanh(c, query, k->first) + column * c->element;
    void *to = k->index ? s->product : (char *)attn_kept_tanh(c, query, step) + column * c->element;
    c->kernels->tanh_keep(rows, columns, s->product, (ptrdiff_t)c->product_row, q,
                          attn_at_const(c, c->call->bahdanau_v, 0, 0, column), to,
                          (ptrdiff_t)(k->index ? c->product_row : c->sizes.score_width), scores, column > 0);
    for (size_t i = 0; k->index && i < rows; i++)
        memcpy(attn_at(c, place, k->index[first + i], c->sizes.score_width, 0),
               attn_at(c, s->product, i, c->product_row, 0), columns * c->element);
}

/* Columns of W2 outermost: a panel serves the whole block from L2. */
static void additive_scores(const attn_composition *c, const attn_composition_block *k, const void *q,
                            const attn_composition_scratch *s) {
    const size_t width = c->sizes.score_width, depth = c->sizes.features;
    for (size_t column = 0; column < width; column += c->product_columns) {
        const size_t columns = least(c->product_columns, width - column);
        const void *w2 = c->panels ? attn_at(c, c->w2, column, depth, 0) : c->call->bahdanau_w2;
        for (size_t first = 0; first < k->count; first += ATTN_OPENBLAS_ROWS) {
            const size_t rows = least(ATTN_OPENBLAS_ROWS, k->count - first);
            attn_openblas_gemm(c->blas, c->sizes.dtype, rows, columns, depth,
                               attn_at_const(c, k->rows, first, k->row, 0), k->row, w2, c->panels ? columns : width,
                               s->product, c->product_row, false);
            if (c->kept.tanh) {
                keep_tanh(c, k, first, rows, column, columns, attn_at_const(c, q, 0, 0, column),
                          attn_at(c, s->scores, 0, 0, first), s);
                continue;
            }
            for (size_t i = 0; i < k->queries; i++)
                c->kernels->tanh_scores(rows, columns, s->product, (ptrdiff_t)c->product_row,
                                        attn_at_const(c, q, i, c->folded_row, column),
                                        attn_at_const(c, c->call->bahdanau_v, 0, 0, column),
                                        attn_at(c, s->scores, i, c->scores_row, first), column > 0);
        }
    }
}

/* The scores as they are, to where the weights will stand. */
static void keep_scores(const attn_composition *c, const attn_composition_block *k, const attn_composition_scratch *s) {
    const attn_layer_call *call = c->call;
    if (!call->attention_weights) return;
    for (size_t i = 0; i < k->queries; i++) {
        char *row =
            attn_row_out(c, call->attention_weights, k->item, call->weights_batch, k->query + i, call->weights_row);
        if (!k->index) {
            memcpy(row + k->first * c->element, attn_at(c, s->scores, i, c->scores_row, 0), k->count * c->element);
            continue;
        }
        for (size_t step = k->first; step < k->end; step++) attn_composition_set_hidden(c, row + step * c->element);
        for (size_t j = 0; j < k->count; j++)
            memcpy(row + (k->first + k->index[j]) * c->element, attn_at(c, s->scores, i, c->scores_row, j), c->element);
    }
}

static void block_context(const attn_composition *c, const attn_composition_block *k, size_t number,
                          const attn_composition_scratch *s) {
    const size_t query = k->item * c->sizes.queries + k->query;
    void *context = partial(c, number, query).context;
    for (size_t i = 0; i < k->queries; i++) {
        attn_partial p = partial(c, number, query + i);
        c->kernels->softmax_row(attn_at(c, s->scores, i, c->scores_row, 0), k->count, p.maximum, p.sum);
    }
    if (k->count)
        attn_openblas_gemm_exact(c->blas, c->sizes.dtype, k->queries, c->sizes.features, k->count, s->scores,
                                 c->scores_row, k->rows, k->row, context, c->context_row, false);
    for (size_t i = 0; i < k->queries; i++) {
        attn_partial p = partial(c, number, query + i);
        if (attn_is_zero(c, p.sum)) memset(p.context, 0, c->sizes.features * c->element);
    }
}

/* Blocks past an item's range are left out: finish merges as many as there are. */
static void attend(const attn_composition *c, size_t unit, const attn_composition_scratch *s) {
    const size_t number = unit % c->blocks, query_block = unit / c->blocks % c->query_blocks;
    attn_composition_block k = {.item = unit / c->blocks / c->query_blocks, .query = query_block * c->block_queries};
    k.queries = least(c->block_queries, c->sizes.queries - k.query);
    if (!attn_composition_enter(c, &k, number, s)) return;
    if (k.count) {
        const void *q = attn_at(c, c->folded, k.item * c->sizes.queries + k.query, c->folded_row, 0);
        if (attn_is_additive(c))
            additive_scores(c, &k, q, s);
        else
            multiplicative_scores(c, &k, q, s);
        for (size_t i = 0; i < k.queries; i++)
            attn_composition_hide(c, &k, i, 0, k.count, attn_at(c, s->scores, i, c->scores_row, 0));
    }
    keep_scores(c, &k, s);
    block_context(c, &k, number, s);
}

/* ---- Finish ----------------------------------------------------------------------------------------- */

static void finish_weights(const attn_composition *c, size_t item, size_t query, const attn_partial *p) {
    const attn_layer_call *call = c->call;
    const attn_composition_range steps = attn_composition_valid(c, item);
    char *row = attn_row_out(c, call->attention_weights, item, call->weights_batch, query, call->weights_row);
    memset(row, 0, steps.start * c->element);
    c->kernels->weights(row + steps.start * c->element, steps.end - steps.start, p->maximum, p->sum);
    memset(row + steps.end * c->element, 0, (c->sizes.timesteps - steps.end) * c->element);
    if (!call->mask) return;
    /* A NaN sum makes NaN of hidden steps too. */
    const uint8_t *mask = call->mask + (ptrdiff_t)item * call->mask_batch + (ptrdiff_t)query * call->mask_query;
    for (size_t step = steps.start; step < steps.end; step++)
        if (!mask[(ptrdiff_t)step * call->mask_time]) memset(row + step * c->element, 0, c->element);
}

typedef struct query_blocks {
    const attn_composition *c;
    size_t place;
} query_blocks;

static void merge_block(const void *argument, size_t to, size_t from) {
    const query_blocks *b = argument;
    const attn_partial into = partial(b->c, to, b->place), part = partial(b->c, from, b->place);
    b->c->kernels->merge(&into, &part, 1, b->c->sizes.features);
}

static void finish_query(const attn_composition *c, size_t place) {
    const attn_layer_call *call = c->call;
    const size_t item = place / c->sizes.queries, query = place % c->sizes.queries, features = c->sizes.features;
    const attn_composition_range steps = attn_composition_valid(c, item);
    const attn_partial p = partial(c, 0, place);
    const size_t blocks = divide_up(steps.end - steps.start, c->block_rows);
    attn_tree_add_up(blocks, merge_block, &(query_blocks){c, place});
    if (c->kept.sum) {
        memcpy(attn_at(c, c->kept.maximum, place, 1, 0), p.maximum, c->element);
        memcpy(attn_at(c, c->kept.sum, place, 1, 0), p.sum, c->element);
    }
    char *lse = call->lse ? attn_row_out(c, call->lse, item, call->lse_batch, query, 1) : NULL;
    c->kernels->finish(&p, 1, features, p.context, (ptrdiff_t)c->context_row, lse);
    if (call->context)
        memcpy(attn_row_out(c, call->context, item, call->context_batch, query, call->context_row), p.context,
               features * c->element);
    if (c->kept.sum)
        memcpy(attn_at(c, c->kept.context, place, c->kept.context_row, 0), p.context, features * c->element);
    if (call->attention_weights) finish_weights(c, item, query, &p);
}

static size_t output_tiles(const attn_composition *c) { return divide_up(c->sizes.units, OUTPUT_COLUMNS); }

static void output_tile(const attn_composition *c, size_t unit, const attn_composition_scratch *s) {
    const attn_layer_call *call = c->call;
    const size_t tiles = output_tiles(c), row = unit / tiles * ATTN_FINISH_ROWS, column = unit % tiles * OUTPUT_COLUMNS;
    const size_t rows = least(ATTN_FINISH_ROWS, c->queries - row),
                 columns = least(OUTPUT_COLUMNS, c->sizes.units - column);
    const size_t features = c->sizes.features, units = c->sizes.units;
    attn_openblas_gemm(c->blas, c->sizes.dtype, rows, columns, features,
                       attn_at(c, c->contexts, row, c->context_row, 0), c->context_row,
                       attn_at_const(c, call->w_c, 0, units, column), units, s->output, OUTPUT_COLUMNS, false);
    attn_openblas_gemm(c->blas, c->sizes.dtype, rows, columns, c->sizes.query_features,
                       attn_at(c, c->x, row, c->x_row, 0), c->x_row,
                       attn_at_const(c, call->w_c, features, units, column), units, s->output, OUTPUT_COLUMNS, true);
    for (size_t i = 0; i < rows; i++) {
        const size_t item = (row + i) / c->sizes.queries, query = (row + i) % c->sizes.queries;
        char *to = attn_row_out(c, call->output, item, call->output_batch, query, call->output_row);
        to += column * c->element;
        c->kernels->tanh_row(attn_at(c, s->output, i, OUTPUT_COLUMNS, 0), to, columns);
        if (c->kept.sum)
            memcpy(attn_at(c, c->kept.output, row + i, c->kept.output_row, column), to, columns * c->element);
    }
}

static void finish(const attn_composition *c, size_t unit, const attn_composition_scratch *s) {
    const size_t end = least(c->queries, (unit + 1) * ATTN_FINISH_ROWS);
    for (size_t query = unit * ATTN_FINISH_ROWS; query < end; query++) finish_query(c, query);
    if (output_tiles(c) == 1) output_tile(c, unit, s);
}

size_t attn_composition_forward_size(const attn_implementation *implementation, const attn_device *device,
                                     const attn_layer_problem *planned) {
    (void)implementation;
    attn_composition c = attn_composition_describe(device, planned, false);
    return carve(&c, NULL);
}

attn_status attn_composition_forward(const attn_implementation *implementation, attn_device *device,
                                     const attn_layer_problem *planned, const attn_layer_call *call) {
    (void)implementation, (void)planned;
    attn_composition c = attn_composition_describe(device, &call->sizes, false);
    c.call = call;
    carve(&c, call->workspace);
    if (!c.queries) return ATTN_OK;
    const attn_layer_problem *p = &c.sizes;
    if (call->kept) attn_kept_carve(p, call->kept, &c.kept);
    const double queries = (double)c.queries, steps = (double)p->timesteps, features = (double)p->features;
    /* Rows read from memory cost as much as eight multiply-adds an element. */
    const double reading = 8 * (double)p->batch * steps * features;
    const double scores = attn_is_additive(&c) ? (double)p->batch * steps * (double)p->score_width * features : 0;
    attn_composition_begin(&c);
    attn_composition_step(&c, attend, p->batch * c.query_blocks * c.blocks,
                          reading + scores + 2 * queries * steps * features);
    const double output = queries * (double)p->units * (features + (double)p->query_features);
    const double merging = queries * ((double)c.blocks * features + (call->attention_weights ? 8 * steps : 0));
    const size_t tiles = divide_up(c.queries, ATTN_FINISH_ROWS);
    attn_composition_step(&c, finish, tiles, merging + (output_tiles(&c) == 1 ? output : 0));
    if (output_tiles(&c) > 1) attn_composition_step(&c, output_tile, tiles * output_tiles(&c), output);
    return ATTN_OK;
}

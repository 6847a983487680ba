/* The layer's backward pass as a composition: products by OpenBLAS, what lies between them by the kernels.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 *   collect   queries to one dense matrix x; W2 and its transpose into panels
 *   fold      as in the forward pass; not where tanh was kept
 *   outer     through the output: gz = ga (1 - a^2); [gc ; gx] = gz Wc^T; the mean of the weights' gradients is gc c
 *   mean      bahdanau, and where attention weights have a gradient: that mean from the rows of H, by block
 *   attend    for a block of an item's rows and all its queries: scores again, their gradients ge, the rows of grad_h, and partial
 *             sums of the folded queries' gradients; bahdanau: W2's and v's as well, summed up in groups of blocks
 *   finish    merge those sums; through the fold to gx, and where that goes
 *   weights   products over all queries, and the groups' sums (composition_weights.c)
 * Groups and blocks depend on the sizes alone, so the sums do not depend on the threads. Hidden rows are never read: where a block
 * has any, the attended ones are gathered first. */
#include "cpu/composition_parts.h"
#include "cpu/tree.h"

#include <limits.h>
#include <math.h>
#include <string.h>

enum {
    MOST_GROUPS = 16,
    LEAST_GROUPS = 4, /* where a group's sum is large beside what it sums up */
    CHAIN_TERMS = 32  /* of a sum of doubles */
};

/* ---- Sizes ---------------------------------------------------------------------------------------- */

/* A group's sum has as many elements as so many rows of H W2 took products. */
static size_t count_groups(const attn_composition *c) {
    const attn_layer_problem *p = &c->sizes;
    const size_t units = p->batch * c->blocks;
    if (!attn_is_additive(c)) return units;
    size_t groups = p->batch * p->timesteps / p->score_width / 4;
    groups = groups < LEAST_GROUPS ? LEAST_GROUPS : least(groups, MOST_GROUPS);
    return least(groups, units);
}

static size_t carve(attn_composition *c, void *workspace) {
    const attn_layer_problem *p = &c->sizes;
    attn_composition_gradients *g = &c->grad;
    attn_carver carver = {.base = workspace};
    size_t partials;
    if (__builtin_mul_overflow(c->blocks, c->queries, &partials)) return SIZE_MAX;
    attn_composition_carve_queries(c, &carver);
    g->z_row = attn_padded(c, p->units);
    g->z = attn_carve(&carver, c->queries, g->z_row * c->element);
    g->context = attn_carve(&carver, c->queries, c->context_row * c->element);
    g->query = attn_carve(&carver, c->queries, c->x_row * c->element);
    g->shift = attn_carve(&carver, c->queries, sizeof *g->shift);
    g->moments = attn_carve(&carver, partials, sizeof *g->moments);
    g->residuals = attn_carve(&carver, partials, sizeof *g->residuals);
    g->folded = attn_carve(&carver, c->queries, c->folded_row * c->element);
    g->partials = attn_carve(&carver, partials, c->folded_row * c->element);
    g->groups = count_groups(c);
    if (attn_is_additive(c)) {
        const bool whole = !c->blas->small_products || attn_openblas_fits(c->blas, p->features, p->score_width);
        g->v_row = attn_padded(c, p->score_width);
        g->w2_columns = whole ? p->features : ATTN_PANEL_COLUMNS;
        g->w2_transposed = attn_carve(&carver, p->score_width, p->features * c->element);
        g->w2 = attn_carve(&carver, g->groups * p->features, p->score_width * c->element);
        g->v = attn_carve(&carver, g->groups, g->v_row * c->element);
    }
    attn_composition_carve_slots(c, &carver);
    return attn_carved_size(&carver);
}

/* ---- Elements ------------------------------------------------------------------------------------- */

static void add(const attn_composition *c, void *to, const void *from, size_t n) { c->kernels->add_to(from, to, n); }

static double value(const attn_composition *c, const void *data, size_t i) {
    return c->sizes.dtype == ATTN_FLOAT32 ? (double)((const float *)data)[i] : ((const double *)data)[i];
}

static void put(const attn_composition *c, void *to, double number) {
    if (c->sizes.dtype == ATTN_FLOAT32)
        *(float *)to = (float)number;
    else
        *(double *)to = number;
}

static double dot(const attn_composition *c, const void *a, const void *b, size_t n) {
    double sum = 0;
    if (n > CHAIN_TERMS) {
        const size_t half = n / 2;
        return dot(c, a, b, half) + dot(c, attn_at_const(c, a, 0, 0, half), attn_at_const(c, b, 0, 0, half), n - half);
    }
    for (size_t i = 0; i < n; i++) sum += value(c, a, i) * value(c, b, i);
    return sum;
}

static double lse_gradient(const attn_composition *c, size_t place) {
    const attn_layer_call_gradients *grad = &c->call->grad;
    if (!grad->lse || attn_is_zero(c, attn_at(c, c->kept.sum, place, 1, 0))) return 0;
    return value(c, attn_row(c, grad->lse, place / c->sizes.queries, grad->lse_batch, place % c->sizes.queries, 1), 0);
}

/* ---- Outer ---------------------------------------------------------------------------------------- */

static void outer_products(const attn_composition *c, size_t row, size_t rows) {
    const attn_layer_call *call = c->call;
    const attn_composition_gradients *g = &c->grad;
    const size_t units = c->sizes.units, features = c->sizes.features;
    for (size_t i = row; i < row + rows; i++) {
        const size_t item = i / c->sizes.queries, query = i % c->sizes.queries;
        c->kernels->tanh_gradient_row(
            attn_at(c, c->kept.output, i, c->kept.output_row, 0),
            attn_row(c, call->grad.output, item, call->grad.output_batch, query, call->grad.output_row),
            attn_at(c, g->z, i, g->z_row, 0), units);
    }
    const void *z = attn_at(c, g->z, row, g->z_row, 0);
    attn_openblas_gemm_nt(c->blas, c->sizes.dtype, rows, features, units, z, g->z_row, call->w_c, units,
                          attn_at(c, g->context, row, c->context_row, 0), c->context_row, false);
    attn_openblas_gemm_nt(c->blas, c->sizes.dtype, rows, c->sizes.query_features, units, z, g->z_row,
                          attn_at_const(c, call->w_c, features, units, 0), units,
                          attn_at(c, g->query, row, c->x_row, 0), c->x_row, false);
}

static void outer_query(const attn_composition *c, size_t place) {
    const attn_layer_call *call = c->call;
    const size_t item = place / c->sizes.queries, query = place % c->sizes.queries, features = c->sizes.features;
    void *context = attn_at(c, c->grad.context, place, c->context_row, 0);
    if (call->grad.context)
        add(c, context, attn_row(c, call->grad.context, item, call->grad.context_batch, query, call->grad.context_row),
            features);
    double shift = -dot(c, context, attn_at(c, c->kept.context, place, c->kept.context_row, 0), features);
    shift += lse_gradient(c, place);
    /* With nothing attended all weights are 0, and shall stay so whatever the gradients are. */
    const bool none = attn_is_zero(c, attn_at(c, c->kept.sum, place, 1, 0));
    c->grad.shift[place] = none ? 0 : shift;
}

static void outer(const attn_composition *c, size_t unit, const attn_composition_scratch *s) {
    (void)s;
    const attn_composition_gradients *g = &c->grad;
    const size_t row = unit * ATTN_FINISH_ROWS, rows = least(ATTN_FINISH_ROWS, c->queries - row);
    if (c->call->grad.output) {
        outer_products(c, row, rows);
    } else {
        memset(attn_at(c, g->z, row, g->z_row, 0), 0, rows * g->z_row * c->element);
        memset(attn_at(c, g->context, row, c->context_row, 0), 0, rows * c->context_row * c->element);
        memset(attn_at(c, g->query, row, c->x_row, 0), 0, rows * c->x_row * c->element);
    }
    for (size_t i = row; i < row + rows; i++) outer_query(c, i);
}

/* Panel after panel of W2^T, each (score width, its columns) without gaps. */
static void transpose(const attn_composition *c, size_t panel, const attn_composition_scratch *s) {
    (void)s;
    const attn_composition_gradients *g = &c->grad;
    const size_t width = c->sizes.score_width, first = panel * ATTN_PANEL_COLUMNS,
                 end = least(c->sizes.features, first + ATTN_PANEL_COLUMNS);
    for (size_t d = first; d < end; d++) {
        const size_t begin = d / g->w2_columns * g->w2_columns,
                     columns = least(g->w2_columns, c->sizes.features - begin);
        const char *from = attn_at_const(c, c->call->bahdanau_w2, d, width, 0);
        char *to = attn_at(c, g->w2_transposed, begin, width, d - begin);
        for (size_t k = 0; k < width; k++) memcpy(to + k * columns * c->element, from + k * c->element, c->element);
    }
}

/* ---- Attend: what both scores share ------------------------------------------------------------------- */

static size_t first_query(const attn_composition *c, const attn_composition_block *k) {
    return k->item * c->sizes.queries;
}

/* Scores of n of the block's rows, from `first` on, turned into weights. */
static void weigh(const attn_composition *c, const attn_composition_block *k, size_t query, size_t first, size_t n,
                  void *scores) {
    const size_t place = first_query(c, k) + query;
    attn_composition_hide(c, k, query, first, n, scores);
    c->kernels->weights(scores, n, attn_at(c, c->kept.maximum, place, 1, 0), attn_at(c, c->kept.sum, place, 1, 0));
}

/* The step of a block's row, where the query attends to it. */
static bool find_step(const attn_composition *c, const attn_composition_block *k, size_t query, size_t row,
                      size_t *step) {
    const size_t at = k->index ? k->index[row] : row;
    *step = k->first + at;
    return !c->call->mask_query || attn_composition_attended(c, k, query, at);
}

static const char *weight_gradients(const attn_composition *c, const attn_composition_block *k, size_t query) {
    const attn_layer_call_gradients *grad = &c->call->grad;
    return attn_row(c, grad->attention_weights, k->item, grad->weights_batch, query, grad->weights_row);
}

static bool has_given(const attn_composition *c) { return c->call->grad.attention_weights != NULL; }

/* Given gradients of the weights come to those by the context. */
static void add_given(const attn_composition *c, const attn_composition_block *k, size_t query, size_t first, size_t n,
                      void *gradients) {
    const char *given = weight_gradients(c, k, query);
    size_t step;
    for (size_t j = 0; j < n; j++)
        if (find_step(c, k, query, first + j, &step))
            add(c, attn_at(c, gradients, 0, 0, j), given + step * c->element, 1);
}

/* The mean of the weights' gradients is taken from the rows of H where what it was made of before, the context, is not exact enough:
 * the sum of all gradients of scores is 0, and bahdanau's gradients of weights are sums of those. */
static bool needs_mean(const attn_composition *c) { return attn_is_additive(c) || has_given(c); }

static size_t blocks_of(const attn_composition *c, size_t item) {
    const attn_composition_range steps = attn_composition_valid(c, item);
    return divide_up(steps.end - steps.start, c->block_rows);
}

/* Of blocks [first, first + count), as halves of halves. */
static attn_composition_moments moments_of(const attn_composition *c, size_t place, size_t first, size_t count) {
    if (count == 0) return (attn_composition_moments){0, 0};
    if (count == 1) return c->grad.moments[first * c->queries + place];
    const attn_composition_moments a = moments_of(c, place, first, count / 2),
                                   b = moments_of(c, place, first + count / 2, count - count / 2);
    return (attn_composition_moments){a.first + b.first, a.weights + b.weights};
}

/* What is added to the gradients of a query's weights before they become those of the scores. */
static double shift_of(const attn_composition *c, const attn_composition_block *k, size_t place) {
    const attn_composition_gradients *g = &c->grad;
    if (!needs_mean(c)) return g->shift[place];
    const attn_composition_moments all = moments_of(c, place, 0, blocks_of(c, k->item));
    return lse_gradient(c, place) - (all.weights == 0 ? 0 : all.first / all.weights);
}

/* Weights p and their gradients by the context become the gradients of the scores and p, in that order; returns the sum of the first. */
static double score_gradients(const attn_composition *c, const attn_composition_block *k, size_t query, size_t first,
                              size_t n, void *weights, void *gradients) {
    if (has_given(c)) add_given(c, k, query, first, n, gradients);
    return c->kernels->softmax_gradient(weights, n, shift_of(c, k, first_query(c, k) + query), gradients);
}

/* Some rows' part of the mean of the weights' gradients. */
static void add_moments(const attn_composition *c, const attn_composition_block *k, size_t query, size_t first,
                        size_t n, const void *weights, void *gradients, attn_composition_moments *moments) {
    size_t step;
    if (has_given(c)) add_given(c, k, query, first, n, gradients);
    for (size_t begin = 0; begin < n; begin += CHAIN_TERMS) {
        attn_composition_moments part = {0, 0};
        for (size_t j = begin; j < n && j < begin + CHAIN_TERMS; j++) {
            if (!find_step(c, k, query, first + j, &step)) continue;
            part.first += value(c, weights, j) * value(c, gradients, j);
            part.weights += value(c, weights, j);
        }
        moments->first += part.first;
        moments->weights += part.weights;
    }
}

/* Where the gradients of a block's rows are put together: where they belong, or in scratch. */
typedef struct target {
    void *rows; /* NULL: not wanted */
    size_t row;
    bool direct, add;
} target;

static target find_target(const attn_composition *c, const attn_composition_block *k,
                          const attn_composition_scratch *s) {
    const attn_layer_call_gradients *grad = &c->call->grad;
    if (!grad->h) return (target){.rows = NULL};
    if (k->index || grad->h_time < (ptrdiff_t)c->sizes.features || grad->h_time > INT_MAX)
        return (target){s->grad_h, c->rows_row, false, false};
    return (target){attn_row_out(c, grad->h, k->item, grad->h_batch, k->first, grad->h_time), (size_t)grad->h_time,
                    true, grad->add_h};
}

static void clear_steps(const attn_composition *c, size_t item, size_t first, size_t end) {
    const attn_layer_call_gradients *grad = &c->call->grad;
    for (size_t step = first; step < end; step++)
        memset(attn_row_out(c, grad->h, item, grad->h_batch, step, grad->h_time), 0, c->sizes.features * c->element);
}

/* From scratch to where the rows belong, zeros to those that are hidden. */
static void scatter(const attn_composition *c, const attn_composition_block *k, const target *t) {
    const attn_layer_call_gradients *grad = &c->call->grad;
    size_t next = 0;
    if (!t->rows || t->direct) return;
    for (size_t step = k->first; step < k->end; step++) {
        const bool here = next < k->count && (k->index ? k->index[next] : next) == step - k->first;
        char *to = attn_row_out(c, grad->h, k->item, grad->h_batch, step, grad->h_time);
        const void *from = attn_at(c, t->rows, here ? next++ : 0, t->row, 0);
        if (!here && !grad->add_h)
            memset(to, 0, c->sizes.features * c->element);
        else if (here && grad->add_h)
            add(c, to, from, c->sizes.features);
        else if (here)
            memcpy(to, from, c->sizes.features * c->element);
    }
}

static void *partial(const attn_composition *c, size_t number, size_t query) {
    return attn_at(c, c->grad.partials, number * c->queries + query, c->folded_row, 0);
}

/* ---- Attend: luong and dot ------------------------------------------------------------------------------ */

/* The scores of some queries and, below them, the gradients of their weights by the context: one product with [q ; gc]. */
static void pair_products(const attn_composition *c, const attn_composition_block *k, size_t query, size_t queries,
                          const attn_composition_scratch *s) {
    const size_t place = first_query(c, k) + query, bytes = c->sizes.features * c->element;
    for (size_t i = 0; i < queries; i++) {
        memcpy(attn_at(c, s->pair, i, c->rows_row, 0), attn_at(c, c->folded, place + i, c->folded_row, 0), bytes);
        memcpy(attn_at(c, s->pair, queries + i, c->rows_row, 0),
               attn_at(c, c->grad.context, place + i, c->context_row, 0), bytes);
    }
    attn_openblas_gemm_nt_exact(c->blas, c->sizes.dtype, 2 * queries, k->count, c->sizes.features, s->pair, c->rows_row,
                                k->rows, k->row, s->scores, c->scores_row, false);
    for (size_t i = 0; i < queries; i++)
        weigh(c, k, query + i, 0, k->count, attn_at(c, s->scores, i, c->scores_row, 0));
}

static void multiplicative_queries(const attn_composition *c, const attn_composition_block *k, size_t number,
                                   size_t query, size_t queries, const target *t, const attn_composition_scratch *s) {
    const size_t features = c->sizes.features;
    pair_products(c, k, query, queries, s);
    for (size_t i = 0; i < queries; i++)
        c->grad.residuals[number * c->queries + first_query(c, k) + query + i] =
            score_gradients(c, k, query + i, 0, k->count, attn_at(c, s->scores, i, c->scores_row, 0),
                            attn_at(c, s->scores, queries + i, c->scores_row, 0));
    if (t->rows)
        attn_openblas_gemm_tn(c->blas, c->sizes.dtype, k->count, features, 2 * queries, s->scores, c->scores_row,
                              s->pair, c->rows_row, t->rows, t->row, query > 0 || t->add);
    attn_openblas_gemm_exact(c->blas, c->sizes.dtype, queries, features, k->count, s->scores, c->scores_row, k->rows,
                             k->row, partial(c, number, first_query(c, k) + query), c->folded_row, false);
}

static void multiplicative_block(const attn_composition *c, const attn_composition_block *k, size_t number,
                                 const target *t, const attn_composition_scratch *s) {
    for (size_t query = 0; query < k->queries; query += c->block_queries)
        multiplicative_queries(c, k, number, query, least(c->block_queries, k->queries - query), t, s);
}

/* ---- Attend: bahdanau ------------------------------------------------------------------------------------- */

/* Some of a block's rows. */
typedef struct tile {
    const attn_composition_block *block;
    size_t first, count;
    const void *rows;
} tile;

static tile tile_at(const attn_composition *c, const attn_composition_block *k, size_t first) {
    return (tile){k, first, least(c->tile_rows, k->count - first), attn_at_const(c, k->rows, first, k->row, 0)};
}

/* H W2, where tanh is computed again. */
static void tile_product(const attn_composition *c, const tile *t, const attn_composition_scratch *s) {
    const size_t width = c->sizes.score_width, depth = c->sizes.features;
    for (size_t column = 0; column < width; column += c->product_columns) {
        const size_t columns = least(c->product_columns, width - column);
        const void *w2 = c->panels ? attn_at(c, c->w2, column, depth, 0) : c->call->bahdanau_w2;
        attn_openblas_gemm(c->blas, c->sizes.dtype, t->count, columns, depth, t->rows, t->block->row, w2,
                           c->panels ? columns : width, attn_at(c, s->product, 0, 0, column), c->product_row, false);
    }
}

/* tanh of one query and the weights by its scores. Returns the tanh rows, with their stride. */
static const void *tile_weights(const attn_composition *c, const tile *t, size_t query, void *weights, size_t *row,
                                const attn_composition_scratch *s) {
    const attn_composition_block *k = t->block;
    const size_t width = c->sizes.score_width, place = first_query(c, k) + query;
    const void *tanh = s->tanh;
    *row = c->product_row;
    if (!c->kept.tanh) {
        c->kernels->tanh_keep(t->count, width, s->product, (ptrdiff_t)c->product_row,
                              attn_at(c, c->folded, place, c->folded_row, 0), c->call->bahdanau_v, s->tanh,
                              (ptrdiff_t)c->product_row, weights, 0);
    } else if (k->index) {
        for (size_t i = 0; i < t->count; i++)
            memcpy(attn_at(c, s->tanh, i, c->product_row, 0),
                   attn_kept_tanh(c, place, k->first + k->index[t->first + i]), width * c->element);
    } else {
        tanh = attn_kept_tanh(c, place, k->first + t->first);
        *row = width;
    }
    if (c->kept.tanh) c->kernels->row_scores(t->count, width, tanh, (ptrdiff_t)*row, c->call->bahdanau_v, weights);
    weigh(c, k, query, t->first, t->count, weights);
    return tanh;
}

/* The gradients of some queries' weights by their contexts, for a tile's rows: where they are put, below the weights. */
static void *context_products(const attn_composition *c, const tile *t, size_t query, size_t queries,
                              const attn_composition_scratch *s) {
    void *gradients = attn_at(c, s->scores, queries, c->scores_row, 0);
    attn_openblas_gemm_nt(c->blas, c->sizes.dtype, queries, t->count, c->sizes.features,
                          attn_at(c, c->grad.context, first_query(c, t->block) + query, c->context_row, 0),
                          c->context_row, t->rows, t->block->row, gradients, c->scores_row, false);
    return gradients;
}

/* Some queries on a tile: gradients of its sums before the tanh into s->product (after the first query: added), and of the
 * rows as values. */
static void tile_queries(const attn_composition *c, const tile *t, size_t number, size_t group, size_t query,
                         size_t queries, const target *to, const attn_composition_scratch *s) {
    const attn_composition_block *k = t->block;
    const size_t features = c->sizes.features, width = c->sizes.score_width, place = first_query(c, k) + query;
    const void *context = attn_at(c, c->grad.context, place, c->context_row, 0);
    void *gradients = context_products(c, t, query, queries, s);
    for (size_t i = 0; i < queries; i++) {
        void *weights = attn_at(c, s->scores, i, c->scores_row, 0);
        size_t row;
        const void *tanh = tile_weights(c, t, query + i, weights, &row, s);
        score_gradients(c, k, query + i, t->first, t->count, weights, attn_at(c, gradients, i, c->scores_row, 0));
        c->kernels->tanh_gradient(t->count, width, tanh, (ptrdiff_t)row, weights, c->call->bahdanau_v, s->gradient,
                                  (ptrdiff_t)c->product_row, query + i > 0, partial(c, number, place + i),
                                  attn_at(c, c->grad.v, group, c->grad.v_row, 0));
    }
    if (to->rows)
        attn_openblas_gemm_tn(c->blas, c->sizes.dtype, t->count, features, queries, gradients, c->scores_row, context,
                              c->context_row, attn_at(c, to->rows, t->first, to->row, 0), to->row,
                              query > 0 || to->add);
}

/* The tile's gradients through W2: to the rows, and to W2 itself. */
static void tile_back(const attn_composition *c, const tile *t, size_t group, const target *to,
                      const attn_composition_scratch *s) {
    const attn_composition_gradients *g = &c->grad;
    const size_t width = c->sizes.score_width, features = c->sizes.features;
    for (size_t column = 0; to->rows && column < features; column += g->w2_columns) {
        const size_t columns = least(g->w2_columns, features - column);
        attn_openblas_gemm(c->blas, c->sizes.dtype, t->count, columns, width, s->gradient, c->product_row,
                           attn_at(c, g->w2_transposed, column, width, 0), columns,
                           attn_at(c, to->rows, t->first, to->row, column), to->row, true);
    }
    if (c->call->grad.bahdanau_w2)
        attn_openblas_gemm_tn(c->blas, c->sizes.dtype, features, width, t->count, t->rows, t->block->row, s->gradient,
                              c->product_row, attn_at(c, g->w2, group * features, width, 0), width, true);
}

static void additive_block(const attn_composition *c, const attn_composition_block *k, size_t number, size_t group,
                           const target *to, const attn_composition_scratch *s) {
    for (size_t first = 0; first < k->count; first += c->tile_rows) {
        const tile t = tile_at(c, k, first);
        if (!c->kept.tanh) tile_product(c, &t, s);
        for (size_t query = 0; query < k->queries; query += c->block_queries)
            tile_queries(c, &t, number, group, query, least(c->block_queries, k->queries - query), to, s);
        tile_back(c, &t, group, to, s);
    }
}

/* ---- Attend ------------------------------------------------------------------------------------------- */

static bool enter(const attn_composition *c, attn_composition_block *k, size_t unit,
                  const attn_composition_scratch *s) {
    *k = (attn_composition_block){.item = unit / c->blocks, .queries = c->sizes.queries};
    return attn_composition_enter(c, k, unit % c->blocks, s);
}

static void additive_mean(const attn_composition *c, const attn_composition_block *k, attn_composition_moments *moments,
                          const attn_composition_scratch *s) {
    for (size_t first = 0; first < k->count; first += c->tile_rows) {
        const tile t = tile_at(c, k, first);
        if (!c->kept.tanh) tile_product(c, &t, s);
        for (size_t query = 0; query < k->queries; query += c->block_queries) {
            const size_t queries = least(c->block_queries, k->queries - query);
            void *gradients = context_products(c, &t, query, queries, s);
            for (size_t i = 0; i < queries; i++) {
                size_t row;
                tile_weights(c, &t, query + i, s->scores, &row, s);
                add_moments(c, k, query + i, first, t.count, s->scores, attn_at(c, gradients, i, c->scores_row, 0),
                            &moments[query + i]);
            }
        }
    }
}

static void multiplicative_mean(const attn_composition *c, const attn_composition_block *k,
                                attn_composition_moments *moments, const attn_composition_scratch *s) {
    for (size_t query = 0; k->count && query < k->queries; query += c->block_queries) {
        const size_t queries = least(c->block_queries, k->queries - query);
        pair_products(c, k, query, queries, s);
        for (size_t i = 0; i < queries; i++)
            add_moments(c, k, query + i, 0, k->count, attn_at(c, s->scores, i, c->scores_row, 0),
                        attn_at(c, s->scores, queries + i, c->scores_row, 0), &moments[query + i]);
    }
}

static void mean(const attn_composition *c, size_t unit, const attn_composition_scratch *s) {
    attn_composition_block k;
    if (!enter(c, &k, unit, s)) return;
    attn_composition_moments *moments = c->grad.moments + unit % c->blocks * c->queries + first_query(c, &k);
    memset(moments, 0, k.queries * sizeof *moments);
    if (attn_is_additive(c))
        additive_mean(c, &k, moments, s);
    else
        multiplicative_mean(c, &k, moments, s);
}

static void attend_block(const attn_composition *c, size_t unit, size_t group, const attn_composition_scratch *s) {
    const size_t number = unit % c->blocks;
    attn_composition_block k;
    if (!enter(c, &k, unit, s)) return;
    memset(partial(c, number, first_query(c, &k)), 0, k.queries * c->folded_row * c->element);
    memset(c->grad.residuals + number * c->queries + first_query(c, &k), 0, k.queries * sizeof *c->grad.residuals);
    if (c->call->grad.h && !c->call->grad.add_h && number == 0) {
        const attn_composition_range steps = attn_composition_valid(c, k.item);
        clear_steps(c, k.item, 0, steps.start);
        clear_steps(c, k.item, steps.end, c->sizes.timesteps);
    }
    const target t = k.end > k.first ? find_target(c, &k, s) : (target){.rows = NULL};
    if (k.count && attn_is_additive(c))
        additive_block(c, &k, number, group, &t, s);
    else if (k.count)
        multiplicative_block(c, &k, number, &t, s);
    scatter(c, &k, &t);
}

static void attend(const attn_composition *c, size_t group, const attn_composition_scratch *s) {
    const attn_composition_gradients *g = &c->grad;
    const size_t units = c->sizes.batch * c->blocks, features = c->sizes.features, width = c->sizes.score_width;
    if (attn_is_additive(c)) {
        memset(attn_at(c, g->w2, group * features, width, 0), 0, features * width * c->element);
        memset(attn_at(c, g->v, group, g->v_row, 0), 0, g->v_row * c->element);
    }
    /* units / groups each, and one more for as many as are left over */
    const size_t each = units / g->groups, more = units % g->groups;
    const size_t first = group * each + least(group, more), end = first + each + (group < more);
    for (size_t unit = first; unit < end; unit++) attend_block(c, unit, group, s);
}

/* ---- Finish ----------------------------------------------------------------------------------------- */

typedef struct query_blocks {
    const attn_composition *c;
    size_t place;
} query_blocks;

/* What a block gives to a query's gradient, and what its gradients of scores add up to. */
static void add_partial(const void *argument, size_t to, size_t from) {
    const query_blocks *b = argument;
    const attn_composition *c = b->c;
    add(c, partial(c, to, b->place), partial(c, from, b->place), c->score_columns);
    c->grad.residuals[to * c->queries + b->place] += c->grad.residuals[from * c->queries + b->place];
}

/* An error of d in the mean of the weights' gradients adds d c to a folded query's gradient. The gradients of scores add up to that
 * of the log-sum-exp: what they really added up to tells it. */
static void mend(const attn_composition *c, size_t place, void *folded) {
    double rounded;
    put(c, &rounded, c->grad.residuals[place] - lse_gradient(c, place));
    c->kernels->take_times(&rounded, NULL, attn_at(c, c->kept.context, place, c->kept.context_row, 0), folded,
                           c->sizes.features);
}

static void merge(const attn_composition *c, size_t place) {
    void *to = attn_at(c, c->grad.folded, place, c->folded_row, 0);
    attn_tree_add_up(blocks_of(c, place / c->sizes.queries), add_partial, &(query_blocks){c, place});
    memcpy(to, partial(c, 0, place), c->folded_row * c->element);
    if (!needs_mean(c)) mend(c, place, to);
}

static void hand_out(const attn_composition *c, size_t place) {
    const attn_layer_call_gradients *grad = &c->call->grad;
    const size_t item = place / c->sizes.queries, width = c->sizes.query_features;
    const void *from = attn_at(c, c->grad.query, place, c->x_row, 0);
    const attn_composition_range steps = attn_composition_valid(c, item);
    if (!c->sizes.given_query && grad->h && steps.start < steps.end)
        add(c, attn_row_out(c, grad->h, item, grad->h_batch, steps.end - 1, grad->h_time), from, width);
    if (!grad->query) return;
    char *to = attn_row_out(c, grad->query, item, grad->query_batch, place % c->sizes.queries, grad->query_row);
    if (grad->add_query)
        add(c, to, from, width);
    else
        memcpy(to, from, width * c->element);
}

static void finish(const attn_composition *c, size_t unit, const attn_composition_scratch *s) {
    (void)s;
    const attn_layer_call *call = c->call;
    const size_t row = unit * ATTN_FINISH_ROWS, rows = least(ATTN_FINISH_ROWS, c->queries - row);
    const size_t width = c->sizes.query_features;
    const void *folded = attn_at(c, c->grad.folded, row, c->folded_row, 0);
    void *query = attn_at(c, c->grad.query, row, c->x_row, 0);
    for (size_t i = row; i < row + rows; i++) merge(c, i);
    if (c->sizes.score == ATTN_SCORE_DOT)
        for (size_t i = 0; i < rows; i++) /* row by row, for nobody wrote what pads them */
            add(c, attn_at(c, query, i, c->x_row, 0), attn_at_const(c, folded, i, c->folded_row, 0), width);
    else if (c->sizes.score == ATTN_SCORE_LUONG)
        attn_openblas_gemm(c->blas, c->sizes.dtype, rows, width, c->sizes.features, folded, c->folded_row,
                           call->luong_w, width, query, c->x_row, true);
    else
        attn_openblas_gemm_nt(c->blas, c->sizes.dtype, rows, width, c->sizes.score_width, folded, c->folded_row,
                              call->bahdanau_w1, c->sizes.score_width, query, c->x_row, true);
    for (size_t i = row; i < row + rows; i++) hand_out(c, i);
}

/* ---- The pass --------------------------------------------------------------------------------------- */

size_t attn_composition_backward_size(const attn_implementation *implementation, const attn_device *device,
                                      const attn_layer_problem *planned) {
    (void)implementation;
    attn_composition c = attn_composition_describe(device, planned, true);
    return carve(&c, NULL);
}

/* Anything but the gradient of w_c. */
static bool needs_scores(const attn_layer_call_gradients *grad) {
    return grad->h || grad->query || grad->luong_w || grad->bahdanau_w1 || grad->bahdanau_w2 || grad->bahdanau_v;
}

attn_status attn_composition_backward(const attn_implementation *implementation, attn_device *device,
                                      const attn_layer_problem *planned, const attn_layer_call *call) {
    (void)implementation, (void)planned;
    attn_composition c = attn_composition_describe(device, &call->sizes, true);
    c.call = call;
    carve(&c, call->workspace);
    const attn_layer_problem *p = &c.sizes;
    attn_kept_carve(p, call->kept, &c.kept);
    const double queries = (double)c.queries, rows = (double)p->batch * (double)p->timesteps,
                 features = (double)p->features, width = (double)p->score_width;
    const size_t tiles = divide_up(c.queries, ATTN_FINISH_ROWS);
    attn_composition_begin(&c);
    attn_composition_step(&c, outer, tiles,
                          call->grad.output ? queries * (double)p->units * (features + (double)p->query_features) : 0);
    if (needs_scores(&call->grad)) {
        if (call->grad.h && attn_is_additive(&c))
            attn_composition_step(&c, transpose, divide_up(p->features, ATTN_PANEL_COLUMNS), 8 * features * width);
        if (needs_mean(&c))
            attn_composition_step(&c, mean, p->batch * c.blocks, rows * features * (8 + 2 * (double)p->queries));
        attn_composition_step(&c, attend, c.grad.groups, rows * features * (16 + 4 * (double)p->queries + 2 * width));
        attn_composition_step(&c, finish, tiles, queries * (double)c.score_columns * (double)p->query_features);
    }
    attn_composition_weights(&c);
    return ATTN_OK;
}

/* The weights' gradients of a backward pass: each a product over all queries, or a sum over groups.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A unit is a tile of one gradient and sums up all of its terms, so the tiles need no order. */
#include "cpu/composition_parts.h"

#include <string.h>

enum {
    TILE_ROWS = 64,
    TILE_COLUMNS = 128,
    DEEP_QUERIES = 4096 /* beyond, OpenBLAS's calls would make a long chain of their own: the kernels go by halves */
};

/* to (m, n) = A^T B over all queries, A (queries, a_row), B (queries, b_row); or with b NULL, of `groups` matrices (m, n) that lie
 * a_row elements apart, the sum. */
typedef struct gradient {
    void *to;
    size_t m, n;
    const void *a, *b;
    size_t a_row, b_row;
} gradient;

enum { GRADIENTS = 6 };

static size_t list_gradients(const attn_composition *c, gradient list[GRADIENTS]) {
    const attn_layer_problem *p = &c->sizes;
    const attn_layer_call_gradients *grad = &c->call->grad;
    const attn_composition_gradients *g = &c->grad;
    const size_t d = p->features, dq = p->query_features, a = p->score_width, u = p->units;
    void *w_c_query = grad->w_c ? attn_at(c, grad->w_c, d, u, 0) : NULL;
    const gradient all[GRADIENTS] = {
        {grad->luong_w, d, dq, g->folded, c->x, c->folded_row, c->x_row},
        {grad->bahdanau_w1, dq, a, c->x, g->folded, c->x_row, c->folded_row},
        {grad->bahdanau_w2, d, a, g->w2, NULL, d * a, 0},
        {grad->bahdanau_v, 1, a, g->v, NULL, g->v_row, 0},
        {grad->w_c, d, u, c->kept.context, g->z, c->kept.context_row, g->z_row},
        {w_c_query, dq, u, c->x, g->z, c->x_row, g->z_row},
    };
    size_t count = 0;
    for (size_t i = 0; i < GRADIENTS; i++)
        if (all[i].to) list[count++] = all[i];
    return count;
}

static size_t tiles_across(const gradient *w) { return divide_up(w->n, TILE_COLUMNS); }
static size_t tiles_of(const gradient *w) { return divide_up(w->m, TILE_ROWS) * tiles_across(w); }

static void sum_groups(const attn_composition *c, const gradient *w, size_t row, size_t rows, size_t column,
                       size_t columns) {
    for (size_t i = row; i < row + rows; i++) {
        char *to = attn_at(c, w->to, i, w->n, column);
        for (size_t group = 0; group < c->grad.groups; group++) {
            const void *from = attn_at_const(c, w->a, group, w->a_row, i * w->n + column);
            if (group == 0 && !c->call->grad.add_weights)
                memcpy(to, from, columns * c->element);
            else
                c->kernels->add_to(from, to, columns);
        }
    }
}

static void compute_tile(const attn_composition *c, size_t unit, const attn_composition_scratch *s) {
    (void)s;
    gradient list[GRADIENTS];
    const gradient *w = list;
    list_gradients(c, list);
    for (; unit >= tiles_of(w); w++) unit -= tiles_of(w);
    const size_t row = unit / tiles_across(w) * TILE_ROWS, column = unit % tiles_across(w) * TILE_COLUMNS;
    const size_t rows = least(TILE_ROWS, w->m - row), columns = least(TILE_COLUMNS, w->n - column);
    if (!w->b)
        sum_groups(c, w, row, rows, column, columns);
    else if (c->queries > DEEP_QUERIES)
        c->kernels->gemm_tn(rows, columns, c->queries, attn_at_const(c, w->a, 0, 0, row), (ptrdiff_t)w->a_row,
                            attn_at_const(c, w->b, 0, 0, column), (ptrdiff_t)w->b_row,
                            attn_at(c, w->to, row, w->n, column), (ptrdiff_t)w->n, c->call->grad.add_weights);
    else
        attn_openblas_gemm_tn(c->blas, c->sizes.dtype, rows, columns, c->queries, attn_at_const(c, w->a, 0, 0, row),
                              w->a_row, attn_at_const(c, w->b, 0, 0, column), w->b_row,
                              attn_at(c, w->to, row, w->n, column), w->n, c->call->grad.add_weights);
}

void attn_composition_weights(attn_composition *c) {
    gradient list[GRADIENTS];
    const size_t count = list_gradients(c, list);
    size_t units = 0;
    double cost = 0;
    for (size_t i = 0; i < count; i++) {
        units += tiles_of(&list[i]);
        cost += (double)list[i].m * (double)list[i].n * (double)(list[i].b ? c->queries : 4 * c->grad.groups);
    }
    if (units) attn_composition_step(c, compute_tile, units, cost);
}

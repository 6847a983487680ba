/* What the two passes of the composition share: sizes, places, the steps' machinery, and the steps that both begin with.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A pass is a few steps, each split into units that any thread may take; what a unit computes depends on its place alone. */
#ifndef ATTN_CPU_COMPOSITION_PARTS_H
#define ATTN_CPU_COMPOSITION_PARTS_H

#include "cpu/device.h"
#include "cpu/kept.h"
#include "cpu/kernels.h"
#include "cpu/openblas.h"
#include "cpu/sizes.h"
#include "cpu/threads.h"
#include "lib/carve.h"

#include <stdatomic.h>

/* Sizes of units that both passes have; the figures are float32 on a 2-core Zen 5, see docs/blas.md. */
enum {
    ATTN_BLOCK_QUERIES = 32, /* the most that A B^T takes at full speed, see openblas.c */
    ATTN_FINISH_ROWS = 16,
    ATTN_PANEL_COLUMNS = 64
};

/* Of one thread. What the pass or the score does not need is NULL. */
typedef struct attn_composition_scratch {
    void *rows;    /* (block rows, features): gathered */
    size_t *index; /* (block rows): which rows they were */
    void *scores;  /* (block queries, block rows); backward: twice, the second half for their gradients */
    void *product; /* additive: (tile rows, product columns) of H W2 */
    void *output;  /* forward: (ATTN_FINISH_ROWS, OUTPUT_COLUMNS) */
    void *pair;    /* backward: (2, block queries, features): what the scores' gradients and the weights multiply */
    void *tanh, *gradient; /* backward, additive: (tile rows, score width), the latter of the sums before the tanh */
    void *grad_h;          /* backward: (block rows, features): of gathered rows */
} attn_composition_scratch;

typedef struct attn_composition attn_composition;

/* Of the gradients of one query's weights. */
typedef struct attn_composition_moments {
    double first, weights; /* sums of weight x gradient, and of the weights */
} attn_composition_moments;

/* Only the backward pass has these. Of each query, rows as those of the tensors they belong to. */
typedef struct attn_composition_gradients {
    void *z;               /* (queries, z_row): of [c ; x] . w_c */
    void *context, *query; /* (queries, context_row), (queries, x_row) */
    double *shift;         /* (queries): grad_lse less the weighted mean of the weights' gradients */
    attn_composition_moments
        *moments;            /* (blocks, queries): what the blocks add to that mean, where it comes from them */
    double *residuals;       /* (blocks, queries): what the gradients of scores add up to; not additive */
    void *folded, *partials; /* (queries, folded_row), (blocks, queries, folded_row) */
    void *w2_transposed;     /* panels of (score width, their columns) */
    void *w2, *v;            /* (groups, features, score width), (groups, v_row) */
    size_t z_row, v_row;
    size_t groups;     /* additive: parts of the batch that sum up W2's gradient, each in its order */
    size_t w2_columns; /* of a panel of w2_transposed */
} attn_composition_gradients;

struct attn_composition {
    const attn_layer_call *call;
    attn_layer_problem sizes;
    const attn_openblas *blas;
    const attn_kernels_real *kernels;
    attn_threads *threads;
    bool backward;
    size_t slots;   /* tasks that run at a time, each with scratch of its own */
    size_t element; /* bytes */
    size_t queries; /* of all items */
    size_t block_rows, blocks, block_queries, query_blocks, tile_rows;
    size_t score_columns; /* of the folded query */
    /* Row strides, in elements. */
    size_t x_row, folded_row, context_row, rows_row, scores_row, product_row;
    bool folds;  /* the queries are folded: not where the additive score's tanh was kept */
    bool panels; /* W2 is packed, so many columns at a time */
    size_t product_columns;
    void *x, *folded, *w2;
    void *maxima, *sums, *contexts; /* forward: (blocks, queries), contexts of context_row each */
    attn_composition_gradients grad;
    attn_kept kept; /* in training */
    char *scratches;
    size_t scratch_size;
    /* The step in progress. */
    void (*unit)(const attn_composition *c, size_t unit, const attn_composition_scratch *s);
    size_t units;
    atomic_size_t next;
};

/* Some queries of an item and the rows of a block that any of them attends to. */
typedef struct attn_composition_block {
    size_t item, query, queries; /* the first of the item's, and how many */
    size_t first, end;           /* steps */
    const uint8_t *mask;         /* of the first query and step, or NULL */
    const size_t *index;         /* of the rows, counted from first; NULL: all of them */
    const void *rows;
    size_t count, row; /* rows and their stride */
} attn_composition_block;

typedef struct attn_composition_range {
    size_t start, end;
} attn_composition_range;

/* ---- Sizes and places ------------------------------------------------------------------------------- */

static inline size_t attn_padded(const attn_composition *c, size_t n) { return padded(n, c->element); }

static inline bool attn_is_additive(const attn_composition *c) { return c->sizes.score == ATTN_SCORE_BAHDANAU; }

/* The element at (row, column) of a matrix. */
static inline void *attn_at(const attn_composition *c, void *matrix, size_t row, size_t row_stride, size_t column) {
    return (char *)matrix + (row * row_stride + column) * c->element;
}

static inline const void *attn_at_const(const attn_composition *c, const void *matrix, size_t row, size_t row_stride,
                                        size_t column) {
    return (const char *)matrix + (row * row_stride + column) * c->element;
}

/* The row of a caller's tensor for an item and one of its queries or steps. */
static inline const char *attn_row(const attn_composition *c, const void *data, size_t item, ptrdiff_t batch,
                                   size_t row, ptrdiff_t stride) {
    return (const char *)data + ((ptrdiff_t)item * batch + (ptrdiff_t)row * stride) * (ptrdiff_t)c->element;
}

static inline char *attn_row_out(const attn_composition *c, void *data, size_t item, ptrdiff_t batch, size_t row,
                                 ptrdiff_t stride) {
    return (char *)data + ((ptrdiff_t)item * batch + (ptrdiff_t)row * stride) * (ptrdiff_t)c->element;
}

static inline bool attn_is_zero(const attn_composition *c, const void *value) {
    return c->sizes.dtype == ATTN_FLOAT32 ? *(const float *)value == 0 : *(const double *)value == 0;
}

/* tanh of one query at one step, as kept. */
static inline void *attn_kept_tanh(const attn_composition *c, size_t query, size_t step) {
    return attn_at(c, c->kept.tanh, query * c->sizes.timesteps + step, c->sizes.score_width, 0);
}

attn_composition_range attn_composition_valid(const attn_composition *c, size_t item);

/* ---- Shared steps --------------------------------------------------------------------------------------- */

/* Queries to one dense matrix; W2 into panels. */
void attn_composition_collect(const attn_composition *c, size_t unit, const attn_composition_scratch *s);
/* Queries as the scores take them. */
void attn_composition_fold(const attn_composition *c, size_t unit, const attn_composition_scratch *s);
/* Both, for all queries. */
void attn_composition_begin(attn_composition *c);

/* ---- Blocks ------------------------------------------------------------------------------------------- */

/* Some queries of an item (k->item, query, queries) and its block of that number: false where its range does not reach there,
 * save the first block, which every item has. */
bool attn_composition_enter(const attn_composition *c, attn_composition_block *k, size_t number,
                            const attn_composition_scratch *s);

bool attn_composition_attended(const attn_composition *c, const attn_composition_block *k, size_t query, size_t step);

/* -inf over scores of n of the block's rows, from `first` on, that the query does not attend to: where each query has a mask of its own, a row may
 * be there for another's sake. */
void attn_composition_hide(const attn_composition *c, const attn_composition_block *k, size_t query, size_t first,
                           size_t n, void *scores);
void attn_composition_set_hidden(const attn_composition *c, void *score);

/* ---- Machinery ---------------------------------------------------------------------------------------- */

/* The kernels of the device's instruction set. */
const attn_kernels_real *attn_composition_kernels(const attn_device *device, attn_dtype dtype);

/* The geometry of a pass; carving follows. */
attn_composition attn_composition_describe(const attn_device *device, const attn_layer_problem *problem, bool backward);

/* What both passes need first: the collected and folded queries. */
void attn_composition_carve_queries(attn_composition *c, attn_carver *carver);
/* What both need last: scratch for every slot. */
void attn_composition_carve_slots(attn_composition *c, attn_carver *carver);

/* Runs unit(0) to unit(units - 1). cost: about how many multiply-adds the whole step takes. */
void attn_composition_step(attn_composition *c,
                           void (*unit)(const attn_composition *, size_t, const attn_composition_scratch *),
                           size_t units, double cost);

/* ---- The passes ----------------------------------------------------------------------------------------- */

size_t attn_composition_forward_size(const attn_implementation *implementation, const attn_device *device,
                                     const attn_layer_problem *planned);
attn_status attn_composition_forward(const attn_implementation *implementation, attn_device *device,
                                     const attn_layer_problem *planned, const attn_layer_call *call);
size_t attn_composition_backward_size(const attn_implementation *implementation, const attn_device *device,
                                      const attn_layer_problem *planned);
attn_status attn_composition_backward(const attn_implementation *implementation, attn_device *device,
                                      const attn_layer_problem *planned, const attn_layer_call *call);

/* Of the backward pass: the weights' gradients, from what the other steps left (composition_weights.c). */
void attn_composition_weights(attn_composition *c);

#endif

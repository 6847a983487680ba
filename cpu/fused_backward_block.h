/* What a fused backward pass does with a few query rows, or with a chunk of an item's rows of H.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Gradients are named as in attention.h: gz of [c ; x] w_c, gc of the context, gx of the query, gq (for the additive score gu) of the query as
 * the scores take it. */
#ifndef ATTN_CPU_FUSED_BACKWARD_BLOCK_H
#define ATTN_CPU_FUSED_BACKWARD_BLOCK_H

#include "cpu/kept.h"
#include "cpu/kernels.h"
#include "lib/backend.h"

/* The query rows of some items, item after item. */
typedef struct attn_backward_rows {
    void *x;          /* (rows, Dq): the queries */
    void *gz;         /* (rows, U) */
    void *grad_joint; /* (rows, D + Dq): gc, then what the output gives to gx */
    void *query;      /* (rows, width): as the scores take it; x for dot, NULL where the kept tanh stand for it */
    double *delta;    /* (rows) */
    void *grad_query; /* (chunks, rows_at_once, width): gq of each chunk; the first becomes that of all */
    void *
        residual; /* (chunks, rows_at_once): what the gradients of each chunk's scores add up to; dot and luong alone */
    void *grad_x; /* (rows, Dq) */
} attn_backward_rows;

/* The operands of a run, the same for all its tasks. */
typedef struct attn_backward_operands {
    const attn_layer_call *call;
    const attn_kernels_real *kernels;
    attn_kept kept;
    attn_backward_rows rows;
    const void *w2_transposed; /* (A, D padded) */
    size_t element;            /* bytes */
    size_t chunk_rows;         /* rows of H of a chunk, which begin at the range's start */
    size_t width;              /* of the query as the scores take it: D, or A for the additive score */
    size_t rows_at_once;
    size_t first_item; /* of those whose rows are held */
} attn_backward_operands;

/* Rows [first, first + count): gathers the queries, and makes of the incoming gradients all that the rows of H need. */
void attn_backward_begin(const attn_backward_operands *operands, size_t first, size_t count);

/* delta of an item's rows from all of its rows of H, in place of that from the context. */
void attn_backward_delta(const attn_backward_operands *operands, size_t item, void *scratch);

/* One chunk of one item: its rows of grad_h, gq, and what it adds to grad_w2 (D, A padded) and grad_v (additive score). The first chunk
 * also writes the rows outside of the range. */
void attn_backward_chunk(const attn_backward_operands *operands, size_t item, size_t chunk, void *grad_w2, void *grad_v,
                         void *scratch);

/* Rows [first, first + count): gq of all chunks, and gx to where it is wanted. */
void attn_backward_end(const attn_backward_operands *operands, size_t first, size_t count);

#endif

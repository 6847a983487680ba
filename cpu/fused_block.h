/* What a fused forward pass does with a few query rows: the steps between gathering the queries and writing the output.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A block is up to ATTN_QUERY_BLOCK queries of one item; a group is some consecutive blocks that share their matrix products. */
#ifndef ATTN_CPU_FUSED_BLOCK_H
#define ATTN_CPU_FUSED_BLOCK_H

#include "cpu/kept.h"
#include "cpu/kernels.h"
#include "lib/backend.h"

/* A matrix as kernels read it: the caller's, or a copy with aligned rows in prepared weights. */
typedef struct attn_fused_matrix {
    const void *data;
    ptrdiff_t row;
} attn_fused_matrix;

/* Those that the score has. */
typedef struct attn_fused_weights {
    attn_fused_matrix luong_w, bahdanau_w1, w_c;
    attn_additive_weights additive; /* bahdanau_w2 and bahdanau_v */
} attn_fused_weights;

/* The operands of a run, the same for all its tasks. */
typedef struct attn_fused_operands {
    const attn_layer_call *call;
    const attn_kernels_real *kernels;
    attn_fused_weights weights;
    size_t element;         /* bytes */
    size_t chunk_rows;      /* rows of H of a chunk */
    size_t block_queries;   /* queries of a block, the item's last one may have fewer */
    size_t blocks_per_item; /* at least 1 where there are queries */
    size_t query_width;     /* of what the scores take: D, or A for the additive score */
    size_t query_stride, context_stride;
    attn_kept kept; /* in training */
} attn_fused_operands;

/* The rows of a group, one after the other. */
typedef struct attn_fused_rows {
    void *joint;         /* (rows, D + Dq): context, then query: what w_c multiplies */
    void *query;         /* (rows, query_stride): the query as the scores take it */
    attn_partial result; /* one a row */
} attn_fused_rows;

/* Of one task at a time. */
typedef struct attn_fused_scratch {
    attn_partial chunk; /* of one block */
    attn_partial sums;  /* levels - 1 of a block, sums_stride rows apart */
    size_t levels, sums_stride;
    void *additive;
} attn_fused_scratch;

typedef struct attn_fused_range {
    size_t start, length;
} attn_fused_range;

attn_fused_range attn_fused_range_of(const attn_layer_call *call, size_t item);

size_t attn_fused_block_rows(const attn_fused_operands *operands, size_t block);

/* The rows from row on; the same memory. */
attn_fused_rows attn_fused_rows_at(const attn_fused_operands *operands, const attn_fused_rows *rows, size_t row);
attn_partial attn_fused_partial_at(const attn_fused_operands *operands, const attn_partial *partial, size_t row);

/* Gathers the queries of blocks [first, first + count), projects them, and empties their results. */
void attn_fused_begin(const attn_fused_operands *operands, size_t first, size_t count, const attn_fused_rows *rows);

/* One chunk of one block: its scores, folded into result, which must be empty or the chunk's own. */
void attn_fused_chunk(const attn_fused_operands *operands, size_t block, size_t chunk, const void *query,
                      const attn_partial *result, void *additive_scratch);

/* All chunks of one block, merged by a tree (tree.h) into its result. */
void attn_fused_chunks(const attn_fused_operands *operands, size_t block, const attn_fused_rows *rows,
                       const attn_fused_scratch *scratch);

/* From results to context, log-sum-exp, attention weights and output. */
void attn_fused_end(const attn_fused_operands *operands, size_t first, size_t count, const attn_fused_rows *rows);

/* Nothing attended yet. */
void attn_fused_clear(const attn_fused_operands *operands, const attn_partial *partial, size_t rows);

#endif

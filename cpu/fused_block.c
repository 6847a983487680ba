/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/fused_block.h"

#include "cpu/sizes.h"
#include "cpu/tree.h"

#include <math.h>
#include <string.h>

/* The queries of one block. */
typedef struct block_place {
    size_t item, query, queries;
} block_place;

static const void *at(const void *base, ptrdiff_t index, size_t element) {
    return (const char *)base + index * (ptrdiff_t)element;
}

static void *at_mutable(void *base, ptrdiff_t index, size_t element) {
    return (char *)base + index * (ptrdiff_t)element;
}

static block_place place_of(const attn_fused_operands *operands, size_t block) {
    size_t item = block / operands->blocks_per_item;
    size_t query = (block - item * operands->blocks_per_item) * operands->block_queries;
    return (block_place){item, query, least(operands->block_queries, operands->call->sizes.queries - query)};
}

attn_fused_range attn_fused_range_of(const attn_layer_call *call, size_t item) {
    size_t start = call->starts ? (size_t)call->starts[item] : 0;
    return (attn_fused_range){start, call->lengths ? (size_t)call->lengths[item] : call->sizes.timesteps - start};
}

size_t attn_fused_block_rows(const attn_fused_operands *operands, size_t block) {
    return place_of(operands, block).queries;
}

attn_partial attn_fused_partial_at(const attn_fused_operands *operands, const attn_partial *partial, size_t row) {
    size_t element = operands->element;
    return (attn_partial){
        at_mutable(partial->maximum, (ptrdiff_t)row, element), at_mutable(partial->sum, (ptrdiff_t)row, element),
        at_mutable(partial->context, (ptrdiff_t)(row * partial->context_stride), element), partial->context_stride};
}

attn_fused_rows attn_fused_rows_at(const attn_fused_operands *operands, const attn_fused_rows *rows, size_t row) {
    const attn_layer_problem *sizes = &operands->call->sizes;
    size_t joint = sizes->features + sizes->query_features;
    return (attn_fused_rows){at_mutable(rows->joint, (ptrdiff_t)(row * joint), operands->element),
                             at_mutable(rows->query, (ptrdiff_t)(row * operands->query_stride), operands->element),
                             attn_fused_partial_at(operands, &rows->result, row)};
}

void attn_fused_clear(const attn_fused_operands *operands, const attn_partial *partial, size_t rows) {
    size_t element = operands->element;
    for (size_t i = 0; i < rows; i++) {
        if (element == sizeof(float)) {
            ((float *)partial->maximum)[i] = -INFINITY;
        } else {
            ((double *)partial->maximum)[i] = -(double)INFINITY;
        }
    }
    memset(partial->sum, 0, rows * element);
    memset(partial->context, 0, rows * partial->context_stride * element);
}

/* ---- Queries ------------------------------------------------------------------------------------- */

/* The query rows of a block, into the right-hand part of joint. */
static void gather(const attn_fused_operands *operands, block_place place, void *joint) {
    const attn_layer_call *call = operands->call;
    size_t element = operands->element, width = call->sizes.query_features, row = call->sizes.features + width;
    char *to = at_mutable(joint, (ptrdiff_t)call->sizes.features, element);
    if (call->sizes.given_query) {
        const char *from = at(
            call->query, (ptrdiff_t)place.item * call->query_batch + (ptrdiff_t)place.query * call->query_row, element);
        for (size_t i = 0; i < place.queries; i++, to += row * element) {
            memcpy(to, from + (ptrdiff_t)i * call->query_row * (ptrdiff_t)element, width * element);
        }
        return;
    }
    attn_fused_range range = attn_fused_range_of(call, place.item);
    if (range.length == 0) {
        memset(to, 0, width * element);
        return;
    }
    ptrdiff_t last = (ptrdiff_t)(range.start + range.length - 1);
    memcpy(to, at(call->h, (ptrdiff_t)place.item * call->h_batch + last * call->h_time, element), width * element);
}

/* What the scores take: x for dot, K x for luong, x W1 for bahdanau; the padding zero. */
static void project(const attn_fused_operands *operands, size_t count, const attn_fused_rows *rows) {
    const attn_layer_call *call = operands->call;
    const attn_kernels_real *kernels = operands->kernels;
    const attn_fused_weights *weights = &operands->weights;
    size_t element = operands->element, width = call->sizes.query_features, row = call->sizes.features + width;
    size_t stride = operands->query_stride;
    const char *x = at(rows->joint, (ptrdiff_t)call->sizes.features, element);
    char *q = rows->query;
    for (size_t i = 0; i < count; i++) {
        memset(q + (i * stride + operands->query_width) * element, 0, (stride - operands->query_width) * element);
        if (call->sizes.score == ATTN_SCORE_DOT)
            memcpy(q + i * stride * element, x + i * row * element, width * element);
    }
    if (call->sizes.score == ATTN_SCORE_LUONG) {
        kernels->gemm_nt(count, operands->query_width, width, x, (ptrdiff_t)row, weights->luong_w.data,
                         weights->luong_w.row, q, (ptrdiff_t)stride);
    } else if (call->sizes.score == ATTN_SCORE_BAHDANAU) {
        kernels->gemm(count, operands->query_width, width, x, (ptrdiff_t)row, weights->bahdanau_w1.data,
                      weights->bahdanau_w1.row, q, (ptrdiff_t)stride, 0, 0);
    }
}

void attn_fused_begin(const attn_fused_operands *operands, size_t first, size_t count, const attn_fused_rows *rows) {
    size_t row = 0;
    for (size_t block = first; block < first + count; block++) {
        block_place place = place_of(operands, block);
        gather(operands, place, attn_fused_rows_at(operands, rows, row).joint);
        row += place.queries;
    }
    project(operands, row, rows);
    attn_fused_clear(operands, &rows->result, row);
}

/* ---- Rows of H ----------------------------------------------------------------------------------- */

/* Where the tanh of an item's only query are kept, from a step on. */
static void *kept_tanh(const attn_fused_operands *operands, size_t item, ptrdiff_t step) {
    const attn_layer_problem *sizes = &operands->call->sizes;
    if (!operands->kept.tanh) return NULL;
    ptrdiff_t row = (ptrdiff_t)(item * sizes->timesteps) + step;
    return at_mutable(operands->kept.tanh, row * (ptrdiff_t)sizes->score_width, operands->element);
}

void attn_fused_chunk(const attn_fused_operands *operands, size_t block, size_t chunk, const void *query,
                      const attn_partial *result, void *additive_scratch) {
    const attn_layer_call *call = operands->call;
    block_place place = place_of(operands, block);
    attn_fused_range range = attn_fused_range_of(call, place.item);
    size_t offset = chunk * operands->chunk_rows;
    if (offset >= range.length) return;
    ptrdiff_t item = (ptrdiff_t)place.item, step = (ptrdiff_t)(range.start + offset), first = (ptrdiff_t)place.query;
    attn_rows rows = {.h = at(call->h, item * call->h_batch + step * call->h_time, operands->element),
                      .h_time = call->h_time,
                      .rows = least(operands->chunk_rows, range.length - offset),
                      .features = call->sizes.features,
                      .mask_query = call->mask_query,
                      .mask_time = call->mask_time};
    if (call->mask)
        rows.mask = call->mask + item * call->mask_batch + first * call->mask_query + step * call->mask_time;
    void *scores = NULL;
    if (call->attention_weights) {
        scores = at_mutable(call->attention_weights, item * call->weights_batch + first * call->weights_row + step,
                            operands->element);
    }
    if (call->sizes.score == ATTN_SCORE_BAHDANAU) {
        operands->kernels->additive_rows(&rows, query, operands->query_stride, place.queries,
                                         &operands->weights.additive, call->sizes.score_width, result, scores,
                                         call->weights_row, kept_tanh(operands, place.item, step), additive_scratch);
    } else {
        operands->kernels->dot_rows(&rows, query, operands->query_stride, place.queries, result, scores,
                                    call->weights_row);
    }
}

/* The sum of a level: the last is the result. */
static attn_partial level_of(const attn_fused_operands *operands, const attn_fused_rows *rows,
                             const attn_fused_scratch *scratch, size_t level) {
    if (level + 1 == scratch->levels) return rows->result;
    return attn_fused_partial_at(operands, &scratch->sums, level * scratch->sums_stride);
}

/* A level's sum to the one above, and the level empty. */
static void carry(const attn_fused_operands *operands, const attn_fused_rows *rows, const attn_fused_scratch *scratch,
                  size_t level, size_t queries) {
    const attn_partial from = level_of(operands, rows, scratch, level),
                       to = level_of(operands, rows, scratch, level + 1);
    operands->kernels->merge(&to, &from, queries, operands->call->sizes.features);
    attn_fused_clear(operands, &from, queries);
}

/* A chunk that begins a sum goes straight there: merging into an empty one copies, so the bits are the same. */
void attn_fused_chunks(const attn_fused_operands *operands, size_t block, const attn_fused_rows *rows,
                       const attn_fused_scratch *scratch) {
    block_place place = place_of(operands, block);
    size_t length = attn_fused_range_of(operands->call, place.item).length;
    const attn_partial lowest = level_of(operands, rows, scratch, 0);
    for (size_t level = 0; level + 1 < scratch->levels; level++) {
        const attn_partial sum = level_of(operands, rows, scratch, level);
        attn_fused_clear(operands, &sum, place.queries);
    }
    for (size_t chunk = 0; chunk * operands->chunk_rows < length; chunk++) {
        if (attn_tree_begins(chunk)) {
            attn_fused_chunk(operands, block, chunk, rows->query, &lowest, scratch->additive);
        } else {
            attn_fused_clear(operands, &scratch->chunk, place.queries);
            attn_fused_chunk(operands, block, chunk, rows->query, &scratch->chunk, scratch->additive);
            operands->kernels->merge(&lowest, &scratch->chunk, place.queries, operands->call->sizes.features);
        }
        for (size_t level = 0; level + 1 < scratch->levels && attn_tree_carries(chunk, level); level++)
            carry(operands, rows, scratch, level, place.queries);
    }
    for (size_t level = 0; level + 1 < scratch->levels; level++) carry(operands, rows, scratch, level, place.queries);
}

/* ---- Results ------------------------------------------------------------------------------------- */

/* The scores that stand in attention_weights become weights; outside the range they become 0. */
static void write_weights(const attn_fused_operands *operands, block_place place, const attn_partial *result) {
    const attn_layer_call *call = operands->call;
    size_t element = operands->element, timesteps = call->sizes.timesteps;
    attn_fused_range range = attn_fused_range_of(call, place.item);
    size_t end = range.start + range.length;
    for (size_t i = 0; i < place.queries; i++) {
        attn_partial row = attn_fused_partial_at(operands, result, i);
        char *weights = at_mutable(
            call->attention_weights,
            (ptrdiff_t)place.item * call->weights_batch + (ptrdiff_t)(place.query + i) * call->weights_row, element);
        memset(weights, 0, range.start * element);
        operands->kernels->weights(weights + range.start * element, range.length, row.maximum, row.sum);
        memset(weights + end * element, 0, (timesteps - end) * element);
    }
}

static void write_context(const attn_fused_operands *operands, block_place place, const void *joint) {
    const attn_layer_call *call = operands->call;
    size_t element = operands->element, features = call->sizes.features, row = features + call->sizes.query_features;
    ptrdiff_t first = (ptrdiff_t)place.item * call->context_batch + (ptrdiff_t)place.query * call->context_row;
    char *to = at_mutable(call->context, first, element);
    for (size_t i = 0; i < place.queries; i++) {
        memcpy(to + (ptrdiff_t)i * call->context_row * (ptrdiff_t)element, (const char *)joint + i * row * element,
               features * element);
    }
}

/* output = tanh(joint w_c): one product where the rows of the output are evenly spaced, else one a block. */
static void write_output(const attn_fused_operands *operands, size_t first, size_t count, size_t rows,
                         const void *joint) {
    const attn_layer_call *call = operands->call;
    size_t element = operands->element, inner = call->sizes.features + call->sizes.query_features,
           units = call->sizes.units;
    bool one = call->sizes.queries == 1;
    bool even = one || count == 1 || call->output_batch == (ptrdiff_t)call->sizes.queries * call->output_row;
    for (size_t block = first; block < first + count; block += even ? count : 1) {
        block_place place = place_of(operands, block);
        size_t product_rows = even ? rows : place.queries;
        void *to =
            at_mutable(call->output,
                       (ptrdiff_t)place.item * call->output_batch + (ptrdiff_t)place.query * call->output_row, element);
        operands->kernels->gemm(product_rows, units, inner, joint, (ptrdiff_t)inner, operands->weights.w_c.data,
                                operands->weights.w_c.row, to, one ? call->output_batch : call->output_row, 0, 1);
        joint = at(joint, (ptrdiff_t)(product_rows * inner), element);
    }
}

/* ---- Training ------------------------------------------------------------------------------------ */

/* The rows of a group lie one after the other in what is kept. */
static size_t kept_row(const attn_fused_operands *operands, block_place place) {
    return place.item * operands->call->sizes.queries + place.query;
}

static void keep_rows(const attn_fused_operands *operands, size_t row, size_t rows, const attn_fused_rows *from) {
    const attn_kept *kept = &operands->kept;
    size_t element = operands->element, features = operands->call->sizes.features,
           inner = features + operands->call->sizes.query_features;
    memcpy(at_mutable(kept->maximum, (ptrdiff_t)row, element), from->result.maximum, rows * element);
    memcpy(at_mutable(kept->sum, (ptrdiff_t)row, element), from->result.sum, rows * element);
    for (size_t i = 0; i < rows; i++) {
        memcpy(at_mutable(kept->context, (ptrdiff_t)((row + i) * kept->context_row), element),
               at(from->joint, (ptrdiff_t)(i * inner), element), features * element);
    }
}

/* The output, and a copy for the caller where one is asked for. */
static void keep_output(const attn_fused_operands *operands, size_t first, size_t count, size_t rows,
                        const void *joint) {
    const attn_layer_call *call = operands->call;
    const ptrdiff_t stride = (ptrdiff_t)operands->kept.output_row;
    size_t element = operands->element, inner = call->sizes.features + call->sizes.query_features,
           units = call->sizes.units;
    char *to =
        at_mutable(operands->kept.output, (ptrdiff_t)kept_row(operands, place_of(operands, first)) * stride, element);
    operands->kernels->gemm(rows, units, inner, joint, (ptrdiff_t)inner, operands->weights.w_c.data,
                            operands->weights.w_c.row, to, stride, 0, 1);
    for (size_t block = first; call->output && block < first + count; block++) {
        block_place place = place_of(operands, block);
        for (size_t i = 0; i < place.queries; i++, to += stride * (ptrdiff_t)element) {
            ptrdiff_t row =
                (ptrdiff_t)place.item * call->output_batch + (ptrdiff_t)(place.query + i) * call->output_row;
            memcpy(at_mutable(call->output, row, element), to, units * element);
        }
    }
}

/* ---- All of it ----------------------------------------------------------------------------------- */

void attn_fused_end(const attn_fused_operands *operands, size_t first, size_t count, const attn_fused_rows *rows) {
    const attn_layer_call *call = operands->call;
    size_t element = operands->element, features = call->sizes.features;
    ptrdiff_t inner = (ptrdiff_t)(features + call->sizes.query_features);
    size_t row = 0;
    for (size_t block = first; block < first + count; block++) {
        block_place place = place_of(operands, block);
        attn_fused_rows here = attn_fused_rows_at(operands, rows, row);
        void *lse = NULL;
        if (call->lse)
            lse = at_mutable(call->lse, (ptrdiff_t)place.item * call->lse_batch + (ptrdiff_t)place.query, element);
        operands->kernels->finish(&here.result, place.queries, features, here.joint, inner, lse);
        if (call->attention_weights) write_weights(operands, place, &here.result);
        if (call->context) write_context(operands, place, here.joint);
        row += place.queries;
    }
    if (call->kept) keep_rows(operands, kept_row(operands, place_of(operands, first)), row, rows);
    if (operands->kept.output) {
        keep_output(operands, first, count, row, rows->joint);
    } else if (call->output) {
        write_output(operands, first, count, row, rows->joint);
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/fused_backward_block.h"

#include "cpu/fused_block.h"
#include "cpu/sizes.h"
#include "cpu/tree.h"

#include <string.h>

/* Row `row` of a matrix whose rows are `width` elements apart. */
static void *row_of(const attn_backward_operands *operands, void *base, size_t row, size_t width) {
    return base ? (char *)base + row * width * operands->element : NULL;
}

/* An element of a tensor of the call, NULL for one that is not given. */
static const void *place(const attn_backward_operands *operands, const void *base, ptrdiff_t batch, size_t item,
                         ptrdiff_t row, size_t index) {
    if (!base) return NULL;
    return (const char *)base + ((ptrdiff_t)item * batch + (ptrdiff_t)index * row) * (ptrdiff_t)operands->element;
}

static void *place_mutable(const attn_backward_operands *operands, void *base, ptrdiff_t batch, size_t item,
                           ptrdiff_t row, size_t index) {
    return (void *)(uintptr_t)place(operands, base, batch, item, row, index);
}

/* A row that is held, among all of the call. */
typedef struct row_place {
    size_t item, query, kept;
} row_place;

static row_place place_of(const attn_backward_operands *operands, size_t row) {
    size_t queries = operands->call->sizes.queries, item = row / queries;
    return (row_place){operands->first_item + item, row - item * queries, operands->first_item * queries + row};
}

static size_t joint_width(const attn_layer_problem *sizes) { return sizes->features + sizes->query_features; }

static bool attends_nothing(const attn_backward_operands *operands, size_t kept) {
    if (operands->element == sizeof(float)) return ((const float *)operands->kept.sum)[kept] == 0;
    return ((const double *)operands->kept.sum)[kept] == 0;
}

/* ---- Before the rows of H ------------------------------------------------------------------------ */

static void gather(const attn_backward_operands *operands, size_t row) {
    const attn_layer_call *call = operands->call;
    const size_t width = call->sizes.query_features, bytes = width * operands->element;
    const row_place at = place_of(operands, row);
    void *to = row_of(operands, operands->rows.x, row, width);
    if (call->sizes.given_query) {
        memcpy(to, place(operands, call->query, call->query_batch, at.item, call->query_row, at.query), bytes);
        return;
    }
    attn_fused_range range = attn_fused_range_of(call, at.item);
    if (range.length == 0) {
        memset(to, 0, bytes);
    } else {
        memcpy(to, place(operands, call->h, call->h_batch, at.item, call->h_time, range.start + range.length - 1),
               bytes);
    }
}

/* gz, and from it [gc ; gx]. */
static void output_gradients(const attn_backward_operands *operands, size_t first, size_t count) {
    const attn_layer_call *call = operands->call;
    const size_t units = call->sizes.units, joint = joint_width(&call->sizes);
    void *gz = row_of(operands, operands->rows.gz, first, units),
         *to = row_of(operands, operands->rows.grad_joint, first, joint);
    if (!call->grad.output) {
        memset(to, 0, count * joint * operands->element);
        if (gz) memset(gz, 0, count * units * operands->element);
        return;
    }
    for (size_t row = first; row < first + count; row++) {
        const row_place at = place_of(operands, row);
        operands->kernels->tanh_gradient_row(
            row_of(operands, operands->kept.output, at.kept, operands->kept.output_row),
            place(operands, call->grad.output, call->grad.output_batch, at.item, call->grad.output_row, at.query),
            row_of(operands, operands->rows.gz, row, units), units);
    }
    operands->kernels->gemm_nt(count, joint, units, gz, (ptrdiff_t)units, call->w_c, (ptrdiff_t)units, to,
                               (ptrdiff_t)joint);
}

/* The gradient of a row's log-sum-exp; NULL: 0. */
static const void *lse_gradient(const attn_backward_operands *operands, size_t row) {
    const attn_layer_call_gradients *grad = &operands->call->grad;
    const row_place at = place_of(operands, row);
    if (attends_nothing(operands, at.kept)) return NULL;
    return place(operands, grad->lse, grad->lse_batch, at.item, 1, at.query);
}

static void context_gradient(const attn_backward_operands *operands, size_t row) {
    const attn_layer_call *call = operands->call;
    const attn_layer_call_gradients *grad = &call->grad;
    const size_t features = call->sizes.features;
    const row_place at = place_of(operands, row);
    void *gc = row_of(operands, operands->rows.grad_joint, row, joint_width(&call->sizes));
    if (grad->context)
        operands->kernels->add_to(
            place(operands, grad->context, grad->context_batch, at.item, grad->context_row, at.query), gc, features);
    operands->kernels->dot_less(gc, row_of(operands, operands->kept.context, at.kept, operands->kept.context_row),
                                features, lse_gradient(operands, row), operands->rows.delta + row);
}

/* As the scores take them: x for dot, K x for luong, x W1 for bahdanau. */
static void project(const attn_backward_operands *operands, size_t first, size_t count) {
    const attn_layer_call *call = operands->call;
    const size_t features = call->sizes.query_features, width = operands->width;
    const void *x = row_of(operands, operands->rows.x, first, features);
    void *q = row_of(operands, operands->rows.query, first, width);
    if (call->sizes.score == ATTN_SCORE_LUONG) {
        operands->kernels->gemm_nt(count, width, features, x, (ptrdiff_t)features, call->luong_w, (ptrdiff_t)features,
                                   q, (ptrdiff_t)width);
    } else if (call->sizes.score == ATTN_SCORE_BAHDANAU && q) {
        operands->kernels->gemm(count, width, features, x, (ptrdiff_t)features, call->bahdanau_w1, (ptrdiff_t)width, q,
                                (ptrdiff_t)width, 0, 0);
    }
}

void attn_backward_begin(const attn_backward_operands *operands, size_t first, size_t count) {
    for (size_t row = first; row < first + count; row++) gather(operands, row);
    output_gradients(operands, first, count);
    for (size_t row = first; row < first + count; row++) context_gradient(operands, row);
    project(operands, first, count);
}

/* ---- Rows of H ----------------------------------------------------------------------------------- */

/* The rows of a chunk as the queries from `query` on see them. */
static attn_rows rows_of_chunk(const attn_backward_operands *operands, size_t item, size_t chunk, size_t query) {
    const attn_layer_call *call = operands->call;
    const attn_fused_range range = attn_fused_range_of(call, item);
    const size_t offset = chunk * operands->chunk_rows, step = range.start + offset;
    attn_rows rows = {.h = place(operands, call->h, call->h_batch, item, call->h_time, step),
                      .h_time = call->h_time,
                      .rows = least(operands->chunk_rows, range.length - offset),
                      .features = call->sizes.features,
                      .mask_query = call->mask_query,
                      .mask_time = call->mask_time};
    if (call->mask)
        rows.mask = call->mask + (ptrdiff_t)item * call->mask_batch + (ptrdiff_t)query * call->mask_query +
                    (ptrdiff_t)step * call->mask_time;
    return rows;
}

static size_t chunks_of(const attn_backward_operands *operands, size_t item) {
    return divide_up(attn_fused_range_of(operands->call, item).length, operands->chunk_rows);
}

/* Queries from `query` on, as many as a block has. */
static attn_backward_queries queries_of(const attn_backward_operands *operands, size_t item, size_t chunk,
                                        size_t query) {
    const attn_layer_call *call = operands->call;
    const attn_kept *kept = &operands->kept;
    const attn_backward_rows *rows = &operands->rows;
    const size_t row = (item - operands->first_item) * call->sizes.queries + query, width = operands->width,
                 joint = joint_width(&call->sizes);
    const row_place at = place_of(operands, row);
    const size_t step = attn_fused_range_of(call, item).start + chunk * operands->chunk_rows;
    attn_backward_queries queries = {
        .queries = least(ATTN_QUERY_BLOCK, call->sizes.queries - query),
        .query = row_of(operands, rows->query, row, width),
        .grad_context = row_of(operands, rows->grad_joint, row, joint),
        .maximum = row_of(operands, kept->maximum, at.kept, 1),
        .sum = row_of(operands, kept->sum, at.kept, 1),
        .delta = rows->delta + row,
        .residual = row_of(operands, rows->residual, chunk * operands->rows_at_once + row, 1),
        .grad_query = row_of(operands, rows->grad_query, chunk * operands->rows_at_once + row, width),
        .query_stride = (ptrdiff_t)width,
        .grad_context_stride = (ptrdiff_t)joint,
        .grad_weights_row = call->grad.weights_row,
        .grad_query_stride = (ptrdiff_t)width};
    const void *given =
        place(operands, call->grad.attention_weights, call->grad.weights_batch, item, call->grad.weights_row, query);
    if (given) queries.grad_weights = (const char *)given + step * operands->element;
    return queries;
}

static attn_additive_backward additive_of(const attn_backward_operands *operands, size_t item, size_t chunk,
                                          void *grad_w2, void *grad_v) {
    const attn_layer_call *call = operands->call;
    const size_t width = call->sizes.score_width,
                 step = attn_fused_range_of(call, item).start + chunk * operands->chunk_rows;
    return (attn_additive_backward){
        .score_width = width,
        .tanh = row_of(operands, operands->kept.tanh, item * call->sizes.timesteps + step, width),
        .tanh_time = (ptrdiff_t)width,
        .v = call->bahdanau_v,
        .w2 = call->bahdanau_w2,
        .w2_transposed = operands->w2_transposed,
        .grad_w2 = grad_w2,
        .grad_v = grad_v,
        .w2_transposed_row = (ptrdiff_t)padded(call->sizes.features, operands->element),
        .grad_w2_row = (ptrdiff_t)padded(width, operands->element)};
}

/* to += from, which is empty then. */
static void add_moments(double *to, double *from) {
    for (size_t i = 0; i < 2 * ATTN_QUERY_BLOCK; i++) {
        to[i] += from[i];
        from[i] = 0;
    }
}

void attn_backward_delta(const attn_backward_operands *operands, size_t item, void *scratch) {
    const attn_layer_call *call = operands->call;
    for (size_t query = 0; query < call->sizes.queries; query += ATTN_QUERY_BLOCK) {
        const size_t row = (item - operands->first_item) * call->sizes.queries + query;
        double sums[ATTN_TREE_LEVELS][2 * ATTN_QUERY_BLOCK] = {{0}};
        const size_t levels = attn_tree_levels(chunks_of(operands, item));
        for (size_t chunk = 0; chunk < chunks_of(operands, item); chunk++) {
            double moments[2 * ATTN_QUERY_BLOCK] = {0};
            const attn_rows rows = rows_of_chunk(operands, item, chunk, query);
            const attn_backward_queries queries = queries_of(operands, item, chunk, query);
            if (call->sizes.score == ATTN_SCORE_BAHDANAU) {
                const attn_additive_backward additive = additive_of(operands, item, chunk, NULL, NULL);
                operands->kernels->additive_moments(&rows, &queries, &additive, moments, scratch);
            } else {
                operands->kernels->dot_moments(&rows, &queries, moments, scratch);
            }
            add_moments(sums[0], moments);
            for (size_t level = 0; level + 1 < levels && attn_tree_carries(chunk, level); level++)
                add_moments(sums[level + 1], sums[level]);
        }
        for (size_t level = 0; level + 1 < levels; level++) add_moments(sums[level + 1], sums[level]);
        const double *moments = sums[levels - 1];
        for (size_t i = 0; i < least(ATTN_QUERY_BLOCK, call->sizes.queries - query); i++)
            operands->kernels->mean_less(moments + 2 * i, lse_gradient(operands, row + i),
                                         operands->rows.delta + row + i);
    }
}

/* Rows [first, end) of an item's grad_h get nothing from the scores. */
static void clear_rows(const attn_backward_operands *operands, size_t item, size_t first, size_t end) {
    const attn_layer_call_gradients *grad = &operands->call->grad;
    if (!grad->h || grad->add_h) return;
    for (size_t step = first; step < end; step++)
        memset(place_mutable(operands, grad->h, grad->h_batch, item, grad->h_time, step), 0,
               operands->call->sizes.features * operands->element);
}

void attn_backward_chunk(const attn_backward_operands *operands, size_t item, size_t chunk, void *grad_w2, void *grad_v,
                         void *scratch) {
    const attn_layer_call *call = operands->call;
    const attn_layer_call_gradients *grad = &call->grad;
    const attn_fused_range range = attn_fused_range_of(call, item);
    if (chunk == 0) {
        clear_rows(operands, item, 0, range.start);
        clear_rows(operands, item, range.start + range.length, call->sizes.timesteps);
    }
    if (chunk * operands->chunk_rows >= range.length) return;
    const size_t step = range.start + chunk * operands->chunk_rows;
    const attn_additive_backward additive = additive_of(operands, item, chunk, grad_w2, grad_v);
    void *grad_h = place_mutable(operands, grad->h, grad->h_batch, item, grad->h_time, step);
    for (size_t query = 0; query < call->sizes.queries; query += ATTN_QUERY_BLOCK) {
        const attn_rows rows = rows_of_chunk(operands, item, chunk, query);
        const attn_backward_queries queries = queries_of(operands, item, chunk, query);
        if (call->mask && query == 0) clear_rows(operands, item, step, step + rows.rows);
        const bool add = grad->add_h || call->mask || query > 0;
        memset(queries.grad_query, 0, queries.queries * operands->width * operands->element);
        if (queries.residual) memset(queries.residual, 0, queries.queries * operands->element);
        if (call->sizes.score == ATTN_SCORE_BAHDANAU) {
            operands->kernels->additive_backward(&rows, &queries, &additive, grad_h, grad->h_time, add, scratch);
        } else {
            operands->kernels->dot_backward(&rows, &queries, grad_h, grad->h_time, add, scratch);
        }
    }
}

/* ---- After the rows of H ------------------------------------------------------------------------- */

typedef struct row_chunks {
    const attn_backward_operands *operands;
    char *all;
    size_t row, width;
} row_chunks;

static void add_chunk(const void *argument, size_t to, size_t from) {
    const row_chunks *r = argument;
    const size_t step = r->operands->rows_at_once;
    r->operands->kernels->add_to(row_of(r->operands, r->all, from * step + r->row, r->width),
                                 row_of(r->operands, r->all, to * step + r->row, r->width), r->width);
}

/* A row's gq, or what its gradients of scores add up to, of all chunks. */
static void sum_chunks(const attn_backward_operands *operands, char *all, size_t row, size_t width) {
    const size_t chunks = chunks_of(operands, place_of(operands, row).item);
    if (chunks == 0) memset(row_of(operands, all, row, width), 0, width * operands->element);
    attn_tree_add_up(chunks, add_chunk, &(row_chunks){operands, all, row, width});
}

/* gq without what the error of delta gave to it: the sum of ge is that of the log-sum-exp's gradient, and an error of d in
 * delta adds d c to gq. */
static void mend_query_gradient(const attn_backward_operands *operands, size_t row) {
    const row_place at = place_of(operands, row);
    sum_chunks(operands, operands->rows.residual, row, 1);
    operands->kernels->take_times(row_of(operands, operands->rows.residual, row, 1), lse_gradient(operands, row),
                                  row_of(operands, operands->kept.context, at.kept, operands->kept.context_row),
                                  row_of(operands, operands->rows.grad_query, row, operands->width), operands->width);
}

/* What the scores give to gx: gq for dot, K^T gq for luong, W1 gu for bahdanau. */
static void query_gradients(const attn_backward_operands *operands, size_t first, size_t count) {
    const attn_layer_call *call = operands->call;
    const size_t features = call->sizes.query_features, width = operands->width;
    const void *from = row_of(operands, operands->rows.grad_query, first, width);
    void *to = row_of(operands, operands->rows.grad_x, first, features);
    if (call->sizes.score == ATTN_SCORE_DOT) {
        memcpy(to, from, count * features * operands->element);
    } else if (call->sizes.score == ATTN_SCORE_LUONG) {
        operands->kernels->gemm(count, features, width, from, (ptrdiff_t)width, call->luong_w, (ptrdiff_t)features, to,
                                (ptrdiff_t)features, 0, 0);
    } else {
        operands->kernels->gemm_nt(count, features, width, from, (ptrdiff_t)width, call->bahdanau_w1, (ptrdiff_t)width,
                                   to, (ptrdiff_t)features);
    }
}

/* Where gx of a row goes: its gradient of the query, or h_t's row; NULL: nowhere. */
static void *query_place(const attn_backward_operands *operands, size_t row) {
    const attn_layer_call_gradients *grad = &operands->call->grad;
    const row_place at = place_of(operands, row);
    if (operands->call->sizes.given_query)
        return place_mutable(operands, grad->query, grad->query_batch, at.item, grad->query_row, at.query);
    const attn_fused_range range = attn_fused_range_of(operands->call, at.item);
    if (range.length == 0) return NULL;
    return place_mutable(operands, grad->h, grad->h_batch, at.item, grad->h_time, range.start + range.length - 1);
}

void attn_backward_end(const attn_backward_operands *operands, size_t first, size_t count) {
    const attn_layer_call *call = operands->call;
    const size_t features = call->sizes.query_features, joint = joint_width(&call->sizes);
    const bool write = call->sizes.given_query && !call->grad.add_query;
    for (size_t row = first; row < first + count; row++) {
        sum_chunks(operands, operands->rows.grad_query, row, operands->width);
        if (operands->rows.residual) mend_query_gradient(operands, row);
    }
    if (!(call->sizes.given_query ? call->grad.query : call->grad.h)) return;
    query_gradients(operands, first, count);
    for (size_t row = first; row < first + count; row++) {
        char *from = row_of(operands, operands->rows.grad_joint, row, joint);
        void *gx = row_of(operands, operands->rows.grad_x, row, features), *to = query_place(operands, row);
        if (!to) continue;
        operands->kernels->add_to(from + call->sizes.features * operands->element, gx, features);
        if (write) {
            memcpy(to, gx, features * operands->element);
        } else {
            operands->kernels->add_to(gx, to, features);
        }
    }
}

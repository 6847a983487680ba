/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda/call.h"

#include "cuda/additive.h"
#include "cuda/attend.h"
#include "cuda/device.h"
#include "cuda/launch.h"
#include "cuda/mma.h"
#include "cuda/product.h"

const attn_multiplied attn_by_plain_code = attn_multiplied::by_plain_code,
                      attn_by_tensor_cores = attn_multiplied::by_tensor_cores;

attn_multiplied attn_call_multiplied(const attn_implementation *implementation) {
    return *static_cast<const attn_multiplied *>(implementation->data);
}

const char *attn_call_refuse_multiplied(const attn_implementation *implementation, const attn_device *device) {
    return implementation->data == &attn_by_tensor_cores && device->capability < ATTN_MMA_ARCHITECTURE
               ? "needs tensor cores for 32-bit numbers (architecture 80 or later)"
               : nullptr;
}

attn_items attn_call_items(const attn_layer_call *call) {
    attn_items items;
    items.starts = call->starts, items.lengths = call->lengths, items.mask = call->mask;
    items.mask_batch = call->mask_batch, items.mask_query = call->mask_query, items.mask_time = call->mask_time;
    items.timesteps = call->sizes.timesteps, items.queries = call->sizes.queries;
    return items;
}

attn_rows attn_call_queries(const attn_layer_call *call) {
    attn_rows rows;
    rows.last_step = !call->sizes.given_query;
    rows.base = rows.last_step ? call->h : call->query;
    rows.stored = rows.last_step ? call->sizes.h_dtype : ATTN_FLOAT32;
    rows.batch = rows.last_step ? call->h_batch : call->query_batch;
    rows.row = rows.last_step ? call->h_time : call->query_row;
    return rows;
}

attn_rows attn_dense_rows(const float *base, const attn_layer_problem *sizes, std::size_t width) {
    attn_rows rows;
    rows.last_step = false;
    rows.base = base, rows.stored = ATTN_FLOAT32;
    rows.row = static_cast<std::ptrdiff_t>(width);
    rows.batch = static_cast<std::ptrdiff_t>(sizes->queries * width);
    return rows;
}

attn_joined attn_dense_joined(const float *base, std::size_t width) {
    attn_joined rows = {};
    rows.first = base, rows.first_width = width;
    return rows;
}

float *attn_carve_floats(attn_carver *carver, std::size_t count, std::size_t width) {
    return static_cast<float *>(attn_carve(carver, count, width * sizeof(float)));
}

std::size_t attn_call_chunks(const attn_layer_problem *planned, std::size_t timesteps) {
    const std::size_t steps = attn_attend_steps(planned->timesteps);
    return (timesteps + steps - 1) / steps;
}

std::size_t attn_call_additive_chunks(const attn_layer_problem *planned, std::size_t timesteps) {
    const std::size_t steps = attn_additive_steps(planned->timesteps);
    return (timesteps + steps - 1) / steps;
}

bool attn_call_too_large(const attn_layer_problem *p) {
    const std::size_t count = p->batch * p->queries, chunks = attn_call_chunks(p, p->timesteps);
    const std::size_t columns = p->units > p->features ? p->units : p->features;
    return count > attn_largest_grid || (chunks > 0 && count > attn_largest_grid / chunks) ||
           attn_product_blocks(count, columns) > attn_largest_grid ||
           attn_attend_too_large(count, p->timesteps, p->units) ||
           attn_product_blocks(count, p->query_features) > attn_largest_grid ||
           attn_product_blocks(count, p->score_width) > attn_largest_grid ||
           p->batch * attn_call_additive_chunks(p, p->timesteps) > attn_largest_grid;
}

/* A weight matrix times each query, into dense rows. */
static cudaError_t multiply_queries(const attn_layer_call *call, const void *weights, bool transposed,
                                    std::size_t columns, float *result, cudaStream_t stream) {
    const attn_rows to = attn_dense_rows(result, &call->sizes, columns);
    attn_product product = {};
    product.items = attn_call_items(call);
    product.rows.second = attn_call_queries(call), product.rows.second_width = call->sizes.query_features;
    product.weights = static_cast<const float *>(weights), product.transposed = transposed;
    product.count = call->sizes.batch * call->sizes.queries, product.columns = columns;
    product.result = result, product.result_batch = to.batch, product.result_row = to.row;
    return attn_product_launch(product, stream);
}

cudaError_t attn_fold_queries(const attn_layer_call *call, float *folded, cudaStream_t stream) {
    return multiply_queries(call, call->luong_w, true, call->sizes.features, folded, stream);
}

cudaError_t attn_project_queries(const attn_layer_call *call, float *projected, cudaStream_t stream) {
    return multiply_queries(call, call->bahdanau_w1, false, call->sizes.score_width, projected, stream);
}

attn_additive attn_call_additive(const attn_layer_call *call, const float *projected) {
    attn_additive additive;
    additive.items = attn_call_items(call);
    additive.h = call->h, additive.stored = call->sizes.h_dtype, additive.h_batch = call->h_batch;
    additive.h_time = call->h_time;
    additive.features = call->sizes.features, additive.width = call->sizes.score_width;
    additive.batch = call->sizes.batch;
    additive.w2 = static_cast<const float *>(call->bahdanau_w2);
    additive.v = static_cast<const float *>(call->bahdanau_v);
    additive.projected = projected;
    return additive;
}

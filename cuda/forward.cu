/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda/forward.h"

#include "cuda/attend.h"
#include "cuda/device.h"
#include "cuda/launch.h"
#include "cuda/product.h"
#include "lib/carve.h"

#include <unistd.h>

namespace {

/* Pieces of the workspace. */
struct pieces {
    float *folded;                                 /* (B, Tq, D): K . query, luong */
    float *part_maximum, *part_sum, *part_context; /* see attn_attend */
    float *context;                                /* (B, Tq, D), for the output */
};

float *carve_floats(attn_carver *carver, size_t count, size_t width) {
    return static_cast<float *>(attn_carve(carver, count, width * sizeof(float)));
}

size_t chunks_of(const attn_layer_problem *planned, size_t timesteps) {
    const size_t steps = attn_attend_steps(planned->timesteps);
    return (timesteps + steps - 1) / steps;
}

/* Hands out the workspace of a run of these sizes, or with NULL counts it. */
size_t carve(const attn_layer_problem *planned, const attn_layer_problem *sizes, void *memory, pieces *p) {
    attn_carver carver = {static_cast<char *>(memory), 0, false};
    const size_t count = sizes->batch * sizes->queries, features = sizes->features;
    const size_t parts = count * chunks_of(planned, sizes->timesteps);
    p->folded = sizes->score == ATTN_SCORE_LUONG ? carve_floats(&carver, count, features) : nullptr;
    p->part_maximum = carve_floats(&carver, parts, 1);
    p->part_sum = carve_floats(&carver, parts, 1);
    p->part_context = carve_floats(&carver, parts, features);
    p->context = sizes->units > 0 ? carve_floats(&carver, count, features) : nullptr;
    return attn_carved_size(&carver);
}

size_t workspace_size(const attn_implementation *, const attn_device *, const attn_layer_problem *planned) {
    pieces unused;
    return carve(planned, planned, nullptr, &unused);
}

const char *refuse(const attn_implementation *, const attn_device *, const attn_layer_problem *p, bool *hard) {
    *hard = true;
    if (p->training) return "does not fill kept";
    if (p->features > ATTN_ATTEND_WIDEST) return "needs features of at most 1024";
    const size_t count = p->batch * p->queries, chunks = chunks_of(p, p->timesteps);
    if (count > attn_largest_grid || (chunks > 0 && count > attn_largest_grid / chunks) ||
        attn_product_blocks(count, p->features) > attn_largest_grid ||
        attn_product_blocks(count, p->units) > attn_largest_grid)
        return "needs more blocks than a grid has";
    return nullptr;
}

attn_items items_of(const attn_layer_call *call) {
    attn_items items;
    items.starts = call->starts, items.lengths = call->lengths, items.mask = call->mask;
    items.mask_batch = call->mask_batch, items.mask_query = call->mask_query, items.mask_time = call->mask_time;
    items.timesteps = call->sizes.timesteps, items.queries = call->sizes.queries;
    return items;
}

attn_rows queries_of(const attn_layer_call *call) {
    attn_rows rows;
    rows.last_step = !call->sizes.given_query;
    rows.base = static_cast<const float *>(rows.last_step ? call->h : call->query);
    rows.batch = rows.last_step ? call->h_batch : call->query_batch;
    rows.row = rows.last_step ? call->h_time : call->query_row;
    return rows;
}

/* A dense matrix of one row a query. */
attn_rows dense_rows(const float *base, const attn_layer_problem *sizes) {
    attn_rows rows;
    rows.last_step = false;
    rows.base = base;
    rows.row = static_cast<std::ptrdiff_t>(sizes->features);
    rows.batch = static_cast<std::ptrdiff_t>(sizes->queries * sizes->features);
    return rows;
}

cudaError_t fold_queries(const attn_layer_call *call, const pieces *p, cudaStream_t stream) {
    const attn_rows folded = dense_rows(p->folded, &call->sizes);
    attn_product product = {};
    product.items = items_of(call);
    product.second = queries_of(call);
    product.second_width = call->sizes.query_features;
    product.weights = static_cast<const float *>(call->luong_w);
    product.transposed = true;
    product.count = call->sizes.batch * call->sizes.queries;
    product.columns = call->sizes.features;
    product.result = p->folded, product.result_batch = folded.batch, product.result_row = folded.row;
    return attn_product_launch(product, stream);
}

cudaError_t attend(const attn_layer_problem *planned, const attn_layer_call *call, const pieces *p,
                   cudaStream_t stream) {
    attn_attend a = {};
    a.items = items_of(call);
    a.h = static_cast<const float *>(call->h), a.h_batch = call->h_batch, a.h_time = call->h_time;
    a.features = call->sizes.features;
    a.count = call->sizes.batch * call->sizes.queries;
    a.queries = p->folded ? dense_rows(p->folded, &call->sizes) : queries_of(call);
    a.steps = attn_attend_steps(planned->timesteps), a.chunks = chunks_of(planned, call->sizes.timesteps);
    a.part_maximum = p->part_maximum, a.part_sum = p->part_sum, a.part_context = p->part_context;
    a.context_rows = call->output ? p->context : nullptr;
    a.context = static_cast<float *>(call->context);
    a.context_batch = call->context_batch, a.context_row = call->context_row;
    a.weights = static_cast<float *>(call->attention_weights);
    a.weights_batch = call->weights_batch, a.weights_row = call->weights_row;
    a.lse = static_cast<float *>(call->lse), a.lse_batch = call->lse_batch;
    return attn_attend_launch(a, stream);
}

cudaError_t write_output(const attn_layer_call *call, const pieces *p, cudaStream_t stream) {
    attn_product product = {};
    product.items = items_of(call);
    product.first = p->context, product.first_width = call->sizes.features;
    product.second = queries_of(call), product.second_width = call->sizes.query_features;
    product.weights = static_cast<const float *>(call->w_c);
    product.tanh = true;
    product.count = call->sizes.batch * call->sizes.queries;
    product.columns = call->sizes.units;
    product.result = static_cast<float *>(call->output);
    product.result_batch = call->output_batch, product.result_row = call->output_row;
    return attn_product_launch(product, stream);
}

attn_status run(const attn_implementation *, attn_device *device, const attn_layer_problem *planned,
                const attn_layer_call *call) {
    if (device->process != getpid()) return ATTN_ERROR_FORKED;
    const attn_status pending = attn_cuda_pending();
    if (pending) return pending;
    pieces p;
    carve(planned, &call->sizes, call->workspace, &p);
    attn_current_device current(device->options.ordinal);
    cudaError_t error = current.error;
    if (!error && p.folded) error = fold_queries(call, &p, device->stream());
    if (!error) error = attend(planned, call, &p, device->stream());
    if (!error && call->output) error = write_output(call, &p, device->stream());
    return attn_cuda_take(error);
}

constexpr attn_implementation implementation(const char *name, attn_score score) {
    attn_implementation made = {};
    made.name = name, made.operation = ATTN_OPERATION_LAYER_FORWARD;
    made.score = score, made.dtype = ATTN_FLOAT32, made.batch_invariant = true;
    made.refuse = refuse, made.workspace_size = workspace_size, made.run = run;
    return made;
}

} // namespace

const attn_implementation attn_cuda_forward_implementations[] = {
    implementation("cuda:simt:luong:forward:f32", ATTN_SCORE_LUONG),
    implementation("cuda:simt:dot:forward:f32", ATTN_SCORE_DOT),
};
const size_t attn_cuda_forward_implementations_count =
    sizeof attn_cuda_forward_implementations / sizeof *attn_cuda_forward_implementations;

/* SPDX-License-Identifier: Apache-2.0 */
/* The masked softmax, forward and backward: a row is read three times and two, and written once, each element by the thread that read it. */
#include "cuda/softmax.h"

#include "cuda/device.h"
#include "cuda/long_sum.h"
#include "cuda/row_team.h"
#include "cuda/storage.h"
#include "cuda/view.h"

#include <cmath>

namespace {

struct parameters {
    attn_view view;
    std::size_t heads, rows;
    float scale;
    const void *scores; /* forward */
    void *weights;
    float *lse;
    const void *given_weights, *grad_weights; /* backward */
    const float *grad_lse;
    void *grad_scores;
    attn_strides scores_strides, weights_strides, lse_strides, grad_weights_strides, grad_lse_strides,
        grad_scores_strides;
};

/* A row by its item, head and query. */
struct place {
    std::size_t item, head, query;

    __device__ place(const parameters &p, std::size_t row)
        : item(row / p.view.queries / p.heads), head(row / p.view.queries % p.heads), query(row % p.view.queries) {}

    template <typename Element> __device__ Element *in(Element *data, const attn_strides &strides) const {
        return data + attn_place(strides, item, head, query);
    }

    /* Of a tensor with one number a row, the rows behind each other. */
    template <typename Number> __device__ Number *number(Number *data, const attn_strides &strides) const {
        return data + attn_place(strides, item, head, 0) + query;
    }
};

template <typename Element, unsigned WARPS> __global__ void softmax_kernel(const __grid_constant__ parameters p) {
    typedef attn_row_team<WARPS> team;
    if (team::row() >= p.rows) return;
    const place at(p, team::row());
    const attn_sight sight = attn_see(p.view, at.item, at.head, at.query);
    const Element *const scores = at.in(static_cast<const Element *>(p.scores), p.scores_strides);
    float highest = -INFINITY;
    for (std::size_t key = team::lane(); key < p.view.keys; key += team::LANES)
        if (sight.shows(key)) highest = fmaxf(highest, p.scale * attn_widen(scores[key]));
    highest = team::maximum(highest);
    const float base = highest == -INFINITY ? 0.0f : highest; /* where nothing but -inf and NaN is seen */
    attn_long_sum<> exponentials;
    for (std::size_t key = team::lane(); key < p.view.keys; key += team::LANES)
        if (sight.shows(key)) exponentials.add(expf(p.scale * attn_widen(scores[key]) - base));
    const float sum = team::sum(exponentials.total());
    if (p.lse && team::lane() == 0) *at.number(p.lse, p.lse_strides) = sum == 0.0f ? -INFINITY : base + logf(sum);
    if (!p.weights) return;
    Element *const weights = at.in(static_cast<Element *>(p.weights), p.weights_strides);
    for (std::size_t key = team::lane(); key < p.view.keys; key += team::LANES) {
        const bool attended = sum != 0.0f && sight.shows(key);
        weights[key] =
            attn_narrow<Element>::from(attended ? expf(p.scale * attn_widen(scores[key]) - base) / sum : 0.0f);
    }
}

template <typename Element, unsigned WARPS> __global__ void softmax_back_kernel(const __grid_constant__ parameters p) {
    typedef attn_row_team<WARPS> team;
    if (team::row() >= p.rows) return;
    const place at(p, team::row());
    const Element *const weights = at.in(static_cast<const Element *>(p.given_weights), p.weights_strides);
    const Element *const grad = at.in(static_cast<const Element *>(p.grad_weights), p.grad_weights_strides);
    Element *const to = at.in(static_cast<Element *>(p.grad_scores), p.grad_scores_strides);
    attn_long_sum<> products;
    for (std::size_t key = team::lane(); key < p.view.keys; key += team::LANES) {
        const float weight = attn_widen(weights[key]);
        if (weight != 0.0f) products.add(weight * attn_widen(grad[key]));
    }
    const float mean = team::sum(products.total());
    const float more = p.grad_lse ? *at.number(p.grad_lse, p.grad_lse_strides) : 0.0f;
    for (std::size_t key = team::lane(); key < p.view.keys; key += team::LANES) {
        const float weight = attn_widen(weights[key]);
        const float gradient = weight == 0.0f ? 0.0f : p.scale * weight * (attn_widen(grad[key]) - mean + more);
        to[key] = attn_narrow<Element>::from(gradient);
    }
}

parameters from_call(const attn_softmax_call *call) {
    const attn_softmax_problem &s = call->sizes;
    parameters p = {};
    p.view.lengths = call->key_lengths, p.view.mask = call->mask, p.view.mask_strides = call->mask_strides;
    p.view.causal = s.causal, p.view.offset = call->query_offset;
    p.view.window_left = p.view.window_right = -1;
    p.view.queries = s.queries, p.view.keys = s.keys;
    p.heads = s.heads, p.rows = s.batch * s.heads * s.queries;
    p.scale = static_cast<float>(s.scale);
    p.scores = call->scores, p.weights = call->weights, p.lse = static_cast<float *>(call->lse);
    p.given_weights = call->given_weights, p.grad_weights = call->grad_weights;
    p.grad_lse = static_cast<const float *>(call->grad_lse), p.grad_scores = call->grad_scores;
    p.scores_strides = call->scores_strides, p.weights_strides = call->weights_strides;
    p.lse_strides = call->lse_strides, p.grad_weights_strides = call->grad_weights_strides;
    p.grad_lse_strides = call->grad_lse_strides, p.grad_scores_strides = call->grad_scores_strides;
    return p;
}

template <typename Element> cudaError_t launch(const parameters &p, cudaStream_t stream) {
    return p.grad_scores ? ATTN_LAUNCH_ROWS(softmax_back_kernel, Element, p.rows, p.view.keys, stream, p)
                         : ATTN_LAUNCH_ROWS(softmax_kernel, Element, p.rows, p.view.keys, stream, p);
}

const char *refuse(const attn_implementation *, const attn_device *, const attn_softmax_problem *p, bool *hard) {
    *hard = true;
    return p->batch * p->heads * p->queries > attn_largest_grid ? "needs more blocks than a grid has" : nullptr;
}

std::size_t workspace_size(const attn_implementation *, const attn_device *, const attn_softmax_problem *) { return 0; }

attn_status run(const attn_implementation *implementation, attn_device *device, const attn_softmax_call *call) {
    const attn_status refused = attn_cuda_ready(device);
    if (refused) return refused;
    const attn_current_device current(device->options.ordinal);
    const parameters p = from_call(call);
    cudaError_t error = current.error;
    if (!error && implementation->dtype == ATTN_FLOAT16) error = launch<attn_half>(p, device->stream());
    if (!error && implementation->dtype == ATTN_BFLOAT16) error = launch<attn_bfloat>(p, device->stream());
    if (!error && implementation->dtype == ATTN_FLOAT32) error = launch<float>(p, device->stream());
    return attn_cuda_take(error);
}

const attn_softmax_functions functions = {refuse, workspace_size, run};

constexpr attn_implementation implementation(const char *name, attn_operation operation, attn_dtype dtype) {
    attn_implementation made = {};
    made.name = name, made.operation = operation, made.dtype = dtype;
    made.batch_invariant = true, made.softmax = &functions;
    return made;
}

} // namespace

const attn_implementation attn_cuda_softmax_implementations[] = {
    implementation("cuda:simt:softmax:forward:f32", ATTN_OPERATION_SOFTMAX_FORWARD, ATTN_FLOAT32),
    implementation("cuda:simt:softmax:forward:bf16", ATTN_OPERATION_SOFTMAX_FORWARD, ATTN_BFLOAT16),
    implementation("cuda:simt:softmax:forward:f16", ATTN_OPERATION_SOFTMAX_FORWARD, ATTN_FLOAT16),
    implementation("cuda:simt:softmax:backward:f32", ATTN_OPERATION_SOFTMAX_BACKWARD, ATTN_FLOAT32),
    implementation("cuda:simt:softmax:backward:bf16", ATTN_OPERATION_SOFTMAX_BACKWARD, ATTN_BFLOAT16),
    implementation("cuda:simt:softmax:backward:f16", ATTN_OPERATION_SOFTMAX_BACKWARD, ATTN_FLOAT16),
};
const size_t attn_cuda_softmax_implementations_count =
    sizeof attn_cuda_softmax_implementations / sizeof *attn_cuda_softmax_implementations;

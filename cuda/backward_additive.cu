/* SPDX-License-Identifier: Apache-2.0 */
/* In order: the projected queries, and the scores where none are kept; a pass over H for what the scores' gradients have in common; the pass that makes H W2
 * again; the sums of the weights' gradients. */
#include "cuda/backward_additive.h"

#include "cuda/additive_back.h"
#include "cuda/attend.h"
#include "cuda/moments.h"
#include "cuda/query_back.h"

namespace {

std::size_t chunks_of_items(const attn_layer_problem *planned, const attn_layer_problem *sizes) {
    return sizes->batch * attn_call_additive_chunks(planned, sizes->timesteps);
}

attn_moments moments_of(const attn_backward_additive &run) {
    const attn_layer_call *const call = run.call;
    const attn_layer_call_gradients &grad = call->grad;
    attn_moments m = {};
    m.items = attn_call_items(call);
    m.h = call->h, m.stored = call->sizes.h_dtype, m.h_batch = call->h_batch, m.h_time = call->h_time;
    m.features = call->sizes.features, m.count = call->sizes.batch * call->sizes.queries;
    m.steps = attn_attend_steps(run.planned->timesteps);
    m.chunks = attn_call_chunks(run.planned, call->sizes.timesteps);
    m.scores = run.kept->scores ? run.kept->scores : run.pieces->scores;
    m.maximum = run.kept->maximum, m.sum = run.kept->sum, m.grad_context = run.grad_context;
    m.grad_weights = static_cast<const float *>(grad.attention_weights);
    m.weights_batch = grad.weights_batch, m.weights_row = grad.weights_row;
    m.grad_lse = static_cast<const float *>(grad.lse), m.lse_batch = grad.lse_batch;
    m.weights = run.pieces->weights, m.gradients = run.pieces->gradients;
    m.part_product = run.pieces->part_product, m.part_weight = run.pieces->part_weight, m.shift = run.shift;
    return m;
}

attn_additive_back back_of(const attn_backward_additive &run) {
    const attn_layer_call_gradients &grad = run.call->grad;
    attn_additive_back b = {};
    b.in = attn_call_additive(run.call, run.pieces->projected);
    b.steps = attn_additive_steps(run.planned->timesteps);
    b.chunks = attn_call_additive_chunks(run.planned, run.call->sizes.timesteps);
    b.weights = run.pieces->weights, b.gradients = run.pieces->gradients, b.shift = run.shift;
    b.grad_context = run.grad_context;
    b.grad_h = static_cast<float *>(grad.h);
    b.grad_h_batch = grad.h_batch, b.grad_h_time = grad.h_time, b.add_h = grad.add_h;
    b.part_query = run.part_projected, b.part_v = run.pieces->part_v;
    b.part_w2 = grad.bahdanau_w2 ? run.pieces->part_w2 : nullptr;
    return b;
}

attn_additive_scores scores_of(const attn_backward_additive &run, const attn_additive_back &back) {
    attn_additive_scores scores = {};
    scores.in = back.in, scores.steps = back.steps, scores.chunks = back.chunks;
    scores.scores = run.pieces->scores;
    return scores;
}

cudaError_t merge(const attn_backward_additive &run, const float *part, std::size_t parts, std::size_t width,
                  void *result, cudaStream_t stream) {
    attn_merge_parts m = {};
    m.part = part, m.count = 1, m.chunks = parts, m.width = width;
    m.sum = static_cast<float *>(result), m.add = run.call->grad.add_weights;
    return result ? attn_merge_parts_launch(m, stream) : cudaSuccess;
}

} // namespace

void attn_additive_carve(const attn_layer_problem *planned, const attn_layer_problem *sizes, attn_carver *carver,
                         attn_additive_pieces *p) {
    const std::size_t count = sizes->batch * sizes->queries, T = sizes->timesteps, A = sizes->score_width;
    const std::size_t parts = count * attn_call_chunks(planned, T), chunks = chunks_of_items(planned, sizes);
    p->projected = attn_carve_floats(carver, count, A);
    p->scores = sizes->recompute ? attn_carve_floats(carver, count, T) : nullptr;
    p->weights = attn_carve_floats(carver, count, T);
    p->gradients = attn_carve_floats(carver, count, T);
    p->part_product = attn_carve_floats(carver, parts, 1);
    p->part_weight = attn_carve_floats(carver, parts, 1);
    p->part_v = attn_carve_floats(carver, attn_additive_groups(chunks), A);
    p->part_w2 = attn_carve_floats(carver, attn_additive_w2_groups(chunks, sizes->features, A), sizes->features * A);
}

cudaError_t attn_backward_additive_run(const attn_backward_additive &run, cudaStream_t stream) {
    const attn_layer_problem &sizes = run.call->sizes;
    const std::size_t A = sizes.score_width, chunks = chunks_of_items(run.planned, &sizes);
    const attn_additive_back back = back_of(run);
    cudaError_t error = attn_project_queries(run.call, run.pieces->projected, stream);
    if (!error && run.pieces->scores) error = attn_additive_launch(run.by, scores_of(run, back), stream);
    if (!error) error = attn_moments_launch(moments_of(run), stream);
    if (!error) error = attn_additive_back_launch(run.by, back, stream);
    if (!error)
        error = merge(run, run.pieces->part_v, attn_additive_groups(chunks), A, run.call->grad.bahdanau_v, stream);
    return error ? error
                 : merge(run, run.pieces->part_w2, attn_additive_w2_groups(chunks, sizes.features, A),
                         sizes.features * A, run.call->grad.bahdanau_w2, stream);
}

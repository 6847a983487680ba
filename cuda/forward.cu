/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda/forward.h"

#include "cuda/additive.h"
#include "cuda/attend.h"
#include "cuda/call.h"
#include "cuda/device.h"
#include "cuda/kept.h"
#include "cuda/launch.h"
#include "cuda/product.h"

namespace {

/* Pieces of the workspace. */
struct pieces {
    float *folded;                                 /* (B, Tq, D): K . query, luong */
    float *part_maximum, *part_sum, *part_context; /* see attn_attend */
    float *maximum, *sum;                          /* (B, Tq): of the softmax */
    float *projected, *scores;                     /* bahdanau: (B, Tq, A), (B, Tq, T) */
};

bool is_additive(const attn_layer_problem *sizes) { return sizes->score == ATTN_SCORE_BAHDANAU; }

size_t chunks_of(const attn_layer_problem *planned, const attn_layer_problem *sizes) {
    return is_additive(sizes) ? attn_call_additive_chunks(planned, sizes->timesteps)
                              : attn_call_chunks(planned, sizes->timesteps);
}

/* Hands out the workspace of a run of these sizes, or with NULL counts it. */
size_t carve(const attn_layer_problem *planned, const attn_layer_problem *sizes, void *memory, pieces *p) {
    attn_carver carver = {static_cast<char *>(memory), 0, false};
    const size_t count = sizes->batch * sizes->queries, features = sizes->features;
    const size_t parts = count * chunks_of(planned, sizes);
    p->folded = sizes->score == ATTN_SCORE_LUONG ? attn_carve_floats(&carver, count, features) : nullptr;
    p->part_maximum = attn_carve_floats(&carver, parts, 1);
    p->part_sum = attn_carve_floats(&carver, parts, 1);
    p->part_context = attn_carve_floats(&carver, parts, features);
    p->maximum = attn_carve_floats(&carver, count, 1);
    p->sum = attn_carve_floats(&carver, count, 1);
    const bool additive = is_additive(sizes), kept = sizes->training && !sizes->recompute;
    p->projected = additive ? attn_carve_floats(&carver, count, sizes->score_width) : nullptr;
    p->scores = additive && !kept ? attn_carve_floats(&carver, count, sizes->timesteps) : nullptr;
    return attn_carved_size(&carver);
}

size_t workspace_size(const attn_implementation *, const attn_device *, const attn_layer_problem *planned) {
    pieces unused;
    return carve(planned, planned, nullptr, &unused);
}

const char *refuse(const attn_implementation *implementation, const attn_device *device, const attn_layer_problem *p,
                   bool *hard) {
    *hard = true;
    if (p->features > ATTN_ATTEND_WIDEST) return "needs features of at most 1024";
    if (attn_call_too_large(p)) return "needs more blocks than a grid has";
    return attn_call_refuse_multiplied(implementation, device);
}

attn_attend_output output_of(const attn_layer_call *call, const attn_cuda_kept *kept) {
    attn_attend_output output = {};
    output.queries = attn_call_queries(call), output.query_width = call->sizes.query_features;
    output.units = call->output || kept->output ? call->sizes.units : 0;
    output.weights = static_cast<const float *>(call->w_c);
    output.result = static_cast<float *>(call->output), output.copy = kept->output;
    output.batch = call->output_batch, output.row = call->output_row;
    return output;
}

attn_attend attend_of(const attn_layer_problem *planned, const attn_layer_call *call, const pieces *p,
                      const attn_cuda_kept *kept) {
    attn_attend a = {};
    a.items = attn_call_items(call);
    a.h = call->h, a.stored = call->sizes.h_dtype, a.h_batch = call->h_batch, a.h_time = call->h_time;
    a.features = call->sizes.features;
    a.count = call->sizes.batch * call->sizes.queries;
    a.queries = p->folded ? attn_dense_rows(p->folded, &call->sizes, a.features) : attn_call_queries(call);
    a.steps = attn_attend_steps(planned->timesteps), a.chunks = chunks_of(planned, &call->sizes);
    a.part_maximum = p->part_maximum, a.part_sum = p->part_sum, a.part_context = p->part_context;
    a.maximum = kept->maximum ? kept->maximum : p->maximum, a.sum = kept->sum ? kept->sum : p->sum;
    a.context_rows = kept->context;
    a.context = static_cast<float *>(call->context);
    a.context_batch = call->context_batch, a.context_row = call->context_row;
    a.weights = static_cast<float *>(call->attention_weights);
    a.weights_batch = call->weights_batch, a.weights_row = call->weights_row;
    a.lse = static_cast<float *>(call->lse), a.lse_batch = call->lse_batch;
    a.output = output_of(call, kept);
    return a;
}

attn_additive_scores scores_of(const attn_layer_problem *planned, const attn_layer_call *call, const pieces *p,
                               const attn_attend &attend) {
    attn_additive_scores s = {};
    s.in = attn_call_additive(call, p->projected);
    s.steps = attn_additive_steps(planned->timesteps), s.chunks = attend.chunks;
    s.scores = p->scores;
    s.part_maximum = p->part_maximum, s.part_sum = p->part_sum, s.part_context = p->part_context;
    s.weights = attend.weights, s.weights_batch = attend.weights_batch, s.weights_row = attend.weights_row;
    return s;
}

/* Luong, dot: the queries folded where there is a weight, a pass over H, its end. */
cudaError_t attend_products(const attn_layer_call *call, const pieces *p, const attn_attend &attend,
                            cudaStream_t stream) {
    cudaError_t error = p->folded ? attn_fold_queries(call, p->folded, stream) : cudaSuccess;
    if (!error) error = attn_attend_launch(attend, stream);
    return error ? error : attn_attend_finish(attend, stream);
}

/* Bahdanau: the queries projected, a pass over H, the same end. */
cudaError_t attend_sums(attn_multiplied by, const attn_layer_call *call, const pieces *p,
                        const attn_additive_scores &scores, const attn_attend &attend, cudaStream_t stream) {
    cudaError_t error = attn_project_queries(call, p->projected, stream);
    if (!error) error = attn_additive_launch(by, scores, stream);
    return error ? error : attn_attend_finish(attend, stream);
}

attn_status run(const attn_implementation *implementation, attn_device *device, const attn_layer_problem *planned,
                const attn_layer_call *call) {
    const attn_status refused = attn_cuda_ready(device);
    if (refused) return refused;
    pieces p;
    attn_cuda_kept kept = {};
    carve(planned, &call->sizes, call->workspace, &p);
    if (call->kept) attn_cuda_kept_carve(&call->sizes, call->kept, &kept);
    if (kept.scores) p.scores = kept.scores;
    attn_current_device current(device->options.ordinal);
    cudaError_t error = current.error;
    const attn_attend attend = attend_of(planned, call, &p, &kept);
    if (!error && !is_additive(&call->sizes)) error = attend_products(call, &p, attend, device->stream());
    if (!error && is_additive(&call->sizes))
        error = attend_sums(attn_call_multiplied(implementation), call, &p, scores_of(planned, call, &p, attend),
                            attend, device->stream());
    return attn_cuda_take(error);
}

constexpr attn_implementation implementation(const char *name, attn_score score, const attn_multiplied *by) {
    attn_implementation made = {};
    made.name = name, made.operation = ATTN_OPERATION_LAYER_FORWARD;
    made.score = score, made.dtype = ATTN_FLOAT32, made.batch_invariant = made.short_h = true, made.data = by;
    made.refuse = refuse, made.workspace_size = workspace_size, made.run = run;
    return made;
}

} // namespace

const attn_implementation attn_cuda_forward_implementations[] = {
    implementation("cuda:simt:luong:forward:f32", ATTN_SCORE_LUONG, nullptr),
    implementation("cuda:simt:dot:forward:f32", ATTN_SCORE_DOT, nullptr),
    implementation("cuda:mma:bahdanau:forward:f32", ATTN_SCORE_BAHDANAU, &attn_by_tensor_cores),
    implementation("cuda:simt:bahdanau:forward:f32", ATTN_SCORE_BAHDANAU, &attn_by_plain_code),
};
const size_t attn_cuda_forward_implementations_count =
    sizeof attn_cuda_forward_implementations / sizeof *attn_cuda_forward_implementations;

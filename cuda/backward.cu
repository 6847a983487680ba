/* SPDX-License-Identifier: Apache-2.0 */
/* In order: the queries folded; through the output to the context and the query; the mean that the scores' gradients have in common, for which given
 * gradients of the weights take a pass over H of their own; the pass over H; what it gives the queries, through the fold; the weights. The additive score
 * has a file of its own for what is between the output and the queries. */
#include "cuda/backward.h"

#include "cuda/attend.h"
#include "cuda/attend_back.h"
#include "cuda/backward_additive.h"
#include "cuda/call.h"
#include "cuda/device.h"
#include "cuda/gram.h"
#include "cuda/kept.h"
#include "cuda/product.h"
#include "cuda/query_back.h"

namespace {

/* Pieces of the workspace. */
struct pieces {
    float *folded;                /* (B, Tq, D): K . query, luong */
    float *z;                     /* (B, Tq, U): gradient of [context ; query] . w_c */
    float *context, *query;       /* (B, Tq, D), (B, Tq, Dq): gradients */
    float *shift;                 /* (B, Tq) */
    float *part_mean, *part_fold; /* see attn_attend_back */
    float *fold;                  /* (B, Tq, D or A): gradient of the folded or projected query */
    float *part_weights;          /* see attn_gram: one matrix after the other */
    attn_additive_pieces additive;
};

bool is_additive(const attn_layer_problem *sizes) { return sizes->score == ATTN_SCORE_BAHDANAU; }

/* Of what the scores are computed from: their products with H, or their sums with H W2. */
size_t width_of_fold(const attn_layer_problem *sizes) {
    return is_additive(sizes) ? sizes->score_width : sizes->features;
}

size_t chunks_of_fold(const attn_layer_problem *planned, const attn_layer_problem *sizes) {
    return is_additive(sizes) ? attn_call_additive_chunks(planned, sizes->timesteps)
                              : attn_call_chunks(planned, sizes->timesteps);
}

/* Floats that the gradient of a matrix takes in shares; those of the largest of all. */
size_t parts_of_matrix(size_t count, size_t rows, size_t columns) {
    const size_t shares = attn_gram_shares(count, rows, columns);
    return shares > 1 ? shares * rows * columns : 0;
}

size_t parts_of_weights(const attn_layer_problem *s) {
    const size_t count = s->batch * s->queries, fold = s->score == ATTN_SCORE_DOT ? 0 : width_of_fold(s);
    const size_t of_w_c = parts_of_matrix(count, s->features + s->query_features, s->units);
    const size_t of_fold = parts_of_matrix(count, s->query_features, fold);
    return of_w_c > of_fold ? of_w_c : of_fold;
}

size_t carve(const attn_layer_problem *planned, const attn_layer_problem *sizes, void *memory, pieces *p) {
    attn_carver carver = {static_cast<char *>(memory), 0, false};
    const size_t count = sizes->batch * sizes->queries, features = sizes->features;
    const size_t parts = count * chunks_of_fold(planned, sizes);
    p->folded = sizes->score == ATTN_SCORE_LUONG ? attn_carve_floats(&carver, count, features) : nullptr;
    p->z = attn_carve_floats(&carver, count, sizes->units);
    p->context = attn_carve_floats(&carver, count, features);
    p->query = attn_carve_floats(&carver, count, sizes->query_features);
    p->shift = attn_carve_floats(&carver, count, 1);
    p->part_mean = attn_carve_floats(&carver, parts, 1);
    p->part_fold = attn_carve_floats(&carver, parts, width_of_fold(sizes));
    p->fold = attn_carve_floats(&carver, count, width_of_fold(sizes));
    p->part_weights = attn_carve_floats(&carver, parts_of_weights(sizes), 1);
    if (is_additive(sizes)) attn_additive_carve(planned, sizes, &carver, &p->additive);
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

/* One backward run: what its steps share. */
struct backward {
    const attn_implementation *implementation;
    const attn_layer_problem *planned;
    const attn_layer_call *call;
    cudaStream_t stream;
    pieces p;
    attn_cuda_kept kept;
    attn_items items;
    size_t count; /* queries of all items */

    const attn_layer_problem &sizes() const { return call->sizes; }
    const attn_layer_call_gradients &grad() const { return call->grad; }

    /* rows . weights, into dense rows. */
    cudaError_t multiply(const attn_joined &rows, const void *weights, bool transposed, size_t columns, float *result,
                         bool add) const {
        const attn_rows to = attn_dense_rows(result, &call->sizes, columns);
        attn_product product = {};
        product.items = items, product.rows = rows;
        product.weights = static_cast<const float *>(weights), product.transposed = transposed;
        product.count = count, product.columns = columns;
        product.result = result, product.add = add;
        product.result_batch = to.batch, product.result_row = to.row;
        return attn_product_launch(product, stream);
    }

    cudaError_t through_output() const {
        attn_through_tanh through = {};
        through.output = kept.output, through.given = static_cast<const float *>(grad().output);
        through.given_batch = grad().output_batch, through.given_row = grad().output_row;
        through.count = count, through.queries = sizes().queries, through.units = sizes().units;
        through.z = p.z;
        cudaError_t error = attn_through_tanh_launch(through, stream);
        if (error || !grad().output) return error;
        const attn_joined z = attn_dense_joined(p.z, sizes().units);
        const float *const w_c = static_cast<const float *>(call->w_c);
        error = multiply(z, w_c, true, sizes().features, p.context, false);
        return error
                   ? error
                   : multiply(z, w_c + sizes().features * sizes().units, true, sizes().query_features, p.query, false);
    }

    cudaError_t find_shift() const {
        attn_shift s = {};
        s.context = kept.context;
        s.given = static_cast<const float *>(grad().context);
        s.given_batch = grad().context_batch, s.given_row = grad().context_row;
        s.grad_lse = static_cast<const float *>(grad().lse), s.lse_batch = grad().lse_batch;
        s.part_mean = grad().attention_weights && !is_additive(&sizes()) ? p.part_mean : nullptr;
        s.count = count, s.queries = sizes().queries, s.features = sizes().features;
        s.query_features = sizes().query_features, s.chunks = attn_call_chunks(planned, sizes().timesteps);
        s.through_output = grad().output != nullptr;
        s.grad_context = p.context, s.grad_query = p.query, s.shift = p.shift;
        return attn_shift_launch(s, stream);
    }

    attn_attend_back over_h() const {
        attn_attend_back b = {};
        b.items = items;
        b.h = call->h, b.stored = sizes().h_dtype, b.h_batch = call->h_batch, b.h_time = call->h_time;
        b.features = sizes().features, b.batch = sizes().batch;
        b.queries = p.folded ? attn_dense_rows(p.folded, &call->sizes, b.features) : attn_call_queries(call);
        b.steps = attn_attend_steps(planned->timesteps), b.chunks = attn_call_chunks(planned, sizes().timesteps);
        b.maximum = kept.maximum, b.sum = kept.sum, b.shift = p.shift, b.grad_context = p.context;
        b.grad_weights = static_cast<const float *>(grad().attention_weights);
        b.weights_batch = grad().weights_batch, b.weights_row = grad().weights_row;
        b.grad_h = static_cast<float *>(grad().h);
        b.grad_h_batch = grad().h_batch, b.grad_h_time = grad().h_time, b.add_h = grad().add_h;
        b.part_query = p.part_fold, b.part_mean = p.part_mean;
        return b;
    }

    cudaError_t pass_over_h() const {
        if (!is_additive(&sizes())) return attn_attend_back_launch(over_h(), stream);
        return attn_backward_additive_run(
            {attn_call_multiplied(implementation), planned, call, &p.additive, &kept, p.context, p.shift, p.part_fold},
            stream);
    }

    cudaError_t clear_outside() const {
        if (!grad().h || grad().add_h) return cudaSuccess;
        attn_clear clear = {};
        clear.items = items, clear.rows = static_cast<float *>(grad().h);
        clear.batch = grad().h_batch, clear.row = grad().h_time;
        clear.count = sizes().batch, clear.width = sizes().features;
        return attn_clear_launch(clear, stream);
    }

    cudaError_t merge_folds() const {
        attn_merge_parts merge = {};
        merge.part = p.part_fold, merge.sum = p.fold;
        merge.count = count, merge.chunks = chunks_of_fold(planned, &sizes());
        merge.width = width_of_fold(&sizes());
        return attn_merge_parts_launch(merge, stream);
    }

    cudaError_t hand_back() const {
        attn_hand_back h = {};
        const void *const fold_weights = p.folded ? call->luong_w : call->bahdanau_w1;
        h.items = items, h.gradient = p.query, h.more = fold_weights ? nullptr : p.fold;
        h.count = count, h.width = sizes().query_features;
        h.to.last_step = !sizes().given_query;
        h.to.base = h.to.last_step ? grad().h : grad().query;
        h.to.batch = h.to.last_step ? grad().h_batch : grad().query_batch;
        h.to.row = h.to.last_step ? grad().h_time : grad().query_row;
        h.add = h.to.last_step || grad().add_query;
        if (!h.to.base) return cudaSuccess;
        cudaError_t error = cudaSuccess;
        if (fold_weights)
            error = multiply(attn_dense_joined(p.fold, width_of_fold(&sizes())), fold_weights, !p.folded, h.width,
                             p.query, true);
        return error ? error : attn_hand_back_launch(h, stream);
    }

    cudaError_t weight_gradient(const attn_joined &left, const attn_joined &right, void *result) const {
        if (!result) return cudaSuccess;
        attn_gram gram = {};
        gram.items = items, gram.left = left, gram.right = right, gram.count = count;
        gram.result = static_cast<float *>(result), gram.add = grad().add_weights;
        gram.part = p.part_weights;
        return attn_gram_launch(gram, stream);
    }

    cudaError_t weights() const {
        attn_joined queries = {}, both = attn_dense_joined(kept.context, sizes().features);
        queries.second = both.second = attn_call_queries(call);
        queries.second_width = both.second_width = sizes().query_features;
        const attn_joined fold = attn_dense_joined(p.fold, width_of_fold(&sizes()));
        cudaError_t error = weight_gradient(both, attn_dense_joined(p.z, sizes().units), grad().w_c);
        if (!error) error = weight_gradient(fold, queries, grad().luong_w);
        return error ? error : weight_gradient(queries, fold, grad().bahdanau_w1);
    }

    cudaError_t run() const {
        cudaError_t error = p.folded ? attn_fold_queries(call, p.folded, stream) : cudaSuccess;
        const bool means = grad().attention_weights && !is_additive(&sizes());
        if (!error) error = through_output();
        if (!error && means) error = attn_attend_back_means(over_h(), stream);
        if (!error) error = find_shift();
        if (!error) error = clear_outside();
        if (!error) error = pass_over_h();
        if (!error) error = merge_folds();
        if (!error) error = hand_back();
        return error ? error : weights();
    }
};

attn_status run(const attn_implementation *implementation, attn_device *device, const attn_layer_problem *planned,
                const attn_layer_call *call) {
    const attn_status refused = attn_cuda_ready(device);
    if (refused) return refused;
    backward b = {};
    b.implementation = implementation, b.planned = planned, b.call = call, b.stream = device->stream();
    b.items = attn_call_items(call), b.count = call->sizes.batch * call->sizes.queries;
    carve(planned, &call->sizes, call->workspace, &b.p);
    attn_cuda_kept_carve(&call->sizes, call->kept, &b.kept);
    const attn_current_device current(device->options.ordinal);
    return attn_cuda_take(current.error ? current.error : b.run());
}

/* A dense matrix of zeros. */
cudaError_t clear_matrix(void *matrix, size_t rows, size_t width, cudaStream_t stream) {
    attn_clear clear = {};
    clear.items.timesteps = rows, clear.rows = static_cast<float *>(matrix);
    clear.row = static_cast<std::ptrdiff_t>(width);
    clear.count = 1, clear.width = width, clear.all = true;
    return matrix ? attn_clear_launch(clear, stream) : cudaSuccess;
}

cudaError_t clear_rows_of_h(const attn_layer_call *call, cudaStream_t stream) {
    attn_clear clear = {};
    clear.items.timesteps = call->sizes.timesteps, clear.rows = static_cast<float *>(call->grad.h);
    clear.batch = call->grad.h_batch, clear.row = call->grad.h_time;
    clear.count = call->sizes.batch, clear.width = call->sizes.features, clear.all = true;
    return call->grad.h && !call->grad.add_h ? attn_clear_launch(clear, stream) : cudaSuccess;
}

constexpr attn_implementation implementation(const char *name, attn_score score, const attn_multiplied *by) {
    attn_implementation made = {};
    made.name = name, made.operation = ATTN_OPERATION_LAYER_BACKWARD;
    made.score = score, made.dtype = ATTN_FLOAT32, made.batch_invariant = made.short_h = true, made.data = by;
    made.refuse = refuse, made.workspace_size = workspace_size, made.run = run;
    return made;
}

} // namespace

attn_status attn_cuda_clear_gradients(attn_device *device, const attn_layer_call *call) {
    const attn_status refused = attn_cuda_ready(device);
    if (refused) return refused;
    const attn_layer_problem &s = call->sizes;
    const attn_layer_call_gradients &grad = call->grad;
    const struct {
        void *matrix;
        size_t rows, width;
    } weights[] = {{grad.luong_w, s.features, s.query_features},
                   {grad.bahdanau_w1, s.query_features, s.score_width},
                   {grad.bahdanau_w2, s.features, s.score_width},
                   {grad.bahdanau_v, 1, s.score_width},
                   {grad.w_c, s.features + s.query_features, s.units}};
    const attn_current_device current(device->options.ordinal);
    cudaError_t error = current.error;
    if (!error) error = clear_rows_of_h(call, device->stream());
    for (const auto &w : weights)
        if (!error && !grad.add_weights) error = clear_matrix(w.matrix, w.rows, w.width, device->stream());
    return attn_cuda_take(error);
}

const attn_implementation attn_cuda_backward_implementations[] = {
    implementation("cuda:simt:luong:backward:f32", ATTN_SCORE_LUONG, nullptr),
    implementation("cuda:simt:dot:backward:f32", ATTN_SCORE_DOT, nullptr),
    implementation("cuda:mma:bahdanau:backward:f32", ATTN_SCORE_BAHDANAU, &attn_by_tensor_cores),
    implementation("cuda:simt:bahdanau:backward:f32", ATTN_SCORE_BAHDANAU, &attn_by_plain_code),
};
const size_t attn_cuda_backward_implementations_count =
    sizeof attn_cuda_backward_implementations / sizeof *attn_cuda_backward_implementations;

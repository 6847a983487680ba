/* SPDX-License-Identifier: Apache-2.0 */
/* In order: the queries collected and folded; through the output to the contexts and the queries; tile by tile over H: scores again, the gradients of the
 * weights, of the scores, and of the rows; what that gives the queries, through the fold; the weights.
 *
 * A tile has some items, of their queries some at a time, and some steps. Where it does not have all steps, what the scores' gradients have in common takes a
 * round over all tiles of its own, which makes the same numbers. */
#include "cuda/composition.h"
#include "cuda/composition_additive.h"
#include "cuda/device.h"
#include "cuda/kept.h"
#include "cuda/query_back.h"
#include "cuda/sdpa_tile.h"

namespace {

std::size_t least(std::size_t a, std::size_t b) { return a < b ? a : b; }
std::size_t most(std::size_t a, std::size_t b) { return a > b ? a : b; }

/* How a plan is cut: at most, of a tile. */
struct cut {
    std::size_t items, queries, steps, pitch;
};

cut cut_of(const attn_layer_problem &p) {
    cut c;
    const std::size_t width = most(p.features, p.score_width);
    c.steps = most(1, least(p.timesteps, least(ATTN_TILE_KEYS, most(ATTN_LEAST_PART, ATTN_TILE_SCORES / width))));
    c.pitch = (c.steps + ATTN_TILE_PITCH - 1) / ATTN_TILE_PITCH * ATTN_TILE_PITCH;
    c.queries = least(p.queries, least(ATTN_TILE_QUERIES, most(1, ATTN_TILE_SCORES / c.pitch)));
    c.items = most(1, least(ATTN_TILE_SCORES / c.pitch / c.queries, ATTN_TILE_SCORES / c.steps / width));
    c.items = least(p.batch, c.items);
    return c;
}

/* Pieces of the workspace, carved by what is planned. */
struct pieces {
    float *queries, *folded;   /* (B, Tq, Dq), (B, Tq, D or A) */
    float *z;                  /* (B, Tq, U): gradient of [context ; query] . w_c */
    float *context, *query;    /* (B, Tq, D), (B, Tq, Dq): gradients */
    float *fold;               /* (B, Tq, D or A): gradient of what is folded */
    float *product, *weight;   /* (B, Tq), see attn_weigh_back */
    float *v;                  /* additive: (B, Tq, A), each query's share */
    float *weights;            /* of a matrix of weights, before its gradient is added to what is there */
    float *scores, *gradients; /* of a tile: (items, queries, pitch) */
    float *clean, *rows;       /* of a tile: (items, steps, D), H and its gradient */
    float *sums, *dz;   /* additive, of a tile: (items, steps, A), H W2 and the gradient of the sums before the tanh */
    std::uint8_t *seen; /* (items, steps) */
    void *blas;
};

/* Elements of the largest matrix of weights. */
std::size_t largest_weights(const attn_layer_problem &p) {
    const std::size_t rows = most(p.features, p.query_features);
    return rows * most(p.units, p.score == ATTN_SCORE_BAHDANAU ? p.score_width : rows);
}

std::size_t carve(const attn_device *device, const attn_layer_problem &p, void *memory, pieces *to) {
    attn_carver carver = {static_cast<char *>(memory), 0, false};
    const cut c = cut_of(p);
    const std::size_t count = p.batch * p.queries, steps = c.items * c.steps, A = p.score_width;
    const bool additive = p.score == ATTN_SCORE_BAHDANAU;
    to->queries = attn_carve_floats(&carver, count, p.query_features);
    to->folded =
        p.score == ATTN_SCORE_DOT ? to->queries : attn_carve_floats(&carver, count, attn_composition_width(&p));
    to->z = attn_carve_floats(&carver, count, p.units);
    to->context = attn_carve_floats(&carver, count, p.features);
    to->query = attn_carve_floats(&carver, count, p.query_features);
    to->fold = attn_carve_floats(&carver, count, attn_composition_width(&p));
    to->product = attn_carve_floats(&carver, count, 1);
    to->weight = attn_carve_floats(&carver, count, 1);
    to->v = additive ? attn_carve_floats(&carver, count, A) : nullptr;
    to->weights = attn_carve_floats(&carver, 1, largest_weights(p));
    to->scores = attn_carve_floats(&carver, c.items * c.queries, c.pitch);
    to->gradients = attn_carve_floats(&carver, c.items * c.queries, c.pitch);
    to->clean = attn_carve_floats(&carver, steps, p.features);
    to->rows = attn_carve_floats(&carver, steps, p.features);
    to->sums = additive ? attn_carve_floats(&carver, steps, A) : nullptr;
    to->dz = additive ? attn_carve_floats(&carver, steps, A) : nullptr;
    to->seen = static_cast<std::uint8_t *>(attn_carve(&carver, steps, 1));
    to->blas = attn_carve(&carver, 1, attn_cublas_workspace_size(device));
    return attn_carved_size(&carver);
}

std::size_t workspace_size(const attn_implementation *, const attn_device *device, const attn_layer_problem *planned) {
    pieces unused;
    return carve(device, *planned, nullptr, &unused);
}

const char *refuse(const attn_implementation *, const attn_device *device, const attn_layer_problem *, bool *hard) {
    *hard = true;
    return attn_cublas_refusal(device);
}

/* Float32 rows that are multiplied: an item each so far apart. */
struct row_matrices {
    const float *first;
    std::ptrdiff_t item, row;
};

row_matrices dense(const float *first, std::size_t rows, std::size_t width) {
    return {first, static_cast<std::ptrdiff_t>(rows * width), static_cast<std::ptrdiff_t>(width)};
}

/* What a round over the tiles is for. */
struct tile_round {
    bool moments, rest;
};

struct backward {
    const attn_composition c;
    const cut limits;
    pieces p;
    attn_cuda_kept kept;

    const attn_layer_problem &sizes() const { return c.sizes(); }
    const attn_layer_call_gradients &grad() const { return c.call->grad; }
    std::size_t width() const { return attn_composition_width(&c.call->sizes); } /* of what is folded */
    bool hides() const { return c.call->starts || c.call->lengths || c.call->mask; }
    bool cleans() const { return c.additive() || hides(); }

    /* ---- A tile ----------------------------------------------------------------------------------------- */

    /* The tile's rows of a dense matrix that has one a query. */
    row_matrices queries_of(const attn_layer_tile &t, const float *all, std::size_t row) const {
        const row_matrices every = dense(all, sizes().queries, row);
        return {all + t.query_of(0) * row, every.item, every.row};
    }

    row_matrices scores_of(const attn_layer_tile &t, const float *scores) const {
        return dense(scores, t.queries, t.pitch);
    }

    row_matrices states_of(const attn_layer_tile &t) const {
        const attn_layer_call *const call = c.call;
        if (cleans()) return dense(p.clean, t.steps, sizes().features);
        return {static_cast<const float *>(call->h) + static_cast<std::ptrdiff_t>(t.item) * call->h_batch +
                    static_cast<std::ptrdiff_t>(t.step) * call->h_time,
                call->h_batch, call->h_time};
    }

    /* C = or += op(A) op(B) for each of the tile's items. */
    attn_status multiply(const attn_layer_tile &t, attn_gemm g, const row_matrices &a, const row_matrices &b,
                         const row_matrices &to, bool add, std::size_t length) const {
        g.beta = add ? 1.0f : 0.0f;
        g.a = a.first, g.b = b.first, g.c = const_cast<float *>(to.first);
        g.a_row = a.row, g.b_row = b.row, g.c_row = to.row;
        g.batches[0] = {t.count, a.item, b.item, to.item};
        return c.blas->multiply_in_parts(g, length);
    }

    /* rows H', of the tile's queries. */
    attn_status multiply_states(const attn_layer_tile &t, const float *rows, float *to) const {
        attn_gemm g = attn_matrix_product(t.queries, t.steps, sizes().features);
        g.transpose_b = true;
        return multiply(t, g, queries_of(t, rows, sizes().features), states_of(t), scores_of(t, to), false, g.depth);
    }

    /* Numbers of queries and steps, transposed, by the queries' rows. */
    attn_status multiply_queries(const attn_layer_tile &t, const float *by, const float *rows, bool add) const {
        attn_gemm g = attn_matrix_product(t.steps, sizes().features, t.queries);
        g.transpose_a = true;
        return multiply(t, g, scores_of(t, by), queries_of(t, rows, sizes().features),
                        dense(p.rows, t.steps, sizes().features), add, sizes().queries);
    }

    attn_additive_in additive_in(const attn_layer_tile &t) const {
        return {t, p.sums, p.folded, static_cast<const float *>(c.call->bahdanau_v), sizes().score_width};
    }

    /* The tile's rows of H, and their product with W2. */
    attn_status enter(const attn_layer_tile &t) const {
        const attn_layer_call *const call = c.call;
        attn_status status = ATTN_OK;
        if (cleans())
            status = attn_cuda_take(attn_gather_launch({t, static_cast<const float *>(call->h), call->h_batch,
                                                        call->h_time, sizes().features, p.clean, p.seen},
                                                       c.stream));
        if (status || !c.additive()) return status;
        const std::size_t A = sizes().score_width;
        const attn_gemm g = attn_matrix_product(t.steps, A, sizes().features);
        const row_matrices w2 = {static_cast<const float *>(call->bahdanau_w2), 0, static_cast<std::ptrdiff_t>(A)};
        return multiply(t, g, states_of(t), w2, dense(p.sums, t.steps, A), false, g.depth);
    }

    attn_status find_scores(const attn_layer_tile &t) const {
        if (!c.additive()) return multiply_states(t, p.folded, p.scores);
        const std::ptrdiff_t row = static_cast<std::ptrdiff_t>(sizes().timesteps);
        const attn_tile_scores scores = {
            additive_in(t), p.scores, {kept.scores, static_cast<std::ptrdiff_t>(sizes().queries) * row, row}};
        return attn_cuda_take((kept.scores ? attn_tile_scores_load : attn_tile_scores_launch)(scores, c.stream));
    }

    attn_weigh_back weigh_back(const attn_layer_tile &t) const {
        attn_weigh_back b = {};
        b.tile = t, b.scores = p.scores, b.gradients = p.gradients;
        b.maximum = kept.maximum, b.sum = kept.sum, b.product = p.product, b.weight = p.weight;
        b.given = static_cast<const float *>(grad().attention_weights);
        b.given_batch = grad().weights_batch, b.given_row = grad().weights_row;
        b.grad_lse = static_cast<const float *>(grad().lse), b.lse_batch = grad().lse_batch;
        return b;
    }

    /* From the scores' gradients to those of what they were made from, and of the rows as keys. */
    attn_status through_scores(const attn_layer_tile &t) const {
        if (c.additive()) {
            const attn_tile_back back = {additive_in(t), p.gradients, t.query > 0, p.dz, p.fold, p.v};
            const attn_status status = attn_cuda_take(attn_tile_back_steps(back, c.stream));
            return status ? status : attn_cuda_take(attn_tile_back_queries(back, c.stream));
        }
        const attn_gemm g = attn_matrix_product(t.queries, sizes().features, t.steps);
        attn_status status = multiply(t, g, scores_of(t, p.gradients), states_of(t),
                                      queries_of(t, p.fold, sizes().features), true, sizes().timesteps);
        if (!status && grad().h) status = multiply_queries(t, p.gradients, p.folded, true);
        return status;
    }

    /* Some queries. */
    attn_status take_queries(const attn_layer_tile &t, tile_round what) const {
        attn_status status = find_scores(t);
        if (!status) status = multiply_states(t, p.context, p.gradients);
        if (!status && what.moments) status = attn_cuda_take(attn_weigh_moments_launch(weigh_back(t), c.stream));
        if (status || !what.rest) return status;
        status = attn_cuda_take(attn_weigh_back_launch(weigh_back(t), c.stream));
        if (!status && grad().h) status = multiply_queries(t, p.scores, p.context, t.query > 0);
        return status ? status : through_scores(t);
    }

    /* The additive score's rows, through W2, and W2's own gradient. */
    attn_status through_w2(const attn_layer_tile &t) const {
        const std::size_t D = sizes().features, A = sizes().score_width, rows = t.count * t.steps;
        attn_status status = ATTN_OK;
        if (grad().h) {
            attn_gemm g = attn_matrix_product(t.steps, D, A);
            g.transpose_b = true;
            const row_matrices w2 = {static_cast<const float *>(c.call->bahdanau_w2), 0,
                                     static_cast<std::ptrdiff_t>(A)};
            status = multiply(t, g, dense(p.dz, t.steps, A), w2, dense(p.rows, t.steps, D), true, g.depth);
        }
        if (status || !grad().bahdanau_w2) return status;
        return multiply_rows({p.clean, D}, {p.dz, A}, rows, grad().add_weights ? p.weights : grad().bahdanau_w2, true);
    }

    attn_status leave(const attn_layer_tile &t) const {
        const attn_status status = c.additive() ? through_w2(t) : ATTN_OK;
        if (status || !grad().h) return status;
        return attn_cuda_take(
            attn_put_launch({t, p.rows, hides() ? p.seen : nullptr, sizes().features, static_cast<float *>(grad().h),
                             grad().h_batch, grad().h_time, grad().add_h},
                            c.stream));
    }

    /* ---- All tiles ---------------------------------------------------------------------------------------- */

    attn_status take_steps(attn_layer_tile t, tile_round what) const {
        attn_status status = enter(t);
        for (t.query = 0; t.query < sizes().queries && !status; t.query += limits.queries) {
            t.queries = least(limits.queries, sizes().queries - t.query);
            status = take_queries(t, what);
        }
        return status || !what.rest ? status : leave(t);
    }

    attn_status go_round(tile_round what) const {
        attn_layer_tile t = {};
        t.items = attn_call_items(c.call), t.pitch = limits.pitch;
        attn_status status = ATTN_OK;
        for (t.item = 0; t.item < sizes().batch; t.item += limits.items)
            for (t.step = 0; t.step < sizes().timesteps && !status; t.step += limits.steps) {
                t.count = least(limits.items, sizes().batch - t.item);
                t.steps = least(limits.steps, sizes().timesteps - t.step);
                status = take_steps(t, what);
            }
        return status;
    }

    attn_status over_h() const {
        if (sizes().timesteps <= limits.steps) return go_round({true, true});
        const attn_status status = go_round({true, false});
        return status ? status : go_round({false, true});
    }

    /* ---- The pass --------------------------------------------------------------------------------------- */

    /* to = or += left' right. */
    attn_status multiply_rows(const attn_matrix &left, const attn_matrix &right, std::size_t rows, void *to,
                              bool add) const {
        attn_gemm g = attn_matrix_product(left.width, right.width, rows);
        g.transpose_a = true, g.beta = add ? 1.0f : 0.0f;
        g.a = left.data, g.b = right.data, g.c = to;
        g.a_row = static_cast<std::ptrdiff_t>(left.width);
        g.b_row = g.c_row = static_cast<std::ptrdiff_t>(right.width);
        return c.blas->multiply_in_parts(g, rows);
    }

    /* to += p.weights: a gradient that is small beside what is there is summed up before, for each sum with that would lose of it. */
    attn_status add_weights(std::size_t elements, void *to) const {
        return attn_cuda_take(
            attn_merge_parts_launch({p.weights, 1, 1, elements, static_cast<float *>(to), true}, c.stream));
    }

    attn_status find_weights(const attn_matrix &left, const attn_matrix &right, void *to) const {
        if (!to) return ATTN_OK;
        if (!grad().add_weights) return multiply_rows(left, right, c.count(), to, false);
        const attn_status status = multiply_rows(left, right, c.count(), p.weights, false);
        return status ? status : add_weights(left.width * right.width, to);
    }

    /* What the tiles add to. */
    attn_status clear() const {
        const attn_layer_problem &s = sizes();
        const struct {
            void *sums;
            std::size_t rows, row;
        } all[] = {
            {p.product, c.count(), 1},
            {p.weight, c.count(), 1},
            {p.fold, c.count(), width()},
            {p.v, c.count(), s.score_width},
            {p.query, c.count(), s.query_features},
            {grad().bahdanau_w2 && grad().add_weights ? p.weights : grad().bahdanau_w2, s.features, s.score_width}};
        attn_status status = ATTN_OK;
        for (const auto &one : all)
            if (one.sums && !status)
                status = attn_cuda_take(cudaMemsetAsync(one.sums, 0, one.rows * one.row * sizeof(float), c.stream));
        return status;
    }

    /* The gradients of the contexts, whole, and what the output gives the queries. */
    attn_status through_output() const {
        const attn_layer_problem &s = sizes();
        const attn_rows given = {grad().context, grad().context_batch, grad().context_row, false, ATTN_FLOAT32};
        attn_through_tanh through = {};
        through.output = kept.output, through.given = static_cast<const float *>(grad().output);
        through.given_batch = grad().output_batch, through.given_row = grad().output_row;
        through.count = c.count(), through.queries = s.queries, through.units = s.units;
        through.z = p.z;
        attn_status status = c.collect(given, s.features, p.context);
        if (!status) status = attn_cuda_take(attn_through_tanh_launch(through, c.stream));
        if (status || !grad().output) return status;
        const float *const w_c = static_cast<const float *>(c.call->w_c);
        status = c.multiply({p.z, s.units}, w_c, true, s.features, p.context, true);
        return status ? status
                      : c.multiply({p.z, s.units}, w_c + s.features * s.units, true, s.query_features, p.query, true);
    }

    attn_status hand_back() const {
        const attn_matrix fold = {p.fold, width()};
        attn_hand_back h = {};
        h.items = attn_call_items(c.call), h.gradient = p.query;
        h.more = sizes().score == ATTN_SCORE_DOT ? p.fold : nullptr;
        h.count = c.count(), h.width = sizes().query_features;
        h.to = attn_call_queries(c.call);
        h.to.base = h.to.last_step ? grad().h : grad().query;
        h.to.batch = h.to.last_step ? grad().h_batch : grad().query_batch;
        h.to.row = h.to.last_step ? grad().h_time : grad().query_row;
        h.add = h.to.last_step || grad().add_query;
        if (!h.to.base) return ATTN_OK;
        attn_status status = ATTN_OK;
        if (c.additive())
            status = c.multiply(fold, c.call->bahdanau_w1, true, h.width, p.query, true);
        else if (!h.more)
            status = c.multiply(fold, c.call->luong_w, false, h.width, p.query, true);
        return status ? status : attn_cuda_take(attn_hand_back_launch(h, c.stream));
    }

    attn_status weights() const {
        const attn_layer_problem &s = sizes();
        const attn_matrix queries = {p.queries, s.query_features}, fold = {p.fold, width()}, z = {p.z, s.units};
        float *const w_c = static_cast<float *>(grad().w_c), *const v = static_cast<float *>(grad().bahdanau_v);
        const struct {
            attn_matrix left, right;
            void *to;
        } all[] = {{fold, queries, grad().luong_w},
                   {queries, fold, grad().bahdanau_w1},
                   {{kept.context, s.features}, z, w_c},
                   {queries, z, w_c ? w_c + s.features * s.units : nullptr}};
        attn_status status = ATTN_OK;
        if (grad().bahdanau_w2 && grad().add_weights)
            status = add_weights(s.features * s.score_width, grad().bahdanau_w2);
        for (const auto &one : all)
            if (!status) status = find_weights(one.left, one.right, one.to);
        if (status || !v) return status;
        return attn_cuda_take(
            attn_merge_parts_launch({p.v, 1, c.count(), s.score_width, v, grad().add_weights}, c.stream));
    }

    attn_status run() const {
        attn_status status = clear();
        if (!status) status = c.collect(attn_call_queries(c.call), sizes().query_features, p.queries);
        if (!status) status = c.fold(p.queries, p.folded);
        if (!status) status = through_output();
        if (!status) status = over_h();
        if (!status) status = hand_back();
        return status ? status : weights();
    }
};

attn_status run(const attn_implementation *, attn_device *device, const attn_layer_problem *planned,
                const attn_layer_call *call) {
    const attn_status refused = attn_cuda_ready(device);
    if (refused) return refused;
    const attn_current_device current(device->options.ordinal);
    if (current.error != cudaSuccess) return attn_cuda_take(current.error);
    pieces p;
    attn_cuda_kept kept;
    carve(device, *planned, call->workspace, &p);
    attn_cuda_kept_carve(&call->sizes, call->kept, &kept);
    attn_cublas_run blas(device, p.blas);
    if (blas.status) return blas.status;
    const backward pass = {{call, &blas, device->stream()}, cut_of(*planned), p, kept};
    return pass.run();
}

constexpr attn_implementation implementation(const char *name, attn_score score) {
    attn_implementation made = {};
    made.name = name, made.operation = ATTN_OPERATION_LAYER_BACKWARD;
    made.score = score, made.dtype = ATTN_FLOAT32;
    made.refuse = refuse, made.workspace_size = workspace_size, made.run = run;
    return made;
}

} // namespace

const attn_implementation attn_cuda_composition_backward_implementations[] = {
    implementation("cuda:cublas:luong:backward:f32", ATTN_SCORE_LUONG),
    implementation("cuda:cublas:dot:backward:f32", ATTN_SCORE_DOT),
    implementation("cuda:cublas:bahdanau:backward:f32", ATTN_SCORE_BAHDANAU),
};
const size_t attn_cuda_composition_backward_implementations_count =
    sizeof attn_cuda_composition_backward_implementations / sizeof *attn_cuda_composition_backward_implementations;

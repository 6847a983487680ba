/* SPDX-License-Identifier: Apache-2.0 */
/* In order: the queries collected and folded; attention of one head, whose keys and values are H, as sdpa.cu has it, for the additive score with scores of
 * its own; the context to the caller; the output. */
#include "cuda/composition.h"
#include "cuda/composition_additive.h"
#include "cuda/device.h"
#include "cuda/kept.h"
#include "cuda/sdpa.h"

namespace {

std::size_t least(std::size_t a, std::size_t b) { return a < b ? a : b; }
std::size_t most(std::size_t a, std::size_t b) { return a > b ? a : b; }

/* Pieces of the workspace, carved by what is planned. */
struct pieces {
    float *queries, *folded; /* (B, Tq, Dq), (B, Tq, D or A) */
    float *context, *output; /* (B, Tq, D), (B, Tq, U) */
    float *product;          /* additive: H W2 of some rows */
    void *attention, *blas;
};

/* Rows of H whose product with W2 is there at a time. */
std::size_t rows_of_product(const attn_layer_problem &p) {
    return least(p.batch * p.timesteps, most(1, ATTN_TILE_SCORES / p.score_width));
}

attn_sdpa_problem attention_of(const attn_layer_problem &p) {
    attn_sdpa_problem s = {};
    s.dtype = ATTN_FLOAT32, s.causal = ATTN_CAUSAL_NONE;
    s.flags = ATTN_SDPA_KEY_LENGTHS | ATTN_SDPA_MASK;
    s.batch = p.batch, s.query_heads = s.key_heads = 1;
    s.queries = p.queries, s.keys = p.timesteps;
    s.head_dim = s.value_dim = p.features;
    s.scale = 1.0, s.window_left = s.window_right = -1;
    return s;
}

std::size_t carve(const attn_device *device, const attn_layer_problem &p, void *memory, pieces *to) {
    attn_carver carver = {static_cast<char *>(memory), 0, false};
    const std::size_t count = p.batch * p.queries;
    const attn_sdpa_problem attention = attention_of(p);
    const bool folds = p.score != ATTN_SCORE_DOT, additive = p.score == ATTN_SCORE_BAHDANAU;
    to->queries = attn_carve_floats(&carver, count, p.query_features);
    to->folded = folds ? attn_carve_floats(&carver, count, attn_composition_width(&p)) : to->queries;
    to->context = p.units > 0 ? attn_carve_floats(&carver, count, p.features) : nullptr;
    to->output = p.units > 0 ? attn_carve_floats(&carver, count, p.units) : nullptr;
    to->product = additive ? attn_carve_floats(&carver, rows_of_product(p), p.score_width) : nullptr;
    to->attention = attn_carve(&carver, 1, attn_compose_size(&attention));
    to->blas = attn_carve(&carver, 1, attn_cublas_workspace_size(device));
    return attn_carved_size(&carver);
}

std::size_t workspace_size(const attn_implementation *, const attn_device *device, const attn_layer_problem *planned) {
    pieces unused;
    return carve(device, *planned, nullptr, &unused);
}

const char *refuse(const attn_implementation *, const attn_device *device, const attn_layer_problem *p, bool *hard) {
    *hard = true;
    const attn_sdpa_problem attention = attention_of(*p);
    const char *const reason = attn_compose_refusal(&attention);
    return reason ? reason : attn_cublas_refusal(device);
}

/* ---- Additive scores ---------------------------------------------------------------------------------- */

struct scorer {
    const attn_composition *composition;
    const pieces *p;
    std::size_t rows; /* of H that are multiplied at a time */
    attn_saved_scores saved;
};

attn_tile_scores scores_of(const scorer &s, const attn_sdpa_tile &t) {
    const attn_layer_call *const call = s.composition->call;
    attn_tile_scores scores = {};
    attn_layer_tile &tile = scores.in.tile;
    tile.items = attn_call_items(call);
    tile.item = t.item, tile.query = t.query, tile.step = t.key;
    tile.count = t.items, tile.queries = t.queries, tile.steps = t.keys, tile.pitch = t.pitch;
    scores.in.product = s.p->product, scores.in.projected = s.p->folded;
    scores.in.v = static_cast<const float *>(call->bahdanau_v), scores.in.width = call->sizes.score_width;
    scores.scores = t.scores, scores.saved = s.saved;
    return scores;
}

/* H W2 of a part of the tile, and its scores. */
attn_status score_part(const scorer &s, const attn_tile_scores &part, attn_cublas_run *blas) {
    const attn_layer_call *const call = s.composition->call;
    const attn_layer_tile &tile = part.in.tile;
    const std::ptrdiff_t width = static_cast<std::ptrdiff_t>(part.in.width);
    attn_gemm g = attn_matrix_product(tile.steps, part.in.width, call->sizes.features);
    g.a = static_cast<const float *>(call->h) + static_cast<std::ptrdiff_t>(tile.item) * call->h_batch +
          static_cast<std::ptrdiff_t>(tile.step) * call->h_time;
    g.b = call->bahdanau_w2, g.c = s.p->product;
    g.a_row = call->h_time, g.b_row = g.c_row = width;
    g.batches[0] = {tile.count, call->h_batch, 0, static_cast<std::ptrdiff_t>(tile.steps) * width};
    const attn_status status = blas->multiply_in_parts(g, g.depth);
    return status ? status : attn_cuda_take(attn_tile_scores_launch(part, s.composition->stream));
}

attn_status find_scores(const void *user, const attn_sdpa_tile &t, bool again, attn_cublas_run *blas) {
    const scorer &s = *static_cast<const scorer *>(user);
    const attn_tile_scores all = scores_of(s, t);
    if (again && s.saved.base) return attn_cuda_take(attn_tile_scores_load(all, s.composition->stream));
    const std::size_t steps = least(t.keys, s.rows), items = s.rows / steps;
    attn_status status = ATTN_OK;
    for (std::size_t item = 0; item < t.items; item += items)
        for (std::size_t step = 0; step < t.keys && !status; step += steps) {
            attn_tile_scores part = all;
            part.in.tile.item += item, part.in.tile.count = least(items, t.items - item);
            part.in.tile.step += step, part.in.tile.steps = least(steps, t.keys - step);
            part.scores += item * t.queries * t.pitch + step;
            status = score_part(s, part, blas);
        }
    return status;
}

/* ---- The pass ----------------------------------------------------------------------------------------- */

struct forward {
    const attn_composition c;
    const attn_layer_problem &planned;
    pieces p;
    attn_cuda_kept kept;

    bool has_output() const { return c.sizes().units > 0 && (c.call->output || kept.output); }

    /* Dense, where the output's product or the backward pass takes it. */
    float *context() const { return kept.context ? kept.context : has_output() ? p.context : nullptr; }

    /* Where each query's scores may stay until its weights are made: in training kept, else where the weights will be. */
    attn_saved_scores saved() const {
        const std::ptrdiff_t row = static_cast<std::ptrdiff_t>(c.sizes().timesteps);
        if (kept.scores) return {kept.scores, static_cast<std::ptrdiff_t>(c.sizes().queries) * row, row};
        return {static_cast<float *>(c.call->attention_weights), c.call->weights_batch, c.call->weights_row};
    }

    attn_composed attention() const {
        const attn_layer_call *const call = c.call;
        const std::ptrdiff_t features = static_cast<std::ptrdiff_t>(c.sizes().features),
                             queries = static_cast<std::ptrdiff_t>(c.sizes().queries);
        attn_composed a = {};
        a.call.planned = attention_of(planned), a.call.sizes = attention_of(c.sizes());
        a.call.q = p.folded, a.call.k = a.call.v = call->h;
        a.call.q_strides = {queries * features, 0, features, 1};
        a.call.k_strides = a.call.v_strides = {call->h_batch, 0, call->h_time, 1};
        a.call.key_lengths = call->lengths, a.starts = call->starts;
        a.call.mask = call->mask, a.call.mask_strides = {call->mask_batch, 0, call->mask_query, call->mask_time};
        a.call.output = context() ? context() : call->context;
        a.call.output_strides =
            context() ? a.call.q_strides : attn_strides{call->context_batch, 0, call->context_row, 1};
        a.call.lse = call->lse, a.call.lse_strides = {call->lse_batch, 0, 1, 1};
        a.call.attention_weights = call->attention_weights;
        a.call.weights_strides = {call->weights_batch, 0, call->weights_row, 1};
        a.call.workspace = p.attention;
        a.maximum = kept.maximum, a.sum = kept.sum;
        return a;
    }

    attn_status attend() const {
        const scorer s = {&c, &p, c.additive() ? rows_of_product(planned) : 0, saved()};
        attn_composed a = attention();
        if (c.additive()) a.scores = find_scores, a.scorer = &s;
        return attn_compose(a, c.blas, c.stream);
    }

    attn_status write_context() const {
        const attn_layer_call *const call = c.call;
        if (!context() || !call->context) return ATTN_OK;
        return attn_cuda_take(
            attn_spread_launch({context(), c.count(), c.sizes().queries, c.sizes().features, false,
                                static_cast<float *>(call->context), nullptr, call->context_batch, call->context_row},
                               c.stream));
    }

    attn_status write_output() const {
        const attn_layer_call *const call = c.call;
        const attn_layer_problem &s = c.sizes();
        if (!has_output()) return ATTN_OK;
        const float *const w_c = static_cast<const float *>(call->w_c);
        attn_status status = c.multiply({context(), s.features}, w_c, false, s.units, p.output, false);
        if (!status)
            status =
                c.multiply({p.queries, s.query_features}, w_c + s.features * s.units, false, s.units, p.output, true);
        if (status) return status;
        return attn_cuda_take(
            attn_spread_launch({p.output, c.count(), s.queries, s.units, true, static_cast<float *>(call->output),
                                kept.output, call->output_batch, call->output_row},
                               c.stream));
    }

    attn_status run() const {
        attn_status status = c.collect(attn_call_queries(c.call), c.sizes().query_features, p.queries);
        if (!status) status = c.fold(p.queries, p.folded);
        if (!status) status = attend();
        if (!status) status = write_context();
        return status ? status : write_output();
    }
};

attn_status run(const attn_implementation *, attn_device *device, const attn_layer_problem *planned,
                const attn_layer_call *call) {
    const attn_status refused = attn_cuda_ready(device);
    if (refused) return refused;
    const attn_current_device current(device->options.ordinal);
    if (current.error != cudaSuccess) return attn_cuda_take(current.error);
    pieces p;
    attn_cuda_kept kept = {};
    carve(device, *planned, call->workspace, &p);
    if (call->kept) attn_cuda_kept_carve(&call->sizes, call->kept, &kept);
    attn_cublas_run blas(device, p.blas);
    if (blas.status) return blas.status;
    const forward pass = {{call, &blas, device->stream()}, *planned, p, kept};
    return pass.run();
}

constexpr attn_implementation implementation(const char *name, attn_score score) {
    attn_implementation made = {};
    made.name = name, made.operation = ATTN_OPERATION_LAYER_FORWARD;
    made.score = score, made.dtype = ATTN_FLOAT32;
    made.refuse = refuse, made.workspace_size = workspace_size, made.run = run;
    return made;
}

} // namespace

const attn_implementation attn_cuda_composition_forward_implementations[] = {
    implementation("cuda:cublas:luong:forward:f32", ATTN_SCORE_LUONG),
    implementation("cuda:cublas:dot:forward:f32", ATTN_SCORE_DOT),
    implementation("cuda:cublas:bahdanau:forward:f32", ATTN_SCORE_BAHDANAU),
};
const size_t attn_cuda_composition_forward_implementations_count =
    sizeof attn_cuda_composition_forward_implementations / sizeof *attn_cuda_composition_forward_implementations;

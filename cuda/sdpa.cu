/* SPDX-License-Identifier: Apache-2.0 */
/* Scaled-dot-product attention by composition: a product by cuBLAS, the kernels of sdpa_tile.cu, a product by cuBLAS, for a tile of queries and
 * keys at a time. Rows and keys of a tile are bounded, and so is the workspace; a tile's keys are the planned ones cut at fixed places, less those
 * that none of its queries can see by what the host knows. */
#include "cuda/sdpa.h"

#include "cuda/cublas.h"
#include "cuda/device.h"
#include "cuda/launch.h"
#include "cuda/sdpa_tile.h"
#include "lib/carve.h"

namespace {

std::size_t least(std::size_t a, std::size_t b) { return a < b ? a : b; }
std::size_t most(std::size_t a, std::size_t b) { return a > b ? a : b; }

/* How a plan is cut. */
struct cut {
    std::size_t items, key_heads, queries, keys, pitch; /* at most, of a tile */
    bool cleans;                                        /* values of keys that nobody sees must not be read */
};

cut cut_of(const attn_sdpa_problem &p) {
    cut c;
    const std::size_t group = p.query_heads / p.key_heads;
    const bool partial = p.causal != ATTN_CAUSAL_NONE || p.window_left >= 0 || p.window_right >= 0;
    c.cleans = (p.flags & (ATTN_SDPA_MASK | ATTN_SDPA_BIAS | ATTN_SDPA_KEY_LENGTHS)) != 0;
    c.keys = most(1, least(p.keys, ATTN_TILE_KEYS));
    c.pitch = (c.keys + ATTN_TILE_PITCH - 1) / ATTN_TILE_PITCH * ATTN_TILE_PITCH;
    const std::size_t width = most(c.pitch, p.value_dim);
    c.queries = least(p.queries, partial ? +ATTN_TILE_QUERIES : p.queries);
    c.queries = least(c.queries, most(1, ATTN_TILE_SCORES / width / group));
    std::size_t pairs = most(1, ATTN_TILE_SCORES / width / group / c.queries);
    if (c.cleans) pairs = least(pairs, most(1, ATTN_TILE_SCORES / c.keys / most(1, p.value_dim)));
    c.key_heads = least(p.key_heads, pairs);
    c.items = least(p.batch, most(1, pairs / p.key_heads));
    return c;
}

/* Pieces of the workspace. */
struct pieces {
    float *scores, *maximum, *sum, *lost, *factor, *context;
    void *exponentials, *clean;
    std::uint8_t *seen;
};

std::size_t size_of(attn_dtype dtype) { return dtype == ATTN_FLOAT32 ? sizeof(float) : sizeof(std::uint16_t); }

std::size_t carve(const attn_sdpa_problem &planned, void *memory, pieces *p) {
    attn_carver carver = {static_cast<char *>(memory), 0, false};
    const cut c = cut_of(planned);
    const std::size_t pairs = c.items * c.key_heads,
                      rows = pairs * (planned.query_heads / planned.key_heads) * c.queries;
    p->scores = static_cast<float *>(attn_carve(&carver, rows, c.pitch * sizeof(float)));
    p->exponentials =
        planned.dtype == ATTN_FLOAT32 ? p->scores : attn_carve(&carver, rows, c.pitch * size_of(planned.dtype));
    p->maximum = static_cast<float *>(attn_carve(&carver, rows, sizeof(float)));
    p->sum = static_cast<float *>(attn_carve(&carver, rows, sizeof(float)));
    p->lost = static_cast<float *>(attn_carve(&carver, rows, sizeof(float)));
    p->factor = static_cast<float *>(attn_carve(&carver, rows, sizeof(float)));
    p->context = static_cast<float *>(attn_carve(&carver, rows, planned.value_dim * sizeof(float)));
    p->seen = c.cleans ? static_cast<std::uint8_t *>(attn_carve(&carver, pairs, c.keys)) : nullptr;
    p->clean = c.cleans ? attn_carve(&carver, pairs * c.keys, planned.value_dim * size_of(planned.dtype)) : nullptr;
    return attn_carved_size(&carver);
}

/* ---- A tile ----------------------------------------------------------------------------------------- */

/* What all tiles of a call share. */
struct composition {
    const attn_sdpa_call *call;
    const attn_composed *composed;
    attn_cublas_run *blas;
    cudaStream_t stream;
    cut limits;
    std::size_t group;
    bool cleans, weighs_values;
};

struct keys_range {
    std::size_t begin, end;
};

std::size_t clip(std::ptrdiff_t key, std::size_t most_keys) {
    return key < 0 ? 0 : least(static_cast<std::size_t>(key), most_keys);
}

/* The keys that some query of the tile may see, whatever the lengths on the device are. */
keys_range visible(const attn_sdpa_call *call, const attn_sdpa_tile &t) {
    const attn_sdpa_problem &s = call->sizes;
    const std::ptrdiff_t keys = static_cast<std::ptrdiff_t>(s.keys), queries = static_cast<std::ptrdiff_t>(s.queries);
    const bool from_end = s.causal == ATTN_CAUSAL_BOTTOM_RIGHT;
    const std::ptrdiff_t lowest = (from_end ? (call->key_lengths ? 0 : keys) - queries : 0) + call->query_offset +
                                  static_cast<std::ptrdiff_t>(t.query);
    const std::ptrdiff_t highest =
        (from_end ? keys - queries : 0) + call->query_offset + static_cast<std::ptrdiff_t>(t.query + t.queries - 1);
    keys_range range = {0, s.keys};
    if (s.window_left >= 0) range.begin = clip(lowest - s.window_left, s.keys);
    if (s.window_right >= 0) range.end = clip(highest + s.window_right + 1, s.keys);
    if (s.causal != ATTN_CAUSAL_NONE) range.end = least(range.end, clip(highest + 1, s.keys));
    return range;
}

const void *moved(const void *data, std::ptrdiff_t elements, attn_dtype dtype) {
    return static_cast<const char *>(data) + elements * static_cast<std::ptrdiff_t>(size_of(dtype));
}

std::ptrdiff_t place(const attn_strides &strides, std::size_t item, std::size_t head, std::size_t row) {
    return static_cast<std::ptrdiff_t>(item) * strides.batch + static_cast<std::ptrdiff_t>(head) * strides.head +
           static_cast<std::ptrdiff_t>(row) * strides.row;
}

/* The batches of a product of the tile's rows, `row` elements apart in C, by matrices of the key heads. */
void set_batches(const attn_sdpa_tile &t, std::size_t group, const attn_strides &a, const attn_strides &b,
                 std::ptrdiff_t row, attn_gemm *g) {
    const std::ptrdiff_t members = static_cast<std::ptrdiff_t>(group), queries = static_cast<std::ptrdiff_t>(t.queries);
    const std::ptrdiff_t heads = static_cast<std::ptrdiff_t>(t.heads);
    g->rows = t.queries;
    g->a_row = a.row, g->b_row = b.row, g->c_row = row;
    g->batches[0] = {t.items, a.batch, b.batch, heads * queries * row};
    g->batches[1] = {t.heads / group, members * a.head, b.head, members * queries * row};
    g->batches[2] = {group, a.head, 0, queries * row};
    /* Heads that share their keys make one product where their rows are evenly spaced. */
    const bool single = t.queries == 1 && a.head >= static_cast<std::ptrdiff_t>(g->depth);
    if (group == 1 || !(single || a.head == queries * a.row)) return;
    g->rows = group * t.queries;
    if (single) g->a_row = a.head;
    g->batches[2] = {1, 0, 0, 0};
}

/* scores = scale Q K' */
attn_status multiply_scores(const composition &c, const attn_sdpa_tile &t) {
    const attn_sdpa_call *const call = c.call;
    const attn_sdpa_problem &s = call->sizes;
    attn_gemm g = {};
    g.stored = s.dtype, g.result = ATTN_FLOAT32, g.transpose_b = true;
    g.depth = s.head_dim;
    set_batches(t, c.group, call->q_strides, call->k_strides, static_cast<std::ptrdiff_t>(t.pitch), &g);
    g.columns = t.keys, g.alpha = static_cast<float>(s.scale);
    g.a = moved(call->q, place(call->q_strides, t.item, t.head, t.query), s.dtype);
    g.b = moved(call->k, place(call->k_strides, t.item, t.head / c.group, t.key), s.dtype);
    g.c = t.scores;
    return s.dtype == ATTN_FLOAT32 ? c.blas->multiply_in_parts(g, s.head_dim) : c.blas->multiply(g);
}

attn_status find_scores(const composition &c, const attn_sdpa_tile &t, bool again) {
    const attn_composed &composed = *c.composed;
    return composed.scores ? composed.scores(composed.scorer, t, again, c.blas) : multiply_scores(c, t);
}

/* context = or += exponentials V */
attn_status multiply_values(const composition &c, const attn_sdpa_tile &t) {
    const attn_sdpa_call *const call = c.call;
    const attn_sdpa_problem &s = call->sizes;
    const std::ptrdiff_t width = static_cast<std::ptrdiff_t>(t.width), pitch = static_cast<std::ptrdiff_t>(t.pitch),
                         queries = static_cast<std::ptrdiff_t>(t.queries), keys = static_cast<std::ptrdiff_t>(t.keys);
    const attn_strides rows = {static_cast<std::ptrdiff_t>(t.heads) * queries * pitch, queries * pitch, pitch, 1};
    const attn_strides clean = {static_cast<std::ptrdiff_t>(t.heads / c.group) * keys * width, keys * width, width, 1};
    attn_gemm g = {};
    g.stored = s.dtype, g.result = ATTN_FLOAT32;
    g.depth = t.keys;
    set_batches(t, c.group, rows, c.cleans ? clean : call->v_strides, width, &g);
    g.columns = t.width, g.alpha = 1.0f, g.beta = !t.first ? 1.0f : 0.0f;
    g.a = t.exponentials, g.c = t.context;
    g.b = c.cleans ? t.clean : moved(call->v, place(call->v_strides, t.item, t.head / c.group, t.key), s.dtype);
    return s.dtype == ATTN_FLOAT32 ? c.blas->multiply_in_parts(g, s.keys) : c.blas->multiply(g);
}

/* The keys [t.key, t.key + t.keys), into the context. */
attn_status attend(const composition &c, const attn_sdpa_tile &t) {
    attn_status status = find_scores(c, t, false);
    if (!status && t.seen)
        status = attn_cuda_take(cudaMemsetAsync(t.seen, 0, t.items * (t.heads / c.group) * t.keys, c.stream));
    if (!status) status = attn_cuda_take(attn_sdpa_weigh(t, c.stream));
    if (!c.weighs_values) return status;
    if (!status && !t.first) status = attn_cuda_take(attn_sdpa_rescale(t, c.stream));
    if (!status && t.seen) status = attn_cuda_take(attn_sdpa_clean(t, c.stream));
    return status ? status : multiply_values(c, t);
}

/* The tile's part of the keys from `first` to the next cut. */
void set_keys(const composition &c, const keys_range &range, std::size_t first, attn_sdpa_tile *t) {
    const std::size_t end = least(range.end, first + c.limits.keys);
    t->key = most(range.begin, first);
    t->keys = end > t->key ? end - t->key : 0;
}

attn_status write_weights(const composition &c, const keys_range &range, attn_sdpa_tile t) {
    attn_status status = ATTN_OK;
    for (std::size_t first = 0; first < c.call->sizes.keys && !status; first += c.limits.keys) {
        set_keys(c, range, first, &t);
        t.weights_key = first, t.weights_keys = least(c.limits.keys, c.call->sizes.keys - first);
        if (t.keys > 0) status = find_scores(c, t, true);
        if (!status) status = attn_cuda_take(attn_sdpa_normalise(t, c.stream));
    }
    return status;
}

attn_status run_tile(const composition &c, attn_sdpa_tile t) {
    const keys_range range = visible(c.call, t);
    attn_status status = ATTN_OK;
    t.first = true;
    for (std::size_t first = 0; first < range.end && !status; first += c.limits.keys) {
        set_keys(c, range, first, &t);
        if (t.keys == 0) continue;
        status = attend(c, t);
        t.first = false;
    }
    t.nothing = t.first;
    if (!status) status = attn_cuda_take(attn_sdpa_finish(t, c.stream));
    return !status && c.call->attention_weights ? write_weights(c, range, t) : status;
}

/* ---- The call --------------------------------------------------------------------------------------- */

attn_sdpa_tile tile_of(const attn_composed &composed, const cut &limits, const pieces &p) {
    const attn_sdpa_call *const call = &composed.call;
    const attn_sdpa_problem &s = call->sizes;
    attn_sdpa_tile t = {};
    t.view.starts = composed.starts;
    t.view.lengths = call->key_lengths, t.view.mask = call->mask, t.view.mask_strides = call->mask_strides;
    t.view.causal = s.causal, t.view.offset = call->query_offset;
    t.view.window_left = s.window_left, t.view.window_right = s.window_right;
    t.view.queries = s.queries, t.view.keys = s.keys;
    t.dtype = s.dtype;
    t.bias = call->bias, t.bias_strides = call->bias_strides;
    t.slopes = static_cast<const float *>(call->alibi_slopes), t.sinks = static_cast<const float *>(call->sinks);
    t.softcap = static_cast<float>(s.softcap);
    t.group = s.query_heads / s.key_heads;
    t.pitch = limits.pitch, t.width = call->output ? s.value_dim : 0;
    t.scores = p.scores, t.exponentials = p.exponentials;
    t.maximum = p.maximum, t.sum = p.sum, t.lost = p.lost, t.factor = p.factor, t.context = p.context;
    t.v = call->v, t.v_strides = call->v_strides, t.clean = p.clean;
    t.output = call->output, t.output_strides = call->output_strides;
    t.lse = static_cast<float *>(call->lse), t.lse_strides = call->lse_strides;
    t.all_maximum = composed.maximum, t.all_sum = composed.sum;
    t.attention_weights = call->attention_weights, t.weights_strides = call->weights_strides;
    return t;
}

const char *refuse(const attn_implementation *, const attn_device *device, const attn_sdpa_problem *p, bool *hard) {
    *hard = true;
    const char *const reason = attn_compose_refusal(p);
    return reason ? reason : attn_cublas_refusal(device);
}

std::size_t workspace_size(const attn_implementation *, const attn_device *device, const attn_sdpa_problem *planned) {
    attn_carver carver = {};
    attn_carve(&carver, 1, attn_compose_size(planned));
    attn_carve(&carver, 1, attn_cublas_workspace_size(device));
    return attn_carved_size(&carver);
}

attn_status run(const attn_implementation *, attn_device *device, const attn_sdpa_call *call) {
    const attn_status refused = attn_cuda_ready(device);
    if (refused) return refused;
    const attn_current_device current(device->options.ordinal);
    if (current.error != cudaSuccess) return attn_cuda_take(current.error);
    attn_cublas_run blas(device, static_cast<char *>(call->workspace) + attn_compose_size(&call->planned));
    attn_composed composed = {};
    composed.call = *call;
    return blas.status ? blas.status : attn_compose(composed, &blas, device->stream());
}

const attn_sdpa_functions functions = {refuse, workspace_size, run};

constexpr attn_implementation implementation(const char *name, attn_dtype dtype) {
    attn_implementation made = {};
    made.name = name, made.operation = ATTN_OPERATION_SDPA_FORWARD, made.dtype = dtype, made.sdpa = &functions;
    return made;
}

} // namespace

std::size_t attn_compose_size(const attn_sdpa_problem *planned) {
    pieces unused;
    return carve(*planned, nullptr, &unused);
}

const char *attn_compose_refusal(const attn_sdpa_problem *p) {
    if (p->query_heads == 0 || p->batch == 0 || p->queries == 0) return nullptr;
    const cut c = cut_of(*p);
    const std::size_t rows = c.items * c.key_heads * (p->query_heads / p->key_heads) * c.queries;
    return rows > attn_largest_grid / most(c.pitch, p->value_dim) ? "needs more blocks than a grid has" : nullptr;
}

attn_status attn_compose(const attn_composed &composed, attn_cublas_run *blas, cudaStream_t stream) {
    const attn_sdpa_call *const call = &composed.call;
    const attn_sdpa_problem &s = call->sizes;
    const cut limits = cut_of(call->planned);
    pieces p;
    carve(call->planned, call->workspace, &p);
    attn_sdpa_tile t = tile_of(composed, limits, p);
    const bool cleans = t.width > 0 && (call->mask || call->bias || call->key_lengths || composed.starts);
    t.seen = cleans ? p.seen : nullptr;
    const composition c = {call, &composed, blas, stream, limits, t.group, cleans, t.width > 0};
    attn_status status = ATTN_OK;
    for (t.item = 0; t.item < s.batch; t.item += limits.items)
        for (std::size_t head = 0; head < s.key_heads; head += limits.key_heads)
            for (t.query = 0; t.query < s.queries && !status; t.query += limits.queries) {
                t.head = head * t.group;
                t.items = least(limits.items, s.batch - t.item);
                t.heads = least(limits.key_heads, s.key_heads - head) * t.group;
                t.queries = least(limits.queries, s.queries - t.query);
                status = run_tile(c, t);
            }
    return status;
}

const attn_implementation attn_cuda_sdpa_implementations[] = {
    implementation("cuda:cublas:sdpa:forward:f32", ATTN_FLOAT32),
    implementation("cuda:cublas:sdpa:forward:bf16", ATTN_BFLOAT16),
    implementation("cuda:cublas:sdpa:forward:f16", ATTN_FLOAT16),
};
const size_t attn_cuda_sdpa_implementations_count =
    sizeof attn_cuda_sdpa_implementations / sizeof *attn_cuda_sdpa_implementations;

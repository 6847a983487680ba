/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda/sdpa_tile.h"

#include "cuda/long_sum.h"
#include "cuda/row_team.h"
#include "cuda/storage.h"

#include <cmath>

namespace {

enum : unsigned { THREADS = 128 };

/* A row by its place in the tensors, and what it sees. */
template <typename Element> struct tile_row {
    std::size_t item, head, query;
    attn_sight sight;
    const Element *bias; /* of key 0, or NULL */
    float slope;

    __device__ tile_row(const attn_sdpa_tile &p, std::size_t row)
        : item(p.item + row / p.queries / p.heads), head(p.head + row / p.queries % p.heads),
          query(p.query + row % p.queries), sight(attn_see(p.view, item, head, query)),
          bias(p.bias ? static_cast<const Element *>(p.bias) + attn_place(p.bias_strides, item, head, query) : nullptr),
          slope(p.slopes ? number(p.slopes[head]) : 0.0f) {}

    /* At no distance an infinite slope would be NaN, and hide elsewhere. */
    __device__ static float number(float given) { return fabsf(given) < INFINITY ? given : NAN; }

    __device__ float bias_of(const attn_sdpa_tile &p, std::size_t key) const {
        return bias ? attn_widen(bias[static_cast<std::ptrdiff_t>(key) * p.bias_strides.element]) : 0.0f;
    }

    /* -inf where the key is hidden. */
    __device__ float score(const attn_sdpa_tile &p, std::size_t key, float product) const {
        if (!sight.shows(key)) return -INFINITY;
        const float more = bias_of(p, key);
        if (more == -INFINITY) return -INFINITY;
        float score = p.softcap > 0.0f ? p.softcap * tanhf(product / p.softcap) : product;
        if (p.slopes) {
            const std::ptrdiff_t distance = sight.position - static_cast<std::ptrdiff_t>(key);
            score -= slope * static_cast<float>(distance < 0 ? -distance : distance);
        }
        return bias ? score + more : score;
    }

    __device__ bool attends(const attn_sdpa_tile &p, std::size_t key) const {
        return sight.shows(key) && bias_of(p, key) != -INFINITY;
    }
};

template <typename Element, unsigned WARPS> __global__ void weigh_kernel(const __grid_constant__ attn_sdpa_tile p) {
    typedef attn_row_team<WARPS> team;
    const std::size_t r = team::row();
    if (r >= p.rows()) return;
    const tile_row<Element> row(p, r);
    float *const scores = p.scores + r * p.pitch;
    Element *const exponentials = static_cast<Element *>(p.exponentials) + r * p.pitch;
    std::uint8_t *const seen = p.seen ? p.seen + (r / p.queries / p.group) * p.keys : nullptr;
    const float before = p.first ? -INFINITY : p.maximum[r];
    float highest = before;
    for (std::size_t i = team::lane(); i < p.keys; i += team::LANES) {
        const float score = row.score(p, p.key + i, scores[i]);
        if (seen && row.attends(p, p.key + i)) seen[i] = 1;
        scores[i] = score;
        highest = fmaxf(highest, score);
    }
    highest = team::maximum(highest);
    const float base = highest == -INFINITY ? 0.0f : highest; /* where nothing but -inf and NaN is seen */
    attn_long_sum<2> of_lane;
    for (std::size_t i = team::lane(); i < p.keys; i += team::LANES) {
        const float exponential = expf(scores[i] - base);
        of_lane.add(exponential);
        exponentials[i] = attn_narrow<Element>::from(exponential);
    }
    const float sum = team::sum(of_lane.total());
    if (team::lane() != 0) return;
    const float earlier = p.first ? 0.0f : p.sum[r];
    const float factor = earlier == 0.0f ? -1.0f : expf(before - base);
    p.maximum[r] = highest;
    p.factor[r] = factor;
    if (earlier == 0.0f) {
        p.sum[r] = sum;
        p.lost[r] = 0.0f;
        return;
    }
    /* What the addition rounds away is kept beside the sum (Knuth's TwoSum): a row may have very many tiles. */
    const float kept = earlier * factor, whole = kept + sum, added = whole - kept;
    p.sum[r] = whole;
    p.lost[r] = p.lost[r] * factor + ((kept - (whole - added)) + (sum - added));
}

__global__ void rescale_kernel(const __grid_constant__ attn_sdpa_tile p) {
    const std::size_t i = static_cast<std::size_t>(blockIdx.x) * THREADS + threadIdx.x;
    if (i >= p.rows() * p.width) return;
    const float factor = p.factor[i / p.width];
    p.context[i] = factor < 0.0f ? 0.0f : p.context[i] * factor;
}

template <typename Element> __global__ void clean_kernel(const __grid_constant__ attn_sdpa_tile p) {
    const std::size_t i = static_cast<std::size_t>(blockIdx.x) * THREADS + threadIdx.x, row = i / p.width;
    const std::size_t key_heads = p.heads / p.group;
    if (i >= p.items * key_heads * p.keys * p.width) return;
    const std::size_t pair = row / p.keys, key = p.key + row % p.keys;
    const std::size_t item = p.item + pair / key_heads, head = p.head / p.group + pair % key_heads;
    const Element *const v = static_cast<const Element *>(p.v) + attn_place(p.v_strides, item, head, key) + i % p.width;
    static_cast<Element *>(p.clean)[i] = p.seen[row] ? *v : attn_narrow<Element>::from(0.0f);
}

/* A row's softmax, its sink included. */
struct row_total {
    float maximum, sum, context_factor; /* context_factor: of the context before it is divided by the sum */
    bool attended;                      /* anything but the sink */

    __device__ row_total(const attn_sdpa_tile &p, std::size_t row, std::size_t head)
        : maximum(p.nothing ? -INFINITY : p.maximum[row]), sum(p.nothing ? 0.0f : p.sum[row] + p.lost[row]),
          context_factor(1.0f), attended(sum != 0.0f) {
        if (!p.sinks || p.sinks[head] == -INFINITY) return;
        const float sink = p.sinks[head];
        if (!attended) {
            maximum = sink, sum = 1.0f;
            return;
        }
        const float highest = fmaxf(maximum, sink);
        /* A sum that is NaN may have no maximum. */
        context_factor = maximum == -INFINITY ? 0.0f : expf(maximum - highest);
        sum = sum * context_factor + expf(sink - highest);
        maximum = highest;
    }
};

template <typename Element> __global__ void finish_kernel(const __grid_constant__ attn_sdpa_tile p) {
    const std::size_t i = static_cast<std::size_t>(blockIdx.x) * THREADS + threadIdx.x;
    const std::size_t width = p.width > 0 ? p.width : 1, r = i / width, column = i % width;
    if (r >= p.rows()) return;
    const std::size_t item = p.item + r / p.queries / p.heads, head = p.head + r / p.queries % p.heads,
                      query = p.query + r % p.queries;
    const row_total total(p, r, head);
    if (p.lse && column == 0)
        p.lse[attn_place(p.lse_strides, item, head, 0) + static_cast<std::ptrdiff_t>(query)] =
            total.sum == 0.0f ? -INFINITY : total.maximum + logf(total.sum);
    if (p.all_sum && column == 0) {
        p.all_maximum[item * p.view.queries + query] = total.maximum;
        p.all_sum[item * p.view.queries + query] = total.sum;
    }
    if (!p.output) return;
    const float result = total.attended ? p.context[i] * total.context_factor / total.sum : 0.0f;
    static_cast<Element *>(
        p.output)[attn_place(p.output_strides, item, head, query) + static_cast<std::ptrdiff_t>(column)] =
        attn_narrow<Element>::from(result);
}

template <typename Element> __global__ void normalise_kernel(const __grid_constant__ attn_sdpa_tile p) {
    const std::size_t i = static_cast<std::size_t>(blockIdx.x) * THREADS + threadIdx.x;
    const std::size_t r = i / p.weights_keys, key = p.weights_key + i % p.weights_keys;
    if (r >= p.rows()) return;
    const tile_row<Element> row(p, r);
    const row_total total(p, r, row.head);
    float weight = 0.0f;
    if (total.attended && row.attends(p, key)) {
        const float score = row.score(p, key, p.scores[r * p.pitch + (key - p.key)]);
        weight = expf(score - (total.maximum == -INFINITY ? 0.0f : total.maximum)) / total.sum;
    }
    static_cast<Element *>(p.attention_weights)[attn_place(p.weights_strides, row.item, row.head, row.query) +
                                                static_cast<std::ptrdiff_t>(key)] = attn_narrow<Element>::from(weight);
}

std::size_t blocks_of(std::size_t elements) { return (elements + THREADS - 1) / THREADS; }

template <typename Element> cudaError_t weigh(const attn_sdpa_tile &tile, cudaStream_t stream) {
    return ATTN_LAUNCH_ROWS(weigh_kernel, Element, tile.rows(), tile.keys, stream, tile);
}

/* The kernel for the tile's dtype. */
#define BY_DTYPE(function, tile)                                                                                       \
    ((tile).dtype == ATTN_FLOAT32   ? function<float>                                                                  \
     : (tile).dtype == ATTN_FLOAT16 ? function<attn_half>                                                              \
                                    : function<attn_bfloat>)

} // namespace

cudaError_t attn_sdpa_weigh(const attn_sdpa_tile &tile, cudaStream_t stream) {
    return BY_DTYPE(weigh, tile)(tile, stream);
}

cudaError_t attn_sdpa_rescale(const attn_sdpa_tile &tile, cudaStream_t stream) {
    return attn_launch(rescale_kernel, blocks_of(tile.rows() * tile.width), THREADS, 0, stream, tile);
}

cudaError_t attn_sdpa_clean(const attn_sdpa_tile &tile, cudaStream_t stream) {
    const std::size_t elements = tile.items * (tile.heads / tile.group) * tile.keys * tile.width;
    return attn_launch(BY_DTYPE(clean_kernel, tile), blocks_of(elements), THREADS, 0, stream, tile);
}

cudaError_t attn_sdpa_finish(const attn_sdpa_tile &tile, cudaStream_t stream) {
    const std::size_t elements = tile.rows() * (tile.width > 0 ? tile.width : 1);
    return attn_launch(BY_DTYPE(finish_kernel, tile), blocks_of(elements), THREADS, 0, stream, tile);
}

cudaError_t attn_sdpa_normalise(const attn_sdpa_tile &tile, cudaStream_t stream) {
    return attn_launch(BY_DTYPE(normalise_kernel, tile), blocks_of(tile.rows() * tile.weights_keys), THREADS, 0, stream,
                       tile);
}

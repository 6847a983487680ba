/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda/composition_tile.h"

#include "cuda/elements.h"
#include "cuda/long_sum.h"
#include "cuda/row_team.h"
#include "cuda/warp_row.h"

#include <cmath>

namespace {

__device__ std::ptrdiff_t place(std::size_t item, std::ptrdiff_t batch, std::size_t row, std::ptrdiff_t stride) {
    return static_cast<std::ptrdiff_t>(item) * batch + static_cast<std::ptrdiff_t>(row) * stride;
}

__global__ void collect_kernel(const __grid_constant__ attn_collect p) {
    for (std::size_t i = attn_first_element(); i < p.count * p.width; i += attn_element_stride()) {
        float value = 0.0f;
        if (p.rows.base) {
            const attn_stored_row row = attn_row(p.rows, p.items, i / p.width);
            if (!row.zeros) value = row[i % p.width];
        }
        p.to[i] = value;
    }
}

__global__ void spread_kernel(const __grid_constant__ attn_spread p) {
    for (std::size_t i = attn_first_element(); i < p.count * p.width; i += attn_element_stride()) {
        const std::size_t query = i / p.width;
        const float value = p.tanh ? tanhf(p.from[i]) : p.from[i];
        if (p.copy) p.copy[i] = value;
        if (p.to) p.to[place(query / p.queries, p.batch, query % p.queries, p.row) + i % p.width] = value;
    }
}

/* Whether any of an item's queries sees a step. All lanes of the warp come here. */
__device__ bool is_seen(const attn_items &items, std::size_t item, std::size_t step) {
    const attn_range range = attn_item_range(items, item);
    if (step < range.start || step - range.start >= range.length) return false;
    const std::size_t masks = items.mask && items.mask_query != 0 ? items.queries : 1;
    float seen = 0.0f;
    for (std::size_t query = threadIdx.x % ATTN_WARP; query < masks; query += ATTN_WARP)
        if (attn_unmasked(items, item * items.queries + query, step)) seen = 1.0f;
    return attn_warp_sum(seen) != 0.0f;
}

/* A warp for each row. */
__global__ void gather_kernel(const __grid_constant__ attn_gather p) {
    const attn_layer_tile &tile = p.tile;
    for (std::size_t i = attn_first_element() / ATTN_WARP; i < tile.count * tile.steps;
         i += attn_element_stride() / ATTN_WARP) {
        const std::size_t item = tile.item + i / tile.steps, step = tile.step + i % tile.steps;
        const bool seen = is_seen(tile.items, item, step);
        const float *const row = p.h + place(item, p.h_batch, step, p.h_time);
        if (threadIdx.x % ATTN_WARP == 0) p.seen[i] = seen;
        for (std::size_t f = threadIdx.x % ATTN_WARP; f < p.features && p.clean; f += ATTN_WARP)
            p.clean[i * p.features + f] = seen ? row[f] : 0.0f;
    }
}

__global__ void put_kernel(const __grid_constant__ attn_put p) {
    const attn_layer_tile &tile = p.tile;
    const std::size_t count = tile.count * tile.steps * p.features;
    for (std::size_t i = attn_first_element(); i < count; i += attn_element_stride()) {
        const std::size_t row = i / p.features;
        const bool seen = !p.seen || p.seen[row] != 0;
        if (p.add && !seen) continue;
        float *const to =
            p.to + place(tile.item + row / tile.steps, p.batch, tile.step + row % tile.steps, p.time) + i % p.features;
        const float gradient = seen ? p.from[i] : 0.0f;
        *to = p.add ? *to + gradient : gradient;
    }
}

/* A row of the tile. */
struct weighed_row {
    attn_layer_sight sight;
    float maximum, sum;
    const float *scores, *gradients, *given; /* given: of step 0, or NULL */

    __device__ weighed_row(const attn_weigh_back &p, std::size_t row)
        : sight(p.tile, row), maximum(p.maximum[sight.query]), sum(p.sum[sight.query]),
          scores(p.scores + row * p.tile.pitch), gradients(p.gradients + row * p.tile.pitch),
          given(p.given ? p.given + place(sight.query / p.tile.items.queries, p.given_batch,
                                          sight.query % p.tile.items.queries, p.given_row)
                        : nullptr) {}

    /* Of a step that it shows, the i-th of the tile. */
    __device__ float weight(std::size_t i) const { return expf(scores[i] - maximum) / sum; }
    __device__ float gradient(std::size_t i, std::size_t step) const {
        return given ? gradients[i] + given[step] : gradients[i];
    }
};

template <typename, unsigned WARPS> __global__ void moments_kernel(const __grid_constant__ attn_weigh_back p) {
    typedef attn_row_team<WARPS> team;
    if (team::row() >= p.tile.rows()) return;
    const weighed_row row(p, team::row());
    attn_long_sum<2> products, weights;
    for (std::size_t i = team::lane(); i < p.tile.steps; i += team::LANES) {
        const std::size_t step = p.tile.step + i;
        if (!row.sight.shows(step)) continue;
        const float share = row.weight(i);
        products.add(share * row.gradient(i, step));
        weights.add(share);
    }
    const float product = team::sum(products.total()), weight = team::sum(weights.total());
    if (team::lane() != 0) return;
    p.product[row.sight.query] += product;
    p.weight[row.sight.query] += weight;
}

template <typename, unsigned WARPS> __global__ void back_kernel(const __grid_constant__ attn_weigh_back p) {
    typedef attn_row_team<WARPS> team;
    if (team::row() >= p.tile.rows()) return;
    const weighed_row row(p, team::row());
    const std::size_t query = row.sight.query, first = team::row() * p.tile.pitch;
    const std::size_t item = query / p.tile.items.queries;
    float shift = -p.product[query] / p.weight[query];
    if (p.grad_lse) shift += p.grad_lse[place(item, p.lse_batch, query % p.tile.items.queries, 1)];
    for (std::size_t i = team::lane(); i < p.tile.steps; i += team::LANES) {
        const std::size_t step = p.tile.step + i;
        float share = 0.0f, gradient = 0.0f;
        if (row.sight.shows(step)) {
            share = row.weight(i);
            gradient = share * (row.gradient(i, step) + shift);
        }
        p.scores[first + i] = share;
        p.gradients[first + i] = gradient;
    }
}

} // namespace

cudaError_t attn_collect_launch(const attn_collect &collect, cudaStream_t stream) {
    return attn_launch_elements(collect_kernel, collect.count * collect.width, stream, collect);
}

cudaError_t attn_spread_launch(const attn_spread &spread, cudaStream_t stream) {
    return attn_launch_elements(spread_kernel, spread.count * spread.width, stream, spread);
}

cudaError_t attn_gather_launch(const attn_gather &gather, cudaStream_t stream) {
    return attn_launch_elements(gather_kernel, gather.tile.count * gather.tile.steps * ATTN_WARP, stream, gather);
}

cudaError_t attn_put_launch(const attn_put &put, cudaStream_t stream) {
    return attn_launch_elements(put_kernel, put.tile.count * put.tile.steps * put.features, stream, put);
}

cudaError_t attn_weigh_moments_launch(const attn_weigh_back &back, cudaStream_t stream) {
    return ATTN_LAUNCH_ROWS(moments_kernel, float, back.tile.rows(), back.tile.steps, stream, back);
}

cudaError_t attn_weigh_back_launch(const attn_weigh_back &back, cudaStream_t stream) {
    return ATTN_LAUNCH_ROWS(back_kernel, float, back.tile.rows(), back.tile.steps, stream, back);
}

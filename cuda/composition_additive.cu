/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda/composition_additive.h"

#include "cuda/elements.h"
#include "cuda/long_sum.h"
#include "cuda/warp_row.h"

#include <cmath>

namespace {

enum : unsigned { TERMS = 32 /* that a sum takes before it is added to the whole */ };

__device__ float tanh_at(const attn_additive_in &p, std::size_t query, std::size_t row, std::size_t column) {
    return tanhf(p.projected[query * p.width + column] + p.product[row * p.width + column]);
}

/* The place of a query's step in what is saved. */
__device__ float *saved_at(const attn_tile_scores &p, std::size_t query, std::size_t step) {
    const std::size_t queries = p.in.tile.items.queries;
    return p.saved.base + static_cast<std::ptrdiff_t>(query / queries) * p.saved.batch +
           static_cast<std::ptrdiff_t>(query % queries) * p.saved.row + static_cast<std::ptrdiff_t>(step);
}

/* A warp for each score. */
__global__ void scores_kernel(const __grid_constant__ attn_tile_scores p) {
    const attn_layer_tile &tile = p.in.tile;
    for (std::size_t i = attn_first_element() / ATTN_WARP; i < tile.rows() * tile.steps;
         i += attn_element_stride() / ATTN_WARP) {
        const std::size_t at = i / tile.steps, step = i % tile.steps, row = at / tile.queries * tile.steps + step;
        const attn_layer_sight sight(tile, at);
        attn_long_sum<3> of_lane;
        if (sight.shows(tile.step + step))
            for (std::size_t column = threadIdx.x % ATTN_WARP; column < p.in.width; column += ATTN_WARP)
                of_lane.add(p.in.v[column] * tanh_at(p.in, sight.query, row, column));
        const float score = attn_warp_sum(of_lane.total());
        if (threadIdx.x % ATTN_WARP != 0) continue;
        p.scores[at * tile.pitch + step] = score;
        if (p.saved.base) *saved_at(p, sight.query, tile.step + step) = score;
    }
}

__global__ void load_kernel(const __grid_constant__ attn_tile_scores p) {
    const attn_layer_tile &tile = p.in.tile;
    for (std::size_t i = attn_first_element(); i < tile.rows() * tile.steps; i += attn_element_stride()) {
        const std::size_t at = i / tile.steps, step = i % tile.steps;
        p.scores[at * tile.pitch + step] = *saved_at(p, tile.query_of(at), tile.step + step);
    }
}

/* A thread for each column of each step. */
__global__ void steps_kernel(const __grid_constant__ attn_tile_back p) {
    const attn_layer_tile &tile = p.in.tile;
    const std::size_t count = tile.count * tile.steps * p.in.width;
    for (std::size_t i = attn_first_element(); i < count; i += attn_element_stride()) {
        const std::size_t row = i / p.in.width, column = i % p.in.width, item = row / tile.steps;
        float sum = 0.0f;
        for (std::size_t from = 0; from < tile.queries; from += TERMS) {
            float part = 0.0f;
            for (std::size_t q = from; q < tile.queries && q < from + TERMS; q++) {
                const std::size_t at = item * tile.queries + q;
                const float gradient = p.gradients[at * tile.pitch + row % tile.steps];
                if (gradient == 0.0f) continue;
                const float t = tanh_at(p.in, tile.query_of(at), row, column);
                part += gradient * ((1.0f - t) * (1.0f + t));
            }
            sum += part;
        }
        const float gradient = p.in.v[column] * sum;
        p.dz[i] = p.add ? p.dz[i] + gradient : gradient;
    }
}

/* A thread for each column of each query. */
__global__ void queries_kernel(const __grid_constant__ attn_tile_back p) {
    const attn_layer_tile &tile = p.in.tile;
    for (std::size_t i = attn_first_element(); i < tile.rows() * p.in.width; i += attn_element_stride()) {
        const std::size_t at = i / p.in.width, column = i % p.in.width, query = tile.query_of(at);
        float projected = 0.0f, v = 0.0f;
        for (std::size_t from = 0; from < tile.steps; from += TERMS) {
            float part_projected = 0.0f, part_v = 0.0f;
            for (std::size_t step = from; step < tile.steps && step < from + TERMS; step++) {
                const float gradient = p.gradients[at * tile.pitch + step];
                if (gradient == 0.0f) continue;
                const float t = tanh_at(p.in, query, at / tile.queries * tile.steps + step, column);
                part_projected += gradient * ((1.0f - t) * (1.0f + t));
                part_v += gradient * t;
            }
            projected += part_projected;
            v += part_v;
        }
        p.projected[query * p.in.width + column] += p.in.v[column] * projected;
        p.v[query * p.in.width + column] += v;
    }
}

} // namespace

cudaError_t attn_tile_scores_launch(const attn_tile_scores &scores, cudaStream_t stream) {
    const attn_layer_tile &tile = scores.in.tile;
    return attn_launch_elements(scores_kernel, tile.rows() * tile.steps * ATTN_WARP, stream, scores);
}

cudaError_t attn_tile_scores_load(const attn_tile_scores &scores, cudaStream_t stream) {
    const attn_layer_tile &tile = scores.in.tile;
    return attn_launch_elements(load_kernel, tile.rows() * tile.steps, stream, scores);
}

cudaError_t attn_tile_back_steps(const attn_tile_back &back, cudaStream_t stream) {
    const attn_layer_tile &tile = back.in.tile;
    return attn_launch_elements(steps_kernel, tile.count * tile.steps * back.in.width, stream, back);
}

cudaError_t attn_tile_back_queries(const attn_tile_back &back, cudaStream_t stream) {
    return attn_launch_elements(queries_kernel, back.in.tile.rows() * back.in.width, stream, back);
}

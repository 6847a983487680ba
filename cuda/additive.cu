/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda/additive.h"

#include "cuda/additive_tile.h"

#include <cmath>

namespace {

/* The same in all lanes that have parts of the row: what these columns add to its score. */
template <class Tile>
__device__ float score_of(const attn_additive &p, const Tile &tile, std::size_t query, unsigned i,
                          std::size_t column0) {
    float score = 0.0f;
    ATTN_UNROLL for (unsigned j = 0; j < Tile::WIDTH; j++) {
        const std::size_t column = column0 + Tile::column(j);
        if (column < p.width) score += p.v[column] * tanhf(p.projected[query * p.width + column] + tile.sum[i][j]);
    }
    return attn_lane_sum<Tile::SHARERS>(score);
}

template <class Tile>
__device__ void add_scores(const attn_additive_scores &p, const attn_tile_rows &rows, const Tile &tile,
                           std::size_t query, std::size_t column0) {
    ATTN_UNROLL for (unsigned i = 0; i < Tile::HEIGHT; i++) {
        const float score = score_of(p.in, tile, query, i, column0);
        if (threadIdx.x % Tile::SHARERS != 0 || Tile::row(i) >= rows.count) continue;
        float *const to = p.scores + query * p.in.items.timesteps + rows.first + Tile::row(i);
        *to = column0 == 0 ? score : *to + score;
    }
}

template <class Tile, typename Element> __global__ void scores_kernel(const __grid_constant__ attn_additive_scores p) {
    const attn_tile_memory<Tile, Element> memory(p.in, reinterpret_cast<float *>(attn_shared));
    const std::size_t blocks = (p.in.items.timesteps + Tile::ROWS - 1) / Tile::ROWS;
    const attn_tile_rows rows =
        attn_find_tile_rows(p.in, blockIdx.x / blocks, blockIdx.x % blocks * Tile::ROWS, Tile::ROWS);
    if (rows.count == 0) return;
    memory.mark_seen(p.in, rows);
    for (std::size_t column0 = 0; column0 < p.in.width; column0 += ATTN_TILE_COLUMNS) {
        Tile tile = {};
        memory.multiply(p.in, rows, column0, tile);
        for (std::size_t q = 0; q < p.in.items.queries; q++)
            add_scores(p, rows, tile, rows.item * p.in.items.queries + q, column0);
    }
}

} // namespace

template <class Tile> static cudaError_t launch(const attn_additive_scores &scores, cudaStream_t stream) {
    const std::size_t blocks = scores.in.batch * ((scores.in.items.timesteps + Tile::ROWS - 1) / Tile::ROWS);
    if (blocks == 0) return cudaSuccess;
    return attn_launch(ATTN_TILE_BY_STORAGE(scores_kernel, Tile, scores.in.stored), blocks, ATTN_TILE_THREADS,
                       attn_tile_memory<Tile, float>::FLOATS * sizeof(float), stream, scores);
}

std::size_t attn_additive_most_blocks(std::size_t batch, std::size_t timesteps) {
    return batch * ((timesteps + attn_ffma_tile::ROWS - 1) / attn_ffma_tile::ROWS);
}

cudaError_t attn_additive_launch(attn_multiplied by, const attn_additive_scores &scores, cudaStream_t stream) {
    return by == attn_multiplied::by_tensor_cores ? launch<attn_mma_tile>(scores, stream)
                                                  : launch<attn_ffma_tile>(scores, stream);
}

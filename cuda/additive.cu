/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda/additive.h"

#include "cuda/additive_tile.h"

#include <cmath>

namespace {

/* The same in all lanes of a row: what these columns add to its score. */
__device__ float score_of(const attn_additive &p, const attn_product_tile &tile, std::size_t query, unsigned i,
                          std::size_t first_column) {
    float score = 0.0f;
    for (unsigned j = 0; j < ATTN_TILE_SIDE; j++) {
        const std::size_t column = first_column + j * ATTN_TILE_LANES;
        if (column < p.width) score += p.v[column] * tanhf(p.projected[query * p.width + column] + tile.sum[i][j]);
    }
    return attn_lane_sum<ATTN_TILE_LANES>(score);
}

__global__ void scores_kernel(const __grid_constant__ attn_additive_scores p) {
    const attn_tile_memory memory(reinterpret_cast<float *>(attn_shared));
    const std::size_t blocks = (p.in.items.timesteps + ATTN_TILE_ROWS - 1) / ATTN_TILE_ROWS;
    const attn_tile_rows rows = attn_find_tile_rows(p.in, blockIdx.x / blocks, blockIdx.x % blocks * ATTN_TILE_ROWS);
    const unsigned lane = attn_tile_lane(), first_row = attn_tile_first_row();
    if (rows.count == 0) return;
    memory.mark_seen(p.in, rows);
    for (std::size_t column0 = 0; column0 < p.in.width; column0 += ATTN_TILE_COLUMNS) {
        attn_product_tile tile = {};
        tile.make(p.in, rows, memory, column0);
        for (std::size_t q = 0; q < p.in.items.queries; q++) {
            const std::size_t query = rows.item * p.in.items.queries + q;
            for (unsigned i = 0; i < ATTN_TILE_SIDE; i++) {
                const float score = score_of(p.in, tile, query, i, column0 + lane);
                if (lane != 0 || first_row + i >= rows.count) continue;
                float *const to = p.scores + query * p.in.items.timesteps + rows.first + first_row + i;
                *to = column0 == 0 ? score : *to + score;
            }
        }
    }
}

} // namespace

std::size_t attn_additive_blocks(std::size_t batch, std::size_t timesteps) {
    return batch * ((timesteps + ATTN_TILE_ROWS - 1) / ATTN_TILE_ROWS);
}

cudaError_t attn_additive_launch(const attn_additive_scores &scores, cudaStream_t stream) {
    const std::size_t blocks = attn_additive_blocks(scores.in.batch, scores.in.items.timesteps);
    if (blocks == 0) return cudaSuccess;
    return attn_launch(scores_kernel, blocks, ATTN_TILE_THREADS, ATTN_TILE_FLOATS * sizeof(float), stream, scores);
}

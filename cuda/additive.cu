/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda/additive.h"

#include "cuda/warp_row.h"

#include <cmath>

namespace {

enum : unsigned {
    ROWS = 32,    /* of H, a block's */
    COLUMNS = 64, /* of W2, a tile's */
    DEPTH = 32,   /* features that a sum takes before it is added to the whole */
    LANES = 16,   /* threads that share rows and split the columns */
    SIDE = 4,     /* rows and columns of a thread */
    THREADS = ROWS / SIDE * LANES,
    PITCH = ROWS + 1 /* rows of H are stored down the columns: without bank conflicts */
};

/* What a block works on: steps [first, first + ROWS) of an item, and those of them that some query sees. */
struct rows_of_item {
    std::size_t item, first, count;

    __device__ bool seen(const attn_additive &p, std::size_t row) const {
        if (row >= count) return false;
        for (std::size_t i = 0; i < p.items.queries; i++)
            if (attn_unmasked(p.items, item * p.items.queries + i, first + row)) return true;
        return false;
    }
};

__device__ rows_of_item find_rows(const attn_additive &p) {
    const std::size_t blocks = (p.items.timesteps + ROWS - 1) / ROWS;
    rows_of_item rows;
    rows.item = blockIdx.x / blocks;
    const attn_range range = attn_item_range(p.items, rows.item);
    const std::size_t offset = blockIdx.x % blocks * ROWS;
    rows.first = range.start + offset;
    const std::size_t left = offset < range.length ? range.length - offset : 0;
    rows.count = left < ROWS ? left : static_cast<std::size_t>(ROWS);
    return rows;
}

/* Rows that nobody sees are zeros. */
__device__ void load_rows(const attn_additive &p, const rows_of_item &rows, std::size_t k0, const float *seen,
                          float *tile) {
    for (unsigned i = threadIdx.x; i < ROWS * DEPTH; i += THREADS) {
        const unsigned row = i / DEPTH, inner = i % DEPTH;
        float value = 0.0f;
        if (seen[row] != 0.0f && k0 + inner < p.features)
            value =
                p.h[static_cast<std::ptrdiff_t>(rows.item) * p.h_batch +
                    static_cast<std::ptrdiff_t>(rows.first + row) * p.h_time + static_cast<std::ptrdiff_t>(k0 + inner)];
        tile[inner * PITCH + row] = value;
    }
}

__device__ void load_weights(const attn_additive &p, std::size_t k0, std::size_t column0, float *tile) {
    for (unsigned i = threadIdx.x; i < DEPTH * COLUMNS; i += THREADS) {
        const std::size_t k = k0 + i / COLUMNS, column = column0 + i % COLUMNS;
        tile[i] = k < p.features && column < p.width ? p.w2[k * p.width + column] : 0.0f;
    }
}

/* A thread's part of H W2: rows of its group, columns LANES apart. */
struct product_tile {
    float sum[SIDE][SIDE];

    __device__ void add_chunk(const float *rows, const float *weights, unsigned first_row, unsigned lane) {
        float part[SIDE][SIDE] = {};
        for (unsigned k = 0; k < DEPTH; k++)
            for (unsigned i = 0; i < SIDE; i++)
                for (unsigned j = 0; j < SIDE; j++)
                    part[i][j] += rows[k * PITCH + first_row + i] * weights[k * COLUMNS + lane + j * LANES];
        for (unsigned i = 0; i < SIDE; i++)
            for (unsigned j = 0; j < SIDE; j++) sum[i][j] += part[i][j];
    }

    /* The same in all lanes of a row: what these columns add to its score. */
    __device__ float score(const attn_additive &p, std::size_t query, unsigned i, std::size_t first_column) const {
        float score = 0.0f;
        for (unsigned j = 0; j < SIDE; j++) {
            const std::size_t column = first_column + j * LANES;
            if (column < p.width) score += p.v[column] * tanhf(p.projected[query * p.width + column] + sum[i][j]);
        }
        return attn_lane_sum<LANES>(score);
    }
};

__global__ void scores_kernel(const __grid_constant__ attn_additive p) {
    float *const seen = reinterpret_cast<float *>(attn_shared);
    float *const h = seen + ROWS, *const weights = h + DEPTH * PITCH;
    const rows_of_item rows = find_rows(p);
    const unsigned lane = threadIdx.x % LANES, first_row = threadIdx.x / LANES * SIDE;
    if (rows.count == 0) return;
    if (threadIdx.x < ROWS) seen[threadIdx.x] = rows.seen(p, threadIdx.x) ? 1.0f : 0.0f;
    __syncthreads();
    for (std::size_t column0 = 0; column0 < p.width; column0 += COLUMNS) {
        product_tile tile = {};
        for (std::size_t k0 = 0; k0 < p.features; k0 += DEPTH) {
            load_rows(p, rows, k0, seen, h);
            load_weights(p, k0, column0, weights);
            __syncthreads();
            tile.add_chunk(h, weights, first_row, lane);
            __syncthreads();
        }
        for (std::size_t q = 0; q < p.items.queries; q++) {
            const std::size_t query = rows.item * p.items.queries + q;
            for (unsigned i = 0; i < SIDE; i++) {
                const float score = tile.score(p, query, i, column0 + lane);
                if (lane != 0 || first_row + i >= rows.count) continue;
                float *const to = p.scores + query * p.items.timesteps + rows.first + first_row + i;
                *to = column0 == 0 ? score : *to + score;
            }
        }
    }
}

} // namespace

std::size_t attn_additive_blocks(std::size_t batch, std::size_t timesteps) {
    return batch * ((timesteps + ROWS - 1) / ROWS);
}

cudaError_t attn_additive_launch(const attn_additive &additive, cudaStream_t stream) {
    const std::size_t blocks = attn_additive_blocks(additive.batch, additive.items.timesteps);
    if (blocks == 0) return cudaSuccess;
    return attn_launch(scores_kernel, blocks, THREADS, (ROWS + DEPTH * PITCH + DEPTH * COLUMNS) * sizeof(float), stream,
                       additive);
}

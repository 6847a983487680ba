/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda/gram.h"

#include "cuda/launch.h"

namespace {

enum : unsigned {
    TILE = 32,  /* rows and columns of the result */
    DEPTH = 32, /* queries that a sum takes before it is added to the whole */
    THREADS = 128,
    ROWS_OF_THREAD = TILE * TILE / THREADS
};

std::size_t tiles_of(std::size_t width) { return (width + TILE - 1) / TILE; }

__device__ std::size_t width_of(const attn_joined &rows) { return rows.first_width + rows.second_width; }

/* Columns [first, first + TILE) of queries [query0, query0 + DEPTH), zeros behind the ends. */
__device__ void load(const attn_gram &p, const attn_joined &rows, std::size_t query0, std::size_t first, float *tile) {
    for (unsigned i = threadIdx.x; i < DEPTH * TILE; i += THREADS) {
        const std::size_t query = query0 + i / TILE, column = first + i % TILE;
        tile[i] = query < p.count && column < width_of(rows) ? attn_joined_element(rows, p.items, query, column) : 0.0f;
    }
}

__global__ void gram_kernel(const __grid_constant__ attn_gram p) {
    float *const left = reinterpret_cast<float *>(attn_shared), *const right = left + DEPTH * TILE;
    const std::size_t columns = width_of(p.right), tiles = (columns + TILE - 1) / TILE;
    const std::size_t row0 = blockIdx.x / tiles * TILE, column0 = blockIdx.x % tiles * TILE;
    const unsigned column = threadIdx.x % TILE, first_row = threadIdx.x / TILE * ROWS_OF_THREAD;
    float sums[ROWS_OF_THREAD] = {};
    for (std::size_t query = 0; query < p.count; query += DEPTH) {
        load(p, p.left, query, row0, left);
        load(p, p.right, query, column0, right);
        __syncthreads();
        float parts[ROWS_OF_THREAD] = {};
        for (unsigned k = 0; k < DEPTH; k++)
            for (unsigned i = 0; i < ROWS_OF_THREAD; i++)
                parts[i] += left[k * TILE + first_row + i] * right[k * TILE + column];
        for (unsigned i = 0; i < ROWS_OF_THREAD; i++) sums[i] += parts[i];
        __syncthreads();
    }
    if (column0 + column >= columns) return;
    for (unsigned i = 0; i < ROWS_OF_THREAD && row0 + first_row + i < width_of(p.left); i++) {
        float *const to = p.result + (row0 + first_row + i) * columns + column0 + column;
        *to = p.add ? *to + sums[i] : sums[i];
    }
}

} // namespace

cudaError_t attn_gram_launch(const attn_gram &gram, cudaStream_t stream) {
    const std::size_t rows = gram.left.first_width + gram.left.second_width;
    const std::size_t columns = gram.right.first_width + gram.right.second_width;
    if (rows == 0 || columns == 0) return cudaSuccess;
    return attn_launch(gram_kernel, tiles_of(rows) * tiles_of(columns), THREADS, 2 * DEPTH * TILE * sizeof(float),
                       stream, gram);
}

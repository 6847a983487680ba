/* SPDX-License-Identifier: Apache-2.0 */
/* Products of the queries' rows by weights. A block computes a tile of rows and columns, and walks along the rows in steps whose sums start at
 * zero: what it adds to is never long. */
#include "cuda/product.h"

#include "cuda/launch.h"

namespace {

enum : unsigned {
    COLUMNS = 64, /* of a tile, a thread each */
    HALVES = 2,   /* groups of threads that share the columns and split the rows */
    ROWS = 16,
    ROWS_OF_THREAD = ROWS / HALVES,
    DEPTH = 32,
    THREADS = COLUMNS * HALVES,
    PITCH = COLUMNS + 1 /* transposed weights are stored down the columns: without bank conflicts */
};

template <typename Element>
__device__ void load_rows(const attn_product &p, std::size_t row0, std::size_t k0, std::size_t depth, float *rows) {
    for (unsigned i = threadIdx.x; i < ROWS * DEPTH; i += THREADS) {
        const std::size_t row = row0 + i / DEPTH, k = k0 + i % DEPTH;
        rows[i] = row < p.count && k < depth ? attn_joined_element<Element>(p.rows, p.items, row, k) : 0.0f;
    }
}

__device__ void load_weights(const attn_product &p, std::size_t column0, std::size_t k0, std::size_t depth,
                             float *weights) {
    for (unsigned i = threadIdx.x; i < DEPTH * COLUMNS; i += THREADS) {
        const unsigned inner = p.transposed ? i % DEPTH : i / COLUMNS, across = p.transposed ? i / DEPTH : i % COLUMNS;
        const std::size_t k = k0 + inner, column = column0 + across;
        float weight = 0.0f;
        if (k < depth && column < p.columns)
            weight = p.weights[p.transposed ? column * depth + k : k * p.columns + column];
        weights[inner * PITCH + across] = weight;
    }
}

template <typename Element> __global__ void product_kernel(const __grid_constant__ attn_product p) {
    float *const rows = reinterpret_cast<float *>(attn_shared), *const weights = rows + ROWS * DEPTH;
    const std::size_t tiles = (p.columns + COLUMNS - 1) / COLUMNS, depth = p.rows.first_width + p.rows.second_width;
    const std::size_t row0 = blockIdx.x / tiles * ROWS, column0 = blockIdx.x % tiles * COLUMNS;
    const unsigned column = threadIdx.x % COLUMNS, first_row = threadIdx.x / COLUMNS * ROWS_OF_THREAD;
    float sums[ROWS_OF_THREAD] = {};
    for (std::size_t k0 = 0; k0 < depth; k0 += DEPTH) {
        load_rows<Element>(p, row0, k0, depth, rows);
        load_weights(p, column0, k0, depth, weights);
        __syncthreads();
        float parts[ROWS_OF_THREAD] = {};
        for (unsigned k = 0; k < DEPTH; k++)
            for (unsigned i = 0; i < ROWS_OF_THREAD; i++)
                parts[i] += rows[(first_row + i) * DEPTH + k] * weights[k * PITCH + column];
        for (unsigned i = 0; i < ROWS_OF_THREAD; i++) sums[i] += parts[i];
        __syncthreads();
    }
    if (column0 + column >= p.columns) return;
    for (unsigned i = 0; i < ROWS_OF_THREAD; i++) {
        const std::size_t row = row0 + first_row + i;
        if (row >= p.count) return;
        const float value = p.tanh ? tanhf(sums[i]) : sums[i];
        if (p.copy) p.copy[row * p.columns + column0 + column] = value;
        if (!p.result) continue;
        float *const result = p.result + static_cast<std::ptrdiff_t>(row / p.items.queries) * p.result_batch +
                              static_cast<std::ptrdiff_t>(row % p.items.queries) * p.result_row + column0 + column;
        *result = p.add ? *result + value : value;
    }
}

} // namespace

std::size_t attn_product_blocks(std::size_t count, std::size_t columns) {
    return (count + ROWS - 1) / ROWS * ((columns + COLUMNS - 1) / COLUMNS);
}

cudaError_t attn_product_launch(const attn_product &product, cudaStream_t stream) {
    const auto kernel = product.rows.second.stored == ATTN_FLOAT16    ? product_kernel<attn_half>
                        : product.rows.second.stored == ATTN_BFLOAT16 ? product_kernel<attn_bfloat>
                                                                      : product_kernel<float>;
    return attn_launch(kernel, attn_product_blocks(product.count, product.columns), THREADS,
                       (ROWS * DEPTH + DEPTH * PITCH) * sizeof(float), stream, product);
}

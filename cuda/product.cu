/* SPDX-License-Identifier: Apache-2.0 */
/* Products of the queries' rows by weights. */
#include "cuda/product.h"

#include "cuda/product_tile.h"

namespace {

template <typename Element, bool TRANSPOSED> __global__ void product_kernel(const __grid_constant__ attn_product p) {
    typedef attn_product_tile<TRANSPOSED> product_tile;
    const std::size_t tiles = (p.columns + ATTN_PRODUCT_COLUMNS - 1) / ATTN_PRODUCT_COLUMNS;
    const std::size_t row0 = blockIdx.x / tiles * ATTN_PRODUCT_ROWS;
    const std::size_t depth = p.rows.first_width + p.rows.second_width;
    const attn_product_weights weights = {p.weights, depth, p.columns};
    product_tile tile(weights, blockIdx.x % tiles * ATTN_PRODUCT_COLUMNS, reinterpret_cast<float *>(attn_shared));
    tile.load(0);
    tile.run([&](unsigned row, std::size_t k) {
        return row0 + row < p.count && k < depth ? attn_joined_element<Element>(p.rows, p.items, row0 + row, k) : 0.0f;
    });
    const std::size_t column = tile.column0 + tile.column();
    if (column >= p.columns) return;
    ATTN_UNROLL for (unsigned i = 0; i < product_tile::RESULTS; i++) {
        const std::size_t row = row0 + tile.first_row() + i;
        if (row >= p.count) return;
        float *const result = p.result + static_cast<std::ptrdiff_t>(row / p.items.queries) * p.result_batch +
                              static_cast<std::ptrdiff_t>(row % p.items.queries) * p.result_row + column;
        *result = p.add ? *result + tile.result[i] : tile.result[i];
    }
}

template <bool TRANSPOSED> cudaError_t launch(const attn_product &product, cudaStream_t stream) {
    const attn_dtype stored = product.rows.second.stored;
    const auto kernel = stored == ATTN_FLOAT16    ? product_kernel<attn_half, TRANSPOSED>
                        : stored == ATTN_BFLOAT16 ? product_kernel<attn_bfloat, TRANSPOSED>
                                                  : product_kernel<float, TRANSPOSED>;
    return attn_launch(kernel, attn_product_blocks(product.count, product.columns), ATTN_PRODUCT_THREADS,
                       attn_product_tile<TRANSPOSED>::FLOATS * sizeof(float), stream, product);
}

} // namespace

std::size_t attn_product_blocks(std::size_t count, std::size_t columns) {
    return (count + ATTN_PRODUCT_ROWS - 1) / ATTN_PRODUCT_ROWS *
           ((columns + ATTN_PRODUCT_COLUMNS - 1) / ATTN_PRODUCT_COLUMNS);
}

cudaError_t attn_product_launch(const attn_product &product, cudaStream_t stream) {
    return product.transposed ? launch<true>(product, stream) : launch<false>(product, stream);
}

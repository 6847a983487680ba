/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ATTN_CUDA_PRODUCT_H
#define ATTN_CUDA_PRODUCT_H

#include "cuda/items.h"

/* result[r] = rows[r] . weights, of shape (width, columns), for each query r. How a row is summed depends on the widths alone. */
struct attn_product {
    attn_items items;
    attn_joined rows;
    const float *weights;
    bool transposed; /* weights are stored (columns, width) */
    std::size_t count, columns;
    float *result;
    bool add; /* to what stands there */
    std::ptrdiff_t result_batch, result_row;
};

std::size_t attn_product_blocks(std::size_t count, std::size_t columns);
cudaError_t attn_product_launch(const attn_product &product, cudaStream_t stream);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ATTN_CUDA_PRODUCT_H
#define ATTN_CUDA_PRODUCT_H

#include "cuda/items.h"

/* result[r] = [first[r] ; second[r]] . weights, of shape (first_width + second_width, columns), for each query r. How a row is summed depends on
 * the widths alone. */
struct attn_product {
    attn_items items;
    const float *first; /* dense; unused when first_width is 0 */
    attn_rows second;
    std::size_t first_width, second_width;
    const float *weights;
    bool transposed; /* weights are stored (columns, widths) */
    bool tanh;       /* of the result */
    std::size_t count, columns;
    float *result;
    std::ptrdiff_t result_batch, result_row;
};

std::size_t attn_product_blocks(std::size_t count, std::size_t columns);
cudaError_t attn_product_launch(const attn_product &product, cudaStream_t stream);

#endif

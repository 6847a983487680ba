/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda/composition.h"

#include "cuda/composition_tile.h"
#include "cuda/device.h"
#include "cuda/sdpa_tile.h"

attn_gemm attn_matrix_product(std::size_t rows, std::size_t columns, std::size_t depth) {
    attn_gemm g = {};
    g.stored = g.result = ATTN_FLOAT32;
    g.rows = rows, g.columns = columns, g.depth = depth;
    g.alpha = 1.0f;
    for (attn_gemm_batch &batch : g.batches) batch.count = 1;
    return g;
}

attn_status attn_composition::collect(const attn_rows &rows, std::size_t width, float *to) const {
    return attn_cuda_take(attn_collect_launch({attn_call_items(call), rows, count(), width, to}, stream));
}

attn_status attn_composition::multiply(const attn_matrix &rows, const void *weights, bool transposed,
                                       std::size_t columns, float *to, bool add) const {
    attn_gemm g = attn_matrix_product(count(), columns, rows.width);
    g.transpose_b = transposed, g.beta = add ? 1.0f : 0.0f;
    g.a = rows.data, g.b = weights, g.c = to;
    g.a_row = static_cast<std::ptrdiff_t>(rows.width), g.c_row = static_cast<std::ptrdiff_t>(columns);
    g.b_row = static_cast<std::ptrdiff_t>(transposed ? rows.width : columns);
    return blas->multiply_in_parts(g, g.depth);
}

attn_status attn_composition::fold(const float *queries, float *folded) const {
    const attn_matrix rows = {queries, sizes().query_features};
    if (additive()) return multiply(rows, call->bahdanau_w1, false, sizes().score_width, folded, false);
    if (sizes().score == ATTN_SCORE_LUONG) return multiply(rows, call->luong_w, true, sizes().features, folded, false);
    return ATTN_OK;
}

std::size_t attn_composition_width(const attn_layer_problem *sizes) {
    return sizes->score == ATTN_SCORE_BAHDANAU ? sizes->score_width : sizes->features;
}

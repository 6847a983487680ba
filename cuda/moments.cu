/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda/moments.h"

#include "cuda/long_sum.h"
#include "cuda/row_group.h"

#include <cmath>

namespace {

enum : unsigned { WARPS = 4, THREADS = WARPS * ATTN_WARP };

__device__ float given_gradient(const attn_moments &p, std::size_t query, std::size_t step) {
    if (!p.grad_weights) return 0.0f;
    return p.grad_weights[static_cast<std::ptrdiff_t>(query / p.items.queries) * p.weights_batch +
                          static_cast<std::ptrdiff_t>(query % p.items.queries) * p.weights_row +
                          static_cast<std::ptrdiff_t>(step)];
}

/* What a warp sums up, each row in its own lanes. */
template <unsigned VECTORS> struct warp_moments {
    typedef attn_row_group<VECTORS> group;
    attn_long_sum<3> product, weight;

    /* All lanes come here with the same step and limit. */
    template <typename Element>
    __device__ void take(const attn_moments &p, const attn_states<Element> &h, std::size_t query,
                         const attn_warp_row<VECTORS> &grad_context, std::size_t step, std::size_t limit) {
        group rows;
        rows.load(h, p.items, query, step, limit);
        const std::size_t own = step + group::mine(), at = query * p.items.timesteps + own;
        float gradient = rows.dot(grad_context), share = 0.0f;
        if (rows.sees(group::mine())) {
            gradient += given_gradient(p, query, own);
            share = expf(p.scores[at] - p.maximum[query]) / p.sum[query];
            product.add(share * gradient);
            weight.add(share);
        } else {
            gradient = 0.0f;
        }
        if (own < limit && group::leads()) p.weights[at] = share, p.gradients[at] = gradient;
    }
};

template <unsigned VECTORS, typename Element> __global__ void moments_kernel(const __grid_constant__ attn_moments p) {
    float *const products = reinterpret_cast<float *>(attn_shared), *const weights = products + WARPS;
    const std::size_t query = blockIdx.x / p.chunks, warp = threadIdx.x / ATTN_WARP;
    const attn_range range = attn_item_range(p.items, query / p.items.queries);
    const std::size_t first = blockIdx.x % p.chunks * p.steps;
    const std::size_t last = first + p.steps < range.length ? first + p.steps : range.length;
    const attn_states<Element> h(static_cast<const Element *>(p.h), p.h_batch, p.h_time, p.features,
                                 query / p.items.queries);
    attn_warp_row<VECTORS> grad_context;
    grad_context.load(p.grad_context + query * p.features, p.features, false);
    warp_moments<VECTORS> moments;
    enum : unsigned { ROWS = attn_row_group<VECTORS>::ROWS };
    for (std::size_t step = first + warp * ROWS; step < last; step += WARPS * ROWS)
        moments.take(p, h, query, grad_context, range.start + step, range.start + last);
    const float product = attn_row_group<VECTORS>::total(moments.product.total());
    const float weight = attn_row_group<VECTORS>::total(moments.weight.total());
    if (threadIdx.x % ATTN_WARP == 0) products[warp] = product, weights[warp] = weight;
    __syncthreads();
    if (threadIdx.x != 0) return;
    p.part_product[blockIdx.x] = ((products[0] + products[1]) + products[2]) + products[3];
    p.part_weight[blockIdx.x] = ((weights[0] + weights[1]) + weights[2]) + weights[3];
}

/* A thread for each query. */
__global__ void shift_kernel(const __grid_constant__ attn_moments p) {
    const std::size_t query = static_cast<std::size_t>(blockIdx.x) * THREADS + threadIdx.x;
    if (query >= p.count) return;
    attn_long_sum<2> products, weights;
    for (std::size_t c = 0; c < p.chunks; c++) {
        products.add(p.part_product[query * p.chunks + c]);
        weights.add(p.part_weight[query * p.chunks + c]);
    }
    const float given = p.grad_lse ? p.grad_lse[static_cast<std::ptrdiff_t>(query / p.items.queries) * p.lse_batch +
                                                static_cast<std::ptrdiff_t>(query % p.items.queries)]
                                   : 0.0f;
    p.shift[query] = given - products.total() / weights.total();
}

} // namespace

cudaError_t attn_moments_launch(const attn_moments &moments, cudaStream_t stream) {
    if (moments.chunks == 0) return cudaSuccess;
    const cudaError_t error =
        attn_launch(ATTN_BY_STORAGE(moments_kernel, moments.features, moments.stored), moments.count * moments.chunks,
                    THREADS, 2 * WARPS * sizeof(float), stream, moments);
    return error ? error
                 : attn_launch(shift_kernel, (moments.count + THREADS - 1) / THREADS, THREADS, 0, stream, moments);
}

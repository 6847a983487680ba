/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda/query_back.h"

#include "cuda/launch.h"
#include "cuda/long_sum.h"
#include "cuda/warp_row.h"

namespace {

enum : unsigned { WARPS = 4, THREADS = WARPS * ATTN_WARP };

std::size_t blocks_for(std::size_t elements) {
    const std::size_t blocks = (elements + THREADS - 1) / THREADS;
    return blocks < attn_largest_grid ? blocks : attn_largest_grid;
}

/* The elements that a thread takes: this one, and every so many further. */
__device__ std::size_t first_element() { return static_cast<std::size_t>(blockIdx.x) * THREADS + threadIdx.x; }
__device__ std::size_t stride_of_elements() { return static_cast<std::size_t>(gridDim.x) * THREADS; }

__global__ void tanh_kernel(const __grid_constant__ attn_through_tanh p) {
    for (std::size_t i = first_element(); i < p.count * p.units; i += stride_of_elements()) {
        const std::size_t query = i / p.units, unit = i % p.units;
        float z = 0.0f;
        if (p.given) {
            const float output = p.output[i];
            z = p.given[static_cast<std::ptrdiff_t>(query / p.queries) * p.given_batch +
                        static_cast<std::ptrdiff_t>(query % p.queries) * p.given_row +
                        static_cast<std::ptrdiff_t>(unit)] *
                ((1.0f - output) * (1.0f + output));
        }
        p.z[i] = z;
    }
}

/* The gradient of a query's context, element by element, and its product with the context. */
__device__ float complete_context(const attn_shift &p, std::size_t query) {
    float sum = 0.0f;
    for (std::size_t f = threadIdx.x % ATTN_WARP; f < p.features; f += ATTN_WARP) {
        float gradient = p.through_output ? p.grad_context[query * p.features + f] : 0.0f;
        if (p.given)
            gradient +=
                p.given[static_cast<std::ptrdiff_t>(query / p.queries) * p.given_batch +
                        static_cast<std::ptrdiff_t>(query % p.queries) * p.given_row + static_cast<std::ptrdiff_t>(f)];
        p.grad_context[query * p.features + f] = gradient;
        sum += gradient * p.context[query * p.features + f];
    }
    return attn_warp_sum(sum);
}

/* A warp for each query. */
__global__ void shift_kernel(const __grid_constant__ attn_shift p) {
    const std::size_t query = static_cast<std::size_t>(blockIdx.x) * WARPS + threadIdx.x / ATTN_WARP;
    if (query >= p.count) return;
    float shift = -complete_context(p, query);
    for (std::size_t e = threadIdx.x % ATTN_WARP; e < p.query_features && !p.through_output; e += ATTN_WARP)
        p.grad_query[query * p.query_features + e] = 0.0f;
    if (threadIdx.x % ATTN_WARP != 0) return;
    if (p.part_mean) {
        attn_long_sum<2> means;
        for (std::size_t c = 0; c < p.chunks; c++) means.add(p.part_mean[query * p.chunks + c]);
        shift -= means.total();
    }
    if (p.grad_lse)
        shift += p.grad_lse[static_cast<std::ptrdiff_t>(query / p.queries) * p.lse_batch +
                            static_cast<std::ptrdiff_t>(query % p.queries)];
    p.shift[query] = shift;
}

__global__ void merge_kernel(const __grid_constant__ attn_merge_parts p) {
    for (std::size_t i = first_element(); i < p.count * p.width; i += stride_of_elements()) {
        attn_long_sum<> parts;
        for (std::size_t c = 0; c < p.chunks; c++)
            parts.add(p.part[(i / p.width * p.chunks + c) * p.width + i % p.width]);
        p.sum[i] = p.add ? p.sum[i] + parts.total() : parts.total();
    }
}

__global__ void hand_back_kernel(const __grid_constant__ attn_hand_back p) {
    for (std::size_t i = first_element(); i < p.count * p.width; i += stride_of_elements()) {
        const attn_stored_row to = attn_row(p.to, p.items, i / p.width);
        if (to.zeros) continue;
        float *const row = static_cast<float *>(const_cast<void *>(p.to.base)) + to.first;
        const float gradient = p.more ? p.gradient[i] + p.more[i] : p.gradient[i];
        row[i % p.width] = p.add ? row[i % p.width] + gradient : gradient;
    }
}

__global__ void clear_kernel(const __grid_constant__ attn_clear p) {
    const std::size_t rows = p.count * p.items.timesteps;
    for (std::size_t i = first_element() / ATTN_WARP; i < rows; i += stride_of_elements() / ATTN_WARP) {
        const std::size_t item = i / p.items.timesteps, step = i % p.items.timesteps;
        if (!p.all) {
            const attn_range range = attn_item_range(p.items, item);
            if (step >= range.start && step - range.start < range.length) continue;
        }
        float *const row =
            p.rows + static_cast<std::ptrdiff_t>(item) * p.batch + static_cast<std::ptrdiff_t>(step) * p.row;
        for (std::size_t f = threadIdx.x % ATTN_WARP; f < p.width; f += ATTN_WARP) row[f] = 0.0f;
    }
}

/* Nothing is launched for nothing. */
template <typename Parameters>
cudaError_t launch(void (*kernel)(Parameters), std::size_t elements, cudaStream_t stream, const Parameters &given) {
    return elements == 0 ? cudaSuccess : attn_launch(kernel, blocks_for(elements), THREADS, 0, stream, given);
}

} // namespace

cudaError_t attn_through_tanh_launch(const attn_through_tanh &through, cudaStream_t stream) {
    return launch(tanh_kernel, through.count * through.units, stream, through);
}

cudaError_t attn_shift_launch(const attn_shift &shift, cudaStream_t stream) {
    return launch(shift_kernel, shift.count * ATTN_WARP, stream, shift);
}

cudaError_t attn_merge_parts_launch(const attn_merge_parts &merge, cudaStream_t stream) {
    return launch(merge_kernel, merge.count * merge.width, stream, merge);
}

cudaError_t attn_hand_back_launch(const attn_hand_back &hand_back, cudaStream_t stream) {
    return launch(hand_back_kernel, hand_back.count * hand_back.width, stream, hand_back);
}

cudaError_t attn_clear_launch(const attn_clear &clear, cudaStream_t stream) {
    return launch(clear_kernel, clear.count * clear.items.timesteps * ATTN_WARP, stream, clear);
}

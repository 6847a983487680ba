/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda/attend_back.h"

#include "cuda/warp_row.h"

#include <cmath>

namespace {

enum : unsigned { WARPS = 4, THREADS = WARPS * ATTN_WARP };

/* A block's part of an item: steps [first, last) counted from the start of its range. */
struct chunk {
    std::size_t item, index, first, last;
    attn_range range;
};

__device__ chunk find_chunk(const attn_attend_back &p, std::size_t item, std::size_t index) {
    chunk c;
    c.item = item, c.index = index;
    c.range = attn_item_range(p.items, item);
    c.first = index * p.steps;
    c.last = c.first + p.steps < c.range.length ? c.first + p.steps : c.range.length;
    return c;
}

__device__ const float *row_of_h(const attn_attend_back &p, std::size_t item, std::size_t step) {
    return p.h + static_cast<std::ptrdiff_t>(item) * p.h_batch + static_cast<std::ptrdiff_t>(step) * p.h_time;
}

__device__ float given_gradient(const attn_attend_back &p, std::size_t query, std::size_t step) {
    return p.grad_weights[static_cast<std::ptrdiff_t>(query / p.items.queries) * p.weights_batch +
                          static_cast<std::ptrdiff_t>(query % p.items.queries) * p.weights_row +
                          static_cast<std::ptrdiff_t>(step)];
}

template <unsigned VECTORS>
__device__ void load_query(const attn_attend_back &p, std::size_t query, attn_warp_row<VECTORS> &q) {
    const float *const row = attn_row(p.queries, p.items, query);
    if (row)
        q.load(row, p.features, false);
    else
        q.fill(0.0f);
}

/* Some rows of H, and how a query weighs them: 0 where it does not attend. All lanes have the same. */
template <unsigned VECTORS> struct weighed_rows {
    enum : unsigned { GROUP = attn_in_flight<VECTORS>::ROWS };
    attn_warp_row<VECTORS> row[GROUP];
    bool attended[GROUP];
    float weight[GROUP];

    __device__ void load(const attn_attend_back &p, const chunk &c, std::size_t query, const attn_warp_row<VECTORS> &q,
                         std::size_t step, bool whole) {
        ATTN_UNROLL for (unsigned g = 0; g < GROUP; g++) {
            attended[g] = step + g < c.last && attn_unmasked(p.items, query, c.range.start + step + g);
            if (attended[g])
                row[g].load(row_of_h(p, c.item, c.range.start + step + g), p.features, whole);
            else
                row[g].fill(0.0f);
        }
        ATTN_UNROLL for (unsigned g = 0; g < GROUP; g++) {
            const float score = attn_warp_sum(q.dot(row[g]));
            weight[g] = attended[g] ? expf(score - p.maximum[query]) / p.sum[query] : 0.0f;
        }
    }
};

template <unsigned VECTORS> __global__ void means_kernel(const __grid_constant__ attn_attend_back p) {
    float *const sums = reinterpret_cast<float *>(attn_shared);
    const std::size_t query = blockIdx.x / p.chunks, warp = threadIdx.x / ATTN_WARP;
    const chunk c = find_chunk(p, query / p.items.queries, blockIdx.x % p.chunks);
    const bool whole = attn_aligned_rows(p.h, p.h_batch, p.h_time, p.features);
    attn_warp_row<VECTORS> q;
    weighed_rows<VECTORS> rows;
    load_query(p, query, q);
    float sum = 0.0f;
    for (std::size_t step = c.first + warp * rows.GROUP; step < c.last; step += WARPS * rows.GROUP) {
        rows.load(p, c, query, q, step, whole);
        for (unsigned g = 0; g < rows.GROUP; g++)
            if (rows.attended[g]) sum += rows.weight[g] * given_gradient(p, query, c.range.start + step + g);
    }
    if (threadIdx.x % ATTN_WARP == 0) sums[warp] = sum;
    __syncthreads();
    if (threadIdx.x == 0) p.part_mean[blockIdx.x] = ((sums[0] + sums[1]) + sums[2]) + sums[3];
}

/* A query's part in the rows of a warp. */
template <unsigned VECTORS> struct query_back {
    std::size_t query;
    bool first; /* of the item's queries */
    attn_warp_row<VECTORS> q, grad_context, grad_query;

    __device__ void take(const attn_attend_back &p, const chunk &c, std::size_t step, bool whole, bool whole_out) {
        weighed_rows<VECTORS> rows;
        rows.load(p, c, query, q, step, whole);
        ATTN_UNROLL for (unsigned g = 0; g < rows.GROUP; g++) {
            float gradient = attn_warp_sum(grad_context.dot(rows.row[g])) + p.shift[query];
            if (rows.attended[g]) {
                if (p.grad_weights) gradient += given_gradient(p, query, c.range.start + step + g);
                gradient *= rows.weight[g];
                grad_query.add(gradient, rows.row[g]);
            }
            if (p.grad_h && step + g < c.last)
                write(p, c, step + g, rows.attended[g], rows.weight[g], gradient, whole_out);
        }
    }

    __device__ void write(const attn_attend_back &p, const chunk &c, std::size_t step, bool attended, float weight,
                          float gradient, bool whole) const {
        float *const to = p.grad_h + static_cast<std::ptrdiff_t>(c.item) * p.grad_h_batch +
                          static_cast<std::ptrdiff_t>(c.range.start + step) * p.grad_h_time;
        const bool adds = p.add_h || !first;
        if (adds && !attended) return;
        attn_warp_row<VECTORS> sum;
        if (adds)
            sum.load(to, p.features, whole);
        else
            sum.fill(0.0f);
        if (attended) {
            sum.add(weight, grad_context);
            sum.add(gradient, q);
        }
        sum.store(to, p.features, whole);
    }
};

template <unsigned VECTORS> __global__ void back_kernel(const __grid_constant__ attn_attend_back p) {
    float *const parts = reinterpret_cast<float *>(attn_shared);
    const std::size_t item = blockIdx.x / p.chunks, warp = threadIdx.x / ATTN_WARP;
    const chunk c = find_chunk(p, item, blockIdx.x % p.chunks);
    const bool whole = attn_aligned_rows(p.h, p.h_batch, p.h_time, p.features);
    const bool whole_out = attn_aligned_rows(p.grad_h, p.grad_h_batch, p.grad_h_time, p.features);
    enum : unsigned { GROUP = attn_in_flight<VECTORS>::ROWS };
    for (std::size_t i = 0; i < p.items.queries; i++) {
        query_back<VECTORS> b;
        b.query = item * p.items.queries + i, b.first = i == 0;
        load_query(p, b.query, b.q);
        b.grad_context.load(p.grad_context + b.query * p.features, p.features, false);
        b.grad_query.fill(0.0f);
        for (std::size_t step = c.first + warp * GROUP; step < c.last; step += WARPS * GROUP)
            b.take(p, c, step, whole, whole_out);
        b.grad_query.store(parts + warp * p.features, p.features, false);
        __syncthreads();
        for (std::size_t f = threadIdx.x; f < p.features; f += THREADS) {
            float sum = 0.0f;
            for (std::size_t w = 0; w < WARPS; w++) sum += parts[w * p.features + f];
            p.part_query[(b.query * p.chunks + c.index) * p.features + f] = sum;
        }
        __syncthreads();
    }
}

} // namespace

cudaError_t attn_attend_back_means(const attn_attend_back &back, cudaStream_t stream) {
    if (back.chunks == 0) return cudaSuccess;
    return attn_launch(ATTN_BY_WIDTH(means_kernel, back.features), back.batch * back.items.queries * back.chunks,
                       THREADS, WARPS * sizeof(float), stream, back);
}

cudaError_t attn_attend_back_launch(const attn_attend_back &back, cudaStream_t stream) {
    if (back.chunks == 0) return cudaSuccess;
    return attn_launch(ATTN_BY_WIDTH(back_kernel, back.features), back.batch * back.chunks, THREADS,
                       WARPS * back.features * sizeof(float), stream, back);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda/attend_back.h"

#include "cuda/long_sum.h"
#include "cuda/row_group.h"

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

__device__ float given_gradient(const attn_attend_back &p, std::size_t query, std::size_t step) {
    return p.grad_weights[static_cast<std::ptrdiff_t>(query / p.items.queries) * p.weights_batch +
                          static_cast<std::ptrdiff_t>(query % p.items.queries) * p.weights_row +
                          static_cast<std::ptrdiff_t>(step)];
}

template <unsigned VECTORS>
__device__ void load_query(const attn_attend_back &p, std::size_t query, attn_warp_row<VECTORS> &q) {
    const attn_stored_row row = attn_row(p.queries, p.items, query);
    q.fill(0.0f);
    if (!row.zeros) q.load_elements(row, p.features);
}

/* Rows of H and how a query weighs them, in each row's lanes: 0 where it does not attend. */
template <unsigned VECTORS> struct weighed_rows : attn_row_group<VECTORS> {
    float weight;

    template <typename Element>
    __device__ void load(const attn_attend_back &p, const chunk &c, const attn_states<Element> &h, std::size_t query,
                         const attn_warp_row<VECTORS> &q, std::size_t step) {
        attn_row_group<VECTORS>::load(h, p.items, query, c.range.start + step, c.range.start + c.last);
        const float score = this->dot(q);
        weight = this->sees(this->mine()) ? expf(score - p.maximum[query]) / p.sum[query] : 0.0f;
    }
};

template <unsigned VECTORS, typename Element> __global__ void means_kernel(const __grid_constant__ attn_attend_back p) {
    float *const sums = reinterpret_cast<float *>(attn_shared);
    const std::size_t query = blockIdx.x / p.chunks, warp = threadIdx.x / ATTN_WARP;
    const chunk c = find_chunk(p, query / p.items.queries, blockIdx.x % p.chunks);
    const attn_states<Element> h(static_cast<const Element *>(p.h), p.h_batch, p.h_time, p.features, c.item);
    attn_warp_row<VECTORS> q;
    weighed_rows<VECTORS> rows;
    load_query(p, query, q);
    attn_long_sum<3> products;
    for (std::size_t step = c.first + warp * rows.ROWS; step < c.last; step += WARPS * rows.ROWS) {
        rows.load(p, c, h, query, q, step);
        if (rows.sees(rows.mine()))
            products.add(rows.weight * given_gradient(p, query, c.range.start + step + rows.mine()));
    }
    const float sum = rows.total(products.total());
    if (threadIdx.x % ATTN_WARP == 0) sums[warp] = sum;
    __syncthreads();
    if (threadIdx.x == 0) p.part_mean[blockIdx.x] = ((sums[0] + sums[1]) + sums[2]) + sums[3];
}

/* A query's part in the rows of a warp. */
template <unsigned VECTORS> struct query_back {
    std::size_t query;
    bool first; /* of the item's queries */
    attn_warp_row<VECTORS> q, grad_context, grad_query;

    template <typename Element>
    __device__ void take(const attn_attend_back &p, const chunk &c, const attn_states<Element> &h, std::size_t step,
                         bool whole_out) {
        weighed_rows<VECTORS> rows;
        rows.load(p, c, h, query, q, step);
        float own = rows.dot(grad_context) + p.shift[query];
        if (rows.sees(rows.mine())) {
            if (p.grad_weights) own += given_gradient(p, query, c.range.start + step + rows.mine());
            own *= rows.weight;
        } else {
            own = 0.0f;
        }
        float *const to = p.grad_h ? row_of_gradient(p, c, step) : nullptr;
        const bool adds = p.add_h || !first, plain = to && whole_out && !adds && rows.seen == rows.ALL;
        ATTN_UNROLL for (unsigned g = 0; g < rows.ROWS; g++) {
            const float weight = rows.of(rows.weight, g), gradient = rows.of(own, g);
            float *const row = to ? to + static_cast<std::ptrdiff_t>(g) * p.grad_h_time : nullptr;
            grad_query.add(gradient, rows.row[g]);
            if (plain)
                found(weight, gradient).store_vectors(row, p.features);
            else if (to && step + g < c.last)
                write(row, p.features, whole_out, adds, rows.sees(g), found(weight, gradient));
        }
    }

    static __device__ float *row_of_gradient(const attn_attend_back &p, const chunk &c, std::size_t step) {
        return p.grad_h + static_cast<std::ptrdiff_t>(c.item) * p.grad_h_batch +
               static_cast<std::ptrdiff_t>(c.range.start + step) * p.grad_h_time;
    }

    /* A row of grad_h. */
    __device__ attn_warp_row<VECTORS> found(float weight, float gradient) const {
        attn_warp_row<VECTORS> row = grad_context;
        row.scale(weight);
        row.add(gradient, q);
        return row;
    }

    static __device__ void write(float *to, std::size_t features, bool whole, bool adds, bool attended,
                                 const attn_warp_row<VECTORS> &row) {
        attn_warp_row<VECTORS> sum;
        if (adds && !attended) return;
        if (adds)
            sum.load(to, features, whole);
        else
            sum.fill(0.0f);
        if (attended) sum.add(1.0f, row);
        sum.store(to, features, whole);
    }
};

template <unsigned VECTORS, typename Element> __global__ void back_kernel(const __grid_constant__ attn_attend_back p) {
    float *const parts = reinterpret_cast<float *>(attn_shared);
    const std::size_t item = blockIdx.x / p.chunks, warp = threadIdx.x / ATTN_WARP;
    const chunk c = find_chunk(p, item, blockIdx.x % p.chunks);
    const attn_states<Element> h(static_cast<const Element *>(p.h), p.h_batch, p.h_time, p.features, item);
    const bool whole_out = attn_aligned_rows(p.grad_h, p.grad_h_batch, p.grad_h_time, p.features);
    enum : unsigned { ROWS = attn_row_group<VECTORS>::ROWS };
    for (std::size_t i = 0; i < p.items.queries; i++) {
        query_back<VECTORS> b;
        b.query = item * p.items.queries + i, b.first = i == 0;
        load_query(p, b.query, b.q);
        b.grad_context.load(p.grad_context + b.query * p.features, p.features, false);
        b.grad_query.fill(0.0f);
        for (std::size_t step = c.first + warp * ROWS; step < c.last; step += WARPS * ROWS)
            b.take(p, c, h, step, whole_out);
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
    return attn_launch(ATTN_BY_STORAGE(means_kernel, back.features, back.stored),
                       back.batch * back.items.queries * back.chunks, THREADS, WARPS * sizeof(float), stream, back);
}

cudaError_t attn_attend_back_launch(const attn_attend_back &back, cudaStream_t stream) {
    if (back.chunks == 0) return cudaSuccess;
    return attn_launch(ATTN_BY_STORAGE(back_kernel, back.features, back.stored), back.batch * back.chunks, THREADS,
                       WARPS * back.features * sizeof(float), stream, back);
}

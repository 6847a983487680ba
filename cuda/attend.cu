/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda/attend.h"

#include "cuda/row_group.h"

#include <cmath>

namespace {

enum : unsigned { WARPS = 4, THREADS = WARPS * ATTN_WARP };

/* A shorter chunk keeps more of a large GPU busy with few items; its part costs as much as one step of it. */
enum : std::size_t { SHORTEST_CHUNK = 128, MOST_CHUNKS = 64 };

/* exp(from - to) for from <= to; 1 where they are the same infinity. */
__device__ float rescale(float from, float to) { return from == to ? 1.0f : expf(from - to); }

/* What a warp has of its share of a chunk. */
template <unsigned VECTORS> struct warp_state {
    typedef attn_row_group<VECTORS> group;
    float maximum, sum;
    attn_warp_row<VECTORS> context;

    /* Takes in a group of rows, from step on. All lanes come here with the same step and limit. */
    template <typename Element>
    __device__ void take(const attn_attend &p, const attn_states<Element> &h, std::size_t query,
                         const attn_warp_row<VECTORS> &q, std::size_t step, std::size_t limit) {
        group rows;
        rows.load(h, p.items, query, step, limit);
        const std::size_t own = step + group::mine();
        const bool attended = rows.sees(group::mine());
        const float score = p.scores ? given_score(p, query, own, limit) : rows.dot(q);
        const float highest = group::highest(attended ? fmaxf(maximum, score) : maximum);
        const float kept = rescale(maximum, highest), weight = attended ? expf(score - highest) : 0.0f;
        maximum = highest;
        sum *= kept;
        context.scale(kept);
        ATTN_UNROLL for (unsigned g = 0; g < group::ROWS; g++) {
            const float of_row = group::of(weight, g);
            sum += of_row;
            context.add(of_row, rows.row[g]);
        }
        if (p.weights && attended && group::leads()) score_of(p, query)[own] = score;
    }

    static __device__ float given_score(const attn_attend &p, std::size_t query, std::size_t step, std::size_t limit) {
        return step < limit ? p.scores[query * p.items.timesteps + step] : 0.0f;
    }

    /* The row of attention weights holds the scores until they are normalised. */
    static __device__ float *score_of(const attn_attend &p, std::size_t query) {
        return p.weights + static_cast<std::ptrdiff_t>(query / p.items.queries) * p.weights_batch +
               static_cast<std::ptrdiff_t>(query % p.items.queries) * p.weights_row;
    }
};

/* Parts of a softmax, `stride` floats of context apart, merged first to last: a part of sum 0 holds nothing, nor is its context read. */
struct parts {
    const float *maximum, *sum, *context;
    std::size_t count, stride;

    __device__ float highest() const {
        float found = -INFINITY;
        for (std::size_t i = 0; i < count; i++)
            if (sum[i] != 0.0f) found = fmaxf(found, maximum[i]);
        return found;
    }

    __device__ float total(float highest) const {
        float merged = 0.0f;
        for (std::size_t i = 0; i < count; i++)
            if (sum[i] != 0.0f) merged += rescale(maximum[i], highest) * sum[i];
        return merged;
    }

    __device__ float element(float highest, std::size_t feature) const {
        float merged = 0.0f;
        for (std::size_t i = 0; i < count; i++)
            if (sum[i] != 0.0f) merged += rescale(maximum[i], highest) * context[i * stride + feature];
        return merged;
    }
};

template <unsigned VECTORS, typename Element> __global__ void chunk_kernel(const __grid_constant__ attn_attend p) {
    float *const maxima = reinterpret_cast<float *>(attn_shared), *const sums = maxima + WARPS;
    float *const contexts = sums + WARPS;
    const std::size_t query = blockIdx.x / p.chunks, warp = threadIdx.x / ATTN_WARP;
    const attn_range range = attn_item_range(p.items, query / p.items.queries);
    const std::size_t first = blockIdx.x % p.chunks * p.steps;
    const std::size_t last = first + p.steps < range.length ? first + p.steps : range.length;
    const attn_states<Element> h(static_cast<const Element *>(p.h), p.h_batch, p.h_time, p.features,
                                 query / p.items.queries);
    attn_warp_row<VECTORS> q;
    attn_stored_row row = {true, nullptr, 0, ATTN_FLOAT32};
    if (!p.scores) row = attn_row(p.queries, p.items, query);
    q.fill(0.0f);
    if (!row.zeros) q.load_elements(row, p.features);
    warp_state<VECTORS> state;
    state.maximum = -INFINITY;
    state.sum = 0.0f;
    state.context.fill(0.0f);
    enum : unsigned { ROWS = attn_row_group<VECTORS>::ROWS };
    for (std::size_t step = first + warp * ROWS; step < last; step += WARPS * ROWS)
        state.take(p, h, query, q, range.start + step, range.start + last);

    state.context.store(contexts + warp * p.features, p.features, false);
    if (threadIdx.x % ATTN_WARP == 0) maxima[warp] = state.maximum, sums[warp] = state.sum;
    __syncthreads();
    const parts shares = {maxima, sums, contexts, WARPS, p.features};
    const float highest = shares.highest();
    if (threadIdx.x == 0) p.part_maximum[blockIdx.x] = highest, p.part_sum[blockIdx.x] = shares.total(highest);
    for (std::size_t feature = threadIdx.x; feature < p.features; feature += THREADS)
        p.part_context[blockIdx.x * p.features + feature] = shares.element(highest, feature);
}

__device__ void normalise(const attn_attend &p, std::size_t query, float highest, float total) {
    const attn_range range = attn_item_range(p.items, query / p.items.queries);
    float *const weights = warp_state<1>::score_of(p, query);
    for (std::size_t step = threadIdx.x; step < p.items.timesteps; step += THREADS) {
        const bool attended =
            step >= range.start && step - range.start < range.length && attn_unmasked(p.items, query, step);
        weights[step] = attended ? expf(weights[step] - highest) / total : 0.0f;
    }
}

/* Merges a query's chunks, a query a block. */
__global__ void merge_kernel(const __grid_constant__ attn_attend p) {
    const std::size_t query = blockIdx.x, item = query / p.items.queries, row = query % p.items.queries;
    const std::size_t at = query * p.chunks;
    const parts chunks = {p.part_maximum + at, p.part_sum + at, p.part_context + at * p.features, p.chunks, p.features};
    const float highest = chunks.highest(), total = chunks.total(highest);
    for (std::size_t feature = threadIdx.x; feature < p.features; feature += THREADS) {
        const float context = total == 0.0f ? 0.0f : chunks.element(highest, feature) / total;
        if (p.context_rows) p.context_rows[query * p.features + feature] = context;
        if (p.context)
            p.context[static_cast<std::ptrdiff_t>(item) * p.context_batch +
                      static_cast<std::ptrdiff_t>(row) * p.context_row + static_cast<std::ptrdiff_t>(feature)] =
                context;
    }
    if (p.maximum && threadIdx.x == 0) p.maximum[query] = highest, p.sum[query] = total;
    if (p.lse && threadIdx.x == 0)
        p.lse[static_cast<std::ptrdiff_t>(item) * p.lse_batch + static_cast<std::ptrdiff_t>(row)] =
            total == 0.0f ? -INFINITY : highest + logf(total);
    if (p.weights) normalise(p, query, highest, total);
}

} // namespace

std::size_t attn_attend_steps(std::size_t timesteps) {
    const std::size_t least = (timesteps + MOST_CHUNKS - 1) / MOST_CHUNKS;
    return least > SHORTEST_CHUNK ? least : SHORTEST_CHUNK;
}

cudaError_t attn_attend_launch(const attn_attend &attend, cudaStream_t stream) {
    cudaError_t error = cudaSuccess;
    if (attend.chunks > 0)
        error = attn_launch(ATTN_BY_STORAGE(chunk_kernel, attend.features, attend.stored), attend.count * attend.chunks,
                            THREADS, WARPS * (2 + attend.features) * sizeof(float), stream, attend);
    return error ? error : attn_launch(merge_kernel, attend.count, THREADS, 0, stream, attend);
}

cudaError_t attn_attend_probe() {
    cudaFuncAttributes attributes;
    return cudaFuncGetAttributes(&attributes, reinterpret_cast<const void *>(merge_kernel));
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda/attend.h"

#include "cuda/row_group.h"

#include <cmath>

namespace {

enum : unsigned { WARPS = 4, THREADS = WARPS * ATTN_WARP };

/* A shorter chunk keeps more of a large GPU busy with few items; its part costs as much as one step of it. */
enum : std::size_t { SHORTEST_CHUNK = 128 };

/* Of a query's chunks. Tests have a lower limit, so that small cases have long chunks. */
#ifdef ATTN_LOW_LIMITS
enum : std::size_t { MOST_CHUNKS = 4 };
#else
enum : std::size_t { MOST_CHUNKS = ATTN_ATTEND_MOST_CHUNKS };
#endif

/* Where a warp's share of a chunk is, in shared memory. The sum is in two levels, as of long chunks it has many parts. */
struct warp_share {
    float *maximum, *sum, *rounds, *context;
};

/* What a warp has of a part of its share: so many rows, before they are added to the rest of it. */
template <unsigned VECTORS> struct warp_state {
    enum : unsigned { PART = 32, ROUND = 32 /* parts */ };
    typedef attn_row_group<VECTORS> group;
    float maximum, sum;
    attn_warp_row<VECTORS> context;

    /* Takes in a group of rows, from step on. All lanes come here with the same step. */
    __device__ void take(const attn_attend &p, const group &rows, std::size_t query, const attn_warp_row<VECTORS> &q,
                         std::size_t step) {
        const std::size_t own = step + group::mine();
        const bool attended = rows.sees(group::mine());
        const float score = rows.dot(q);
        const float highest = group::highest(attended ? fmaxf(maximum, score) : maximum);
        const float kept = attn_rescale(maximum, highest), weight = attended ? expf(score - highest) : 0.0f;
        maximum = highest;
        sum *= kept;
        context.scale(kept);
        ATTN_UNROLL for (unsigned g = 0; g < group::ROWS; g++) {
            const float of_row = group::of(weight, g);
            sum += of_row;
            context.add(of_row, rows.row[g]);
        }
        if (p.weights && attended && group::leads()) *score_of(p, query, own) = score;
    }

    __device__ void clear() {
        maximum = -INFINITY, sum = 0.0f;
        context.fill(0.0f);
    }

    /* A part into the share. Its maximum and sum are the first lane's, each lane has elements of its own of the context. All lanes come here. */
    __device__ void close_part(const warp_share &share, std::size_t features, bool ends_round) {
        if (sum == 0.0f) return;
        const bool first_lane = threadIdx.x % ATTN_WARP == 0;
        const float earlier = from_first(first_lane ? *share.maximum : 0.0f);
        const float total = from_first(first_lane ? *share.sum + *share.rounds : 0.0f);
        const float highest = total == 0.0f ? maximum : fmaxf(earlier, maximum);
        const float kept = total == 0.0f ? 0.0f : attn_rescale(earlier, highest), by = attn_rescale(maximum, highest);
        if (total == 0.0f)
            context.store_elements(share.context, features);
        else
            context.add_to(share.context, features, kept, by);
        if (first_lane) {
            const float more = kept * *share.sum + by * sum;
            *share.maximum = highest;
            *share.rounds = kept * *share.rounds + (ends_round ? more : 0.0f);
            *share.sum = ends_round ? 0.0f : more;
        }
        clear();
    }

    static __device__ float from_first(float value) { return __shfl_sync(ATTN_ALL_LANES, value, 0); }

    /* Steps [first, last) of a range, a group every `stride`: two are on their way when there is nothing to do but wait. */
    template <typename Element>
    __device__ void take_all(const attn_attend &p, const attn_states<Element> &h, std::size_t query,
                             const attn_warp_row<VECTORS> &q, std::size_t first, std::size_t last,
                             const warp_share &share) {
        enum : unsigned { stride = WARPS * group::ROWS };
        if (first >= last) return;
        group even, odd;
        even.load(h, p.items, query, first, last);
        odd.load(h, p.items, query, first + stride, last);
        for (std::size_t step = first; step < last; step += 2 * stride) {
            take(p, even, query, q, step);
            if (step + 2 * stride < last) even.load(h, p.items, query, step + 2 * stride, last);
            if (step + stride >= last) break;
            take(p, odd, query, q, step + stride);
            if (step + 3 * stride < last) odd.load(h, p.items, query, step + 3 * stride, last);
            const std::size_t taken = step + 2 * stride - first;
            if (taken % (WARPS * PART) == 0) close_part(share, p.features, taken % (WARPS * PART * ROUND) == 0);
        }
        close_part(share, p.features, false);
    }

    /* Attention weights are scores until they are normalised. */
    static __device__ float *score_of(const attn_attend &p, std::size_t query, std::size_t step) {
        return p.weights + static_cast<std::ptrdiff_t>(query / p.items.queries) * p.weights_batch +
               static_cast<std::ptrdiff_t>(query % p.items.queries) * p.weights_row + static_cast<std::ptrdiff_t>(step);
    }
};

/* What a block's warps have of its chunk, merged first to last: one of sum 0 holds nothing, nor is its context read. */
struct shares {
    const float *maximum, *sum, *context;
    std::size_t features;

    __device__ float highest() const {
        float found = -INFINITY;
        for (unsigned i = 0; i < WARPS; i++)
            if (sum[i] != 0.0f) found = fmaxf(found, maximum[i]);
        return found;
    }

    __device__ float total(float highest) const {
        float merged = 0.0f;
        for (unsigned i = 0; i < WARPS; i++)
            if (sum[i] != 0.0f) merged += attn_rescale(maximum[i], highest) * sum[i];
        return merged;
    }

    __device__ float element(float highest, std::size_t feature) const {
        float merged = 0.0f;
        for (unsigned i = 0; i < WARPS; i++)
            if (sum[i] != 0.0f) merged += attn_rescale(maximum[i], highest) * context[i * features + feature];
        return merged;
    }
};

/* Blocks that a multiprocessor has at a time: the sums of long chunks may not cost one. */
template <unsigned VECTORS> struct blocks_at_once {
    enum : unsigned { COUNT = VECTORS == 1 ? 5 : VECTORS == 2 ? 4 : 3 };
};

template <unsigned VECTORS, typename Element>
__global__ void __launch_bounds__(THREADS, blocks_at_once<VECTORS>::COUNT)
    chunk_kernel(const __grid_constant__ attn_attend p) {
    float *const maxima = reinterpret_cast<float *>(attn_shared), *const sums = maxima + WARPS;
    float *const rounds = sums + WARPS, *const contexts = rounds + WARPS;
    const std::size_t query = blockIdx.x / p.chunks, warp = threadIdx.x / ATTN_WARP;
    const attn_range range = attn_item_range(p.items, query / p.items.queries);
    const std::size_t first = blockIdx.x % p.chunks * p.steps;
    const std::size_t last = first + p.steps < range.length ? first + p.steps : range.length;
    const attn_states<Element> h(static_cast<const Element *>(p.h), p.h_batch, p.h_time, p.features,
                                 query / p.items.queries);
    attn_warp_row<VECTORS> q;
    const attn_stored_row row = attn_row(p.queries, p.items, query);
    q.fill(0.0f);
    if (!row.zeros) q.load_elements(row, p.features);
    const warp_share share = {maxima + warp, sums + warp, rounds + warp, contexts + warp * p.features};
    if (threadIdx.x % ATTN_WARP == 0) *share.maximum = -INFINITY, *share.sum = *share.rounds = 0.0f;
    warp_state<VECTORS> state;
    state.clear();
    state.take_all(p, h, query, q, range.start + first + warp * attn_row_group<VECTORS>::ROWS, range.start + last,
                   share);
    if (threadIdx.x % ATTN_WARP == 0) *share.sum += *share.rounds;
    __syncthreads();
    const shares merged = {maxima, sums, contexts, p.features};
    const float highest = merged.highest();
    if (threadIdx.x == 0) p.part_maximum[blockIdx.x] = highest, p.part_sum[blockIdx.x] = merged.total(highest);
    for (std::size_t feature = threadIdx.x; feature < p.features; feature += THREADS)
        p.part_context[blockIdx.x * p.features + feature] = merged.element(highest, feature);
}

} // namespace

std::size_t attn_attend_steps(std::size_t timesteps) {
    const std::size_t least = (timesteps + MOST_CHUNKS - 1) / MOST_CHUNKS;
    return least > SHORTEST_CHUNK ? least : SHORTEST_CHUNK;
}

cudaError_t attn_attend_launch(const attn_attend &attend, cudaStream_t stream) {
    if (attend.chunks == 0) return cudaSuccess;
    return attn_launch(ATTN_BY_STORAGE(chunk_kernel, attend.features, attend.stored), attend.count * attend.chunks,
                       THREADS, WARPS * (3 + attend.features) * sizeof(float), stream, attend);
}

cudaError_t attn_attend_probe() {
    cudaFuncAttributes attributes;
    return cudaFuncGetAttributes(&attributes, reinterpret_cast<const void *>(chunk_kernel<1, float>));
}

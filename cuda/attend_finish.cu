/* SPDX-License-Identifier: Apache-2.0 */
/* A tile of queries and columns of the output a block: it merges the queries' chunks, each query's first to last, and multiplies what comes of it. The weights are on their
 * way to it meanwhile. */
#include "cuda/attend.h"

#include "cuda/long_sum.h"
#include "cuda/product_tile.h"
#include "cuda/warp_row.h"

#include <cmath>

namespace {

typedef attn_product_tile<false> product_tile;

enum : unsigned { THREADS = ATTN_PRODUCT_THREADS, ROWS = ATTN_PRODUCT_ROWS, MOST = ATTN_ATTEND_MOST_CHUNKS };

static_assert(THREADS / ATTN_WARP == ROWS, "a warp a row");

/* Of the tile's rows, in shared memory. */
struct merged_rows {
    enum : unsigned { FLOATS = ROWS * (MOST + 2) };
    const attn_attend &p;
    const std::size_t row0;
    const bool writes;                                /* of the blocks with these rows, one does */
    float *const factors, *const maxima, *const sums; /* (ROWS, MOST): of each chunk */

    __device__ merged_rows(const attn_attend &attend, std::size_t first, bool first_columns, float *shared)
        : p(attend), row0(first), writes(first_columns), factors(shared), maxima(factors + ROWS * MOST),
          sums(maxima + ROWS) {}

    /* A row's maximum, and how its chunks are rescaled to it: one that holds nothing has a maximum of -inf, and zeros. All threads come here. */
    __device__ void weigh_chunks() const {
        const std::size_t row = threadIdx.x / ATTN_WARP, lane = threadIdx.x % ATTN_WARP, at = (row0 + row) * p.chunks;
        const std::size_t count = row0 + row < p.count ? p.chunks : 0;
        float highest = -INFINITY;
        for (std::size_t i = lane; i < count; i += ATTN_WARP) highest = fmaxf(highest, p.part_maximum[at + i]);
        for (int distance = ATTN_WARP / 2; distance > 0; distance /= 2)
            highest = fmaxf(highest, __shfl_xor_sync(ATTN_ALL_LANES, highest, distance));
        for (std::size_t i = lane; i < count; i += ATTN_WARP)
            factors[row * MOST + i] = attn_rescale(p.part_maximum[at + i], highest);
        if (lane == 0) maxima[row] = highest;
    }

    /* The lanes of a row's warp come here, when its factors are there: each takes every 32nd chunk. */
    __device__ void total(std::size_t row) const {
        const std::size_t query = row0 + row, lane = threadIdx.x % ATTN_WARP;
        float sum = 0.0f;
        for (std::size_t i = lane; i < p.chunks; i += ATTN_WARP)
            sum += factors[row * MOST + i] * p.part_sum[query * p.chunks + i];
        sum = attn_warp_sum(sum);
        if (lane != 0) return;
        sums[row] = sum;
        if (!writes) return;
        p.maximum[query] = maxima[row], p.sum[query] = sum;
        if (p.lse)
            p.lse[static_cast<std::ptrdiff_t>(query / p.items.queries) * p.lse_batch +
                  static_cast<std::ptrdiff_t>(query % p.items.queries)] =
                sum == 0.0f ? -INFINITY : maxima[row] + logf(sum);
    }

    __device__ void merge() const {
        const std::size_t row = threadIdx.x / ATTN_WARP;
        weigh_chunks();
        __syncthreads();
        if (row0 + row < p.count) total(row);
        __syncthreads();
    }

    __device__ float context(std::size_t row, std::size_t feature) const {
        if (sums[row] == 0.0f) return 0.0f;
        const float *const part = p.part_context + (row0 + row) * p.chunks * p.features + feature;
        attn_long_sum<2> merged;
        for (std::size_t i = 0; i < p.chunks; i++) merged.add(factors[row * MOST + i] * part[i * p.features]);
        return merged.total() / sums[row];
    }

    __device__ float write_context(std::size_t row, std::size_t feature) const {
        const std::size_t query = row0 + row;
        const float element = context(row, feature);
        if (writes && p.context_rows) p.context_rows[query * p.features + feature] = element;
        if (writes && p.context)
            p.context[static_cast<std::ptrdiff_t>(query / p.items.queries) * p.context_batch +
                      static_cast<std::ptrdiff_t>(query % p.items.queries) * p.context_row +
                      static_cast<std::ptrdiff_t>(feature)] = element;
        return element;
    }
};

/* [context ; query], and what of it is written as a context. */
template <typename Element> struct joined_rows {
    const merged_rows &merged;
    std::size_t depth;

    __device__ float operator()(unsigned row, std::size_t k) const {
        const attn_attend &p = merged.p;
        const std::size_t query = merged.row0 + row;
        if (query >= p.count || k >= depth) return 0.0f;
        if (k < p.features) return merged.write_context(row, k);
        const attn_stored_row second = attn_row(p.output.queries, p.items, query);
        return second.zeros ? 0.0f
                            : attn_widen((static_cast<const Element *>(second.data) + second.first)[k - p.features]);
    }
};

std::size_t tiles_of(std::size_t units) {
    return units > 0 ? (units + ATTN_PRODUCT_COLUMNS - 1) / ATTN_PRODUCT_COLUMNS : 1;
}

template <typename Element> __global__ void finish_kernel(const __grid_constant__ attn_attend p) {
    const attn_attend_output &output = p.output;
    const std::size_t tiles = output.units > 0 ? (output.units + ATTN_PRODUCT_COLUMNS - 1) / ATTN_PRODUCT_COLUMNS : 1;
    const std::size_t depth = output.units > 0 ? p.features + output.query_width : p.features;
    float *const shared = reinterpret_cast<float *>(attn_shared);
    const attn_product_weights weights = {output.weights, depth, output.units};
    product_tile tile(weights, blockIdx.x % tiles * ATTN_PRODUCT_COLUMNS, shared + merged_rows::FLOATS);
    const merged_rows merged(p, blockIdx.x / tiles * ROWS, blockIdx.x % tiles == 0, shared);
    tile.load(0);
    merged.merge();
    tile.run(joined_rows<Element>{merged, depth});
    const std::size_t column = tile.column0 + tile.column();
    if (column >= output.units) return;
    ATTN_UNROLL for (unsigned i = 0; i < product_tile::RESULTS; i++) {
        const std::size_t query = merged.row0 + tile.first_row() + i;
        if (query >= p.count) return;
        const float value = tanhf(tile.result[i]);
        if (output.copy) output.copy[query * output.units + column] = value;
        if (output.result)
            output.result[static_cast<std::ptrdiff_t>(query / p.items.queries) * output.batch +
                          static_cast<std::ptrdiff_t>(query % p.items.queries) * output.row +
                          static_cast<std::ptrdiff_t>(column)] = value;
    }
}

enum : unsigned { NORMALISE_THREADS = 128 };

/* Scores in range and not masked become attention weights, a step a thread; the others are 0. */
__global__ void normalise_kernel(const __grid_constant__ attn_attend p) {
    const std::size_t i = static_cast<std::size_t>(blockIdx.x) * NORMALISE_THREADS + threadIdx.x;
    const std::size_t query = i / p.items.timesteps, step = i % p.items.timesteps;
    if (query >= p.count) return;
    const attn_range range = attn_item_range(p.items, query / p.items.queries);
    const bool attended =
        step >= range.start && step - range.start < range.length && attn_unmasked(p.items, query, step);
    float *const weight = p.weights + static_cast<std::ptrdiff_t>(query / p.items.queries) * p.weights_batch +
                          static_cast<std::ptrdiff_t>(query % p.items.queries) * p.weights_row +
                          static_cast<std::ptrdiff_t>(step);
    *weight = attended ? expf(*weight - p.maximum[query]) / p.sum[query] : 0.0f;
}

std::size_t finish_blocks(std::size_t count, std::size_t units) { return (count + ROWS - 1) / ROWS * tiles_of(units); }

} // namespace

bool attn_attend_too_large(std::size_t count, std::size_t timesteps, std::size_t units) {
    return finish_blocks(count, units) > attn_largest_grid ||
           (timesteps > 0 && count > attn_largest_grid * std::size_t{NORMALISE_THREADS} / timesteps);
}

cudaError_t attn_attend_finish(const attn_attend &attend, cudaStream_t stream) {
    const attn_dtype stored = attend.output.queries.stored;
    const auto kernel = stored == ATTN_FLOAT16    ? finish_kernel<attn_half>
                        : stored == ATTN_BFLOAT16 ? finish_kernel<attn_bfloat>
                                                  : finish_kernel<float>;
    const cudaError_t error = attn_launch(kernel, finish_blocks(attend.count, attend.output.units), THREADS,
                                          (merged_rows::FLOATS + product_tile::FLOATS) * sizeof(float), stream, attend);
    const std::size_t steps = attend.count * attend.items.timesteps;
    if (error || !attend.weights || steps == 0) return error;
    return attn_launch(normalise_kernel, (steps + NORMALISE_THREADS - 1) / NORMALISE_THREADS, NORMALISE_THREADS, 0,
                       stream, attend);
}

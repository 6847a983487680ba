/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda/gram.h"

#include "cuda/launch.h"
#include "cuda/query_back.h"

namespace {

enum : unsigned {
    TILE = 32,  /* rows and columns of the result */
    DEPTH = 32, /* queries that a sum takes before it is added to the whole */
    ROUND = 32, /* such sums that are added up from zero */
    THREADS = 128,
    ROWS_OF_THREAD = TILE * TILE / THREADS
};

/* A share has at least so many queries, and there are no more than so many blocks, unless the result has more tiles. Tests have lower limits, so that small cases meet
 * them. */
#ifdef ATTN_LOW_LIMITS
enum : std::size_t { LEAST_OF_SHARE = DEPTH, MOST_BLOCKS = 64 };
#else
enum : std::size_t { LEAST_OF_SHARE = 8 * DEPTH, MOST_BLOCKS = 512 };
#endif

/* A launch: each tile has so many blocks, with so many queries each. */
struct gram_launch {
    attn_gram p;
    std::size_t shares, share;
};

std::size_t tiles_of(std::size_t width) { return (width + TILE - 1) / TILE; }

__device__ std::size_t width_of(const attn_joined &rows) { return rows.first_width + rows.second_width; }

/* Columns [first, first + TILE) of queries from query0 on, zeros behind the ends. */
template <typename Element>
__device__ void load(const attn_gram &p, const attn_joined &rows, std::size_t query0, std::size_t last,
                     std::size_t first, float *tile) {
    for (unsigned i = threadIdx.x; i < DEPTH * TILE; i += THREADS) {
        const std::size_t query = query0 + i / TILE, column = first + i % TILE;
        tile[i] =
            query < last && column < width_of(rows) ? attn_joined_element<Element>(rows, p.items, query, column) : 0.0f;
    }
}

template <typename Element> __global__ void gram_kernel(const __grid_constant__ gram_launch launch) {
    const attn_gram &p = launch.p;
    float *const left = reinterpret_cast<float *>(attn_shared), *const right = left + DEPTH * TILE;
    const std::size_t columns = width_of(p.right), tiles = (columns + TILE - 1) / TILE;
    const std::size_t tile = blockIdx.x / launch.shares, share = blockIdx.x % launch.shares;
    const std::size_t row0 = tile / tiles * TILE, column0 = tile % tiles * TILE;
    const std::size_t first = share * launch.share;
    const std::size_t last = first + launch.share < p.count ? first + launch.share : p.count;
    const unsigned column = threadIdx.x % TILE, first_row = threadIdx.x / TILE * ROWS_OF_THREAD;
    /* A part is of DEPTH queries, a sum of ROUND parts. */
    float sums[ROWS_OF_THREAD] = {}, totals[ROWS_OF_THREAD] = {};
    for (std::size_t query = first; query < last; query += DEPTH) {
        load<Element>(p, p.left, query, last, row0, left);
        load<Element>(p, p.right, query, last, column0, right);
        __syncthreads();
        float parts[ROWS_OF_THREAD] = {};
        for (unsigned k = 0; k < DEPTH; k++)
            for (unsigned i = 0; i < ROWS_OF_THREAD; i++)
                parts[i] += left[k * TILE + first_row + i] * right[k * TILE + column];
        for (unsigned i = 0; i < ROWS_OF_THREAD; i++) sums[i] += parts[i];
        __syncthreads();
        if ((query - first) / DEPTH % ROUND != ROUND - 1) continue;
        for (unsigned i = 0; i < ROWS_OF_THREAD; i++) totals[i] += sums[i], sums[i] = 0.0f;
    }
    if (column0 + column >= columns) return;
    float *const result = launch.shares > 1 ? p.part + share * width_of(p.left) * columns : p.result;
    const bool add = p.add && launch.shares == 1;
    for (unsigned i = 0; i < ROWS_OF_THREAD && row0 + first_row + i < width_of(p.left); i++) {
        float *const to = result + (row0 + first_row + i) * columns + column0 + column;
        *to = add ? *to + (totals[i] + sums[i]) : totals[i] + sums[i];
    }
}

} // namespace

std::size_t attn_gram_shares(std::size_t count, std::size_t rows, std::size_t columns) {
    const std::size_t tiles = tiles_of(rows) * tiles_of(columns);
    if (tiles == 0 || tiles >= MOST_BLOCKS || count <= LEAST_OF_SHARE) return 1;
    const std::size_t most = MOST_BLOCKS / tiles, wanted = (count + LEAST_OF_SHARE - 1) / LEAST_OF_SHARE;
    return wanted < most ? wanted : most;
}

cudaError_t attn_gram_launch(const attn_gram &gram, cudaStream_t stream) {
    const std::size_t rows = gram.left.first_width + gram.left.second_width;
    const std::size_t columns = gram.right.first_width + gram.right.second_width;
    if (rows == 0 || columns == 0) return cudaSuccess;
    gram_launch launch = {gram, attn_gram_shares(gram.count, rows, columns), gram.count};
    launch.share = ((gram.count + launch.shares - 1) / launch.shares + DEPTH - 1) / DEPTH * DEPTH;
    const attn_dtype stored = gram.left.second_width > 0 ? gram.left.second.stored : gram.right.second.stored;
    const auto kernel = stored == ATTN_FLOAT16    ? gram_kernel<attn_half>
                        : stored == ATTN_BFLOAT16 ? gram_kernel<attn_bfloat>
                                                  : gram_kernel<float>;
    const cudaError_t error = attn_launch(kernel, tiles_of(rows) * tiles_of(columns) * launch.shares, THREADS,
                                          2 * DEPTH * TILE * sizeof(float), stream, launch);
    if (error || launch.shares == 1) return error;
    const attn_merge_parts merge = {gram.part, 1, launch.shares, rows * columns, gram.result, gram.add};
    return attn_merge_parts_launch(merge, stream);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda/additive_back.h"

#include "cuda/additive_tile.h"

#include <cmath>

namespace {

enum : unsigned { COLUMNS = ATTN_TILE_COLUMNS, TERMS = ATTN_TILE_TERMS };

/* Of groups, and of bytes for the sums of W2's gradient. Tests have lower limits, so that small cases meet them. */
#ifdef ATTN_LOW_LIMITS
enum : std::size_t { MOST_GROUPS = 16, MOST_BYTES = std::size_t{128} << 10 };
#else
enum : std::size_t { MOST_GROUPS = 512, MOST_BYTES = std::size_t{64} << 20 };
#endif

/* A launch: groups of chunks, for each of which so many blocks split the columns of W2. */
struct back_launch {
    attn_additive_back p;
    std::size_t groups, slices;
};

/* What a block works on, and where in shared memory. */
template <class Tile, typename Element> struct back_tile {
    /* COLUMNS columns of H; as many rows of W2 and TERMS of its columns, where the memory of the product with W2 was; dz. */
    enum : unsigned {
        H_PITCH = COLUMNS + Tile::ACROSS,
        W2_PITCH = TERMS + Tile::ALONG,
        DZ_PITCH = COLUMNS + Tile::ALONG,
        FLOATS = Tile::ROWS + Tile::ROWS * H_PITCH + COLUMNS * W2_PITCH + Tile::ROWS * DZ_PITCH
    };
    static_assert(FLOATS - Tile::ROWS * DZ_PITCH >= attn_tile_memory<Tile, Element, 1>::FLOATS,
                  "dz stands behind the product's memory");

    const attn_additive_back &p;
    const attn_tile_memory<Tile, Element, 1> memory;
    float *const h, *const w2, *const dz;
    attn_tile_rows rows;
    std::size_t group, chunk, column0;
    bool first_of_group, first_of_chunk;

    __device__ back_tile(const attn_additive_back &back, float *shared)
        : p(back), memory(back.in, shared), h(memory.floats), w2(h + Tile::ROWS * H_PITCH),
          dz(w2 + COLUMNS * W2_PITCH) {}

    __device__ std::size_t queries() const { return p.in.items.queries; }

    /* Of the items' queries, in the arrays that have a step for each. */
    __device__ std::size_t step_of(std::size_t query, std::size_t row) const {
        return (rows.item * queries() + query) * p.in.items.timesteps + rows.first + row;
    }

    __device__ float weight(std::size_t query, std::size_t row) const {
        return row < rows.count ? p.weights[step_of(query, row)] : 0.0f;
    }

    __device__ float score_gradient(std::size_t query, std::size_t row) const {
        const float share = weight(query, row);
        if (share == 0.0f) return 0.0f;
        return share * (p.gradients[step_of(query, row)] + p.shift[rows.item * queries() + query]);
    }

    /* A thread's parts of columns, summed over the block's rows, first to last, into a row of sums. */
    __device__ void put(float *to, const float (&part)[Tile::WIDTH], bool first) const {
        float *const sums = h;
        ATTN_UNROLL for (unsigned j = 0; j < Tile::WIDTH; j++) {
            const float of_warp = Tile::sum_rows(part[j]);
            if (Tile::first_of_column()) sums[threadIdx.x / ATTN_WARP * COLUMNS + Tile::column(j)] = of_warp;
        }
        __syncthreads();
        const std::size_t column = column0 + threadIdx.x;
        if (threadIdx.x < COLUMNS && column < p.in.width) {
            float sum = 0.0f;
            for (unsigned w = 0; w < ATTN_TILE_WARPS; w++) sum += sums[w * COLUMNS + threadIdx.x];
            to[column] = first ? sum : to[column] + sum;
        }
        __syncthreads();
    }

    /* One query's part in dz and gv, and its gu. */
    __device__ void take_query(std::size_t query, const Tile &tile, float (&of_dz)[Tile::HEIGHT][Tile::WIDTH],
                               float (&of_v)[Tile::WIDTH]) const {
        const std::size_t at = rows.item * queries() + query;
        float of_query[Tile::WIDTH] = {}, gradients[Tile::HEIGHT];
        ATTN_UNROLL for (unsigned i = 0; i < Tile::HEIGHT; i++) gradients[i] = score_gradient(query, Tile::row(i));
        ATTN_UNROLL for (unsigned j = 0; j < Tile::WIDTH; j++) {
            const std::size_t column = column0 + Tile::column(j);
            if (column >= p.in.width) continue;
            const float projected = p.in.projected[at * p.in.width + column], v = p.in.v[column];
            ATTN_UNROLL for (unsigned i = 0; i < Tile::HEIGHT; i++) {
                if (gradients[i] == 0.0f) continue;
                const float t = tanhf(projected + tile.sum[i][j]);
                const float gradient = gradients[i] * v * ((1.0f - t) * (1.0f + t));
                of_dz[i][j] += gradient;
                of_query[j] += gradient;
                of_v[j] += gradients[i] * t;
            }
        }
        if (p.part_query) put(p.part_query + (at * p.chunks + chunk) * p.in.width, of_query, first_of_chunk);
    }

    /* dz, into shared memory. */
    __device__ void make_dz(const Tile &tile) const {
        for (std::size_t from = 0; from < queries(); from += TERMS) {
            float of_dz[Tile::HEIGHT][Tile::WIDTH] = {}, of_v[Tile::WIDTH] = {};
            for (std::size_t q = from; q < queries() && q < from + TERMS; q++) take_query(q, tile, of_dz, of_v);
            if (p.part_v) put(p.part_v + group * p.in.width, of_v, first_of_group && from == 0);
            ATTN_UNROLL for (unsigned i = 0; i < Tile::HEIGHT; i++)
                ATTN_UNROLL for (unsigned j = 0; j < Tile::WIDTH; j++) {
                float *const to = dz + Tile::row(i) * DZ_PITCH + Tile::column(j);
                *to = from == 0 ? of_dz[i][j] : *to + of_dz[i][j];
            }
        }
    }

    /* What the queries give the rows as values. */
    __device__ void add_values(std::size_t d0, Tile &tile) const {
        for (std::size_t from = 0; from < queries(); from += TERMS) {
            Tile part = {};
            for (std::size_t q = from; q < queries() && q < from + TERMS; q++) {
                const float *const gradient = p.grad_context + (rows.item * queries() + q) * p.in.features;
                ATTN_UNROLL for (unsigned i = 0; i < Tile::HEIGHT; i++) {
                    const float by = weight(q, Tile::row(i));
                    ATTN_UNROLL for (unsigned j = 0; j < Tile::WIDTH; j++) {
                        const std::size_t d = d0 + Tile::column(j);
                        if (by != 0.0f && d < p.in.features) part.sum[i][j] += by * gradient[d];
                    }
                }
            }
            ATTN_UNROLL for (unsigned i = 0; i < Tile::HEIGHT; i++)
                ATTN_UNROLL for (unsigned j = 0; j < Tile::WIDTH; j++) tile.sum[i][j] += part.sum[i][j];
        }
    }

    /* Into grad_h, with the first columns of W2 together with what the rows have as values. */
    __device__ void add_rows(std::size_t d0, Tile &tile) const {
        if (column0 == 0) add_values(d0, tile);
        const bool add = p.add_h || column0 > 0;
        ATTN_UNROLL for (unsigned i = 0; i < Tile::HEIGHT; i++) {
            const unsigned row = Tile::row(i);
            if (row >= rows.count || (add && memory.seen[row] == 0.0f)) continue;
            float *const to = p.grad_h + rows.place(p.grad_h_batch, p.grad_h_time, row);
            ATTN_UNROLL for (unsigned j = 0; j < Tile::WIDTH; j++) {
                const std::size_t d = d0 + Tile::column(j);
                if (d < p.in.features) to[d] = add ? to[d] + tile.sum[i][j] : tile.sum[i][j];
            }
        }
    }

    /* gw2 += h^T dz, for the rows of it that belong to the columns of H. */
    __device__ void add_w2(std::size_t d0) const {
        for (unsigned first = 0; first < COLUMNS; first += Tile::ROWS) {
            Tile tile = {};
            for (unsigned row = 0; row < Tile::ROWS; row += TERMS)
                tile.template add<Element>(h + row * H_PITCH + first, 1, H_PITCH, dz + row * DZ_PITCH, DZ_PITCH, 1);
            ATTN_UNROLL for (unsigned i = 0; i < Tile::HEIGHT; i++) {
                const std::size_t d = d0 + first + Tile::row(i);
                if (d >= p.in.features) continue;
                ATTN_UNROLL for (unsigned j = 0; j < Tile::WIDTH; j++) {
                    const std::size_t column = column0 + Tile::column(j);
                    if (column >= p.in.width) continue;
                    float *const to = p.part_w2 + (group * p.in.features + d) * p.in.width + column;
                    *to = first_of_group ? tile.sum[i][j] : *to + tile.sum[i][j];
                }
            }
        }
    }

    /* The block's rows and these columns of W2. */
    __device__ void take() const {
        Tile tile = {};
        memory.multiply(p.in, rows, column0, tile);
        make_dz(tile);
        for (std::size_t d0 = 0; d0 < p.in.features && (p.grad_h || p.part_w2); d0 += COLUMNS) {
            Tile of_h = {};
            memory.template load_h<COLUMNS>(p.in, rows, d0, h, H_PITCH);
            for (unsigned from = 0; from < COLUMNS; from += TERMS) {
                memory.template load_w2<COLUMNS, TERMS>(p.in, d0, column0 + from, w2, W2_PITCH);
                attn_commit_copies();
                attn_await_copies<0>();
                __syncthreads();
                if (p.grad_h) of_h.template add<float>(dz + from, DZ_PITCH, 1, w2, 1, W2_PITCH);
                if (p.part_w2 && from == 0) add_w2(d0);
                __syncthreads();
            }
            if (p.grad_h) add_rows(d0, of_h);
        }
    }
};

__device__ void clear(float *to, std::size_t rows, std::size_t pitch, std::size_t first, std::size_t last) {
    for (std::size_t row = 0; row < rows && to; row++)
        for (std::size_t column = first + threadIdx.x; column < last; column += ATTN_TILE_THREADS)
            to[row * pitch + column] = 0.0f;
}

__device__ void clear_chunk(const attn_additive_back &p, std::size_t item, std::size_t chunk) {
    for (std::size_t q = 0; q < p.in.items.queries && p.part_query; q++)
        clear(p.part_query + ((item * p.in.items.queries + q) * p.chunks + chunk) * p.in.width, 1, p.in.width, 0,
              p.in.width);
}

template <class Tile, typename Element> __global__ void back_kernel(const __grid_constant__ back_launch launch) {
    const attn_additive_back &p = launch.p;
    back_tile<Tile, Element> tile(p, reinterpret_cast<float *>(attn_shared));
    const std::size_t total = p.in.batch * p.chunks, each = (total + launch.groups - 1) / launch.groups;
    const std::size_t tiles = (p.in.width + COLUMNS - 1) / COLUMNS, wide = (tiles + launch.slices - 1) / launch.slices;
    const std::size_t first_column = blockIdx.x % launch.slices * wide * COLUMNS, end = first_column + wide * COLUMNS;
    const std::size_t last_column = end < p.in.width ? end : p.in.width;
    tile.group = blockIdx.x / launch.slices, tile.first_of_group = true;
    const std::size_t last = (tile.group + 1) * each < total ? (tile.group + 1) * each : total;
    for (std::size_t i = tile.group * each; i < last; i++) {
        tile.chunk = i % p.chunks, tile.first_of_chunk = true;
        for (std::size_t step = tile.chunk * p.steps; step < (tile.chunk + 1) * p.steps; step += Tile::ROWS) {
            tile.rows = attn_find_tile_rows(p.in, i / p.chunks, step, Tile::ROWS);
            if (tile.rows.count == 0) break;
            tile.memory.mark_seen(p.in, tile.rows);
            for (tile.column0 = first_column; tile.column0 < last_column; tile.column0 += COLUMNS) tile.take();
            __syncthreads(); /* until here it is read which rows are seen */
            tile.first_of_group = tile.first_of_chunk = false;
        }
        if (tile.first_of_chunk) clear_chunk(p, i / p.chunks, tile.chunk);
    }
    if (!tile.first_of_group) return;
    clear(p.part_v ? p.part_v + tile.group * p.in.width : nullptr, 1, p.in.width, first_column, last_column);
    clear(p.part_w2 ? p.part_w2 + tile.group * p.in.features * p.in.width : nullptr, p.in.features, p.in.width,
          first_column, last_column);
}

template <class Tile> cudaError_t launch_one(const back_launch &launch, cudaStream_t stream) {
    return attn_launch(ATTN_TILE_BY_STORAGE(back_kernel, Tile, launch.p.in.stored), launch.groups * launch.slices,
                       ATTN_TILE_THREADS, back_tile<Tile, float>::FLOATS * sizeof(float), stream, launch);
}

} // namespace

std::size_t attn_additive_groups(std::size_t chunks) {
    return chunks < MOST_GROUPS ? chunks : static_cast<std::size_t>(MOST_GROUPS);
}

std::size_t attn_additive_w2_groups(std::size_t chunks, std::size_t features, std::size_t width) {
    const std::size_t fitting = MOST_BYTES / sizeof(float) / features / width, most = fitting > 0 ? fitting : 1;
    const std::size_t groups = attn_additive_groups(chunks);
    return groups < most ? groups : most;
}

/* The sums of W2's gradient decide how many groups there can be. Where these would be too few to keep a GPU busy, W2's gradient has a launch of its own, of
 * blocks that split its columns. */
template <class Tile> static cudaError_t launch(const attn_additive_back &back, cudaStream_t stream) {
    static_assert(ATTN_ADDITIVE_ROWS % Tile::ROWS == 0, "a chunk is whole tiles");
    const std::size_t chunks = back.in.batch * back.chunks;
    if (chunks == 0) return cudaSuccess;
    const std::size_t groups = attn_additive_groups(chunks),
                      w2_groups = attn_additive_w2_groups(chunks, back.in.features, back.in.width);
    const bool together = !back.part_w2 || groups == w2_groups;
    back_launch rows = {back, groups, 1}, w2 = {back, w2_groups, (back.in.width + COLUMNS - 1) / COLUMNS};
    if (together) return launch_one<Tile>(rows, stream);
    rows.p.part_w2 = w2.p.part_query = w2.p.part_v = w2.p.grad_h = nullptr;
    const cudaError_t error = launch_one<Tile>(rows, stream);
    return error ? error : launch_one<Tile>(w2, stream);
}

cudaError_t attn_additive_back_launch(attn_multiplied by, const attn_additive_back &back, cudaStream_t stream) {
    return by == attn_multiplied::by_tensor_cores ? launch<attn_mma_tile>(back, stream)
                                                  : launch<attn_ffma_tile>(back, stream);
}

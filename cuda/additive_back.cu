/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda/additive_back.h"

#include "cuda/additive_tile.h"

#include <cmath>

namespace {

enum : unsigned {
    ROWS = ATTN_TILE_ROWS,
    COLUMNS = ATTN_TILE_COLUMNS, /* of W2, and of H where dz is multiplied */
    LANES = ATTN_TILE_LANES,
    SIDE = ATTN_TILE_SIDE,
    THREADS = ATTN_TILE_THREADS,
    WARPS = THREADS / ATTN_WARP,
    TERMS = 32,                   /* that a sum takes before it is added to the whole */
    DEEP = COLUMNS * SIDE / ROWS, /* rows of a tile of W2's gradient that a thread has */
    PITCH = COLUMNS + 1,
    FLOATS = ROWS + (ROWS + COLUMNS + ROWS) * PITCH /* shared: seen, H, W2, dz */
};

/* Of an item's chunks, of groups, and of bytes for the sums of W2's gradient. Tests have lower limits, so that small cases meet them. */
#ifdef ATTN_LOW_LIMITS
enum : std::size_t { MOST_CHUNKS = 4, MOST_GROUPS = 16, MOST_BYTES = std::size_t{128} << 10 };
#else
enum : std::size_t { MOST_CHUNKS = 64, MOST_GROUPS = 512, MOST_BYTES = std::size_t{64} << 20 };
#endif

/* A launch: groups of chunks, for each of which so many blocks split the columns of W2. */
struct back_launch {
    attn_additive_back p;
    std::size_t groups, slices;
};

/* What a block works on, and where in shared memory. */
struct back_tile {
    const attn_additive_back &p;
    const attn_tile_memory memory; /* its floats are those of h and w2 */
    float *const h, *const w2, *const dz;
    attn_tile_rows rows;
    std::size_t group, chunk, column0;
    bool first_of_group, first_of_chunk;

    __device__ back_tile(const attn_additive_back &back, float *floats)
        : p(back), memory(floats), h(floats + ROWS), w2(h + ROWS * PITCH), dz(w2 + COLUMNS * PITCH) {}

    __device__ std::size_t queries() const { return p.in.items.queries; }

    /* Of the items' queries, in the arrays that have a step for each. */
    __device__ std::size_t step_of(std::size_t query, std::size_t row) const {
        return (rows.item * queries() + query) * p.in.items.timesteps + rows.first + row;
    }

    __device__ float weight(std::size_t query, std::size_t row) const {
        return row < rows.count ? p.weights[step_of(query, row)] : 0.0f;
    }

    __device__ float score_gradient(std::size_t query, std::size_t row) const {
        const float p_of = weight(query, row);
        return p_of == 0.0f ? 0.0f : p_of * (p.gradients[step_of(query, row)] + p.shift[rows.item * queries() + query]);
    }

    /* Of the columns, over the block's rows, first to last: thread i has that of column i, if there are so many. */
    __device__ float sum_rows(const float *of_thread) const {
        float *const sums = h;
        for (unsigned j = 0; j < SIDE; j++) {
            const float pair = of_thread[j] + __shfl_xor_sync(ATTN_ALL_LANES, of_thread[j], static_cast<int>(LANES));
            if (threadIdx.x % ATTN_WARP < LANES)
                sums[threadIdx.x / ATTN_WARP * COLUMNS + attn_tile_lane() + j * LANES] = pair;
        }
        __syncthreads();
        float sum = 0.0f;
        for (unsigned w = 0; w < WARPS && threadIdx.x < COLUMNS; w++) sum += sums[w * COLUMNS + threadIdx.x];
        __syncthreads();
        return sum;
    }

    __device__ void put(float *to, const float *of_thread, bool first) const {
        const float sum = sum_rows(of_thread);
        const std::size_t column = column0 + threadIdx.x;
        if (threadIdx.x < COLUMNS && column < p.in.width) to[column] = first ? sum : to[column] + sum;
    }

    /* One query's part in dz and gv, and its gu. */
    __device__ void take_query(std::size_t query, const attn_product_tile &tile, float of_dz[SIDE][SIDE],
                               float *of_v) const {
        const std::size_t at = rows.item * queries() + query;
        float of_query[SIDE] = {}, gradients[SIDE];
        for (unsigned i = 0; i < SIDE; i++) gradients[i] = score_gradient(query, attn_tile_first_row() + i);
        for (unsigned j = 0; j < SIDE; j++) {
            const std::size_t column = column0 + attn_tile_lane() + j * LANES;
            if (column >= p.in.width) continue;
            const float projected = p.in.projected[at * p.in.width + column], v = p.in.v[column];
            for (unsigned i = 0; i < SIDE; i++) {
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
    __device__ void make_dz(const attn_product_tile &tile) const {
        float sum[SIDE][SIDE] = {}, sum_v[SIDE] = {};
        for (std::size_t from = 0; from < queries(); from += TERMS) {
            float part[SIDE][SIDE] = {}, part_v[SIDE] = {};
            for (std::size_t q = from; q < queries() && q < from + TERMS; q++) take_query(q, tile, part, part_v);
            for (unsigned j = 0; j < SIDE; j++) {
                sum_v[j] += part_v[j];
                for (unsigned i = 0; i < SIDE; i++) sum[i][j] += part[i][j];
            }
        }
        if (p.part_v) put(p.part_v + group * p.in.width, sum_v, first_of_group);
        for (unsigned i = 0; i < SIDE; i++)
            for (unsigned j = 0; j < SIDE; j++)
                dz[(attn_tile_first_row() + i) * PITCH + attn_tile_lane() + j * LANES] = sum[i][j];
    }

    /* Columns [d0, d0 + COLUMNS) of H; those rows of W2, down the columns. */
    __device__ void load(std::size_t d0) const {
        for (unsigned i = threadIdx.x; i < ROWS * COLUMNS; i += THREADS) {
            const unsigned row = i / COLUMNS, inner = i % COLUMNS;
            float value = 0.0f;
            if (memory.seen[row] != 0.0f && d0 + inner < p.in.features)
                value = p.in.h[rows.place(p.in.h_batch, p.in.h_time, row) + static_cast<std::ptrdiff_t>(d0 + inner)];
            h[row * PITCH + inner] = value;
        }
        for (unsigned i = threadIdx.x; i < COLUMNS * COLUMNS; i += THREADS) {
            const std::size_t d = d0 + i / COLUMNS, column = column0 + i % COLUMNS;
            w2[i % COLUMNS * PITCH + i / COLUMNS] =
                d < p.in.features && column < p.in.width ? p.in.w2[d * p.in.width + column] : 0.0f;
        }
    }

    /* What the queries give the rows as values. */
    __device__ void add_values(std::size_t d0, float sum[SIDE][SIDE]) const {
        for (std::size_t from = 0; from < queries(); from += TERMS) {
            float part[SIDE][SIDE] = {};
            for (std::size_t q = from; q < queries() && q < from + TERMS; q++) {
                const float *const gradient = p.grad_context + (rows.item * queries() + q) * p.in.features;
                for (unsigned i = 0; i < SIDE; i++) {
                    const float by = weight(q, attn_tile_first_row() + i);
                    for (unsigned j = 0; j < SIDE && by != 0.0f; j++) {
                        const std::size_t d = d0 + attn_tile_lane() + j * LANES;
                        if (d < p.in.features) part[i][j] += by * gradient[d];
                    }
                }
            }
            for (unsigned i = 0; i < SIDE; i++)
                for (unsigned j = 0; j < SIDE; j++) sum[i][j] += part[i][j];
        }
    }

    /* grad_h += dz W2^T, and with the first columns of W2 what the rows have as values. */
    __device__ void add_rows(std::size_t d0) const {
        float sum[SIDE][SIDE] = {};
        for (unsigned from = 0; from < COLUMNS; from += TERMS) {
            float part[SIDE][SIDE] = {};
            for (unsigned c = from; c < from + TERMS; c++)
                for (unsigned i = 0; i < SIDE; i++)
                    for (unsigned j = 0; j < SIDE; j++)
                        part[i][j] +=
                            dz[(attn_tile_first_row() + i) * PITCH + c] * w2[c * PITCH + attn_tile_lane() + j * LANES];
            for (unsigned i = 0; i < SIDE; i++)
                for (unsigned j = 0; j < SIDE; j++) sum[i][j] += part[i][j];
        }
        if (column0 == 0) add_values(d0, sum);
        const bool add = p.add_h || column0 > 0;
        for (unsigned i = 0; i < SIDE; i++) {
            const unsigned row = attn_tile_first_row() + i;
            if (row >= rows.count || (add && memory.seen[row] == 0.0f)) continue;
            float *const to = p.grad_h + rows.place(p.grad_h_batch, p.grad_h_time, row);
            for (unsigned j = 0; j < SIDE; j++) {
                const std::size_t d = d0 + attn_tile_lane() + j * LANES;
                if (d < p.in.features) to[d] = add ? to[d] + sum[i][j] : sum[i][j];
            }
        }
    }

    /* gw2 += h^T dz */
    __device__ void add_w2(std::size_t d0) const {
        const unsigned first = threadIdx.x / LANES * DEEP;
        float sum[DEEP][SIDE] = {};
        for (unsigned row = 0; row < ROWS; row++)
            for (unsigned i = 0; i < DEEP; i++)
                for (unsigned j = 0; j < SIDE; j++)
                    sum[i][j] += h[row * PITCH + first + i] * dz[row * PITCH + attn_tile_lane() + j * LANES];
        for (unsigned i = 0; i < DEEP && d0 + first + i < p.in.features; i++)
            for (unsigned j = 0; j < SIDE; j++) {
                const std::size_t column = column0 + attn_tile_lane() + j * LANES;
                if (column >= p.in.width) continue;
                float *const to = p.part_w2 + (group * p.in.features + d0 + first + i) * p.in.width + column;
                *to = first_of_group ? sum[i][j] : *to + sum[i][j];
            }
    }

    /* The block's rows and these columns of W2. */
    __device__ void take() const {
        attn_product_tile tile = {};
        tile.make(p.in, rows, memory, column0);
        make_dz(tile);
        for (std::size_t d0 = 0; d0 < p.in.features && (p.grad_h || p.part_w2); d0 += COLUMNS) {
            load(d0);
            __syncthreads();
            if (p.grad_h) add_rows(d0);
            if (p.part_w2) add_w2(d0);
            __syncthreads();
        }
    }
};

__device__ void clear(float *to, std::size_t rows, std::size_t pitch, std::size_t first, std::size_t last) {
    for (std::size_t row = 0; row < rows && to; row++)
        for (std::size_t column = first + threadIdx.x; column < last; column += THREADS)
            to[row * pitch + column] = 0.0f;
}

__device__ void clear_chunk(const attn_additive_back &p, std::size_t item, std::size_t chunk) {
    for (std::size_t q = 0; q < p.in.items.queries && p.part_query; q++)
        clear(p.part_query + ((item * p.in.items.queries + q) * p.chunks + chunk) * p.in.width, 1, p.in.width, 0,
              p.in.width);
}

__global__ void back_kernel(const __grid_constant__ back_launch launch) {
    const attn_additive_back &p = launch.p;
    back_tile tile(p, reinterpret_cast<float *>(attn_shared));
    const std::size_t total = p.in.batch * p.chunks, each = (total + launch.groups - 1) / launch.groups;
    const std::size_t tiles = (p.in.width + COLUMNS - 1) / COLUMNS, wide = (tiles + launch.slices - 1) / launch.slices;
    const std::size_t first_column = blockIdx.x % launch.slices * wide * COLUMNS, end = first_column + wide * COLUMNS;
    const std::size_t last_column = end < p.in.width ? end : p.in.width;
    tile.group = blockIdx.x / launch.slices, tile.first_of_group = true;
    const std::size_t last = (tile.group + 1) * each < total ? (tile.group + 1) * each : total;
    for (std::size_t i = tile.group * each; i < last; i++) {
        tile.chunk = i % p.chunks, tile.first_of_chunk = true;
        for (std::size_t step = tile.chunk * p.steps; step < (tile.chunk + 1) * p.steps; step += ROWS) {
            tile.rows = attn_find_tile_rows(p.in, i / p.chunks, step);
            if (tile.rows.count == 0) break;
            tile.memory.mark_seen(p.in, tile.rows);
            for (tile.column0 = first_column; tile.column0 < last_column; tile.column0 += COLUMNS) tile.take();
            tile.first_of_group = tile.first_of_chunk = false;
        }
        if (tile.first_of_chunk) clear_chunk(p, i / p.chunks, tile.chunk);
    }
    if (!tile.first_of_group) return;
    clear(p.part_v ? p.part_v + tile.group * p.in.width : nullptr, 1, p.in.width, first_column, last_column);
    clear(p.part_w2 ? p.part_w2 + tile.group * p.in.features * p.in.width : nullptr, p.in.features, p.in.width,
          first_column, last_column);
}

cudaError_t launch_one(const back_launch &launch, cudaStream_t stream) {
    return attn_launch(back_kernel, launch.groups * launch.slices, THREADS, FLOATS * sizeof(float), stream, launch);
}

} // namespace

std::size_t attn_additive_steps(std::size_t timesteps) {
    const std::size_t least = (timesteps + MOST_CHUNKS - 1) / MOST_CHUNKS;
    return least > ROWS ? (least + ROWS - 1) / ROWS * ROWS : static_cast<std::size_t>(ROWS);
}

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
cudaError_t attn_additive_back_launch(const attn_additive_back &back, cudaStream_t stream) {
    const std::size_t chunks = back.in.batch * back.chunks;
    if (chunks == 0) return cudaSuccess;
    const std::size_t groups = attn_additive_groups(chunks),
                      w2_groups = attn_additive_w2_groups(chunks, back.in.features, back.in.width);
    const bool together = !back.part_w2 || groups == w2_groups;
    back_launch rows = {back, groups, 1}, w2 = {back, w2_groups, (back.in.width + COLUMNS - 1) / COLUMNS};
    if (together) return launch_one(rows, stream);
    rows.p.part_w2 = w2.p.part_query = w2.p.part_v = w2.p.grad_h = nullptr;
    const cudaError_t error = launch_one(rows, stream);
    return error ? error : launch_one(w2, stream);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda/additive.h"

#include "cuda/additive_tile.h"
#include "cuda/long_sum.h"
#include "cuda/row_group.h"
#include "cuda/row_team.h"

#include <cmath>

namespace {

enum : unsigned { ROWS = ATTN_ADDITIVE_ROWS, STAGES = 2, SLAB = ATTN_WARP_ELEMENTS /* features at a time */ };

/* Of an item's chunks. Tests have a lower limit, so that small cases meet it. */
#ifdef ATTN_LOW_LIMITS
enum : std::size_t { MOST_CHUNKS = 4 };
#else
enum : std::size_t { MOST_CHUNKS = 64 };
#endif

/* What these columns add to the rows' scores. */
template <class Tile>
__device__ void add_scores(const attn_additive_scores &p, const attn_tile_rows &rows, const Tile &tile,
                           std::size_t query, std::size_t column0) {
    float part[Tile::HEIGHT] = {};
    ATTN_UNROLL for (unsigned j0 = 0; j0 < Tile::WIDTH; j0 += Tile::STRIP) {
        if (column0 + j0 / Tile::STRIP * ATTN_TILE_STRIP >= p.in.width) continue;
        ATTN_UNROLL for (unsigned j = j0; j < j0 + Tile::STRIP; j++) {
            const std::size_t column = column0 + Tile::column(j);
            const bool inside = column < p.in.width;
            const float v = inside ? p.in.v[column] : 0.0f,
                        projected = inside ? p.in.projected[query * p.in.width + column] : 0.0f;
            ATTN_UNROLL for (unsigned i = 0; i < Tile::HEIGHT; i++) {
                const float term = v * tanhf(projected + tile.sum[i][j]);
                part[i] += inside ? term : 0.0f;
            }
        }
    }
    ATTN_UNROLL for (unsigned i = 0; i < Tile::HEIGHT; i++) {
        const float score = attn_lane_sum<Tile::SHARERS>(part[i]);
        if (threadIdx.x % Tile::SHARERS != 0 || Tile::row(i) >= rows.count) continue;
        float *const to = p.scores + query * p.in.items.timesteps + rows.first + Tile::row(i);
        *to = column0 == 0 ? score : *to + score;
    }
}

/* The softmax of one query over the block's chunk, whose scores are there. */
template <typename Element> struct chunk_softmax {
    typedef attn_row_team<ATTN_TILE_WARPS> team;
    enum : unsigned {
        FLOATS = ROWS + ATTN_TILE_WARPS * SLAB,
        PART = ATTN_SUM_TERMS * ATTN_TILE_WARPS / ROWS /* times ROWS rows, before they are added to the whole */
    };
    const attn_additive_scores &p;
    const attn_tile_rows rows;
    const std::size_t query;
    float *const weights, *const contexts; /* of ROWS rows; of each warp, SLAB features */

    __device__ bool attends(std::size_t row) const {
        return row < rows.count && attn_unmasked(p.in.items, query, rows.first + row);
    }

    __device__ float score(std::size_t row) const { return p.scores[query * p.in.items.timesteps + rows.first + row]; }

    __device__ float highest() const {
        float found = -INFINITY;
        for (std::size_t row = threadIdx.x; row < rows.count; row += ATTN_TILE_THREADS)
            if (attends(row)) found = fmaxf(found, score(row));
        return team::maximum(found);
    }

    /* ROWS weights from a row on, to shared memory; each thread's own one as well. */
    __device__ float weigh(std::size_t first, float highest) const {
        float weight = 0.0f;
        __syncthreads();
        if (threadIdx.x < ROWS) {
            if (attends(first + threadIdx.x)) weight = expf(score(first + threadIdx.x) - highest);
            weights[threadIdx.x] = weight;
        }
        __syncthreads();
        return weight;
    }

    /* What these rows add to a warp's share of the context, from a feature on. */
    __device__ void add_rows(std::size_t first, std::size_t feature, attn_warp_row<1> &context) const {
        typedef attn_row_group<1> group;
        attn_states<Element> h(static_cast<const Element *>(p.in.h), p.in.h_batch, p.in.h_time, p.in.features,
                               rows.item);
        h.base += feature, h.features -= feature;
        for (unsigned row = threadIdx.x / ATTN_WARP * group::ROWS; row < ROWS; row += ATTN_TILE_WARPS * group::ROWS) {
            if (first + row >= rows.count) return;
            group of_h;
            of_h.load(h, p.in.items, query, rows.first + first + row, rows.first + rows.count);
            ATTN_UNROLL for (unsigned g = 0; g < group::ROWS; g++) context.add(weights[row + g], of_h.row[g]);
        }
    }

    /* The warps' shares, first to last. */
    __device__ void put(const attn_warp_row<1> &context, std::size_t part, std::size_t feature) const {
        const std::size_t left = p.in.features - feature;
        context.store(contexts + threadIdx.x / ATTN_WARP * SLAB, left, false);
        __syncthreads();
        if (threadIdx.x >= left) return;
        float sum = 0.0f;
        for (unsigned w = 0; w < ATTN_TILE_WARPS; w++) sum += contexts[w * SLAB + threadIdx.x];
        p.part_context[part * p.in.features + feature + threadIdx.x] = sum;
    }

    __device__ void take(std::size_t part) const {
        const float maximum = highest();
        attn_long_sum<3> exponentials;
        for (std::size_t feature = 0; feature < p.in.features; feature += SLAB) {
            attn_warp_row<1> context, some;
            context.fill(0.0f);
            some.fill(0.0f);
            for (std::size_t first = 0; first < rows.count; first += ROWS) {
                const float weight = weigh(first, maximum);
                if (feature == 0) exponentials.add(weight);
                add_rows(first, feature, some);
                if (first / ROWS % PART != PART - 1) continue;
                context.add(1.0f, some);
                some.fill(0.0f);
            }
            context.add(1.0f, some);
            put(context, part, feature);
        }
        const float sum = team::sum(exponentials.total());
        if (threadIdx.x == 0) p.part_maximum[part] = maximum, p.part_sum[part] = sum;
    }

    /* They are scores until they are normalised. */
    __device__ void write_weights() const {
        float *const to = p.weights + static_cast<std::ptrdiff_t>(query / p.in.items.queries) * p.weights_batch +
                          static_cast<std::ptrdiff_t>(query % p.in.items.queries) * p.weights_row;
        for (std::size_t row = threadIdx.x; row < rows.count; row += ATTN_TILE_THREADS)
            if (attends(row)) to[rows.first + row] = score(row);
    }
};

static_assert(unsigned{SLAB} == ATTN_TILE_THREADS, "a feature a thread");

template <class Tile, typename Element> __global__ void scores_kernel(const __grid_constant__ attn_additive_scores p) {
    const attn_tile_memory<Tile, Element, STAGES> memory(p.in, reinterpret_cast<float *>(attn_shared));
    static_assert(memory.FLOATS >= Tile::ROWS + chunk_softmax<Element>::FLOATS,
                  "the softmax comes when the tiles have gone");
    const std::size_t item = blockIdx.x / p.chunks, first = blockIdx.x % p.chunks * p.steps;
    for (std::size_t step = first; step < first + p.steps; step += Tile::ROWS) {
        const attn_tile_rows rows = attn_find_tile_rows(p.in, item, step, Tile::ROWS);
        if (rows.count == 0) break;
        memory.mark_seen(p.in, rows);
        for (std::size_t column0 = 0; column0 < p.in.width; column0 += ATTN_TILE_COLUMNS) {
            Tile tile = {};
            memory.multiply(p.in, rows, column0, tile);
            for (std::size_t q = 0; q < p.in.items.queries; q++)
                add_scores(p, rows, tile, item * p.in.items.queries + q, column0);
        }
    }
    if (!p.part_sum) return;
    const attn_tile_rows rows = attn_find_tile_rows(p.in, item, first, p.steps);
    for (std::size_t q = 0; q < p.in.items.queries; q++) {
        const std::size_t query = item * p.in.items.queries + q;
        const chunk_softmax<Element> softmax = {p, rows, query, memory.floats, memory.floats + ROWS};
        __syncthreads(); /* the scores, or the last query's sums */
        softmax.take(query * p.chunks + blockIdx.x % p.chunks);
        if (p.weights) softmax.write_weights();
    }
}

} // namespace

template <class Tile> static cudaError_t launch(const attn_additive_scores &scores, cudaStream_t stream) {
    static_assert(ROWS % Tile::ROWS == 0, "a chunk is whole tiles");
    const std::size_t blocks = scores.in.batch * scores.chunks;
    if (blocks == 0) return cudaSuccess;
    return attn_launch(ATTN_TILE_BY_STORAGE(scores_kernel, Tile, scores.in.stored), blocks, ATTN_TILE_THREADS,
                       attn_tile_memory<Tile, float, STAGES>::FLOATS * sizeof(float), stream, scores);
}

std::size_t attn_additive_steps(std::size_t timesteps) {
    const std::size_t least = (timesteps + MOST_CHUNKS - 1) / MOST_CHUNKS;
    return least > ROWS ? (least + ROWS - 1) / ROWS * ROWS : static_cast<std::size_t>(ROWS);
}

cudaError_t attn_additive_launch(attn_multiplied by, const attn_additive_scores &scores, cudaStream_t stream) {
    return by == attn_multiplied::by_tensor_cores ? launch<attn_mma_tile>(scores, stream)
                                                  : launch<attn_ffma_tile>(scores, stream);
}

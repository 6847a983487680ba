/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernels of the additive score share: the rows of H that a block takes, tiles of their product with W2, and two ways to
 * multiply: by plain multiplications, and by tensor cores. */
#ifndef ATTN_CUDA_ADDITIVE_TILE_H
#define ATTN_CUDA_ADDITIVE_TILE_H

#include "cuda/additive.h"
#include "cuda/mma.h"
#include "cuda/warp_row.h"

enum : unsigned {
    ATTN_TILE_COLUMNS = 64,
    ATTN_TILE_TERMS = 32, /* that a sum takes before it is added to the whole */
    ATTN_TILE_THREADS = 128,
    ATTN_TILE_WARPS = ATTN_TILE_THREADS / ATTN_WARP
};

/* ROWS by 64 elements that a block's threads have in their registers, HEIGHT by WIDTH each. A row is within one warp. Matrices to be
 * multiplied are in shared memory: ALONG floats behind each row keep banks from conflicts where the terms of a sum are neighbours, ACROSS where those are a row
 * apart. */
struct attn_ffma_tile {
    enum : unsigned { ROWS = 32, HEIGHT = 4, WIDTH = 4, SHARERS = 16, ALONG = 1, ACROSS = 1 };
    float sum[HEIGHT][WIDTH];

    static __device__ unsigned row(unsigned i) { return threadIdx.x / SHARERS * HEIGHT + i; }
    static __device__ unsigned column(unsigned j) { return threadIdx.x % SHARERS + j * SHARERS; }

    /* Over the warp's rows, the same in all lanes that have parts of a column. */
    static __device__ float sum_rows(float value) {
        return value + __shfl_xor_sync(ATTN_ALL_LANES, value, static_cast<int>(SHARERS));
    }
    static __device__ bool first_of_column() { return threadIdx.x % ATTN_WARP < SHARERS; }

    /* sum += a b of 32 terms: a[row * a_row + term * a_term], b[term * b_term + column * b_column]; a's numbers are Factors, widened. All threads come
     * here. */
    template <typename Factor>
    __device__ void add(const float *a, unsigned a_row, unsigned a_term, const float *b, unsigned b_term,
                        unsigned b_column) {
        float part[HEIGHT][WIDTH] = {};
        for (unsigned k = 0; k < ATTN_TILE_TERMS; k++)
            ATTN_UNROLL for (unsigned i = 0; i < HEIGHT; i++) ATTN_UNROLL for (unsigned j = 0; j < WIDTH; j++)
                part[i][j] += a[row(i) * a_row + k * a_term] * b[k * b_term + column(j) * b_column];
        ATTN_UNROLL for (unsigned i = 0; i < HEIGHT; i++) ATTN_UNROLL for (unsigned j = 0; j < WIDTH; j++) sum[i][j] +=
            part[i][j];
    }
};

struct attn_mma_tile {
    enum : unsigned { ROWS = 64, HEIGHT = 2, WIDTH = 16, SHARERS = 4, ALONG = 4, ACROSS = 8 };
    enum : unsigned { PRODUCTS = ATTN_TILE_COLUMNS / ATTN_MMA_COLUMNS };
    float sum[HEIGHT][WIDTH];

    static __device__ unsigned group() { return threadIdx.x % ATTN_WARP / SHARERS; }
    static __device__ unsigned within() { return threadIdx.x % SHARERS; }
    static __device__ unsigned first_row() { return threadIdx.x / ATTN_WARP * ATTN_MMA_ROWS; }
    static __device__ unsigned row(unsigned i) { return first_row() + group() + 8 * i; }
    static __device__ unsigned column(unsigned j) { return j / 2 * ATTN_MMA_COLUMNS + 2 * within() + j % 2; }

    static __device__ float sum_rows(float value) {
        ATTN_UNROLL for (unsigned distance = SHARERS; distance < ATTN_WARP; distance *= 2) value +=
            __shfl_xor_sync(ATTN_ALL_LANES, value, static_cast<int>(distance));
        return value;
    }
    static __device__ bool first_of_column() { return threadIdx.x % ATTN_WARP < SHARERS; }

    /* Factors of 16 bits have 10 bits of fraction at most: they are their own high parts, and the low ones are zeros. */
    template <typename Factor>
    __device__ void add(const float *a, unsigned a_row, unsigned a_term, const float *b, unsigned b_term,
                        unsigned b_column) {
        constexpr bool exact = sizeof(Factor) < sizeof(float);
        float part[PRODUCTS][4] = {};
        for (unsigned k = 0; k < ATTN_TILE_TERMS; k += ATTN_MMA_DEPTH) {
            unsigned a_high[4], a_low[4];
            ATTN_UNROLL for (unsigned i = 0; i < 4; i++)
                attn_split_tf32(a[row(i % 2) * a_row + (k + within() + i / 2 * 4) * a_term], a_high[i], a_low[i]);
            ATTN_UNROLL for (unsigned n = 0; n < PRODUCTS; n++) {
                unsigned b_high[2], b_low[2];
                ATTN_UNROLL for (unsigned i = 0; i < 2; i++)
                    attn_split_tf32(b[(k + within() + i * 4) * b_term + (n * ATTN_MMA_COLUMNS + group()) * b_column],
                                    b_high[i], b_low[i]);
                if constexpr (!exact) attn_mma_tf32(part[n], a_low, b_high);
                attn_mma_tf32(part[n], a_high, b_low);
                attn_mma_tf32(part[n], a_high, b_high);
            }
        }
        ATTN_UNROLL for (unsigned n = 0; n < PRODUCTS; n++) ATTN_UNROLL for (unsigned i = 0; i < 4; i++)
            sum[i / 2][2 * n + i % 2] += part[n][i];
    }
};

/* Steps [first, first + count) of an item, and those of them that some query sees. */
struct attn_tile_rows {
    std::size_t item, first, count;

    __device__ bool seen(const attn_additive &p, std::size_t row) const {
        if (row >= count) return false;
        for (std::size_t i = 0; i < p.items.queries; i++)
            if (attn_unmasked(p.items, item * p.items.queries + i, first + row)) return true;
        return false;
    }

    /* Where steps of H or of its gradient are. */
    __device__ std::ptrdiff_t place(std::ptrdiff_t batch, std::ptrdiff_t time, std::size_t row) const {
        return static_cast<std::ptrdiff_t>(item) * batch + static_cast<std::ptrdiff_t>(first + row) * time;
    }
};

/* From so many steps behind the start of the item's range. */
static __device__ inline attn_tile_rows attn_find_tile_rows(const attn_additive &p, std::size_t item,
                                                            std::size_t offset, std::size_t most) {
    const attn_range range = attn_item_range(p.items, item);
    const std::size_t left = offset < range.length ? range.length - offset : 0;
    attn_tile_rows rows;
    rows.item = item;
    rows.first = range.start + offset;
    rows.count = left < most ? left : most;
    return rows;
}

/* A block's shared memory: which of its rows are seen, and what a step of H W2 takes: 32 columns of H, 32 rows of W2. */
template <class Tile, typename Element> struct attn_tile_memory {
    enum : unsigned {
        FOUR = ATTN_LANE_ELEMENTS,
        H_PITCH = ATTN_TILE_TERMS + Tile::ALONG,
        W2_PITCH = ATTN_TILE_COLUMNS + Tile::ACROSS,
        FLOATS = Tile::ROWS + Tile::ROWS * H_PITCH + ATTN_TILE_TERMS * W2_PITCH
    };
    float *seen, *floats;
    bool whole_h, whole_w2;

    __device__ attn_tile_memory(const attn_additive &p, float *shared)
        : seen(shared), floats(shared + Tile::ROWS),
          whole_h(attn_aligned_rows(static_cast<const Element *>(p.h), p.h_batch, p.h_time, p.features)),
          whole_w2(attn_aligned_rows(p.w2, 0, static_cast<std::ptrdiff_t>(p.width), p.width)) {}

    __device__ void mark_seen(const attn_additive &p, const attn_tile_rows &rows) const {
        if (threadIdx.x < Tile::ROWS) seen[threadIdx.x] = rows.seen(p, threadIdx.x) ? 1.0f : 0.0f;
        __syncthreads();
    }

    /* Four elements of a row that has so many, zeros behind its end. */
    template <typename Stored>
    static __device__ void copy_four(const Stored *row, std::size_t at, std::size_t end, bool whole, float *to) {
        if (whole && at < end) {
            const float4 four = attn_load_four(row + at);
            to[0] = four.x, to[1] = four.y, to[2] = four.z, to[3] = four.w;
        } else {
            for (unsigned j = 0; j < FOUR; j++) to[j] = at + j < end ? attn_widen(row[at + j]) : 0.0f;
        }
    }

    /* Columns [first, first + COUNT) of H. Rows that nobody sees are zeros. */
    template <unsigned COUNT>
    __device__ void load_h(const attn_additive &p, const attn_tile_rows &rows, std::size_t first, float *to,
                           unsigned pitch) const {
        for (unsigned i = threadIdx.x; i < Tile::ROWS * COUNT / FOUR; i += ATTN_TILE_THREADS) {
            const unsigned row = i / (COUNT / FOUR), inner = i % (COUNT / FOUR) * FOUR;
            const Element *const from = static_cast<const Element *>(p.h) + rows.place(p.h_batch, p.h_time, row);
            const std::size_t end = seen[row] != 0.0f ? p.features : 0;
            copy_four(from, first + inner, end, whole_h, to + row * pitch + inner);
        }
    }

    /* ROWS rows of W2 from d0 on, COUNT columns from column0 on. */
    template <unsigned ROWS, unsigned COUNT>
    __device__ void load_w2(const attn_additive &p, std::size_t d0, std::size_t column0, float *to,
                            unsigned pitch) const {
        for (unsigned i = threadIdx.x; i < ROWS * COUNT / FOUR; i += ATTN_TILE_THREADS) {
            const unsigned row = i / (COUNT / FOUR), inner = i % (COUNT / FOUR) * FOUR;
            const std::size_t end = d0 + row < p.features ? p.width : 0;
            copy_four(p.w2 + (d0 + row) * p.width, column0 + inner, end, whole_w2, to + row * pitch + inner);
        }
    }

    /* H W2, of the block's rows by columns from column0 on. The block's threads all come here. */
    __device__ void multiply(const attn_additive &p, const attn_tile_rows &rows, std::size_t column0,
                             Tile &tile) const {
        float *const h = floats, *const w2 = h + Tile::ROWS * H_PITCH;
        for (std::size_t k0 = 0; k0 < p.features; k0 += ATTN_TILE_TERMS) {
            load_h<ATTN_TILE_TERMS>(p, rows, k0, h, H_PITCH);
            load_w2<ATTN_TILE_TERMS, ATTN_TILE_COLUMNS>(p, k0, column0, w2, W2_PITCH);
            __syncthreads();
            tile.template add<Element>(h, H_PITCH, 1, w2, W2_PITCH, 1);
            __syncthreads();
        }
    }
};

/* The kernel for a tile, of three that differ in how H is stored. */
#define ATTN_TILE_BY_STORAGE(kernel, Tile, stored)                                                                     \
    ((stored) == ATTN_FLOAT16    ? kernel<Tile, attn_half>                                                             \
     : (stored) == ATTN_BFLOAT16 ? kernel<Tile, attn_bfloat>                                                           \
                                 : kernel<Tile, float>)

#endif

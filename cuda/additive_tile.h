/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernels of the additive score share: the rows of H that a block takes, tiles of their product with W2, and two ways to
 * multiply: by plain multiplications, and by tensor cores. */
#ifndef ATTN_CUDA_ADDITIVE_TILE_H
#define ATTN_CUDA_ADDITIVE_TILE_H

#include "cuda/additive.h"
#include "cuda/async_copy.h"
#include "cuda/mma.h"
#include "cuda/warp_row.h"

#include <type_traits>

enum : unsigned {
    ATTN_TILE_COLUMNS = 64,
    ATTN_TILE_STRIP = 16, /* columns that a whole warp's threads have the next of their elements in */
    ATTN_TILE_TERMS = 32, /* that a sum takes before it is added to the whole */
    ATTN_TILE_THREADS = 128,
    ATTN_TILE_WARPS = ATTN_TILE_THREADS / ATTN_WARP
};

/* ROWS by 64 elements that a block's threads have in their registers, HEIGHT by WIDTH each, STRIP of these for each 16 columns. A row is within one warp. Matrices to be
 * multiplied are in shared memory: ALONG floats behind each row keep banks from conflicts where the terms of a sum are neighbours, ACROSS where those are a row
 * apart. */
struct attn_ffma_tile {
    enum : unsigned { ROWS = 32, HEIGHT = 4, WIDTH = 4, STRIP = 1, SHARERS = 16, ALONG = 4, ACROSS = 4 };
    float sum[HEIGHT][WIDTH];

    static __device__ unsigned row(unsigned i) { return threadIdx.x / SHARERS * HEIGHT + i; }
    static __device__ unsigned column(unsigned j) { return threadIdx.x % SHARERS + j * SHARERS; }

    /* Over the warp's rows, the same in all lanes that have parts of a column. */
    static __device__ float sum_rows(float value) {
        return value + __shfl_xor_sync(ATTN_ALL_LANES, value, static_cast<int>(SHARERS));
    }
    static __device__ bool first_of_column() { return threadIdx.x % ATTN_WARP < SHARERS; }

    /* sum += a b of 32 terms: a[row * a_row + term * a_term], b[term * b_term + column * b_column]; a's numbers are Factors, which may be held
     * widened. All threads come here. Of terms from `terms` on and columns from `columns` on, which are zeros, the product may be left out. */
    template <typename Factor, typename Held>
    __device__ void add(const Held *a, unsigned a_row, unsigned a_term, const float *b, unsigned b_term,
                        unsigned b_column, unsigned terms = ATTN_TILE_TERMS, unsigned = ATTN_TILE_COLUMNS) {
        float part[HEIGHT][WIDTH] = {};
        for (unsigned k = 0; k < terms; k++)
            ATTN_UNROLL for (unsigned i = 0; i < HEIGHT; i++) ATTN_UNROLL for (unsigned j = 0; j < WIDTH; j++)
                part[i][j] += attn_widen(a[row(i) * a_row + k * a_term]) * b[k * b_term + column(j) * b_column];
        ATTN_UNROLL for (unsigned i = 0; i < HEIGHT; i++) ATTN_UNROLL for (unsigned j = 0; j < WIDTH; j++) sum[i][j] +=
            part[i][j];
    }
};

struct attn_mma_tile {
    enum : unsigned { ROWS = 64, HEIGHT = 2, WIDTH = 16, STRIP = 4, SHARERS = 4, ALONG = 4, ACROSS = 8 };
    enum : unsigned {
        PRODUCTS = ATTN_TILE_COLUMNS / ATTN_MMA_COLUMNS,
        PAIR = 2 /* products side by side: each has to wait for the one before it in its own sum */
    };
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
    template <typename Factor, typename Held>
    __device__ void add(const Held *a, unsigned a_row, unsigned a_term, const float *b, unsigned b_term,
                        unsigned b_column, unsigned terms = ATTN_TILE_TERMS, unsigned columns = ATTN_TILE_COLUMNS) {
        constexpr bool exact = sizeof(Factor) < sizeof(float);
        float part[PRODUCTS][4] = {};
        for (unsigned k = 0; k < terms; k += ATTN_MMA_DEPTH) {
            unsigned a_high[4], a_low[4];
            ATTN_UNROLL for (unsigned i = 0; i < 4; i++) attn_split_tf32(
                attn_widen(a[row(i % 2) * a_row + (k + within() + i / 2 * 4) * a_term]), a_high[i], a_low[i]);
            ATTN_UNROLL for (unsigned n = 0; n < PRODUCTS; n += PAIR) {
                if (n * ATTN_MMA_COLUMNS >= columns) continue;
                unsigned b_high[PAIR][2], b_low[PAIR][2];
                ATTN_UNROLL for (unsigned j = 0; j < PAIR; j++) ATTN_UNROLL for (unsigned i = 0; i < 2; i++)
                    attn_split_tf32(
                        b[(k + within() + i * 4) * b_term + ((n + j) * ATTN_MMA_COLUMNS + group()) * b_column],
                        b_high[j][i], b_low[j][i]);
                ATTN_UNROLL for (unsigned j = 0; j < PAIR && !exact; j++) attn_mma_tf32(part[n + j], a_low, b_high[j]);
                ATTN_UNROLL for (unsigned j = 0; j < PAIR; j++) attn_mma_tf32(part[n + j], a_high, b_low[j]);
                ATTN_UNROLL for (unsigned j = 0; j < PAIR; j++) attn_mma_tf32(part[n + j], a_high, b_high[j]);
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

/* A thread's share in copying ROWS rows by COUNT columns of a matrix to shared memory: four neighbours of every STEP-th row. What is not there becomes
 * zeros. Elements that need not be widened are on their way, and not there, until they are awaited. */
template <unsigned ROWS, unsigned COUNT, typename Stored> struct attn_tile_copy {
    enum : unsigned {
        FOUR = ATTN_LANE_ELEMENTS,
        SHARERS = COUNT / FOUR,
        STEP = ATTN_TILE_THREADS / SHARERS,
        EACH = ROWS / STEP
    };
    const Stored *own; /* the thread's first elements */
    std::ptrdiff_t step;
    bool whole; /* rows can be read in vectors */

    __device__ attn_tile_copy(const Stored *first, std::ptrdiff_t row, bool whole_rows)
        : own(first + static_cast<std::ptrdiff_t>(threadIdx.x / SHARERS) * row + inner()), step(row * STEP),
          whole(whole_rows) {}

    static __device__ unsigned inner() { return threadIdx.x % SHARERS * FOUR; }

    /* A bit for each of the thread's rows that `reads` is true of. */
    template <class Reads> static __device__ unsigned rows(const Reads &reads) {
        unsigned bits = 0;
        ATTN_UNROLL for (unsigned i = 0; i < EACH; i++) if (reads(threadIdx.x / SHARERS + i * STEP)) bits |= 1u << i;
        return bits;
    }

    /* So many elements behind the first, of these rows, of which `columns` are left. */
    template <typename Held>
    __device__ void run(std::ptrdiff_t behind, unsigned bits, std::size_t columns, Held *to, unsigned pitch) const {
        const std::size_t here = columns > inner() ? columns - inner() : 0;
        const unsigned left = here < FOUR ? static_cast<unsigned>(here) : +FOUR;
        const Stored *from = own + behind;
        to += threadIdx.x / SHARERS * pitch + inner();
        if (left == 0) bits = 0;
        if constexpr (std::is_same<Stored, Held>::value)
            if (whole) {
                ATTN_UNROLL for (unsigned i = 0; i < EACH; i++, from += step)
                    attn_copy_async<FOUR * sizeof(Held)>(to + i * STEP * pitch, from, bits >> i & 1);
                return;
            }
        for (unsigned i = 0; i < EACH; i++, from += step, bits >>= 1, to += STEP * pitch)
            copy(from, bits & 1 ? left : 0, to);
    }

    template <typename Held> __device__ void copy(const Stored *from, unsigned left, Held *to) const {
        if constexpr (std::is_same<Stored, Held>::value) {
            for (unsigned j = 0; j < FOUR; j++) to[j] = j < left ? from[j] : Held{};
        } else {
            float4 four = {0.0f, 0.0f, 0.0f, 0.0f};
            if (whole && left > 0) four = attn_load_four(from);
            to[0] = four.x, to[1] = four.y, to[2] = four.z, to[3] = four.w;
            for (unsigned j = 0; j < FOUR && !whole; j++) to[j] = j < left ? attn_widen(from[j]) : 0.0f;
        }
    }
};

/* A block's shared memory: which of its rows are seen, and STAGES times what a step of H W2 takes: 32 columns of H, as stored, and 32 rows of W2. */
template <class Tile, typename Element, unsigned STAGES> struct attn_tile_memory {
    enum : unsigned {
        FOUR = ATTN_LANE_ELEMENTS,
        H_PITCH = ATTN_TILE_TERMS + Tile::ALONG * (sizeof(float) / sizeof(Element)),
        W2_PITCH = ATTN_TILE_COLUMNS + Tile::ACROSS,
        H_FLOATS = Tile::ROWS * H_PITCH * sizeof(Element) / sizeof(float),
        STAGE_FLOATS = H_FLOATS + ATTN_TILE_TERMS * W2_PITCH,
        FLOATS = Tile::ROWS + STAGES * STAGE_FLOATS
    };
    static_assert(H_FLOATS % FOUR == 0 && W2_PITCH % FOUR == 0, "copies of four floats are aligned");
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

    template <unsigned COUNT>
    __device__ attn_tile_copy<Tile::ROWS, COUNT, Element> copy_of_h(const attn_additive &p,
                                                                    const attn_tile_rows &rows) const {
        return {static_cast<const Element *>(p.h) + rows.place(p.h_batch, p.h_time, 0), p.h_time, whole_h};
    }

    /* Columns of ROWS rows of W2, of which the first is d0. */
    template <unsigned ROWS, unsigned COUNT>
    __device__ attn_tile_copy<ROWS, COUNT, float> copy_of_w2(const attn_additive &p, std::size_t d0,
                                                             std::size_t column0) const {
        return {p.w2 + d0 * p.width + column0, static_cast<std::ptrdiff_t>(p.width), whole_w2};
    }

    /* Columns [first, first + COUNT) of H. Rows that nobody sees are zeros. */
    template <unsigned COUNT, typename Held>
    __device__ void load_h(const attn_additive &p, const attn_tile_rows &rows, std::size_t first, Held *to,
                           unsigned pitch) const {
        const auto copy = copy_of_h<COUNT>(p, rows);
        copy.run(static_cast<std::ptrdiff_t>(first), copy.rows([&](unsigned row) { return seen[row] != 0.0f; }),
                 p.features - first, to, pitch);
    }

    /* ROWS rows of W2 from d0 on, COUNT columns from column0 on. */
    template <unsigned ROWS, unsigned COUNT>
    __device__ void load_w2(const attn_additive &p, std::size_t d0, std::size_t column0, float *to,
                            unsigned pitch) const {
        const auto copy = copy_of_w2<ROWS, COUNT>(p, d0, column0);
        copy.run(0, copy.rows([&](unsigned row) { return d0 + row < p.features; }),
                 column0 < p.width ? p.width - column0 : 0, to, pitch);
    }

    __device__ Element *h_of(unsigned stage) const {
        return reinterpret_cast<Element *>(floats + stage % STAGES * STAGE_FLOATS);
    }
    __device__ float *w2_of(unsigned stage) const { return floats + stage % STAGES * STAGE_FLOATS + H_FLOATS; }

    /* H W2, of the block's rows by columns from column0 on: STAGES - 1 steps are on their way while one is added. The block's threads all come
     * here. */
    __device__ void multiply(const attn_additive &p, const attn_tile_rows &rows, std::size_t column0,
                             Tile &tile) const {
        enum : unsigned { TERMS = ATTN_TILE_TERMS, COLUMNS = ATTN_TILE_COLUMNS };
        const auto h = copy_of_h<TERMS>(p, rows);
        const auto w2 = copy_of_w2<TERMS, COLUMNS>(p, 0, column0);
        const unsigned reads = h.rows([&](unsigned row) { return seen[row] != 0.0f; });
        const std::size_t columns = p.width - column0;
        const auto start = [&](unsigned stage) {
            const std::size_t k0 = std::size_t{stage} * TERMS;
            if (k0 < p.features) {
                h.run(static_cast<std::ptrdiff_t>(k0), reads, p.features - k0, h_of(stage), H_PITCH);
                w2.run(static_cast<std::ptrdiff_t>(k0 * p.width),
                       w2.rows([&](unsigned row) { return row < p.features - k0; }), columns, w2_of(stage), W2_PITCH);
            }
            attn_commit_copies();
        };
        for (unsigned stage = 0; stage + 1 < STAGES; stage++) start(stage);
        for (unsigned stage = 0; std::size_t{stage} * TERMS < p.features; stage++) {
            const std::size_t terms = p.features - std::size_t{stage} * TERMS;
            start(stage + STAGES - 1);
            attn_await_copies<STAGES - 1>();
            __syncthreads();
            tile.template add<Element>(h_of(stage), H_PITCH, 1, w2_of(stage), W2_PITCH, 1,
                                       terms < TERMS ? static_cast<unsigned>(terms) : +TERMS,
                                       columns < COLUMNS ? static_cast<unsigned>(columns) : +COLUMNS);
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

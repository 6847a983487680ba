/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernels of the additive score share: the rows of H that a block takes, and tiles of their product with W2. */
#ifndef ATTN_CUDA_ADDITIVE_TILE_H
#define ATTN_CUDA_ADDITIVE_TILE_H

#include "cuda/additive.h"
#include "cuda/warp_row.h"

enum : unsigned {
    ATTN_TILE_ROWS = 32,    /* of H, a block's */
    ATTN_TILE_COLUMNS = 64, /* of W2, a tile's */
    ATTN_TILE_DEPTH = 32,   /* features that a sum takes before it is added to the whole */
    ATTN_TILE_LANES = 16,   /* threads that share rows and split the columns */
    ATTN_TILE_SIDE = 4,     /* rows and columns of a thread */
    ATTN_TILE_THREADS = ATTN_TILE_ROWS / ATTN_TILE_SIDE * ATTN_TILE_LANES,
    ATTN_TILE_PITCH = ATTN_TILE_ROWS + 1, /* rows of H are stored down the columns: without bank conflicts */
    ATTN_TILE_FLOATS = ATTN_TILE_ROWS + ATTN_TILE_DEPTH * (ATTN_TILE_PITCH + ATTN_TILE_COLUMNS) /* shared */
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
                                                            std::size_t offset) {
    const attn_range range = attn_item_range(p.items, item);
    const std::size_t left = offset < range.length ? range.length - offset : 0;
    attn_tile_rows rows;
    rows.item = item;
    rows.first = range.start + offset;
    rows.count = left < ATTN_TILE_ROWS ? left : static_cast<std::size_t>(ATTN_TILE_ROWS);
    return rows;
}

/* A block's shared memory: which of its rows are seen, and what a step of the product takes. */
struct attn_tile_memory {
    float *seen, *h, *weights;

    __device__ explicit attn_tile_memory(float *floats)
        : seen(floats), h(seen + ATTN_TILE_ROWS), weights(h + ATTN_TILE_DEPTH * ATTN_TILE_PITCH) {}

    __device__ void mark_seen(const attn_additive &p, const attn_tile_rows &rows) const {
        if (threadIdx.x < ATTN_TILE_ROWS) seen[threadIdx.x] = rows.seen(p, threadIdx.x) ? 1.0f : 0.0f;
        __syncthreads();
    }

    /* Rows that nobody sees are zeros. */
    __device__ void load_rows(const attn_additive &p, const attn_tile_rows &rows, std::size_t k0) const {
        for (unsigned i = threadIdx.x; i < ATTN_TILE_ROWS * ATTN_TILE_DEPTH; i += ATTN_TILE_THREADS) {
            const unsigned row = i / ATTN_TILE_DEPTH, inner = i % ATTN_TILE_DEPTH;
            float value = 0.0f;
            if (seen[row] != 0.0f && k0 + inner < p.features)
                value = p.h[rows.place(p.h_batch, p.h_time, row) + static_cast<std::ptrdiff_t>(k0 + inner)];
            h[inner * ATTN_TILE_PITCH + row] = value;
        }
    }

    __device__ void load_weights(const attn_additive &p, std::size_t k0, std::size_t column0) const {
        for (unsigned i = threadIdx.x; i < ATTN_TILE_DEPTH * ATTN_TILE_COLUMNS; i += ATTN_TILE_THREADS) {
            const std::size_t k = k0 + i / ATTN_TILE_COLUMNS, column = column0 + i % ATTN_TILE_COLUMNS;
            weights[i] = k < p.features && column < p.width ? p.w2[k * p.width + column] : 0.0f;
        }
    }
};

/* A thread's place in a tile: rows of its group, columns ATTN_TILE_LANES apart. */
static __device__ inline unsigned attn_tile_lane() { return threadIdx.x % ATTN_TILE_LANES; }
static __device__ inline unsigned attn_tile_first_row() { return threadIdx.x / ATTN_TILE_LANES * ATTN_TILE_SIDE; }

/* A thread's part of H W2. */
struct attn_product_tile {
    float sum[ATTN_TILE_SIDE][ATTN_TILE_SIDE];

    __device__ void add_chunk(const attn_tile_memory &memory) {
        const unsigned first_row = attn_tile_first_row(), lane = attn_tile_lane();
        float part[ATTN_TILE_SIDE][ATTN_TILE_SIDE] = {};
        for (unsigned k = 0; k < ATTN_TILE_DEPTH; k++)
            for (unsigned i = 0; i < ATTN_TILE_SIDE; i++)
                for (unsigned j = 0; j < ATTN_TILE_SIDE; j++)
                    part[i][j] += memory.h[k * ATTN_TILE_PITCH + first_row + i] *
                                  memory.weights[k * ATTN_TILE_COLUMNS + lane + j * ATTN_TILE_LANES];
        for (unsigned i = 0; i < ATTN_TILE_SIDE; i++)
            for (unsigned j = 0; j < ATTN_TILE_SIDE; j++) sum[i][j] += part[i][j];
    }

    /* Of the block's rows by columns from column0 on. The block's threads all come here. */
    __device__ void make(const attn_additive &p, const attn_tile_rows &rows, const attn_tile_memory &memory,
                         std::size_t column0) {
        for (std::size_t k0 = 0; k0 < p.features; k0 += ATTN_TILE_DEPTH) {
            memory.load_rows(p, rows, k0);
            memory.load_weights(p, k0, column0);
            __syncthreads();
            add_chunk(memory);
            __syncthreads();
        }
    }
};

#endif

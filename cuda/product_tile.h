/* SPDX-License-Identifier: Apache-2.0 */
/* A tile of a product of rows by weights, a block each. Its threads are groups that share the columns: each takes 32 terms of every sum, from zero, and
 * what they have is added up in order. So no sum adds to a long one, and all that a block loads for so many terms is on its way at once. */
#ifndef ATTN_CUDA_PRODUCT_TILE_H
#define ATTN_CUDA_PRODUCT_TILE_H

#include "cuda/launch.h"

enum : unsigned {
    ATTN_PRODUCT_ROWS = 8,
    ATTN_PRODUCT_COLUMNS = 64,
    ATTN_PRODUCT_TERMS = 32, /* of a group's sum */
    ATTN_PRODUCT_GROUPS = 4,
    ATTN_PRODUCT_THREADS = ATTN_PRODUCT_GROUPS * ATTN_PRODUCT_COLUMNS,
    ATTN_PRODUCT_ROUND = ATTN_PRODUCT_GROUPS * ATTN_PRODUCT_TERMS /* terms that a block takes between two barriers */
};

/* Weights of shape (depth, columns), or stored the other way round. */
struct attn_product_weights {
    const float *data;
    std::size_t depth, columns;
};

/* A round is load, fill, a barrier, multiply, a barrier, add; the next one's load may come before the last of them. */
template <bool TRANSPOSED> struct attn_product_tile {
    enum : unsigned {
        RESULTS = ATTN_PRODUCT_ROWS / ATTN_PRODUCT_GROUPS,
        PITCH = ATTN_PRODUCT_COLUMNS + 1, /* stored down the columns: without bank conflicts */
        FLOATS = ATTN_PRODUCT_ROWS * ATTN_PRODUCT_ROUND +
                 ATTN_PRODUCT_GROUPS * ATTN_PRODUCT_ROWS * ATTN_PRODUCT_COLUMNS +
                 (TRANSPOSED ? ATTN_PRODUCT_ROUND * PITCH : 0)
    };

    const attn_product_weights of;
    const std::size_t column0;
    float *const rows, *const parts, *const turned;
    float weight[ATTN_PRODUCT_TERMS]; /* of the thread's column, or on their way there */
    float result[RESULTS];            /* of the thread's column, rows from first_row() on */

    __device__ attn_product_tile(const attn_product_weights &weights, std::size_t first_column, float *shared)
        : of(weights), column0(first_column), rows(shared), parts(rows + ATTN_PRODUCT_ROWS * ATTN_PRODUCT_ROUND),
          turned(parts + ATTN_PRODUCT_GROUPS * ATTN_PRODUCT_ROWS * ATTN_PRODUCT_COLUMNS) {
        ATTN_UNROLL for (unsigned i = 0; i < RESULTS; i++) result[i] = 0.0f;
    }

    static __device__ unsigned group() { return threadIdx.x / ATTN_PRODUCT_COLUMNS; }
    static __device__ unsigned column() { return threadIdx.x % ATTN_PRODUCT_COLUMNS; }
    static __device__ unsigned first_row() { return group() * RESULTS; }

    /* Neighbours load neighbours: terms where those lie behind each other, else columns. */
    __device__ void load(std::size_t k0) {
        enum : unsigned { APART = ATTN_PRODUCT_THREADS / ATTN_PRODUCT_ROUND };
        const std::size_t k = k0 + (TRANSPOSED ? threadIdx.x % ATTN_PRODUCT_ROUND : group() * ATTN_PRODUCT_TERMS);
        const std::size_t at = column0 + (TRANSPOSED ? threadIdx.x / ATTN_PRODUCT_ROUND : column());
        const std::size_t left = TRANSPOSED ? remaining(of.columns, at, APART) : remaining(of.depth, k, 1);
        const bool inside = TRANSPOSED ? k < of.depth : at < of.columns;
        const std::size_t step = TRANSPOSED ? APART * of.depth : of.columns;
        const float *from = of.data + (TRANSPOSED ? at * of.depth + k : k * of.columns + at);
        ATTN_UNROLL for (unsigned i = 0; i < ATTN_PRODUCT_TERMS; i++, from += step) weight[i] =
            inside && i < left ? *from : 0.0f;
    }

    /* How many of first, first + apart, ... are below the end. */
    static __device__ std::size_t remaining(std::size_t end, std::size_t first, std::size_t apart) {
        return first < end ? (end - first + apart - 1) / apart : 0;
    }

    /* element(row, k) for each of the tile's rows. */
    template <class Element> __device__ void fill(const Element &element, std::size_t k0) {
        enum : unsigned { EACH = ATTN_PRODUCT_ROWS * ATTN_PRODUCT_ROUND / ATTN_PRODUCT_THREADS };
        float own[EACH];
        ATTN_UNROLL for (unsigned i = 0; i < EACH; i++) {
            const unsigned at = threadIdx.x + i * ATTN_PRODUCT_THREADS;
            own[i] = element(at / ATTN_PRODUCT_ROUND, k0 + at % ATTN_PRODUCT_ROUND);
        }
        ATTN_UNROLL for (unsigned i = 0; i < EACH; i++) rows[threadIdx.x + i * ATTN_PRODUCT_THREADS] = own[i];
        if (TRANSPOSED) turn();
    }

    /* Loaded weights, to where their columns' threads find them. */
    __device__ void turn() {
        ATTN_UNROLL for (unsigned i = 0; i < ATTN_PRODUCT_TERMS; i++) {
            const unsigned at = threadIdx.x + i * ATTN_PRODUCT_THREADS;
            turned[at % ATTN_PRODUCT_ROUND * PITCH + at / ATTN_PRODUCT_ROUND] = weight[i];
        }
    }

    __device__ void multiply() {
        const unsigned first = group() * ATTN_PRODUCT_TERMS;
        float sum[ATTN_PRODUCT_ROWS] = {};
        ATTN_UNROLL for (unsigned k = 0; k < ATTN_PRODUCT_TERMS; k++) {
            const float by = TRANSPOSED ? turned[(first + k) * PITCH + column()] : weight[k];
            ATTN_UNROLL for (unsigned i = 0; i < ATTN_PRODUCT_ROWS; i++) sum[i] +=
                rows[i * ATTN_PRODUCT_ROUND + first + k] * by;
        }
        ATTN_UNROLL for (unsigned i = 0; i < ATTN_PRODUCT_ROWS; i++)
            parts[(group() * ATTN_PRODUCT_ROWS + i) * ATTN_PRODUCT_COLUMNS + column()] = sum[i];
    }

    __device__ void add() {
        ATTN_UNROLL for (unsigned i = 0; i < RESULTS; i++) {
            float round = 0.0f;
            for (unsigned g = 0; g < ATTN_PRODUCT_GROUPS; g++)
                round += parts[(g * ATTN_PRODUCT_ROWS + first_row() + i) * ATTN_PRODUCT_COLUMNS + column()];
            result[i] += round;
        }
    }

    /* All rounds, the first of which is loaded. */
    template <class Element> __device__ void run(const Element &element) {
        for (std::size_t k0 = 0; k0 == 0 || k0 < of.depth; k0 += ATTN_PRODUCT_ROUND) {
            fill(element, k0);
            __syncthreads();
            multiply();
            if (k0 + ATTN_PRODUCT_ROUND < of.depth) load(k0 + ATTN_PRODUCT_ROUND);
            __syncthreads();
            add();
        }
    }
};

#endif

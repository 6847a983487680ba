/* SPDX-License-Identifier: Apache-2.0 */
/* Threads that share a row of any length: a warp, several to a block, or a whole block. */
#ifndef ATTN_CUDA_ROW_TEAM_H
#define ATTN_CUDA_ROW_TEAM_H

#include "cuda/launch.h"

#ifndef ATTN_CUDA_LONG_ROW
#define ATTN_CUDA_LONG_ROW 1024
#endif

enum : unsigned {
    ATTN_TEAM_THREADS = 128,
    ATTN_TEAM_LONG_ROW = ATTN_CUDA_LONG_ROW /* elements above which a row has a block to itself */
};

/* WARPS: of a row, 1 or all of a block's. Every thread of the row comes to each sum and maximum, which is the same in all of them; it
 * depends on the row alone. Shared memory: a float for each warp of the block. */
template <unsigned WARPS> struct attn_row_team {
    enum : unsigned { LANES = WARPS * ATTN_WARP, ROWS = ATTN_TEAM_THREADS / LANES };

    static __device__ std::size_t row() { return static_cast<std::size_t>(blockIdx.x) * ROWS + threadIdx.x / LANES; }
    static __device__ unsigned lane() { return threadIdx.x % LANES; }

    static __device__ float add(float left, float right) { return left + right; }
    static __device__ float larger(float left, float right) { return fmaxf(left, right); }

    template <float (*COMBINE)(float, float)> static __device__ float over_row(float value) {
        for (int distance = ATTN_WARP / 2; distance > 0; distance /= 2)
            value = COMBINE(value, __shfl_xor_sync(ATTN_ALL_LANES, value, distance));
        if (WARPS == 1) return value;
        float *const parts = reinterpret_cast<float *>(attn_shared);
        if (threadIdx.x % ATTN_WARP == 0) parts[threadIdx.x / ATTN_WARP] = value;
        __syncthreads();
        value = parts[0];
        for (unsigned i = 1; i < WARPS; i++) value = COMBINE(value, parts[i]);
        __syncthreads();
        return value;
    }

    static __device__ float sum(float value) { return over_row<add>(value); }
    static __device__ float maximum(float value) { return over_row<larger>(value); }
};

enum : unsigned { ATTN_TEAM_WARPS = ATTN_TEAM_THREADS / ATTN_WARP };

/* Launches kernel<Element, WARPS> for rows of so many elements. */
#define ATTN_LAUNCH_ROWS(kernel, element, rows, length, stream, parameters)                                            \
    ((length) > ATTN_TEAM_LONG_ROW ? attn_launch(kernel<element, ATTN_TEAM_WARPS>, rows, ATTN_TEAM_THREADS,            \
                                                 ATTN_TEAM_WARPS * sizeof(float), stream, parameters)                  \
                                   : attn_launch(kernel<element, 1>, ((rows) + ATTN_TEAM_WARPS - 1) / ATTN_TEAM_WARPS, \
                                                 ATTN_TEAM_THREADS, 0, stream, parameters))

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* A row of up to 1024 elements held by a warp, and sums over its lanes. */
#ifndef ATTN_CUDA_WARP_ROW_H
#define ATTN_CUDA_WARP_ROW_H

#include "cuda/launch.h"
#include "cuda/storage.h"

#include <cstdint>

enum : unsigned { ATTN_LANE_ELEMENTS = 4, ATTN_WARP_ELEMENTS = ATTN_WARP * ATTN_LANE_ELEMENTS };

/* Rows of H that a warp has in flight: enough to hide the memory's latency, as long as they fit the registers. */
template <unsigned VECTORS> struct attn_in_flight {
    enum : unsigned { ROWS = VECTORS <= 2 ? 4 : VECTORS == 4 ? 2 : 1 };
};

/* The compiler may not take this apart: it would, to share stores with the way for rows that aren't aligned. */
static __device__ inline void attn_store_four(float *to, const float4 &four) {
#ifdef __CUDACC__
    asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};"
                 :
                 : "l"(__cvta_generic_to_global(to)), "f"(four.x), "f"(four.y), "f"(four.z), "f"(four.w)
                 : "memory");
#else
    *reinterpret_cast<float4 *>(to) = four;
#endif
}

/* Four elements behind one another, which are aligned. */
static __device__ inline float4 attn_load_four(const float *from) { return *reinterpret_cast<const float4 *>(from); }

template <typename Element> __device__ inline float4 attn_load_four(const Element *from) {
    struct alignas(ATTN_LANE_ELEMENTS * sizeof(Element)) four_elements {
        Element element[ATTN_LANE_ELEMENTS];
    };
    const four_elements four = *reinterpret_cast<const four_elements *>(from);
    return {attn_widen(four.element[0]), attn_widen(four.element[1]), attn_widen(four.element[2]),
            attn_widen(four.element[3])};
}

/* Lane i has elements 4i to 4i + 3 of each 128. */
template <unsigned VECTORS> struct attn_warp_row {
    float value[VECTORS][ATTN_LANE_ELEMENTS];

    static __device__ std::size_t place(unsigned v) {
        return v * ATTN_WARP_ELEMENTS + threadIdx.x % ATTN_WARP * ATTN_LANE_ELEMENTS;
    }

    __device__ void fill(float with) {
        for (unsigned v = 0; v < VECTORS; v++)
            for (unsigned j = 0; j < ATTN_LANE_ELEMENTS; j++) value[v][j] = with;
    }

    /* Zeros behind the row's end. The same values whether by whole vectors or not. */
    template <typename Element> __device__ void load(const Element *row, std::size_t features, bool whole) {
        if (whole)
            load_vectors(row, features);
        else
            load_elements(row, features);
    }

    /* Lanes behind the end stay with the others: the choice is not theirs to make one by one. */
    template <typename Element> __device__ void load_vectors(const Element *row, std::size_t features) {
        for (unsigned v = 0; v < VECTORS; v++) {
            float4 four = {0.0f, 0.0f, 0.0f, 0.0f};
            if (place(v) < features) four = attn_load_four(row + place(v));
            value[v][0] = four.x, value[v][1] = four.y, value[v][2] = four.z, value[v][3] = four.w;
        }
    }

    template <typename Row> __device__ void load_elements(const Row &row, std::size_t features) {
        for (unsigned v = 0; v < VECTORS; v++)
            for (unsigned j = 0; j < ATTN_LANE_ELEMENTS; j++)
                value[v][j] = place(v) + j < features ? attn_widen(row[place(v) + j]) : 0.0f;
    }

    __device__ void store(float *row, std::size_t features, bool whole) const {
        if (whole)
            store_vectors(row, features);
        else
            store_elements(row, features);
    }

    __device__ void store_vectors(float *row, std::size_t features) const {
        for (unsigned v = 0; v < VECTORS; v++) {
            const float4 four = {value[v][0], value[v][1], value[v][2], value[v][3]};
            if (place(v) < features) attn_store_four(row + place(v), four);
        }
    }

    __device__ void store_elements(float *row, std::size_t features) const {
        for (unsigned v = 0; v < VECTORS; v++)
            for (unsigned j = 0; j < ATTN_LANE_ELEMENTS; j++)
                if (place(v) + j < features) row[place(v) + j] = value[v][j];
    }

    /* row = kept row + by this. One element after the other, as volatile ones are: the compiler would load them all at
     * once, in registers that the kernel's rows need. */
    __device__ void add_to(volatile float *row, std::size_t features, float kept, float by) const {
        for (unsigned v = 0; v < VECTORS; v++)
            for (unsigned j = 0; j < ATTN_LANE_ELEMENTS; j++)
                if (place(v) + j < features) row[place(v) + j] = kept * row[place(v) + j] + by * value[v][j];
    }

    /* No chain of a lane's products is longer than 16. */
    __device__ float dot(const attn_warp_row &other) const {
        if (VECTORS <= 4) return dot_of(other, 0, VECTORS);
        return dot_of(other, 0, VECTORS / 2) + dot_of(other, VECTORS / 2, VECTORS);
    }

    __device__ float dot_of(const attn_warp_row &other, unsigned first, unsigned last) const {
        float sum = 0.0f;
        for (unsigned v = first; v < last; v++)
            for (unsigned j = 0; j < ATTN_LANE_ELEMENTS; j++) sum += value[v][j] * other.value[v][j];
        return sum;
    }

    __device__ void scale(float by) {
        for (unsigned v = 0; v < VECTORS; v++)
            for (unsigned j = 0; j < ATTN_LANE_ELEMENTS; j++) value[v][j] *= by;
    }

    __device__ void add(float times, const attn_warp_row &other) {
        for (unsigned v = 0; v < VECTORS; v++)
            for (unsigned j = 0; j < ATTN_LANE_ELEMENTS; j++) value[v][j] += times * other.value[v][j];
    }
};

/* Sums over groups of so many lanes, the same in each lane of a group. All lanes of the warp come here. */
template <unsigned LANES> __device__ inline float attn_lane_sum(float value) {
    for (unsigned distance = LANES / 2; distance > 0; distance /= 2)
        value += __shfl_xor_sync(ATTN_ALL_LANES, value, static_cast<int>(distance));
    return value;
}

static __device__ inline float attn_warp_sum(float value) { return attn_lane_sum<ATTN_WARP>(value); }

/* Several sums over the warp for little more than the exchanges of one: the lanes split up, COUNT groups one behind the other, and each group is left with
 * one sum. Each is added up as attn_warp_sum does it. */
template <unsigned COUNT> __device__ inline float attn_warp_sums(float (&value)[COUNT]) {
    ATTN_UNROLL for (unsigned held = COUNT / 2; held > 0; held /= 2) {
        const unsigned distance = ATTN_WARP / COUNT * held;
        const bool upper = threadIdx.x & distance;
        ATTN_UNROLL for (unsigned i = 0; i < held; i++) {
            const float kept = upper ? value[held + i] : value[i], given = upper ? value[i] : value[held + i];
            value[i] = kept + __shfl_xor_sync(ATTN_ALL_LANES, given, static_cast<int>(distance));
        }
    }
    return attn_lane_sum<ATTN_WARP / COUNT>(value[0]);
}

/* What a softmax's sum is multiplied by when its maximum goes from one number to another that is not lower; 1 where they are the same infinity. */
static __device__ inline float attn_rescale(float from, float to) { return from == to ? 1.0f : expf(from - to); }

/* Vectors of four need aligned rows. */
template <typename Element>
__device__ inline bool attn_aligned_rows(const Element *base, std::ptrdiff_t batch, std::ptrdiff_t row,
                                         std::size_t width) {
    return reinterpret_cast<std::uintptr_t>(base) % (ATTN_LANE_ELEMENTS * sizeof(Element)) == 0 &&
           width % ATTN_LANE_ELEMENTS == 0 && batch % ATTN_LANE_ELEMENTS == 0 && row % ATTN_LANE_ELEMENTS == 0;
}

/* The kernel for rows of a width, of four that differ in the vectors they take, and by how the rows of H are stored. */
#define ATTN_BY_WIDTH(kernel, width, Element)                                                                          \
    ((width) <= ATTN_WARP_ELEMENTS       ? kernel<1, Element>                                                          \
     : (width) <= 2 * ATTN_WARP_ELEMENTS ? kernel<2, Element>                                                          \
     : (width) <= 4 * ATTN_WARP_ELEMENTS ? kernel<4, Element>                                                          \
                                         : kernel<8, Element>)
#define ATTN_BY_STORAGE(kernel, width, stored)                                                                         \
    ((stored) == ATTN_FLOAT16    ? ATTN_BY_WIDTH(kernel, width, attn_half)                                             \
     : (stored) == ATTN_BFLOAT16 ? ATTN_BY_WIDTH(kernel, width, attn_bfloat)                                           \
                                 : ATTN_BY_WIDTH(kernel, width, float))

#endif

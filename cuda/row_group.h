/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of H that a warp takes together: held by all of its lanes, while what there is one of for each row (a score, a weight) is held by the row's own
 * lanes, LANES of them, and computed there once. */
#ifndef ATTN_CUDA_ROW_GROUP_H
#define ATTN_CUDA_ROW_GROUP_H

#include "cuda/items.h"
#include "cuda/warp_row.h"

/* An item's rows of H. */
template <typename Element> struct attn_states {
    const Element *base;
    std::ptrdiff_t time;
    std::size_t features;
    bool whole; /* they can be read in vectors */

    __device__ attn_states(const Element *h, std::ptrdiff_t batch, std::ptrdiff_t time_, std::size_t features_,
                           std::size_t item)
        : base(h + static_cast<std::ptrdiff_t>(item) * batch), time(time_), features(features_),
          whole(attn_aligned_rows(h, batch, time_, features_)) {}
};

template <unsigned VECTORS> struct attn_row_group {
    enum : unsigned { ROWS = attn_in_flight<VECTORS>::ROWS, LANES = ATTN_WARP / ROWS, ALL = (1u << ROWS) - 1 };
    attn_warp_row<VECTORS> row[ROWS];
    unsigned seen; /* a bit for each row that the query attends to; the others are zeros */

    /* The row whose lane this is, and whether it is the first of them. */
    static __device__ unsigned mine() { return threadIdx.x % ATTN_WARP / LANES; }
    static __device__ bool leads() { return threadIdx.x % LANES == 0; }
    __device__ bool sees(unsigned g) const { return seen >> g & 1; }

    /* All lanes come here with the same step and limit. */
    template <typename Element>
    __device__ void load(const attn_states<Element> &h, const attn_items &items, std::size_t query, std::size_t step,
                         std::size_t limit) {
        const Element *const first = h.base + static_cast<std::ptrdiff_t>(step) * h.time;
        if (h.whole && !items.mask && step + ROWS <= limit) {
            seen = ALL;
            ATTN_UNROLL for (unsigned g = 0; g < ROWS; g++) row[g].load_vectors(
                first + static_cast<std::ptrdiff_t>(g) * h.time, h.features);
            return;
        }
        const bool attended = step + mine() < limit && attn_unmasked(items, query, step + mine());
        seen = 0;
        ATTN_UNROLL for (unsigned g = 0; g < ROWS; g++) {
            if (of(attended ? 1.0f : 0.0f, g) != 0.0f) {
                seen |= 1u << g;
                row[g].load(first + static_cast<std::ptrdiff_t>(g) * h.time, h.features, h.whole);
            } else {
                row[g].fill(0.0f);
            }
        }
    }

    /* Each row's product with a vector, in the row's lanes. */
    __device__ float dot(const attn_warp_row<VECTORS> &vector) const {
        float sums[ROWS];
        ATTN_UNROLL for (unsigned g = 0; g < ROWS; g++) sums[g] = vector.dot(row[g]);
        return attn_warp_sums(sums);
    }

    /* What row g's lanes have, in all lanes. */
    static __device__ float of(float value, unsigned g) {
        return __shfl_sync(ATTN_ALL_LANES, value, static_cast<int>(g * LANES));
    }

    /* Over the rows, the same in all lanes. */
    static __device__ float highest(float value) {
        ATTN_UNROLL for (unsigned distance = ATTN_WARP / 2; distance >= LANES; distance /= 2) value =
            fmaxf(value, __shfl_xor_sync(ATTN_ALL_LANES, value, static_cast<int>(distance)));
        return value;
    }
    static __device__ float total(float value) {
        ATTN_UNROLL for (unsigned distance = ATTN_WARP / 2; distance >= LANES; distance /= 2) value +=
            __shfl_xor_sync(ATTN_ALL_LANES, value, static_cast<int>(distance));
        return value;
    }
};

#endif

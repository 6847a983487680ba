/* SPDX-License-Identifier: Apache-2.0 */
/* What all kernels of the layer see of a call: its items' ranges and masks, and its queries. Queries are numbered item after item. */
#ifndef ATTN_CUDA_ITEMS_H
#define ATTN_CUDA_ITEMS_H

#include "attention/attention.h"
#include "cuda/storage.h"

#include <cstddef>
#include <cstdint>
#include <cuda_runtime.h>

struct attn_items {
    const std::int32_t *starts, *lengths; /* may be NULL, may lie outside [0, T]: clamped */
    const std::uint8_t *mask;             /* may be NULL */
    std::ptrdiff_t mask_batch, mask_query, mask_time;
    std::size_t timesteps, queries; /* queries of an item */
};

struct attn_range {
    std::size_t start, length;
};

static __device__ inline std::size_t attn_clamp(std::int32_t value, std::size_t most) {
    return value < 0 ? 0 : static_cast<std::size_t>(value) < most ? static_cast<std::size_t>(value) : most;
}

static __device__ inline attn_range attn_item_range(const attn_items &items, std::size_t item) {
    attn_range range;
    range.start = items.starts ? attn_clamp(items.starts[item], items.timesteps) : 0;
    range.length = items.timesteps - range.start;
    if (items.lengths) range.length = attn_clamp(items.lengths[item], range.length);
    return range;
}

/* Whether the mask lets a query see a step. */
static __device__ inline bool attn_unmasked(const attn_items &items, std::size_t query, std::size_t step) {
    if (!items.mask) return true;
    const std::size_t item = query / items.queries, row = query % items.queries;
    return items.mask[static_cast<std::ptrdiff_t>(item) * items.mask_batch +
                      static_cast<std::ptrdiff_t>(row) * items.mask_query +
                      static_cast<std::ptrdiff_t>(step) * items.mask_time] != 0;
}

/* Rows, one a query: given ones, or each item's last step in range, of H. */
struct attn_rows {
    const void *base;
    std::ptrdiff_t batch, row; /* last_step: row is H's time stride */
    bool last_step;
    attn_dtype stored;
};

/* One of them. */
struct attn_stored_row {
    bool zeros; /* nothing of data is read then */
    const void *data;
    std::ptrdiff_t first;
    attn_dtype stored;

    __device__ float operator[](std::size_t i) const {
        const std::ptrdiff_t at = first + static_cast<std::ptrdiff_t>(i);
        if (stored == ATTN_FLOAT16) return attn_widen(static_cast<const attn_half *>(data)[at]);
        if (stored == ATTN_BFLOAT16) return attn_widen(static_cast<const attn_bfloat *>(data)[at]);
        return static_cast<const float *>(data)[at];
    }
};

static __device__ inline attn_stored_row attn_row(const attn_rows &rows, const attn_items &items, std::size_t query) {
    const std::size_t item = query / items.queries;
    std::size_t row = query % items.queries;
    if (rows.last_step) {
        const attn_range range = attn_item_range(items, item);
        if (range.length == 0) return {true, rows.base, 0, rows.stored};
        row = range.start + range.length - 1;
    }
    return {false, rows.base,
            static_cast<std::ptrdiff_t>(item) * rows.batch + static_cast<std::ptrdiff_t>(row) * rows.row, rows.stored};
}

/* Rows of two parts, one behind the other. */
struct attn_joined {
    const float *first; /* dense; unused when first_width is 0 */
    attn_rows second;   /* unused when second_width is 0 */
    std::size_t first_width, second_width;
};

/* The second part is stored as Element: a choice made for each element would keep loads from overlapping. */
template <typename Element>
__device__ inline float attn_joined_element(const attn_joined &rows, const attn_items &items, std::size_t query,
                                            std::size_t k) {
    if (k < rows.first_width) return rows.first[query * rows.first_width + k];
    const attn_stored_row second = attn_row(rows.second, items, query);
    if (second.zeros) return 0.0f;
    return attn_widen((static_cast<const Element *>(rows.second.base) + second.first)[k - rows.first_width]);
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Which keys the rows of a matrix of scores see: ranges by length, causality and windows, and a mask. */
#ifndef ATTN_CUDA_VIEW_H
#define ATTN_CUDA_VIEW_H

#include "cuda/items.h"
#include "lib/backend.h"

struct attn_view {
    const std::int32_t *starts, *lengths; /* of the items' ranges of keys; NULL: from the first, to the last; clamped */
    const std::uint8_t *mask;             /* may be NULL */
    attn_strides mask_strides;
    attn_causal causal;
    std::ptrdiff_t offset, window_left, window_right; /* windows: -1 stands for none */
    std::size_t queries, keys;
};

/* Keys [begin, end), less what the mask hides. Positions, causality and windows count from the start of the range. */
struct attn_sight {
    std::ptrdiff_t position;
    std::size_t begin, end;
    const std::uint8_t *mask; /* of key 0, or NULL */
    std::ptrdiff_t mask_step;

    __device__ bool shows(std::size_t key) const {
        return key >= begin && key < end && (!mask || mask[static_cast<std::ptrdiff_t>(key) * mask_step] != 0);
    }
};

static __device__ inline std::size_t attn_clip(std::ptrdiff_t key, std::size_t most) {
    return key < 0 ? 0 : static_cast<std::size_t>(key) < most ? static_cast<std::size_t>(key) : most;
}

static __device__ inline std::ptrdiff_t attn_place(const attn_strides &strides, std::size_t item, std::size_t head,
                                                   std::size_t row) {
    return static_cast<std::ptrdiff_t>(item) * strides.batch + static_cast<std::ptrdiff_t>(head) * strides.head +
           static_cast<std::ptrdiff_t>(row) * strides.row;
}

static __device__ inline attn_sight attn_see(const attn_view &view, std::size_t item, std::size_t head,
                                             std::size_t query) {
    attn_sight sight;
    const std::size_t start = view.starts ? attn_clamp(view.starts[item], view.keys) : 0, left = view.keys - start;
    const std::size_t length = view.lengths ? attn_clamp(view.lengths[item], left) : left;
    sight.position = static_cast<std::ptrdiff_t>(query) + view.offset;
    if (view.causal == ATTN_CAUSAL_BOTTOM_RIGHT)
        sight.position += static_cast<std::ptrdiff_t>(length) - static_cast<std::ptrdiff_t>(view.queries);
    sight.begin = view.window_left < 0 ? 0 : attn_clip(sight.position - view.window_left, length);
    sight.end = view.window_right < 0 ? length : attn_clip(sight.position + view.window_right + 1, length);
    if (view.causal != ATTN_CAUSAL_NONE) {
        const std::size_t end = attn_clip(sight.position + 1, length);
        sight.end = end < sight.end ? end : sight.end;
    }
    sight.position += static_cast<std::ptrdiff_t>(start), sight.begin += start, sight.end += start;
    sight.mask = view.mask ? view.mask + attn_place(view.mask_strides, item, head, query) : nullptr;
    sight.mask_step = view.mask_strides.element;
    return sight;
}

#endif

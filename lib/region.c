/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/region.h"

static void insert_dim(attn_region *region, size_t count, size_t stride) {
    int at = region->dims++;
    for (; at > 0 && region->stride[at - 1] < stride; at--) {
        region->stride[at] = region->stride[at - 1];
        region->count[at] = region->count[at - 1];
    }
    region->stride[at] = stride;
    region->count[at] = count;
}

/* Pieces that touch or overlap their neighbours make one run. */
static void merge_runs(attn_region *region) {
    while (region->dims > 0 && region->stride[region->dims - 1] <= region->run) {
        region->dims--;
        region->run += (region->count[region->dims] - 1) * region->stride[region->dims];
    }
}

bool attn_region_make(attn_region *region, const void *pointer, size_t element, int dims, const size_t *count,
                      const ptrdiff_t *stride) {
    *region = (attn_region){.begin = (uintptr_t)pointer, .extent = element, .run = element};
    for (int d = 0; d < dims; d++)
        if (count[d] == 0) {
            region->extent = region->run = 0;
            return true;
        }
    for (int d = 0; d < dims; d++) {
        if (count[d] == 1) continue;
        size_t bytes, reach;
        if (__builtin_mul_overflow((size_t)stride[d], element, &bytes) ||
            __builtin_mul_overflow(count[d] - 1, bytes, &reach) ||
            __builtin_add_overflow(region->extent, reach, &region->extent))
            return false;
        insert_dim(region, count[d], bytes);
    }
    uintptr_t end;
    if (region->extent > (size_t)ATTN_LARGEST_EXTENT || __builtin_add_overflow(region->begin, region->extent, &end))
        return false;
    merge_runs(region);
    return true;
}

static bool apart(const attn_region *a, const attn_region *b) {
    return a->begin + a->extent <= b->begin || b->begin + b->extent <= a->begin;
}

/* One piece of the outermost dimension, the index-th. */
static attn_region piece(const attn_region *region, size_t index) {
    attn_region inner = *region;
    inner.begin += index * region->stride[0];
    inner.extent -= (region->count[0] - 1) * region->stride[0];
    inner.dims--;
    for (int d = 0; d < inner.dims; d++) {
        inner.count[d] = region->count[d + 1];
        inner.stride[d] = region->stride[d + 1];
    }
    return inner;
}

/* The first or the second half of the outermost dimension. */
static attn_region half(const attn_region *region, bool second) {
    attn_region part = *region;
    const size_t first = region->count[0] / 2;
    part.count[0] = second ? region->count[0] - first : first;
    part.extent -= (region->count[0] - part.count[0]) * region->stride[0];
    if (second) part.begin += first * region->stride[0];
    return part.count[0] == 1 ? piece(&part, 0) : part;
}

static bool overlap(const attn_region *a, const attn_region *b, int *budget);

/* Both repeat at the same stride, without their pieces reaching over one another: a piece of the one that starts lower can meet only the two
 * pieces of the other that start around it, and every pair of pieces at that distance looks the same. */
static bool overlap_in_step(const attn_region *a, const attn_region *b, int *budget) {
    if (b->begin < a->begin) {
        const attn_region *lower = b;
        b = a;
        a = lower;
    }
    const size_t steps = (b->begin - a->begin) / a->stride[0]; /* below a's count, for the extents meet */
    const attn_region first = piece(b, 0);
    for (size_t at = steps; at <= steps + 1 && at < a->count[0]; at++) {
        const attn_region other = piece(a, at);
        if (overlap(&other, &first, budget)) return true;
    }
    return false;
}

static bool nested(const attn_region *region) {
    return region->extent - (region->count[0] - 1) * region->stride[0] <= region->stride[0];
}

static bool overlap(const attn_region *a, const attn_region *b, int *budget) {
    if (apart(a, b) || --*budget < 0) return false;
    if (a->dims == 0 && b->dims == 0) return true;
    if (a->dims > 0 && b->dims > 0 && a->stride[0] == b->stride[0] && nested(a) && nested(b))
        return overlap_in_step(a, b, budget);
    const bool split_a = b->dims == 0 || (a->dims > 0 && a->extent >= b->extent);
    const attn_region *whole = split_a ? a : b, *other = split_a ? b : a;
    for (int second = 0; second < 2; second++) {
        const attn_region part = half(whole, second);
        if (overlap(&part, other, budget)) return true;
    }
    return false;
}

bool attn_regions_overlap(const attn_region *a, const attn_region *b) {
    int budget = 4096;
    return a->run > 0 && b->run > 0 && overlap(a, b, &budget);
}

bool attn_rows_overlap(size_t outer, size_t outer_stride, size_t inner, size_t inner_stride, size_t width) {
    const bool outer_wide = outer_stride >= inner_stride;
    const size_t wide = outer_wide ? outer_stride : inner_stride, narrow = outer_wide ? inner_stride : outer_stride;
    const size_t wides = outer_wide ? outer : inner, narrows = outer_wide ? inner : outer;
    if (outer <= 1 && inner <= 1) return false;
    if (narrows <= 1) return wide < width;
    if (wides <= 1) return narrow < width;
    if (narrow < width) return true;
    if ((narrows - 1) * narrow + width <= wide) return false;
    /* Rows of different wide steps: the distance from one to the nearest narrow steps around it. */
    for (size_t step = 1; step < wides; step++) {
        const size_t below = step * wide / narrow, rest = step * wide % narrow;
        if (below >= narrows) return false;
        if (rest < width || (below + 1 < narrows && narrow - rest < width)) return true;
    }
    return false;
}

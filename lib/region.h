/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes that a strided tensor occupies, and whether two of them share one. */
#ifndef ATTN_LIB_REGION_H
#define ATTN_LIB_REGION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ATTN_REGION_DIMS = 4 };

/* The largest tensor in bytes, gaps included: more than any process addresses, and room for an implementation to step a stride past the end,
 * to round a dimension up and to double a buffer before it must count with care. */
#define ATTN_LARGEST_EXTENT (PTRDIFF_MAX / (sizeof(void *) > 4 ? 128 : 1))

/* count[d] pieces, stride[d] bytes apart, from the widest stride to the narrowest, down to runs of `run` bytes. No element: run 0. */
typedef struct attn_region {
    uintptr_t begin;
    size_t extent; /* bytes from begin to behind the last one */
    size_t run;
    int dims;
    size_t count[ATTN_REGION_DIMS], stride[ATTN_REGION_DIMS];
} attn_region;

/* False when the extent exceeds ATTN_LARGEST_EXTENT or would wrap around the address space. Strides are in elements and not negative. */
bool attn_region_make(attn_region *region, const void *pointer, size_t element, int dims, const size_t *count,
                      const ptrdiff_t *stride);

/* Exact where the two have their strides in common, as slices of one buffer do; for others a bounded search that finds every overlap of
 * contiguous tensors. True is always a proof. */
bool attn_regions_overlap(const attn_region *a, const attn_region *b);

/* Whether any two of the outer x inner runs of width bytes share one. Exact. */
bool attn_rows_overlap(size_t outer, size_t outer_stride, size_t inner, size_t inner_stride, size_t width);

#endif

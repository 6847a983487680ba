/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/tensor.h"

#include "lib/status.h"

static bool is_empty(const attn_tensor_shape *shape) {
    return shape->count[0] == 0 || shape->count[1] == 0 || shape->count[2] == 0;
}

static attn_status stride_overflow(const attn_tensor_kind *kind) {
    return attn_fail(ATTN_ERROR_OVERFLOW, "%s: the last element that its strides reach does not fit the address space",
                     kind->name);
}

/* Row strides are checked even where there is one row: a call should not begin to fail when its sizes grow, and the dense
 * batch stride counts whole rows. */
static attn_status resolve_stride(const attn_tensor_kind *kind, const attn_tensor_shape *shape, int d,
                                  ptrdiff_t *stride) {
    const int64_t given = shape->given[d];
    ptrdiff_t dense = 1;
    const bool overflow = d < 2 && __builtin_mul_overflow(shape->count[d + 1], (size_t)stride[d + 1], &dense);
    if (given < 0)
        return attn_fail(ATTN_ERROR_SHAPE, "%s: is %lld, want 0 (dense) or more", kind->strides[d], (long long)given);
    if ((given == 0 && overflow && shape->count[d] > 1) || (uint64_t)given > PTRDIFF_MAX) return stride_overflow(kind);
    if (d == 1 && given > 0 && given < dense && !kind->rows_touch)
        return attn_fail(ATTN_ERROR_SHAPE, "%s: is %lld, want 0 (dense) or at least %lld, the length of a row",
                         kind->strides[d], (long long)given, (long long)dense);
    stride[d] = given ? (ptrdiff_t)given : overflow ? 0 : dense;
    return ATTN_OK;
}

/* No element depends on the stride of a dimension of one step; below, none shall overflow by it either. */
static void drop_unused_strides(const attn_tensor_shape *shape, ptrdiff_t *stride) {
    if (shape->count[0] == 1) stride[0] = 1;
    if (shape->count[1] == 1) stride[1] = (ptrdiff_t)shape->count[2];
    if (shape->count[2] == 1) stride[2] = 1;
}

static attn_status resolve(attn_tensor *tensor, const void *pointer, size_t element, const attn_tensor_shape *shape) {
    const attn_tensor_kind *kind = tensor->kind;
    const size_t *count = shape->count, alignment = kind->alignment ? kind->alignment : element;
    ptrdiff_t *stride = tensor->stride;
    for (int d = ATTN_TENSOR_DIMS - 1; d >= 0; d--) {
        const attn_status status = resolve_stride(kind, shape, d, stride);
        if (status) return status;
    }
    drop_unused_strides(shape, stride);
    if ((uintptr_t)pointer % alignment != 0)
        return attn_fail(ATTN_ERROR_ALIGNMENT, "%s: is %p, want a multiple of %zu", kind->name, pointer, alignment);
    if (!attn_region_make(&tensor->region, pointer, element, ATTN_TENSOR_DIMS, count, stride))
        return stride_overflow(kind);
    if (kind->written && attn_rows_overlap(count[0], (size_t)stride[0], count[1], (size_t)stride[1], count[2]))
        return attn_fail(ATTN_ERROR_OVERLAP, "%s: its own rows overlap, by batch stride %td and row stride %td",
                         kind->name, stride[0], stride[1]);
    return ATTN_OK;
}

attn_tensor *attn_tensors_next(attn_tensors *tensors, const attn_tensor_kind *kind, const void *pointer) {
    if (tensors->status) return NULL;
    if (!pointer) {
        if (kind->required)
            tensors->status = attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "%s: is NULL, want a pointer", kind->name);
        return NULL;
    }
    attn_tensor *tensor = &tensors->list[tensors->count];
    tensor->kind = kind;
    return tensor;
}

const attn_tensor *attn_tensors_add(attn_tensors *tensors, const attn_tensor_kind *kind, const void *pointer,
                                    size_t element, const attn_tensor_shape *shape) {
    if (is_empty(shape)) return NULL;
    attn_tensor *tensor = attn_tensors_next(tensors, kind, pointer);
    if (!tensor) return NULL;
    tensors->status = resolve(tensor, pointer, element, shape);
    if (tensors->status) return NULL;
    tensors->count++;
    return tensor;
}

attn_status attn_tensors_check(const attn_tensors *tensors) {
    if (tensors->status) return tensors->status;
    for (size_t i = 0; i < tensors->count; i++) {
        const attn_tensor *written = &tensors->list[i];
        if (!written->kind->written) continue;
        for (size_t j = 0; j < tensors->count; j++) {
            const attn_tensor *other = &tensors->list[j];
            if (j == i || (other->kind->written && j < i)) continue;
            if (attn_regions_overlap(&written->region, &other->region))
                return attn_fail(ATTN_ERROR_OVERLAP, "%s: overlaps %s, want memory of its own", written->kind->name,
                                 other->kind->name);
        }
    }
    return ATTN_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/tensor.h"

#include "lib/status.h"

static bool is_empty(const attn_tensor *tensor) {
    return tensor->count[0] == 0 || tensor->count[1] == 0 || tensor->count[2] == 0;
}

static attn_status stride_overflow(const attn_tensor *tensor) {
    return attn_fail(ATTN_ERROR_OVERFLOW, "%s: the last element that its strides reach does not fit the address space",
                     tensor->name);
}

/* Row strides are checked even where there is one row: a call should not begin to fail when its sizes grow, and the dense batch stride
 * counts whole rows. */
static attn_status resolve_stride(attn_tensor *tensor, int d) {
    const int64_t given = tensor->given[d].value;
    ptrdiff_t dense = 1;
    const bool overflow = d < 2 && __builtin_mul_overflow(tensor->count[d + 1], (size_t)tensor->stride[d + 1], &dense);
    if (given < 0)
        return attn_fail(ATTN_ERROR_SHAPE, "%s: is %lld, want 0 (dense) or more", tensor->given[d].name,
                         (long long)given);
    if ((given == 0 && overflow && tensor->count[d] > 1) || (uint64_t)given > PTRDIFF_MAX)
        return stride_overflow(tensor);
    if (d == 1 && given > 0 && given < dense && !tensor->rows_touch)
        return attn_fail(ATTN_ERROR_SHAPE, "%s: is %lld, want 0 (dense) or at least %lld, the length of a row",
                         tensor->given[d].name, (long long)given, (long long)dense);
    tensor->stride[d] = given ? (ptrdiff_t)given : overflow ? 0 : dense;
    return ATTN_OK;
}

/* No element depends on the stride of a dimension of one step; below, none shall overflow by it either. */
static void drop_unused_strides(attn_tensor *tensor) {
    for (int d = 0; d < ATTN_REGION_DIMS; d++)
        if (tensor->count[d] <= 1 || is_empty(tensor)) tensor->stride[d] = d == 1 ? (ptrdiff_t)tensor->count[2] : 1;
}

static bool rows_overlap(const attn_tensor *tensor) {
    return attn_rows_overlap(tensor->count[0], (size_t)tensor->stride[0], tensor->count[1], (size_t)tensor->stride[1],
                             tensor->count[2]);
}

attn_status attn_tensor_resolve(attn_tensor *tensor) {
    for (int d = ATTN_REGION_DIMS - 1; d >= 0; d--) {
        const attn_status status = resolve_stride(tensor, d);
        if (status) return status;
    }
    drop_unused_strides(tensor);
    if (is_empty(tensor)) tensor->pointer = NULL;
    if (!tensor->pointer)
        return tensor->required && !is_empty(tensor)
                   ? attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "%s: is NULL, want a pointer", tensor->name)
                   : ATTN_OK;
    if ((uintptr_t)tensor->pointer % tensor->alignment != 0)
        return attn_fail(ATTN_ERROR_ALIGNMENT, "%s: is %p, want a multiple of %zu", tensor->name, tensor->pointer,
                         tensor->alignment);
    if (!attn_region_make(&tensor->region, tensor->pointer, tensor->element, tensor->count, tensor->stride))
        return stride_overflow(tensor);
    if (tensor->written && rows_overlap(tensor))
        return attn_fail(ATTN_ERROR_OVERLAP, "%s: its own rows overlap, by batch stride %td and row stride %td",
                         tensor->name, tensor->stride[0], tensor->stride[1]);
    return ATTN_OK;
}

attn_status attn_tensors_check_overlap(const attn_tensor *tensors, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (!tensors[i].written || !tensors[i].pointer) continue;
        for (size_t j = 0; j < count; j++) {
            if (j == i || !tensors[j].pointer || (tensors[j].written && j < i)) continue;
            if (attn_regions_overlap(&tensors[i].region, &tensors[j].region))
                return attn_fail(ATTN_ERROR_OVERLAP, "%s: overlaps %s, want memory of its own", tensors[i].name,
                                 tensors[j].name);
        }
    }
    return ATTN_OK;
}

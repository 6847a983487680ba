/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors of four dimensions: items, heads, rows, and what a row holds. */
#include "lib/tensor.h"

#include "lib/status.h"

enum { BATCH, HEAD, ROW, ELEMENT };

static attn_status stride_overflow(const attn_tensor_kind *kind) {
    return attn_fail(ATTN_ERROR_OVERFLOW, "%s: the last element that its strides reach does not fit the address space",
                     kind->name);
}

static attn_status resolve_stride(const attn_tensor_kind *kind, const attn_heads_shape *shape, int d,
                                  ptrdiff_t *stride) {
    const int64_t given = shape->given[d];
    ptrdiff_t dense = 1;
    const bool overflow = d < ELEMENT && __builtin_mul_overflow(shape->count[d + 1], (size_t)stride[d + 1], &dense);
    if (given < 0)
        return attn_fail(ATTN_ERROR_SHAPE, "%s: is %lld, want 0 (%s) or more", kind->strides[d], (long long)given,
                         d < shape->repeating ? "repeat" : "dense");
    if ((uint64_t)given > PTRDIFF_MAX) return stride_overflow(kind);
    if (d < shape->repeating) {
        stride[d] = (ptrdiff_t)given;
        return ATTN_OK;
    }
    if (given == 0 && overflow && shape->count[d] > 1) return stride_overflow(kind);
    if (d == ROW && given > 0 && given < dense)
        return attn_fail(ATTN_ERROR_SHAPE, "%s: is %lld, want 0 (dense) or at least %lld, the length of a row",
                         kind->strides[d], (long long)given, (long long)dense);
    stride[d] = given ? (ptrdiff_t)given : overflow ? 0 : dense;
    return ATTN_OK;
}

/* No element depends on the stride of a dimension of one step; below, none shall overflow by it either. */
static void drop_unused_strides(const attn_heads_shape *shape, ptrdiff_t *stride) {
    for (int d = BATCH; d <= ELEMENT; d++)
        if (shape->count[d] == 1) stride[d] = d == ROW && d >= shape->repeating ? (ptrdiff_t)shape->count[ELEMENT] : 0;
    if (shape->repeating <= ELEMENT) stride[ELEMENT] = 1;
}

/* Each stride at least what the smaller ones reach: then no two elements are the same. */
static bool nests(const size_t *count, const ptrdiff_t *stride) {
    bool taken[ATTN_REGION_DIMS] = {false};
    size_t reach = 1;
    for (int step = BATCH; step <= ELEMENT; step++) {
        int least = -1;
        for (int d = BATCH; d <= ELEMENT; d++)
            if (!taken[d] && (least < 0 || stride[d] < stride[least])) least = d;
        taken[least] = true;
        if (count[least] == 1) continue;
        if ((size_t)stride[least] < reach) return false;
        reach += (count[least] - 1) * (size_t)stride[least];
    }
    return true;
}

static attn_status resolve(attn_tensor *tensor, const void *pointer, size_t element, const attn_heads_shape *shape) {
    const attn_tensor_kind *kind = tensor->kind;
    ptrdiff_t *stride = tensor->stride;
    for (int d = ELEMENT; d >= BATCH; d--) {
        const attn_status status = resolve_stride(kind, shape, d, stride);
        if (status) return status;
    }
    drop_unused_strides(shape, stride);
    if ((uintptr_t)pointer % element != 0)
        return attn_fail(ATTN_ERROR_ALIGNMENT, "%s: is %p, want a multiple of %zu", kind->name, pointer, element);
    if (!attn_region_make(&tensor->region, pointer, element, ATTN_REGION_DIMS, shape->count, stride))
        return stride_overflow(kind);
    if (kind->written && !nests(shape->count, stride))
        return attn_fail(ATTN_ERROR_OVERLAP, "%s: its strides (%td, %td, %td) do not nest, its rows could overlap",
                         kind->name, stride[BATCH], stride[HEAD], stride[ROW]);
    return ATTN_OK;
}

const attn_tensor *attn_tensors_add_heads(attn_tensors *tensors, const attn_tensor_kind *kind, const void *pointer,
                                          size_t element, const attn_heads_shape *shape) {
    const size_t *count = shape->count;
    if (!count[BATCH] || !count[HEAD] || !count[ROW] || !count[ELEMENT]) return NULL;
    attn_tensor *tensor = attn_tensors_next(tensors, kind, pointer);
    if (!tensor) return NULL;
    tensors->status = resolve(tensor, pointer, element, shape);
    if (tensors->status) return NULL;
    tensors->count++;
    return tensor;
}

const void *attn_take_heads(attn_tensors *tensors, const attn_tensor_kind *kind, const void *pointer, size_t element,
                            const attn_heads_shape *shape, attn_strides *strides) {
    const attn_tensor *t = attn_tensors_add_heads(tensors, kind, pointer, element, shape);
    if (!t) return NULL;
    *strides = (attn_strides){t->stride[0], t->stride[1], t->stride[2], t->stride[3]};
    return pointer;
}

const void *attn_take_dense(attn_tensors *tensors, const attn_tensor_kind *kind, const void *pointer, size_t element,
                            size_t count) {
    return attn_tensors_add(tensors, kind, pointer, element, &(attn_tensor_shape){.count = {1, 1, count}}) ? pointer
                                                                                                           : NULL;
}

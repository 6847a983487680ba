/* SPDX-License-Identifier: Apache-2.0 */
/* The tensors of one call: each with its shape and strides, and the checks that all of them share. */
#ifndef ATTN_LIB_TENSOR_H
#define ATTN_LIB_TENSOR_H

#include "attention/attention.h"
#include "lib/backend.h"
#include "lib/region.h"

/* What is the same for a tensor in every call. */
typedef struct attn_tensor_kind {
    const char *name;
    const char *strides[ATTN_REGION_DIMS]; /* the names of those that the caller sets */
    size_t alignment;                      /* 0: the element's */
    bool required, written;
    bool rows_touch; /* rows may be closer than they are long, as those of a mask */
} attn_tensor_kind;

/* Up to three dimensions, the last one innermost, and the strides as given: 0 is dense. */
enum { ATTN_TENSOR_DIMS = 3 };
typedef struct attn_tensor_shape {
    size_t count[ATTN_TENSOR_DIMS];
    int64_t given[ATTN_TENSOR_DIMS];
} attn_tensor_shape;

/* Four dimensions. The strides of the first `repeating` ones are taken as they are, 0 repeats; others as above, that of the last 1. */
typedef struct attn_heads_shape {
    size_t count[ATTN_REGION_DIMS];
    int64_t given[ATTN_REGION_DIMS];
    int repeating;
} attn_heads_shape;

typedef struct attn_tensor {
    const attn_tensor_kind *kind;
    ptrdiff_t stride[ATTN_REGION_DIMS]; /* of as many dimensions as its shape has */
    attn_region region;
} attn_tensor;

enum { ATTN_MOST_TENSORS = 24 };

typedef struct attn_tensors {
    attn_tensor list[ATTN_MOST_TENSORS];
    size_t count;
    attn_status status; /* the first fault; from then on nothing is added */
} attn_tensors;

/* The place of the next tensor; NULL where no pointer was given, which is a fault of a required one, and after a fault. */
attn_tensor *attn_tensors_next(attn_tensors *tensors, const attn_tensor_kind *kind, const void *pointer);

/* Checks a tensor by itself and adds it. NULL when it has no elements, was not given, or is at fault. */
const attn_tensor *attn_tensors_add(attn_tensors *tensors, const attn_tensor_kind *kind, const void *pointer,
                                    size_t element, const attn_tensor_shape *shape);

/* The same for four dimensions (tensor_heads.c). */
const attn_tensor *attn_tensors_add_heads(attn_tensors *tensors, const attn_tensor_kind *kind, const void *pointer,
                                          size_t element, const attn_heads_shape *shape);

/* The same, and the strides where there is a tensor: the pointer, or NULL. */
const void *attn_take_heads(attn_tensors *tensors, const attn_tensor_kind *kind, const void *pointer, size_t element,
                            const attn_heads_shape *shape, attn_strides *strides);

/* A tensor of one dimension without gaps: the pointer, or NULL. */
const void *attn_take_dense(attn_tensors *tensors, const attn_tensor_kind *kind, const void *pointer, size_t element,
                            size_t count);

/* The status so far; if that is ATTN_OK, ATTN_ERROR_OVERLAP when one that is written shares a byte with any other. */
attn_status attn_tensors_check(const attn_tensors *tensors);

#endif

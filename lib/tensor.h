/* SPDX-License-Identifier: Apache-2.0 */
/* One pointer of a call with its shape and strides, and the checks that all of them share. */
#ifndef ATTN_LIB_TENSOR_H
#define ATTN_LIB_TENSOR_H

#include "attention/attention.h"
#include "lib/region.h"

typedef struct attn_tensor {
    const char *name;
    const void *pointer;
    size_t element, alignment; /* bytes */
    size_t count[ATTN_REGION_DIMS];
    struct {
        const char *name; /* NULL: the caller has no say */
        int64_t value;    /* 0: dense */
    } given[ATTN_REGION_DIMS];
    bool required, written;
    bool rows_touch; /* rows may be closer than they are long, as those of a mask */
    /* Filled in by attn_tensor_resolve. */
    ptrdiff_t stride[ATTN_REGION_DIMS];
    attn_region region;
} attn_tensor;

/* Resolves strides and checks one tensor by itself. One without elements loses its pointer. */
attn_status attn_tensor_resolve(attn_tensor *tensor);

/* ATTN_ERROR_OVERLAP when one that is written shares a byte with any other. */
attn_status attn_tensors_check_overlap(const attn_tensor *tensors, size_t count);

#endif

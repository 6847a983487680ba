/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes of descriptors and runs, checked by tables. */
#ifndef ATTN_LIB_SIZES_H
#define ATTN_LIB_SIZES_H

#include "attention/attention.h"

typedef struct attn_size_rule {
    const char *name; /* of a descriptor's field */
    int64_t size, least;
} attn_size_rule;

/* ATTN_ERROR_SHAPE below the least, ATTN_ERROR_OVERFLOW past what a pointer difference spans. */
attn_status attn_check_sizes(const attn_size_rule *rules, size_t count);

/* ATTN_ERROR_UNSUPPORTED unless it is a value of attn_dtype. */
attn_status attn_check_dtype(attn_dtype dtype);

/* ATTN_ERROR_INVALID_ARGUMENT unless it is 0 or a factor that the arithmetic of the dtype can hold without loss: in magnitude a normal number of
 * float32, or of float64. `name` as in "desc.scale". */
attn_status attn_check_factor(const char *name, double factor, attn_dtype dtype);

typedef struct attn_product_rule {
    const char *what; /* a product of sizes */
    size_t factors[4];
} attn_product_rule;

/* ATTN_ERROR_OVERFLOW where so many elements fit no tensor; a factor of 0 counts as 1, so that no order of multiplication overflows. */
attn_status attn_check_products(attn_dtype dtype, const attn_product_rule *rules, size_t count);

/* A size of a run: *size, the planned one, or less. */
attn_status attn_resolve_size(const char *name, int64_t given, size_t *size);

#endif

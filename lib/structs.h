/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a caller's structure that may come from an older or a newer header than this library. */
#ifndef ATTN_LIB_STRUCTS_H
#define ATTN_LIB_STRUCTS_H

#include "attention/attention.h"

/* Copies the caller's structure at from, whose first member is its struct_size, over *to, which holds the defaults and has known bytes.
 * Smaller than oldest (the first release's) or absurdly large: ATTN_ERROR_INVALID_ARGUMENT. Larger than known with anything
 * but zeros behind: ATTN_ERROR_UNSUPPORTED, for those are fields that this library would have to ignore. */
attn_status attn_read_struct(const char *name, void *to, size_t known, size_t oldest, const void *from);

/* A structure inside another, with a struct_size of its own. */
typedef struct attn_embedded {
    const char *name;
    size_t offset, size; /* in the structure that this library knows */
} attn_embedded;

/* The same for the arguments of a run, which have others embedded, first to last: what follows one of them stands where the caller's
 * header put it. */
attn_status attn_read_args(void *to, size_t known, const attn_embedded *embedded, size_t count, const void *from);

#endif

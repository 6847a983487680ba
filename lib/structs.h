/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a caller's structure that may come from an older or a newer header than this library. */
#ifndef ATTN_LIB_STRUCTS_H
#define ATTN_LIB_STRUCTS_H

#include "attention/attention.h"

/* Copies the caller's structure at from, whose first member is its struct_size, over *to, which holds the defaults and has known bytes.
 * Smaller than oldest (the first release's) or absurdly large: ATTN_ERROR_INVALID_ARGUMENT. Larger than known with anything
 * but zeros behind: ATTN_ERROR_UNSUPPORTED, for those are fields that this library would have to ignore. */
attn_status attn_read_struct(const char *name, void *to, size_t known, size_t oldest, const void *from);

/* The same for attn_layer_forward_args, in which attn_layer_weights is embedded with a size of its own: what follows it
 * stands where the caller's header put it. */
attn_status attn_read_forward_args(attn_layer_forward_args *to, const attn_layer_forward_args *from);

#endif

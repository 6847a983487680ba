/* What the parts of the safetensors reader and writer share.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef ATTN_LIB_SAFETENSORS_H
#define ATTN_LIB_SAFETENSORS_H

#include "attention/weights.h"

#include <stdbool.h>

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "weights files are little-endian; reading them on this machine needs byte swaps that are not written"
#endif

#define ATTN_SAFETENSORS_PREFIX 8 /* bytes of the header's length at the start of a file */
#define ATTN_SAFETENSORS_METADATA "__metadata__"

typedef struct attn_safetensors_entry {
    attn_weights_tensor tensor; /* first, so that a tensor given out leads back to its entry */
    uint64_t begin;             /* from the end of the header */
} attn_safetensors_entry;

/* A header that passed every rule. */
typedef struct attn_safetensors_header {
    attn_safetensors_entry *entries; /* in the order of the data */
    size_t *by_name;                 /* indices of entries, by name in byte order */
    size_t count;
    attn_weights_metadata_entry *metadata;
    size_t metadata_count;
    char *strings; /* every name, key and value */
} attn_safetensors_header;

/* Parses and checks the header's text, followed by data_bytes bytes of tensors. On error *header is empty. */
attn_status attn_safetensors_parse(const char *text, size_t length, uint64_t data_bytes,
                                   attn_safetensors_header *header);

void attn_safetensors_release(attn_safetensors_header *header);

/* A tensor's bytes in memory; NULL when the file is neither mapped nor memory. */
const void *attn_weights_bytes(const attn_weights_file *file, const attn_weights_tensor *tensor);

/* The dtype of that name. */
attn_weights_dtype attn_weights_dtype_of(const char *name);

/* Where tensors of a dtype that is written stand among the others in a file: the first have the lowest. */
int attn_weights_dtype_rank(attn_weights_dtype dtype);

/* Whether the data of tensors is read and written: it is of a dtype that the library does not only list. */
bool attn_weights_dtype_is_read(attn_weights_dtype dtype);

/* Whether that many elements of the dtype end where a byte does. */
bool attn_weights_whole_bytes(attn_weights_dtype dtype, size_t elements);

/* Elements and bytes (0 for an unknown dtype) of a shape without negative entries; false when they do not fit size_t.
 * A zero does not excuse an overflow of the other factors, wherever it stands. */
bool attn_weights_shape_size(attn_weights_dtype dtype, int rank, const int64_t *shape, size_t *elements, size_t *bytes);

/* Whether elements of one dtype can be given as another, exactly: the same, or a wider float. */
bool attn_weights_converts(attn_weights_dtype from, attn_weights_dtype to);

/* Turns count elements of dtype `from`, which lie at the end of buffer, into dtype `to` from its beginning. */
void attn_weights_widen(attn_weights_dtype from, attn_weights_dtype to, void *buffer, size_t count);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ATTN_LIB_CONTEXT_H
#define ATTN_LIB_CONTEXT_H

#include "lib/backend.h"

#include <stdatomic.h>

struct attn_context {
    atomic_size_t references; /* the caller's, until destroyed, and one for each plan */
    attn_context_options options;
    const attn_backend *backend;
    attn_device *device;
    const char
        *forced; /* the name or leading fields that every choice must match; it lies in an implementation's name */
    size_t forced_length; /* 0: free choice */
};

void *attn_context_allocate(const attn_context *context, size_t size);
void attn_context_release(const attn_context *context, void *memory);
void attn_context_retain(attn_context *context);

#endif

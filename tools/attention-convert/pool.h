/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of one reading: taken piece by piece, given back all at once. Failure refuses the file. */
#ifndef ATTN_CONVERT_POOL_H
#define ATTN_CONVERT_POOL_H

#include <stddef.h>

/* count elements of size bytes, zeroed. */
void *pool_take(size_t count, size_t size);

/* A copy of text. */
const char *pool_copy(const char *text);
const char *pool_copy_part(const char *text, size_t length);

/* Formatted text. */
const char *pool_text(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A growing array: room for one more after count elements of size bytes; the array may move. */
void *pool_grow(void *array, size_t count, size_t size);

void pool_release(void);

#endif

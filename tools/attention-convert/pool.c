/* SPDX-License-Identifier: Apache-2.0 */
#include "pool.h"

#include "bounds.h"
#include "report.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct piece {
    struct piece *next;
    max_align_t data[];
} piece;

static piece *pieces;
static size_t taken;

void *pool_take(size_t count, size_t size) {
    size_t bytes, total;
    if (__builtin_mul_overflow(count, size, &bytes) || __builtin_add_overflow(bytes, sizeof(piece), &total) ||
        total > LIMIT_HEAP - taken)
        refuse(EXIT_LIMIT, "the file's structure takes more than %zu bytes of memory", LIMIT_HEAP);
    piece *taking = calloc(1, total);
    if (!taking) refuse(EXIT_LIMIT, "out of memory for %zu bytes", total);
    taken += total;
    taking->next = pieces;
    pieces = taking;
    return taking->data;
}

const char *pool_copy_part(const char *text, size_t length) {
    char *copy = pool_take(length + 1, 1);
    return memcpy(copy, text, length);
}

const char *pool_copy(const char *text) { return pool_copy_part(text, strlen(text)); }

const char *pool_text(const char *format, ...) {
    char measured[1]; /* a place for the end alone: the compiler takes none at all for a fault */
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    const int length = vsnprintf(measured, sizeof measured, format, arguments);
    va_end(arguments);
    if (length < 0) refuse(EXIT_LIMIT, "a text that can't be formatted");
    char *text = pool_take((size_t)length + 1, 1);
    vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}

void *pool_grow(void *array, size_t count, size_t size) {
    if (count & (count - 1)) return array; /* room is a power of two */
    void *grown = pool_take(count ? 2 * count : 1, size);
    return count ? memcpy(grown, array, count * size) : grown;
}

void pool_release(void) {
    while (pieces) {
        piece *next = pieces->next;
        free(pieces);
        pieces = next;
    }
    taken = 0;
}

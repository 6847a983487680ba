/* Counts a workspace and carves it, by the same calls: with base NULL nothing is handed out and `used` is what is needed. */
#ifndef ATTN_LIB_CARVE_H
#define ATTN_LIB_CARVE_H

#include "attention/attention.h"

#include <stdbool.h>

typedef struct attn_carver {
    char *base;
    size_t used;
    bool overflow;
} attn_carver;

/* count elements of size bytes, aligned to ATTN_WORKSPACE_ALIGNMENT; NULL when counting. */
static inline void *attn_carve(attn_carver *carver, size_t count, size_t size) {
    const size_t mask = ATTN_WORKSPACE_ALIGNMENT - 1;
    size_t bytes, rounded, end;
    if (__builtin_mul_overflow(count, size, &bytes) || __builtin_add_overflow(bytes, mask, &rounded) ||
        __builtin_add_overflow(carver->used, rounded & ~mask, &end)) {
        carver->overflow = true;
        return NULL;
    }
    void *piece = carver->base ? carver->base + carver->used : NULL;
    carver->used = end;
    return piece;
}

static inline size_t attn_carved_size(const attn_carver *carver) { return carver->overflow ? SIZE_MAX : carver->used; }

#endif

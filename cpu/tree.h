/* SPDX-License-Identifier: Apache-2.0 */
/* Many parts, one after the other, added up by a tree: ATTN_TREE_FAN of them make one of the next
 * level. The order depends on a part's number alone, and a level's error is that of a short chain,
 * so the whole grows with the logarithm of the number of parts. */
#ifndef ATTN_CPU_TREE_H
#define ATTN_CPU_TREE_H

#include <stdbool.h>
#include <stddef.h>

/* Fixed: it shapes the order of summation. */
enum { ATTN_TREE_FAN = 16, ATTN_TREE_LEVELS = 16 };

/* Sums that so many parts need at a time: one for each level, the last of which is the whole. At
 * most ATTN_TREE_LEVELS. */
static inline size_t attn_tree_levels(size_t parts) {
    size_t levels = 1;
    for (; parts > ATTN_TREE_FAN; parts = parts / ATTN_TREE_FAN + (parts % ATTN_TREE_FAN != 0)) levels++;
    return levels;
}

/* Whether part `number` (from 0) is the first of its kind at level 0, and goes to an empty sum. */
static inline bool attn_tree_begins(size_t number) { return number % ATTN_TREE_FAN == 0; }

/* With part `number` in, whether level `level` is full and goes to the one above. Levels are asked from 0 on. */
static inline bool attn_tree_carries(size_t number, size_t level) {
    size_t full = ATTN_TREE_FAN;
    for (; level > 0; level--) full *= ATTN_TREE_FAN;
    return (number + 1) % full == 0;
}

/* Parts that are all in memory add up in place, in the first one; add(argument, to, from) adds a part
 * to another. The bits are those of the levels above. */
static inline void attn_tree_add_up(size_t parts, void (*add)(const void *argument, size_t to, size_t from),
                                    const void *argument) {
    for (size_t step = 1; step < parts; step *= ATTN_TREE_FAN)
        for (size_t first = 0; first < parts; first += ATTN_TREE_FAN * step)
            for (size_t next = first + step; next < parts && next < first + ATTN_TREE_FAN * step; next += step)
                add(argument, first, next);
}

#endif

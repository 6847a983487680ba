/* SPDX-License-Identifier: Apache-2.0 */
/* Work split into units that any thread may take, each thread with scratch of its own. */
#ifndef ATTN_CPU_UNITS_H
#define ATTN_CPU_UNITS_H

#include "cpu/sizes.h"
#include "cpu/threads.h"
#include "lib/carve.h"

#include <stdatomic.h>

typedef struct attn_units {
    void (*run)(const void *argument, size_t unit, char *scratch);
    const void *argument;
    size_t count;
    char *scratches; /* scratch_size bytes a slot, from attn_units_carve */
    size_t scratch_size, slots;
    atomic_size_t next;
} attn_units;

/* Counts the scratch of all slots, or hands it out. */
static inline void attn_units_carve(attn_units *units, attn_carver *carver) {
    units->scratches = attn_carve(carver, units->slots, units->scratch_size);
}

static inline void attn_units_take(void *argument, size_t slot) {
    attn_units *units = argument;
    for (;;) {
        const size_t unit = atomic_fetch_add_explicit(&units->next, 1, memory_order_relaxed);
        if (unit >= units->count) return;
        units->run(units->argument, unit, units->scratches + slot * units->scratch_size);
    }
}

/* cost: about how many multiply-adds all of it takes; below a million, waking a thread costs more than it saves. */
static inline void attn_units_run(attn_units *units, attn_threads *threads, double cost) {
    const size_t tasks = least(units->count, units->slots);
    if (tasks > 1 && cost >= 1 << 20)
        attn_threads_run(threads, tasks, attn_units_take, units);
    else
        attn_units_take(units, 0);
}

#endif

/* SPDX-License-Identifier: Apache-2.0
 * Loops that do nothing but keep one part of the machine busy; one table per instruction set, made from peak_kernels.c.
 * Each loop comes in a few variants, since which one is best differs between machines: the peak is the best of them. */
#ifndef BENCH_PEAK_KERNELS_H
#define BENCH_PEAK_KERNELS_H

#include <stddef.h>

enum { PEAK_VARIANTS = 3 };

typedef struct peak_kernels {
    const char *isa;
    /* Fused multiply-adds, flops_f32 or flops_f64 in each round. */
    double (*fma_f32)(size_t rounds), (*fma_f64)(size_t rounds);
    size_t flops_f32, flops_f64;
    /* Reads every byte; both sizes are multiples of PEAK_GRAIN. Answers something that depends on all of it. */
    unsigned (*read[PEAK_VARIANTS])(const void *from, size_t bytes);
    void (*copy[PEAK_VARIANTS])(void *to, const void *from, size_t bytes);
    void (*write[PEAK_VARIANTS])(void *to, size_t bytes);
} peak_kernels;

enum { PEAK_GRAIN = 4096 };

/* The table of the named instruction set, NULL when this build has none. */
const peak_kernels *peak_kernels_of(const char *isa);

#endif

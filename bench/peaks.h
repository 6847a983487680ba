/* SPDX-License-Identifier: Apache-2.0
 * What the machine can do at most, measured on the spot. */
#ifndef BENCH_PEAKS_H
#define BENCH_PEAKS_H

#include <stdbool.h>
#include <stddef.h>

typedef struct peaks {
    const char *isa; /* of the loops: the machine's best, whatever the library is restricted to */
    int threads;
    double f32_gflops, f64_gflops;
    double l2_read, cache_read, dram_read, dram_copy; /* GB/s; a copy counts both directions */
    size_t l2_bytes, cache_bytes, dram_bytes;         /* of the buffers */
} peaks;

/* The machine's best instruction set that the loops are built for. */
const char *peaks_isa(void);

void peaks_measure(int threads, peaks *found);

/* GFLOP/s of fused multiply-adds in float32, or in float64. */
double peaks_arithmetic(int threads, bool wide);

/* GB/s at which the threads overwrite this very buffer with zeros again and again, each its own part of it. */
double peaks_write_bandwidth(int threads, void *buffer, size_t bytes);

/* GB/s at which the threads read this very buffer again and again, each its own part of it. At least one page. */
double peaks_read_bandwidth(int threads, const void *buffer, size_t bytes);

#endif

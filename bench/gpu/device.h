/* SPDX-License-Identifier: Apache-2.0 */
/* The GPU that is measured: its driver, the stream that everything runs on, its memory. */
#ifndef ATTN_BENCH_GPU_DEVICE_H
#define ATTN_BENCH_GPU_DEVICE_H

#include "attention/attention_cuda.h"
#include "tests/driver.h"

extern const driver *gpu_driver;
extern driver_stream gpu_stream;

/* False without a driver; says why on stderr. */
bool gpu_open(void);

/* A context on the stream that forces an implementation (NULL: the library's choice); ends the program where it can't be had. */
attn_context *gpu_context(const char *module, const char *implementation);

/* Memory of the device, which gpu_free_all gives back; NULL for no bytes. Ends the program where there is none. */
void *gpu_alloc(size_t bytes);
void *gpu_put(const void *from, size_t bytes);          /* a copy of the host's; NULL for NULL */
void *gpu_fill(unsigned word, size_t bytes);            /* full of these 4 bytes */
void gpu_get(void *to, const void *from, size_t bytes); /* once the stream is through with it */
/* What gpu_alloc has given since the mark was taken. */
size_t gpu_mark(void);
void gpu_free_since(size_t mark);

/* What the driver tells of the device, such as "NVIDIA H200, driver for CUDA 13.0, 132 multiprocessors, 1980 MHz". */
void gpu_describe(char *text, size_t room);

#endif

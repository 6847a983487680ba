/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/gpu/device.h"

#include <stdio.h>
#include <stdlib.h>

enum { MOST_PIECES = 64 };

const driver *gpu_driver;
driver_stream gpu_stream;

static driver_pointer pieces[MOST_PIECES];
static size_t count;

bool gpu_open(void) {
    const char *why;
    gpu_driver = driver_open(&why);
    if (!gpu_driver) return fprintf(stderr, "attention-bench-gpu: %s\n", why), false;
    DRIVER_MUST(gpu_driver->stream_create(&gpu_stream, DRIVER_STREAM_NON_BLOCKING));
    return true;
}

attn_context *gpu_context(const char *module, const char *implementation) {
    attn_cuda_options cuda = ATTN_CUDA_OPTIONS_INIT;
    cuda.module = module, cuda.stream = gpu_stream;
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.device = ATTN_DEVICE_CUDA, options.cuda = &cuda, options.implementation = implementation;
    attn_context *context;
    if (!attn_context_create(&options, &context)) return context;
    fprintf(stderr, "attention-bench-gpu: %s\n", attn_last_error_message());
    exit(1);
}

/* ---- Memory ---------------------------------------------------------------------------------------- */

void *gpu_alloc(size_t bytes) {
    if (bytes == 0) return NULL;
    if (count == MOST_PIECES) abort();
    DRIVER_MUST(gpu_driver->alloc(&pieces[count], bytes));
    return (void *)(uintptr_t)pieces[count++];
}

static driver_pointer address(const void *memory) { return (driver_pointer)(uintptr_t)memory; }

void *gpu_put(const void *from, size_t bytes) {
    void *memory = from ? gpu_alloc(bytes) : NULL;
    if (!memory) return NULL;
    DRIVER_MUST(gpu_driver->to_device(address(memory), from, bytes));
    DRIVER_MUST(gpu_driver->synchronize()); /* the copy may still be on its way, and the stream would not wait for it */
    return memory;
}

void *gpu_fill(unsigned word, size_t bytes) {
    void *memory = gpu_alloc(bytes);
    if (memory) DRIVER_MUST(gpu_driver->fill(address(memory), word, bytes / sizeof word, gpu_stream));
    return memory;
}

void gpu_get(void *to, const void *from, size_t bytes) {
    DRIVER_MUST(gpu_driver->stream_wait(gpu_stream));
    if (bytes) DRIVER_MUST(gpu_driver->to_host(to, address(from), bytes));
}

size_t gpu_mark(void) { return count; }

void gpu_free_since(size_t mark) {
    DRIVER_MUST(gpu_driver->synchronize());
    while (count > mark) DRIVER_MUST(gpu_driver->free(pieces[--count]));
}

/* ---- Description ----------------------------------------------------------------------------------- */

/* 0 where the driver does not tell. */
static int attribute(int which) {
    int value = 0;
    return gpu_driver->device_attribute(&value, which, 0) ? 0 : value;
}

void gpu_describe(char *text, size_t room) {
    char name[128] = "";
    int version = 0;
    DRIVER_MUST(gpu_driver->device_name(name, sizeof name, 0));
    DRIVER_MUST(gpu_driver->version(&version));
    const int used = snprintf(text, room, "%s, driver for CUDA %d.%d, %d multiprocessors", name, version / 1000,
                              version % 1000 / 10, attribute(DRIVER_MULTIPROCESSORS));
    const int clock = attribute(DRIVER_CLOCK_RATE) / 1000, memory = attribute(DRIVER_MEMORY_CLOCK_RATE) / 1000;
    if (used > 0 && (size_t)used < room && clock)
        snprintf(text + used, room - (size_t)used, ", %d MHz, its memory %d MHz", clock, memory);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* attention-bench-weights: what reading a large weights file costs, against the page faults and the copy alone.
 *
 *   view      open with ATTN_WEIGHTS_MAP, view, touch each page     against mmap and touch each page
 *   copy      open, attn_weights_read into a warm buffer            against memcpy out of a mapping whose pages are in place
 *
 * The file is in the page cache. Both of a pair run in turn, so that drift hits both. */
#include "attention/weights.h"
#include "tools/streams.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 20, PAGE = 4096, KINDS = 4 };

static const char *const kinds[KINDS] = {"view", "page faults alone", "copy", "memcpy from the page cache"};

typedef struct subject {
    const char *path;
    size_t bytes;
    char *buffer, *warm; /* the target of copies; a mapping with every page in place */
    size_t offset;       /* of the data in the file */
} subject;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static _Noreturn void give_up(const char *what) {
    fprintf(stderr, "attention-bench-weights: %s: %s\n", what, attn_last_error_message());
    exit(1);
}

static unsigned touch(const char *data, size_t bytes) {
    unsigned sum = 0;
    for (size_t i = 0; i < bytes; i += PAGE) sum += (unsigned char)data[i];
    return sum;
}

static volatile unsigned sink;

static void run(const subject *s, int kind) {
    attn_weights_file *file = NULL;
    const void *data = NULL;
    if (kind % 2 == 0 && attn_weights_open(s->path, kind == 0 ? ATTN_WEIGHTS_MAP : 0, &file)) give_up("opening");
    const attn_weights_tensor *tensor = attn_weights_tensor_at(file, 0);
    switch (kind) {
    case 0:
        if (attn_weights_view(file, tensor, &data)) give_up("viewing");
        sink += touch(data, s->bytes);
        break;
    case 1: {
        const int descriptor = open(s->path, O_RDONLY);
        char *mapped = mmap(NULL, s->offset + s->bytes, PROT_READ, MAP_SHARED, descriptor, 0);
        sink += touch(mapped + s->offset, s->bytes);
        munmap(mapped, s->offset + s->bytes);
        close(descriptor);
        break;
    }
    case 2:
        if (attn_weights_read(file, tensor, tensor->dtype, s->buffer, s->bytes)) give_up("reading");
        break;
    default:
        memcpy(s->buffer, s->warm + s->offset, s->bytes);
    }
    attn_weights_close(file);
}

static void prepare(subject *s) {
    const int64_t shape[] = {(int64_t)(s->bytes / 4)};
    s->buffer = aligned_alloc(PAGE, s->bytes);
    if (!s->buffer) give_up("memory");
    for (size_t i = 0; i < s->bytes; i++) s->buffer[i] = (char)(i * 31 >> 3);
    const attn_weights_entry entry = {"weights", ATTN_WEIGHTS_F32, 1, shape, s->buffer};
    if (attn_weights_write(s->path, &entry, 1, NULL, 0)) give_up("writing");
    const int descriptor = open(s->path, O_RDONLY);
    s->offset = (size_t)lseek(descriptor, 0, SEEK_END) - s->bytes;
    s->warm = mmap(NULL, s->offset + s->bytes, PROT_READ, MAP_SHARED, descriptor, 0);
    if (s->warm == MAP_FAILED) give_up("mapping");
    sink += touch(s->warm, s->offset + s->bytes);
    close(descriptor);
}

static int by_value(const void *a, const void *b) {
    const double left = *(const double *)a, right = *(const double *)b;
    return left < right ? -1 : left > right;
}

int main(int count, char **values) {
    streams_begin("attention-bench-weights", 1);
    if (count > 3 || (count > 1 && values[1][0] == '-')) {
        fprintf(stderr, "usage: attention-bench-weights [FILE [MEGABYTES]]\nWrites a file of 1024 MB, or as many as "
                        "said, measures, removes it.\n");
        return 2;
    }
    subject s = {.path = count > 1 ? values[1] : "/var/tmp/attention-bench.safetensors",
                 .bytes = (size_t)(count > 2 ? atol(values[2]) : 1024) << 20};
    double seconds[KINDS][ROUNDS];
    prepare(&s);
    for (int round = 0; round < ROUNDS; round++)
        for (int turn = 0; turn < KINDS; turn++) {
            /* Forwards and backwards by turns: what runs behind a copy finds the caches full of it. */
            const int kind = round % 2 ? KINDS - 1 - turn : turn;
            const double start = now();
            run(&s, kind);
            seconds[kind][round] = now() - start;
        }
    unlink(s.path);
    printf("%zu MB, %d rounds\n%-28s %10s %10s %8s\n", s.bytes >> 20, ROUNDS, "", "min ms", "median ms", "GB/s");
    for (int kind = 0; kind < KINDS; kind++) {
        qsort(seconds[kind], ROUNDS, sizeof **seconds, by_value);
        const double median = seconds[kind][ROUNDS / 2];
        printf("%-28s %10.2f %10.2f %8.2f\n", kinds[kind], 1e3 * seconds[kind][0], 1e3 * median,
               1e-9 * (double)s.bytes / median);
    }
    for (int by = 0; by < 2; by++) {
        const int at = by ? ROUNDS / 2 : 0;
        printf("by %s: view takes %.3f of the page faults' time; copy reaches %.3f of memcpy's speed\n",
               by ? "medians" : "minimums", seconds[0][at] / seconds[1][at], seconds[3][at] / seconds[2][at]);
    }
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/program.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Four-kilobyte pages cost up to a tenth of the bandwidth of a large buffer, and by how much depends on which pages the
 * system happened to hand out. Peaks, references and runs all get their memory here. */
void *allocate(size_t bytes) {
    const size_t huge = (size_t)1 << 21, alignment = bytes < huge ? 64 : huge;
    if (bytes > SIZE_MAX - alignment) fail("out of memory: %zu bytes", bytes);
    const size_t size = (bytes + alignment - 1) / alignment * alignment + (bytes == 0) * alignment;
    void *memory = aligned_alloc(alignment, size);
    if (!memory) fail("out of memory: %zu bytes", bytes);
    if (bytes >= huge) madvise(memory, size, MADV_HUGEPAGE);
    memset(memory, 0, size);
    return memory;
}

void release(void *memory) { free(memory); }

void fail(const char *format, ...) {
    va_list arguments;
    progress(NULL);
    fprintf(stderr, "%s: ", program_invocation_short_name);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(2);
}

void progress(const char *format, ...) {
    static int terminal = -1, shown;
    if (terminal < 0) terminal = isatty(STDERR_FILENO);
    if (!terminal || (!format && !shown)) return;
    fputs("\r\033[K", stderr);
    shown = format != NULL;
    if (format) {
        va_list arguments;
        va_start(arguments, format);
        vfprintf(stderr, format, arguments);
        va_end(arguments);
    }
    fflush(stderr);
}

char *text(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *made = allocate((size_t)length + 1);
    va_start(arguments, format);
    vsnprintf(made, (size_t)length + 1, format, arguments);
    va_end(arguments);
    return made;
}

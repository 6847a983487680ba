/* SPDX-License-Identifier: Apache-2.0 */
/* Guarded memory: [size][unreadable page][data pages][unreadable page], the data at one end of its pages. */
#include "tests/kit.h"
#include "tests/kit_device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { POISON = 0xff };

typedef struct header {
    size_t size, pages; /* bytes asked for; of the data */
} header;

static size_t page_size(void) { return (size_t)sysconf(_SC_PAGESIZE); }

static void fail(const char *what) {
    fprintf(stderr, "test kit: %s\n", what);
    abort();
}

/* The data begins in its first page, whichever end it is at. */
static char *data_pages(void *memory) { return (char *)((uintptr_t)memory & ~(uintptr_t)(page_size() - 1)); }

void *kit_alloc(size_t size, kit_guard guard) {
    const size_t page = page_size(), pages = (size + page - 1) / page * page;
    char *map =
        mmap(NULL, pages + 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) fail("out of memory");
    *(header *)map = (header){size, pages};
    char *data = map + 2 * page;
    memset(data, POISON, pages);
    if (mprotect(map + page, page, PROT_NONE) || mprotect(data + pages, page, PROT_NONE)) fail("no guard page");
    kit_device_add(data, pages);
    return guard == KIT_GUARD_BEHIND ? data + pages - size : data;
}

void kit_free(void *memory) {
    if (!memory) return;
    const size_t page = page_size();
    char *data = data_pages(memory), *map = data - 2 * page;
    const header head = *(header *)map;
    const char *end = (char *)memory + head.size;
    for (const char *c = data; c < data + head.pages; c++)
        if ((c < (char *)memory || c >= end) && (unsigned char)*c != POISON) fail("somebody wrote beside a buffer");
    kit_device_remove(data, head.pages);
    munmap(map, head.pages + 3 * page);
}

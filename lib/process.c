/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/process.h"

#include <link.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

/* ---- Forks --------------------------------------------------------------------------------------- */

/* One count, in memory that the system clears in every child, however that was made: pthread_atfork hears of fork() alone. A
 * system that can't (Linux before 4.14) leaves the count out, and the process id decides. */
typedef _Atomic uint64_t attn_generation;

static attn_generation no_generation; /* stands for a page that can't be had */
static _Atomic(attn_generation *) page;
static _Atomic uint64_t last; /* the highest count given out, by this process and those that it came from */

static attn_generation *make_page(void) {
    attn_generation *made = mmap(NULL, sizeof *made, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (made == MAP_FAILED) return &no_generation;
    if (madvise(made, sizeof *made, MADV_WIPEONFORK) == 0) return made;
    munmap(made, sizeof *made);
    return &no_generation;
}

static attn_generation *find_page(void) {
    attn_generation *found = atomic_load(&page);
    if (found) return found;
    attn_generation *made = make_page();
    if (atomic_compare_exchange_strong(&page, &found, made)) return made;
    if (made != &no_generation) munmap(made, sizeof *made);
    return found;
}

static uint64_t generation(void) {
    attn_generation *const here = find_page();
    if (here == &no_generation) return 0;
    uint64_t count = atomic_load(here);
    if (count) return count;
    const uint64_t next = atomic_load(&last) + 1;
    if (!atomic_compare_exchange_strong(here, &count, next)) return count;
    atomic_store(&last, next);
    return next;
}

/* With the process id beside it: emulators of Linux are known to accept the advice and not to follow it. */
uint64_t attn_process_stamp(void) { return generation() << 32 | (uint32_t)getpid(); }

/* ---- Static programs ----------------------------------------------------------------------------- */

static int names_loader(struct dl_phdr_info *object, size_t size, void *user) {
    (void)size;
    (void)user;
    for (size_t i = 0; i < object->dlpi_phnum; i++)
        if (object->dlpi_phdr[i].p_type == PT_INTERP) return 1;
    return 0;
}

/* A program that was started by a loader names it, and so does the shared C library. */
bool attn_process_is_static(void) { return dl_iterate_phdr(names_loader, NULL) == 0; }

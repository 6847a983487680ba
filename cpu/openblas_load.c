/* SPDX-License-Identifier: Apache-2.0 */
/* How OpenBLAS is loaded. Its constructor takes what it wants without asking: it starts a thread for every processor but one,
 * and where one can't be had it prints and raises SIGINT; it maps buffers, and where one can't be had it tries for ever. So
 * both are seen to before: it is loaded by a thread that may run on one processor only, of which it makes a pool of one, that
 * is none; and all its buffers are mapped at once, after their room was found to be there. See docs/blas.md. */
#include "cpu/openblas.h"

#include "cpu/sizes.h"
#include "lib/process.h"

#include <dlfcn.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifndef RTLD_DEEPBIND
#define RTLD_DEEPBIND 0 /* musl, where every library finds the program's functions first */
#endif

enum { TRANS = 112 };

typedef void *(*attn_buffer_take)(int position);
typedef void (*attn_buffer_give)(void *buffer);

/* What the process has loaded, once and for good. */
static attn_openblas loaded;

/* ---- Candidates ---------------------------------------------------------------------------------- */

typedef struct attn_candidate {
    const char *file;
    bool serial; /* without threads of its own, made for programs that have some */
} attn_candidate;

static const attn_candidate candidates[] = {
#ifdef ATTN_OPENBLAS_LIBRARY
    {ATTN_OPENBLAS_LIBRARY, false},
#else
/* Where Debian and its kin put the build without threads, whichever the name below leads to. */
#if defined(__GLIBC__) && defined(__x86_64__)
    {"/usr/lib/x86_64-linux-gnu/openblas-serial/libopenblas.so.0", true},
#elif defined(__GLIBC__) && defined(__aarch64__)
    {"/usr/lib/aarch64-linux-gnu/openblas-serial/libopenblas.so.0", true},
#endif
    {"libopenblas.so.0", false},
    {"libopenblas.so", false},
#endif
};
enum { CANDIDATES = sizeof candidates / sizeof *candidates };

/* Whether the host names a folder (LD_LIBRARY_PATH) that has one: its choice goes before a build without threads. The loader
 * tells what it took from the environment when the program started; what is there now may be changing. */
static bool host_names_one(void) {
    bool named = false;
#ifdef RTLD_DI_SERINFO
    Dl_serinfo head, *info = NULL;
    void *program = dlopen(NULL, RTLD_LAZY);
    if (program && dlinfo(program, RTLD_DI_SERINFOSIZE, &head) == 0) info = malloc(head.dls_size);
    if (info && dlinfo(program, RTLD_DI_SERINFOSIZE, info) == 0 && dlinfo(program, RTLD_DI_SERINFO, info) == 0)
        for (unsigned i = 0; i < info->dls_cnt && !named; i++) {
            char file[PATH_MAX];
            if (!(info->dls_serpath[i].dls_flags & LA_SER_LIBPATH)) continue;
            const int length = snprintf(file, sizeof file, "%s/libopenblas.so.0", info->dls_serpath[i].dls_name);
            named = length > 0 && (size_t)length < sizeof file && access(file, F_OK) == 0;
        }
    free(info);
    if (program) dlclose(program);
#endif
    return named;
}

/* ---- Loading ------------------------------------------------------------------------------------- */

/* With RTLD_DEEPBIND OpenBLAS finds its own functions and tables before a host's of the same name: a host may carry another
 * OpenBLAS, whose tables have another layout. The sanitizers' run times refuse the flag. */
static int load_flags(void) {
    static const char *const runtimes[] = {"__asan_init", "__tsan_init", "__msan_init", "__hwasan_init"};
    for (size_t i = 0; i < sizeof runtimes / sizeof *runtimes; i++)
        if (dlsym(RTLD_DEFAULT, runtimes[i])) return RTLD_NOW | RTLD_LOCAL;
    return RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND;
}

/* ISO C has no conversion from an object pointer to a function pointer; POSIX lets the bytes be copied. */
static bool find(void *library, const char *name, void *function) {
    void *symbol = dlsym(library, name);
    memcpy(function, &symbol, sizeof symbol);
    return symbol != NULL;
}

/* Cores whose small products (up to 100^3) go to kernels without packing and threads, from 0.3.18 on. */
static bool has_small_products(const char *version, const char *core) {
    static const char *const cores[] = {"SkylakeX", "Cooperlake", "SapphireRapids"};
    int major = 0, minor = 0, patch = 0;
    if (sscanf(version, "%d.%d.%d", &major, &minor, &patch) != 3) return false;
    if (major == 0 && (minor < 3 || (minor == 3 && patch < 18))) return false;
    for (size_t i = 0; i < sizeof cores / sizeof *cores; i++)
        if (!strcmp(core, cores[i])) return true;
    return false;
}

/* NULL, or why the library can't serve. */
static const char *adopt(attn_openblas *blas, void *library) {
    char *(*config)(void), *(*core)(void);
    int (*parallel)(void);
    if (!find(library, "openblas_get_config", &config) || !find(library, "openblas_get_corename", &core) ||
        !find(library, "openblas_get_parallel", &parallel))
        return "not an OpenBLAS";
    if (!find(library, "cblas_sgemm", &blas->sgemm) || !find(library, "cblas_dgemm", &blas->dgemm) ||
        !find(library, "cblas_sgemv", &blas->sgemv) || !find(library, "cblas_dgemv", &blas->dgemv))
        return "no cblas in it";
    const char *description = config();
    if (strstr(description, "USE64BITINT")) return "built for 64-bit integers";
    char version[24] = "";
    if (sscanf(description, "OpenBLAS %23s", version) != 1) return "its version is unknown";
    snprintf(blas->text, sizeof blas->text, "OpenBLAS %s %s", version, core());
    blas->threaded = parallel() != 0;
    blas->small_products = has_small_products(version, core());
    return NULL;
}

/* ---- Room ---------------------------------------------------------------------------------------- */

/* Buffers of OpenBLAS's that are mapped when it is loaded; no more of its products run at one moment. Debian's builds have 50
 * and more; a build with fewer would print that it makes room for others. */
enum { MOST_BUFFERS = 48 };

/* Bytes: of the library with what it brings (37 MB and 3 MB in Debian 12), and of a buffer (BUFFER_SIZE, 128 MB on x86-64). */
static const size_t library_size = (size_t)64 << 20;
static const size_t buffer_size = (size_t)128 << 20;

/* Whether so many buffers can be mapped beside the library, and as much again is left for the host. They are mapped one by one,
 * as OpenBLAS will: the system may refuse the sum in one piece and grant it in several. Nothing of it is touched. */
static bool has_room(size_t buffers) {
    void *pieces[2 * (MOST_BUFFERS + 1)];
    size_t count = 0;
    bool room = true;
    for (size_t i = 0; i < 2 * (buffers + 1) && room; i++) {
        const size_t size = i < 2 ? library_size : buffer_size;
        void *piece = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        room = piece != MAP_FAILED;
        if (room) pieces[count++] = piece;
    }
    while (count-- > 0) munmap(pieces[count], count < 2 ? library_size : buffer_size);
    return room;
}

static size_t processors(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return (size_t)CPU_COUNT(&set);
    const long configured = sysconf(_SC_NPROCESSORS_CONF); /* more than the set has room for */
    return configured > 0 ? (size_t)configured : 1;
}

/* One for each processor; 0: there is no room for them. A build on OpenMP maps as many by itself when it is loaded, and which
 * build a library is can't be seen before. */
static size_t buffers_with_room(void) {
    const size_t wanted = least(processors(), MOST_BUFFERS);
    return has_room(wanted) ? wanted : 0;
}

/* ---- Products at one moment ---------------------------------------------------------------------- */

/* A product takes a buffer and gives it back. Were there more products than mapped buffers, OpenBLAS would map another, and try for
 * ever where the system refuses. They wait instead, for what takes some microseconds. */
static struct {
    atomic_size_t running;
    size_t most;
    bool small_products;
    attn_cblas_sgemm sgemm;
    attn_cblas_dgemm dgemm;
} gate;

static void enter(void) {
    while (atomic_fetch_add_explicit(&gate.running, 1, memory_order_acquire) >= gate.most) {
        atomic_fetch_sub_explicit(&gate.running, 1, memory_order_relaxed);
        sched_yield();
    }
}

/* Kernels for small products take no buffer; of A B^T they compute only some, see openblas.c. */
static bool packs(int trans_b, int m, int n, int k) {
    return !gate.small_products || (trans_b == TRANS && (m * n > 1200 || k < 32));
}

static void leave(void) { atomic_fetch_sub_explicit(&gate.running, 1, memory_order_release); }

static void gated_sgemm(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a, int lda,
                        const float *b, int ldb, float beta, float *c, int ldc) {
    const bool gated = packs(trans_b, m, n, k);
    if (gated) enter();
    gate.sgemm(order, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    if (gated) leave();
}

static void gated_dgemm(int order, int trans_a, int trans_b, int m, int n, int k, double alpha, const double *a,
                        int lda, const double *b, int ldb, double beta, double *c, int ldc) {
    const bool gated = packs(trans_b, m, n, k);
    if (gated) enter();
    gate.dgemm(order, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    if (gated) leave();
}

/* Takes all buffers at once, so that each is mapped, and gives them back: OpenBLAS keeps them. */
static void map_buffers(attn_buffer_take take, attn_buffer_give give, size_t count) {
    void *buffers[MOST_BUFFERS];
    for (size_t i = 0; i < count; i++) buffers[i] = take(0);
    for (size_t i = 0; i < count; i++) give(buffers[i]);
}

static const char *set_gate(attn_openblas *blas, void *library, size_t buffers) {
    attn_buffer_take take;
    attn_buffer_give give;
    if (!find(library, "blas_memory_alloc", &take) || !find(library, "blas_memory_free", &give))
        return "its buffers can't be reached";
    map_buffers(take, give, buffers);
    gate.most = buffers;
    gate.small_products = blas->small_products;
    gate.sgemm = blas->sgemm;
    gate.dgemm = blas->dgemm;
    blas->sgemm = gated_sgemm;
    blas->dgemm = gated_dgemm;
    return NULL;
}

/* ---- The loading thread -------------------------------------------------------------------------- */

typedef struct attn_loader {
    bool pinned; /* this thread runs on one processor */
    size_t buffers;
    attn_openblas blas;
} attn_loader;

static void try_candidate(attn_loader *loader, const attn_candidate *candidate) {
    attn_openblas *blas = &loader->blas;
    void *library = dlopen(candidate->file, load_flags());
    if (!library) {
        const char *why = dlerror();
        if (!*blas->text && !candidate->serial)
            snprintf(blas->text, sizeof blas->text, "no OpenBLAS: %s", why ? why : "no memory");
        return;
    }
    attn_openblas found = {.usable = true};
    const char *reason = adopt(&found, library);
    if (!reason) reason = set_gate(&found, library, loader->buffers);
    if (!reason) {
        *blas = found;
        return;
    }
    dlclose(library);
    snprintf(blas->text, sizeof blas->text, "no OpenBLAS: %s is unfit (%s)", candidate->file, reason);
}

static void *load(void *argument) {
    attn_loader *loader = argument;
    const bool named = host_names_one();
    for (size_t i = 0; i < CANDIDATES && !loader->blas.usable; i++)
        if (candidates[i].serial ? !named : loader->pinned) try_candidate(loader, &candidates[i]);
    return NULL;
}

/* Not for the host's affinity, but for this thread's alone, which ends soon. */
static bool pin_to_one_processor(void) {
    const int here = sched_getcpu();
    if (here < 0) return false;
    const size_t size = CPU_ALLOC_SIZE((size_t)here + 1);
    cpu_set_t *set = CPU_ALLOC((size_t)here + 1);
    if (!set) return false;
    CPU_ZERO_S(size, set);
    CPU_SET_S((size_t)here, size, set);
    const bool pinned = sched_setaffinity(0, size, set) == 0;
    CPU_FREE(set);
    return pinned;
}

/* The run time of OpenMP counts the processors when it is loaded, for the whole process: so it is loaded before. It
 * stays, for it frees nothing of what it took when it is unloaded. */
static void *load_pinned(void *argument) {
    attn_loader *loader = argument;
    dlopen("libgomp.so.1", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    loader->pinned = pin_to_one_processor();
    load(loader);
    if (!loader->pinned && !loader->blas.usable)
        snprintf(loader->blas.text, sizeof loader->blas.text,
                 "no OpenBLAS: it can't be kept from starting threads (sched_setaffinity is refused)");
    return NULL;
}

/* Without signals: what is raised in the thread, or is meant for the host, must not be delivered to it. */
static bool load_in_thread(attn_loader *loader) {
    sigset_t all, before;
    pthread_t thread;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const bool started = pthread_create(&thread, NULL, load_pinned, loader) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (started) pthread_join(thread, NULL);
    return started;
}

/* ---- For the contexts ---------------------------------------------------------------------------- */

static void refuse(attn_openblas *blas, const char *reason) {
    snprintf(blas->text, sizeof blas->text, "no OpenBLAS: %s", reason);
}

static void open_library(attn_openblas *blas) {
    attn_loader loader = {.buffers = 0};
    if (attn_process_is_static()) {
        refuse(blas, "a static program can't load libraries");
        return;
    }
    loader.buffers = buffers_with_room();
    if (loader.buffers == 0) {
        refuse(blas, "too little address space is left for it and its buffers");
        return;
    }
    if (!load_in_thread(&loader)) {
        load(&loader);
        if (!loader.blas.usable) refuse(&loader.blas, "no thread can be started, which is needed to load it");
    }
    *blas = loader.blas;
}

/* The stamp of the process in which a thread is loading; 0: in none. */
static _Atomic uint64_t loading;

/* False in a child that was made while its parent was loading: what the loader's locks guard is then half done. */
static bool lock(void) {
    const uint64_t here = attn_process_stamp();
    const struct timespec pause = {.tv_nsec = 1000000};
    for (;;) {
        uint64_t found = 0;
        if (atomic_compare_exchange_strong(&loading, &found, here)) return true;
        if (found != here) return false;
        nanosleep(&pause, NULL);
    }
}

static void unlock(void) { atomic_store(&loading, 0); }

void attn_openblas_switch_off(attn_openblas_slot *slot, const char *by) {
    snprintf(slot->blas.text, sizeof slot->blas.text, "no OpenBLAS: %s is off", by);
    atomic_store_explicit(&slot->known, true, memory_order_release);
}

const attn_openblas *attn_openblas_of(attn_openblas_slot *slot) {
    static const attn_openblas forked = {.text = "no OpenBLAS: the process was forked while it was being loaded"};
    if (atomic_load_explicit(&slot->known, memory_order_acquire)) return &slot->blas;
    ATTN_WITHOUT_CANCELLATION;
    if (!lock()) return &forked;
    if (!atomic_load_explicit(&slot->known, memory_order_relaxed)) {
        if (!loaded.usable) open_library(&slot->blas);
        if (loaded.usable)
            slot->blas = loaded;
        else if (slot->blas.usable)
            loaded = slot->blas;
        atomic_store_explicit(&slot->known, true, memory_order_release);
    }
    unlock();
    return &slot->blas;
}

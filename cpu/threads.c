/* SPDX-License-Identifier: Apache-2.0 */
/* How a run is shared. The caller writes the run's fields, opens it, claims tasks like any worker, closes it and waits until
 * no worker is inside. A worker steps inside before it looks whether the run is open: so either it sees the run closed and
 * leaves, or the caller sees it inside and waits. Workers that come late find nothing and delay nobody.
 *
 * Waiting is spinning for as long as the next run of a tight loop needs to arrive, then sleeping. */
#include "cpu/threads.h"

#include "cpu/float_environment.h"
#include "lib/process.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

/* Nanoseconds of spinning before a sleep. A wake-up costs some 5 to 50 microseconds; between two runs of a loop lie fewer. */
enum { SPIN_TIME = 50000, SPINS_PER_CLOCK = 8 };

/* Keeps what one side writes often out of the cache lines that the other side reads. */
typedef char cache_line[64];

struct attn_threads {
    attn_device_options options;
    int count, started;
    bool spin; /* a processor for every thread */
    uint64_t owner; /* the process that has the workers, by its stamp */
    pthread_mutex_t mutex; /* for sleeping alone; work is shared by atomics */
    pthread_cond_t work, done;
    atomic_bool busy; /* a run is in progress */
    bool stop;
    cache_line gap_before_run;
    _Atomic uint64_t run; /* odd: open; changes at each opening and closing */
    atomic_int sleepers;
    size_t tasks;
    attn_task task;
    void *argument;
    attn_float_environment environment; /* the caller's, in the run */
    cache_line gap_before_next;
    atomic_size_t next; /* the first task that nobody has claimed */
    cache_line gap_before_inside;
    atomic_int inside; /* workers that may be reading the run */
    atomic_bool joiner_sleeps;
    cache_line gap_after;
    pthread_t threads[];
};

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

/* ---- The worker's side --------------------------------------------------------------------------- */

static void claim_tasks(attn_threads *pool) {
    const size_t tasks = pool->tasks;
    const attn_task task = pool->task;
    void *const argument = pool->argument;
    for (size_t i; (i = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed)) < tasks;) task(argument, i);
}

static void leave(attn_threads *pool) {
    if (atomic_fetch_sub(&pool->inside, 1) != 1 || !atomic_load(&pool->joiner_sleeps)) return;
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_signal(&pool->done);
    pthread_mutex_unlock(&pool->mutex);
}

/* Until the run is another one than last. */
static uint64_t await_run(attn_threads *pool, uint64_t last) {
    const int64_t end = pool->spin ? now() + SPIN_TIME : 0;
    uint64_t run;
    do {
        for (int i = 0; i < SPINS_PER_CLOCK; i++) {
            if ((run = atomic_load_explicit(&pool->run, memory_order_acquire)) != last) return run;
            relax();
        }
    } while (now() < end);
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->sleepers, 1);
    while ((run = atomic_load(&pool->run)) == last) pthread_cond_wait(&pool->work, &pool->mutex);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->mutex);
    return run;
}

static void *work(void *argument) {
    attn_threads *pool = argument;
    uint64_t run = 0;
    for (;;) {
        run = await_run(pool, run);
        if (!(run & 1)) continue;
        atomic_fetch_add(&pool->inside, 1);
        run = atomic_load(&pool->run);
        if (run & 1) {
            if (pool->stop) return NULL;
            attn_float_join(pool->environment);
            claim_tasks(pool);
        }
        leave(pool);
    }
}

/* ---- The caller's side --------------------------------------------------------------------------- */

static void open_run(attn_threads *pool, size_t tasks) {
    atomic_fetch_add(&pool->run, 1);
    int wanted = atomic_load(&pool->sleepers);
    if (wanted == 0) return;
    if (tasks - 1 < (size_t)wanted) wanted = (int)(tasks - 1);
    pthread_mutex_lock(&pool->mutex);
    for (int i = 0; i < wanted; i++) pthread_cond_signal(&pool->work);
    pthread_mutex_unlock(&pool->mutex);
}

static void close_run(attn_threads *pool) {
    atomic_fetch_add(&pool->run, 1);
    const int64_t end = pool->spin ? now() + SPIN_TIME : 0;
    do {
        for (int i = 0; i < SPINS_PER_CLOCK; i++) {
            if (atomic_load(&pool->inside) == 0) return;
            relax();
        }
    } while (now() < end);
    pthread_mutex_lock(&pool->mutex);
    atomic_store(&pool->joiner_sleeps, true);
    while (atomic_load(&pool->inside) > 0) pthread_cond_wait(&pool->done, &pool->mutex);
    atomic_store(&pool->joiner_sleeps, false);
    pthread_mutex_unlock(&pool->mutex);
}

static bool can_share(attn_threads *pool) {
    bool expected = false;
    return pool->started > 0 && pool->owner == attn_process_stamp() &&
           atomic_compare_exchange_strong_explicit(&pool->busy, &expected, true, memory_order_acquire,
                                                   memory_order_relaxed);
}

/* A task in a thread of the host's. */
typedef struct lent_task {
    attn_task task;
    void *argument;
    attn_float_environment environment;
} lent_task;

static void run_lent(void *argument, size_t index) {
    const lent_task *lent = argument;
    const attn_float_environment before = attn_float_join(lent->environment);
    lent->task(lent->argument, index);
    attn_float_restore(before);
}

static void run_by_host(const attn_threads *pool, size_t count, attn_task task, void *argument) {
    const attn_float_pause pause = attn_float_pause_run();
    lent_task lent = {task, argument, pause.run};
    pool->options.parallel_for(pool->options.parallel_for_user, count, run_lent, &lent);
    attn_float_resume_run(pause);
}

void attn_threads_run(attn_threads *pool, size_t count, attn_task task, void *argument) {
    if (count > 1 && pool->options.parallel_for) {
        run_by_host(pool, count, task, argument);
        return;
    }
    if (count <= 1 || !can_share(pool)) {
        for (size_t i = 0; i < count; i++) task(argument, i);
        return;
    }
    pool->tasks = count;
    pool->task = task;
    pool->argument = argument;
    pool->environment = attn_float_state();
    atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
    open_run(pool, count);
    claim_tasks(pool);
    close_run(pool);
    atomic_store_explicit(&pool->busy, false, memory_order_release);
}

int attn_threads_count(const attn_threads *pool) { return pool->count; }

/* ---- Life ---------------------------------------------------------------------------------------- */

static int usable_processors(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
    const long online = sysconf(_SC_NPROCESSORS_ONLN); /* more processors than the set has room for */
    return online > 0 && online <= 4096 ? (int)online : 1;
}

/* Workers take no signal that is meant for the host's threads; faults of their own still reach the host's handlers. */
static void block_signals(sigset_t *before) {
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};
    sigset_t blocked;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) sigdelset(&blocked, faults[i]);
    pthread_sigmask(SIG_SETMASK, &blocked, before);
}

static void start_workers(attn_threads *pool, int wanted) {
    sigset_t before;
    block_signals(&before);
    while (pool->started < wanted && pthread_create(&pool->threads[pool->started], NULL, work, pool) == 0)
        pool->started++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

attn_threads *attn_threads_create(const attn_device_options *options) {
    const int processors = usable_processors();
    const int count = options->threads ? options->threads : processors;
    const int workers = options->parallel_for ? 0 : count - 1;
    attn_threads *pool =
        options->allocate(options->memory_user, sizeof *pool + (size_t)workers * sizeof *pool->threads);
    if (!pool) return NULL;
    *pool = (attn_threads){.options = *options, .count = count, .spin = count <= processors, .owner = attn_process_stamp()};
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->done, NULL);
    start_workers(pool, workers);
    return pool;
}

static void join_workers(attn_threads *pool) {
    pthread_mutex_lock(&pool->mutex);
    pool->stop = true;
    atomic_fetch_add(&pool->run, 1);
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->mutex);
    for (int i = 0; i < pool->started; i++) pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->mutex);
}

void attn_threads_destroy(attn_threads *pool) {
    if (pool->owner == attn_process_stamp()) join_workers(pool);
    pool->options.release(pool->options.memory_user, pool);
}

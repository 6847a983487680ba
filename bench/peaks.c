/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/peaks.h"

#include "bench/machine.h"
#include "bench/peak_kernels.h"
#include "bench/program.h"
#include "bench/team.h"

#include <string.h>

enum { TRIES = 7 };
#define TRY_SECONDS 0.006

extern const peak_kernels peak_kernels_plain, peak_kernels_avx2, peak_kernels_avx512;

const peak_kernels *peak_kernels_of(const char *isa) {
    const peak_kernels *const tables[] = {
        &peak_kernels_plain,
#if defined(__x86_64__)
        &peak_kernels_avx2,
        &peak_kernels_avx512,
#endif
    };
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
        if (!strcmp(tables[i]->isa, isa)) return tables[i];
    return NULL;
}

const char *peaks_isa(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f")) return "avx512";
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "avx2";
#endif
    return "plain";
}

/* One loop on every thread, `repeat` times. */
typedef struct job {
    const peak_kernels *kernels;
    int variant;
    size_t repeat, bytes;
    const char *from;
    char *to;
    double (*fma)(size_t rounds);
    volatile double sink;
} job;

static void run_fma(void *argument, int thread, int threads) {
    job *j = argument;
    (void)thread, (void)threads;
    j->sink = j->fma(j->repeat);
}

static void run_read(void *argument, int thread, int threads) {
    job *j = argument;
    size_t first, last;
    unsigned sum = 0;
    team_share(j->bytes, PEAK_GRAIN, thread, threads, &first, &last);
    for (size_t i = 0; i < j->repeat; i++) sum ^= j->kernels->read[j->variant](j->from + first, last - first);
    j->sink = sum;
}

static void run_copy(void *argument, int thread, int threads) {
    job *j = argument;
    size_t first, last;
    team_share(j->bytes, PEAK_GRAIN, thread, threads, &first, &last);
    for (size_t i = 0; i < j->repeat; i++) j->kernels->copy[j->variant](j->to + first, j->from + first, last - first);
}

static void run_write(void *argument, int thread, int threads) {
    job *j = argument;
    size_t first, last;
    team_share(j->bytes, PEAK_GRAIN, thread, threads, &first, &last);
    for (size_t i = 0; i < j->repeat; i++) j->kernels->write[j->variant](j->to + first, last - first);
}

/* The best rate of a few tries, in units of `work` per second, `work` being what one repetition does on all threads. Tries
 * that were too short to tell only lengthen the next one; a hiccup costs a try, and nothing else. */
static double best_rate(int threads, team_task task, job *j, double work) {
    double best = 0;
    j->repeat = 1;
    for (int tries = 0; tries < TRIES;) {
        const double seconds = team_run(threads, task, j);
        if (seconds < TRY_SECONDS) {
            j->repeat *= 2;
            continue;
        }
        const double rate = work * (double)j->repeat / seconds;
        if (rate > best) best = rate;
        tries++;
    }
    return best;
}

static double best_variant(int threads, team_task task, job *j, double work) {
    double best = 0;
    for (j->variant = 0; j->variant < PEAK_VARIANTS; j->variant++) {
        const double rate = best_rate(threads, task, j, work);
        if (rate > best) best = rate;
    }
    return best;
}

double peaks_read_bandwidth(int threads, const void *buffer, size_t bytes) {
    job j = {.kernels = peak_kernels_of(peaks_isa()), .from = buffer, .bytes = bytes / PEAK_GRAIN * PEAK_GRAIN};
    return 1e-9 * best_variant(threads, run_read, &j, (double)j.bytes);
}

double peaks_write_bandwidth(int threads, void *buffer, size_t bytes) {
    job j = {.kernels = peak_kernels_of(peaks_isa()), .to = buffer, .bytes = bytes / PEAK_GRAIN * PEAK_GRAIN};
    return 1e-9 * best_variant(threads, run_write, &j, (double)j.bytes);
}

double peaks_arithmetic(int threads, bool wide) {
    const peak_kernels *k = peak_kernels_of(peaks_isa());
    job j = {.kernels = k, .fma = wide ? k->fma_f64 : k->fma_f32};
    return 1e-9 * best_rate(threads, run_fma, &j, (double)(wide ? k->flops_f64 : k->flops_f32) * threads);
}

void peaks_measure(int threads, peaks *found) {
    const peak_kernels *k = peak_kernels_of(peaks_isa());
    const size_t mega = (size_t)1 << 20, l2 = machine_cache(2), past_cache = 4 * machine_cache(3);
    *found = (peaks){.isa = k->isa, .threads = threads};
    progress("measuring the machine's peaks");
    found->f32_gflops = peaks_arithmetic(threads, false);
    found->f64_gflops = peaks_arithmetic(threads, true);
    found->l2_bytes = (l2 ? l2 / 2 : mega / 4) * (size_t)threads;
    found->cache_bytes = 12800000; /* H of the IMDB batch */
    found->dram_bytes = past_cache < 256 * mega ? 256 * mega : past_cache > 1024 * mega ? 1024 * mega : past_cache;
    char *buffer = allocate(found->dram_bytes);
    found->l2_read = peaks_read_bandwidth(threads, buffer, found->l2_bytes);
    found->cache_read = peaks_read_bandwidth(threads, buffer, found->cache_bytes);
    found->dram_read = peaks_read_bandwidth(threads, buffer, found->dram_bytes);
    job copy = {.kernels = k, .from = buffer, .to = buffer + found->dram_bytes / 2, .bytes = found->dram_bytes / 2};
    found->dram_copy = 1e-9 * best_variant(threads, run_copy, &copy, 2 * (double)copy.bytes);
    release(buffer);
}

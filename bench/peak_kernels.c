/* SPDX-License-Identifier: Apache-2.0
 * Compiled once per instruction set with PEAK_ISA (a name), PEAK_TABLE (the table's name) and PEAK_BYTES (a vector's width). */
#include "bench/peak_kernels.h"

#include <string.h>
#if defined(__x86_64__)
#include <emmintrin.h>
#endif

typedef float floats __attribute__((vector_size(PEAK_BYTES)));
typedef double doubles __attribute__((vector_size(PEAK_BYTES)));
typedef unsigned bits __attribute__((vector_size(PEAK_BYTES)));

/* A latency of 4 cycles and two units need 8 sums in flight; more leave room for slower units. */
#define EACH_SUM(do)                                                                                                   \
    do (0) do(1) do(2) do(3) do(4) do(5) do(6) do(7) do(8) do(9) do(10) do(11)
enum { SUMS = 12, UNROLL = 4 };

/* Keeps a value in a register and its computation in the loop. */
#if defined(__x86_64__)
#define KEEP(value) __asm__ volatile("" : "+x"(value))
#elif defined(__aarch64__)
#define KEEP(value) __asm__ volatile("" : "+w"(value))
#else
#define KEEP(value) __asm__ volatile("" : "+m"(value))
#endif
#define DECLARE(n) sum##n = one,
#define MULTIPLY_ADD(n) sum##n = sum##n * half + half;
#define KEEP_SUM(n) KEEP(sum##n);
#define ADD(n) total += sum##n;

/* The sums stay at 1: no infinity and no denormal slows them down. */
#define DEFINE_FMA(name, vector)                                                                                       \
    static double name(size_t rounds) {                                                                                \
        vector total = {0}, half = total + 0.5f, one = total + 1, EACH_SUM(DECLARE) unused = total;                    \
        KEEP(half);                                                                                                    \
        (void)unused;                                                                                                  \
        for (size_t round = 0; round < rounds; round++) {                                                              \
            EACH_SUM(MULTIPLY_ADD)                                                                                     \
            EACH_SUM(MULTIPLY_ADD) EACH_SUM(MULTIPLY_ADD) EACH_SUM(MULTIPLY_ADD) EACH_SUM(KEEP_SUM)                    \
        }                                                                                                              \
        EACH_SUM(ADD)                                                                                                  \
        return (double)total[0];                                                                                       \
    }
DEFINE_FMA(fma_f32, floats)
DEFINE_FMA(fma_f64, doubles)

static inline unsigned fold(bits a) {
    unsigned sum = 0;
    for (size_t i = 0; i < sizeof a / sizeof a[0]; i++) sum ^= a[i];
    return sum;
}

enum { LANES = 8 };

/* `streams` places at once, prefetched `ahead` bytes ahead of their use; with one stream and ahead 0 the hardware's prefetchers are alone. */
static inline __attribute__((always_inline)) unsigned read_streams(const void *from, size_t bytes, size_t streams,
                                                                   size_t ahead) {
    bits sums[LANES];
    memset(sums, 0, sizeof sums);
    const size_t length = bytes / streams, step = LANES * sizeof(bits);
    const char *p = from;
    for (size_t at = 0; at < length; at += step)
        for (size_t s = 0; s < streams; s++) {
            const char *q = p + s * length + at;
            if (ahead)
                for (size_t line = 0; line < step; line += 64) __builtin_prefetch(q + ahead + line);
            const bits *v = (const bits *)(const void *)q;
            for (int i = 0; i < LANES; i++) sums[i] ^= v[i];
        }
    for (int i = 1; i < LANES; i++) sums[0] ^= sums[i];
    return fold(sums[0]);
}

static unsigned read_plain(const void *from, size_t bytes) { return read_streams(from, bytes, 1, 0); }
static unsigned read_ahead(const void *from, size_t bytes) { return read_streams(from, bytes, 1, 4096); }
static unsigned read_four(const void *from, size_t bytes) { return read_streams(from, bytes, 4, 1024); }

static void copy_memcpy(void *to, const void *from, size_t bytes) { memcpy(to, from, bytes); }

static void copy_plain(void *to, const void *from, size_t bytes) {
    const bits *source = from;
    bits *target = to;
    for (size_t i = 0; i < bytes / sizeof(bits); i += 4) {
        const bits a = source[i], b = source[i + 1], c = source[i + 2], d = source[i + 3];
        target[i] = a, target[i + 1] = b, target[i + 2] = c, target[i + 3] = d;
    }
}

static void write_memset(void *to, size_t bytes) { memset(to, 0, bytes); }

static void write_plain(void *to, size_t bytes) {
    bits zero = {0}, *target = to;
    for (size_t i = 0; i < bytes / sizeof(bits); i += 4) {
        KEEP(zero);
        target[i] = zero, target[i + 1] = zero, target[i + 2] = zero, target[i + 3] = zero;
    }
}

/* Stores that go past the caches spare the read of the line they overwrite. */
#if defined(__x86_64__)
static void copy_past_cache(void *to, const void *from, size_t bytes) {
    const __m128i *source = from;
    __m128i *target = to;
    for (size_t i = 0; i < bytes / sizeof(__m128i); i += 4)
        for (size_t j = i; j < i + 4; j++) _mm_stream_si128(target + j, _mm_load_si128(source + j));
    _mm_sfence();
}
static void write_past_cache(void *to, size_t bytes) {
    __m128i *target = to;
    for (size_t i = 0; i < bytes / sizeof(__m128i); i++) _mm_stream_si128(target + i, _mm_setzero_si128());
    _mm_sfence();
}
#else
#define copy_past_cache copy_plain
#define write_past_cache write_plain
#endif

const peak_kernels PEAK_TABLE = {
    .isa = PEAK_ISA,
    .fma_f32 = fma_f32,
    .fma_f64 = fma_f64,
    .flops_f32 = sizeof(floats) / sizeof(float) * 2 * SUMS * UNROLL,
    .flops_f64 = sizeof(doubles) / sizeof(double) * 2 * SUMS * UNROLL,
    .read = {read_plain, read_ahead, read_four},
    .copy = {copy_memcpy, copy_plain, copy_past_cache},
    .write = {write_memset, write_plain, write_past_cache},
};

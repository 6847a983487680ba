/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/features.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

static const char *const isa_names[ATTN_CPU_ISAS] = {"scalar", "avx2", "avx512"};

const char *attn_cpu_isa_name(attn_cpu_isa isa) { return isa_names[isa]; }

bool attn_cpu_isa_from_name(const char *text, attn_cpu_isa *isa) {
    for (int i = 0; i < ATTN_CPU_ISAS; i++)
        if (strcmp(text, isa_names[i]) == 0) {
            *isa = (attn_cpu_isa)i;
            return true;
        }
    return false;
}

/* The highest set that the build has kernels for. */
#if defined(__x86_64__)
static const attn_cpu_isa best_built = ATTN_CPU_AVX512;
#else
static const attn_cpu_isa best_built = ATTN_CPU_SCALAR;
#endif

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>

enum { EBX = 0, ECX = 1, LEAVES = 2 };

/* The state that the system saves on a context switch; without it the registers are not to be used. */
enum { XCR0_YMM = 0x6, XCR0_ZMM = 0xe6 };

/* One feature: where CPUID has it, what XCR0 must hold, and the least set that needs it (ATTN_CPU_SCALAR: none does). */
static const struct {
    const char *name;
    unsigned leaf, word, bit, state;
    attn_cpu_isa needed_by;
} known[] = {
    {"avx", 1, ECX, 28, XCR0_YMM, ATTN_CPU_AVX2},          {"fma", 1, ECX, 12, XCR0_YMM, ATTN_CPU_AVX2},
    {"f16c", 1, ECX, 29, XCR0_YMM, ATTN_CPU_SCALAR},       {"avx2", 7, EBX, 5, XCR0_YMM, ATTN_CPU_AVX2},
    {"avx512f", 7, EBX, 16, XCR0_ZMM, ATTN_CPU_AVX512},    {"avx512dq", 7, EBX, 17, XCR0_ZMM, ATTN_CPU_AVX512},
    {"avx512bw", 7, EBX, 30, XCR0_ZMM, ATTN_CPU_AVX512},   {"avx512vl", 7, EBX, 31, XCR0_ZMM, ATTN_CPU_AVX512},
    {"avx512vnni", 7, ECX, 11, XCR0_ZMM, ATTN_CPU_SCALAR},
};

static unsigned enabled_state(unsigned leaf_1_ecx) {
    const unsigned osxsave = 1u << 27;
    unsigned low = 0, high = 0;
    if (leaf_1_ecx & osxsave) __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

void attn_cpu_detect(attn_cpu_features *features) {
    unsigned eax, edx, leaf_1[LEAVES] = {0}, leaf_7[LEAVES] = {0};
    if (!__get_cpuid(1, &eax, &leaf_1[EBX], &leaf_1[ECX], &edx)) leaf_1[ECX] = 0;
    if (!__get_cpuid_count(7, 0, &eax, &leaf_7[EBX], &leaf_7[ECX], &edx)) leaf_7[EBX] = leaf_7[ECX] = 0;
    const unsigned state = enabled_state(leaf_1[ECX]);
    size_t used = 0; /* all the names together fit the text */
    *features = (attn_cpu_features){.best = best_built};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const unsigned word = (known[i].leaf == 1 ? leaf_1 : leaf_7)[known[i].word];
        if ((word >> known[i].bit & 1) && (state & known[i].state) == known[i].state) {
            used += (size_t)snprintf(features->text + used, sizeof features->text - used, "%s%s", used ? " " : "",
                                     known[i].name);
        } else if (known[i].needed_by != ATTN_CPU_SCALAR && features->best >= known[i].needed_by) {
            features->best = (attn_cpu_isa)(known[i].needed_by - 1);
        }
    }
#ifdef ATTN_EMULATE_AVX512 /* the tests' build, whose kernels of AVX-512 need no more than AVX2 */
    if (features->best >= ATTN_CPU_AVX2) {
        features->best = ATTN_CPU_AVX512;
        snprintf(features->text + used, sizeof features->text - used, " AVX-512 (emulated)");
    }
#endif
}

#else

void attn_cpu_detect(attn_cpu_features *features) { *features = (attn_cpu_features){.best = best_built}; }

#endif

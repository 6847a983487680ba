/* SPDX-License-Identifier: Apache-2.0 */
/* What the processor and its operating system offer: asked by CPUID and XCR0, never by a processor's name. */
#ifndef ATTN_CPU_FEATURES_H
#define ATTN_CPU_FEATURES_H

#include <stdbool.h>

/* In rising order: each can run the code of those before it. */
typedef enum attn_cpu_isa {
    ATTN_CPU_SCALAR = 0,
    ATTN_CPU_AVX2 = 1,
    ATTN_CPU_AVX512 = 2,
    ATTN_CPU_ISAS = 3
} attn_cpu_isa;

typedef struct attn_cpu_features {
    attn_cpu_isa best; /* that the machine can run and the build has kernels for */
    char text[160]; /* what there is of the features that this library looks at, such as "avx avx2 fma" */
} attn_cpu_features;

void attn_cpu_detect(attn_cpu_features *features);

const char *attn_cpu_isa_name(attn_cpu_isa isa);

/* False when text names none. */
bool attn_cpu_isa_from_name(const char *text, attn_cpu_isa *isa);

#endif

/* Where the intrinsics of AVX-512 come from: the compiler, or in the tests' build for machines without it an emulation. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ATTN_CPU_INTRINSICS_AVX512_H
#define ATTN_CPU_INTRINSICS_AVX512_H

#ifdef ATTN_EMULATE_AVX512
#include "tests/avx512_emulation.h"
#else
#if !defined(__AVX512F__) || !defined(__AVX512BW__) || !defined(__AVX512DQ__) || !defined(__AVX512VL__) ||             \
    !defined(__FMA__)
#error "AVX-512 needs -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma"
#endif

#include <immintrin.h>

/* Keeps the compiler from loading a vector once for each use. */
#define KEEP_LOADED(vector) __asm__("" : "+v"(vector))
#endif

#endif

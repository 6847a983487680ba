/* SPDX-License-Identifier: Apache-2.0 */
/* Products on tensor cores, of 32-bit numbers whose fraction is cut to 10 bits (tf32). A warp multiplies 16 x 8 by 8 x 8 elements. With lane = 4 g + t, a lane has
 *     of A     a[i] = A(g + 8 (i & 1), t + 4 (i >> 1))
 *     of B     b[i] = B(t + 4 i, g)
 *     of C     c[i] = C(g + 8 (i >> 1), 2 t + (i & 1))
 *
 * A product of float32 takes three: each factor is split into a high and a low part, and low low is left out. The sum that is added to is cut, not
 * rounded, at each step, which is no way to add up many terms: callers start at zero for every 32 and add the results themselves. */
#ifndef ATTN_CUDA_MMA_H
#define ATTN_CUDA_MMA_H

#include "cuda/launch.h"
#include "cuda/storage.h"

enum : unsigned { ATTN_MMA_ROWS = 16, ATTN_MMA_COLUMNS = 8, ATTN_MMA_DEPTH = 8, ATTN_MMA_ARCHITECTURE = 80 };

#if !defined __CUDACC__
/* What stands in for NVIDIA's compiler has them. */
#elif !defined __CUDA_ARCH__ || __CUDA_ARCH__ >= 800
/* c += a b. All lanes of the warp come here. */
static __device__ inline void attn_mma_tf32(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#else
/* Older architectures have none; nothing is launched on them that comes here. */
static __device__ inline void attn_mma_tf32(float (&)[4], const unsigned (&)[4], const unsigned (&)[2]) { __trap(); }
#endif

/* value = high + low: high is the nearest number of 10 bits of fraction, ties away from zero, and of low, which has 12 bits at most, tensor cores leave
 * out the last. By integers: cvt.rna.tf32 becomes more than twice as many instructions, to spare infinities, of which low would be NaN all the same. */
static __device__ inline void attn_split_tf32(float value, unsigned &high, unsigned &low) {
    high = (attn_bits_of(value) + 0x1000u) & 0xffffe000u;
    low = attn_bits_of(value - attn_float_of(high));
}

#endif

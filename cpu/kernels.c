/* The kernels of one instruction set: compiled once for each, with that set's flags, each time under another table's name.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "cpu/kernels.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#define REAL_BITS 32
#define SUFFIX f32
#include "cpu/kernels_real.h"
#undef REAL_BITS
#undef SUFFIX

#define REAL_BITS 64
#define SUFFIX f64
#include "cpu/kernels_real.h"
#undef REAL_BITS
#undef SUFFIX

#if defined(ATTN_ISA_AVX512)
#define TABLE attn_kernels_avx512
#define ISA "avx512"
#elif defined(ATTN_ISA_AVX2)
#define TABLE attn_kernels_avx2
#define ISA "avx2"
#else
#define TABLE attn_kernels_scalar
#define ISA "scalar"
#endif

const attn_kernels TABLE = {ISA, KERNELS(f32), KERNELS(f64)};

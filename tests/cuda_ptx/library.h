/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels as NVIDIA's compiler made them, by the address of the same kernel compiled for the CPU. */
#ifndef ATTN_TESTS_PTX_LIBRARY_H
#define ATTN_TESTS_PTX_LIBRARY_H

#include "tests/cuda_ptx/ptx.h"

namespace ptx {

/* Whether the environment's ATTN_CUDA_PTX names a folder of PTX files to run kernels from. */
bool wanted();

/* Runs the kernel that has the demangled name of the function at the address. False, with a line on stderr, after a fault. */
bool run_instead(const void *function, const launch &how);

} // namespace ptx

#endif

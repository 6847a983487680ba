/* SPDX-License-Identifier: Apache-2.0 */
/* How kernels are written and launched here: one structure of parameters by value, blocks and threads in one dimension, all shared memory
 * dynamic and behind attn_shared. Launches are plain function calls, so that another cuda_runtime.h can stand in for NVIDIA's. */
#ifndef ATTN_CUDA_LAUNCH_H
#define ATTN_CUDA_LAUNCH_H

#include <cstddef>
#include <cuda_runtime.h>

extern __shared__ __align__(16) unsigned char attn_shared[];

enum : unsigned { ATTN_WARP = 32, ATTN_ALL_LANES = 0xffffffffu };

/* Before a loop over what a thread has in its registers: an index that is not known when compiling would put that into memory. */
#ifdef __CUDACC__
#define ATTN_UNROLL _Pragma("unroll")
#else
#define ATTN_UNROLL
#endif

/* What a grid may have in its first dimension. */
static const std::size_t attn_largest_grid = 0x7fffffff;

template <typename Parameters>
inline cudaError_t attn_launch(void (*kernel)(Parameters), std::size_t blocks, unsigned threads, std::size_t shared,
                               cudaStream_t stream, const Parameters &parameters) {
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(static_cast<unsigned>(blocks));
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared;
    config.stream = stream;
    return cudaLaunchKernelEx(&config, kernel, parameters);
}

#endif

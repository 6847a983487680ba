/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels that have a thread, or a warp, for each of many elements: as many blocks as there may be, and loops beyond. */
#ifndef ATTN_CUDA_ELEMENTS_H
#define ATTN_CUDA_ELEMENTS_H

#include "cuda/launch.h"

enum : unsigned { ATTN_ELEMENT_THREADS = 128 };

/* The elements that a thread takes: this one, and every so many further. */
static __device__ inline std::size_t attn_first_element() {
    return static_cast<std::size_t>(blockIdx.x) * ATTN_ELEMENT_THREADS + threadIdx.x;
}
static __device__ inline std::size_t attn_element_stride() {
    return static_cast<std::size_t>(gridDim.x) * ATTN_ELEMENT_THREADS;
}

/* Nothing is launched for nothing. */
template <typename Parameters>
cudaError_t attn_launch_elements(void (*kernel)(Parameters), std::size_t elements, cudaStream_t stream,
                                 const Parameters &given) {
    const std::size_t blocks = (elements + ATTN_ELEMENT_THREADS - 1) / ATTN_ELEMENT_THREADS;
    if (blocks == 0) return cudaSuccess;
    return attn_launch(kernel, blocks < attn_largest_grid ? blocks : attn_largest_grid, ATTN_ELEMENT_THREADS, 0, stream,
                       given);
}

#endif

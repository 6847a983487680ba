/* SPDX-License-Identifier: Apache-2.0 */
/* Copies from global to shared memory that go on while the thread does. A thread's copies since its last commit are a group; the thread waits
 * until no more than so many of its groups are on their way. What has arrived is there for the thread itself, and behind a barrier for the block.
 * Architectures that have none copy at once. */
#ifndef ATTN_CUDA_ASYNC_COPY_H
#define ATTN_CUDA_ASYNC_COPY_H

#include "cuda/launch.h"

#if !defined __CUDACC__
/* What stands in for NVIDIA's compiler has them. */
#elif !defined __CUDA_ARCH__ || __CUDA_ARCH__ >= 800
/* BYTES: 4, 8 or 16, which both addresses are aligned to. Zeros where nothing is there, and nothing is read. */
template <unsigned BYTES> static __device__ inline void attn_copy_async(void *to, const void *from, bool there) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;"
                 :
                 : "r"(static_cast<unsigned>(__cvta_generic_to_shared(to))), "l"(__cvta_generic_to_global(from)),
                   "n"(BYTES), "r"(there ? BYTES : 0u)
                 : "memory");
}

static __device__ inline void attn_commit_copies() { asm volatile("cp.async.commit_group;" : : : "memory"); }

template <unsigned GROUPS> static __device__ inline void attn_await_copies() {
    asm volatile("cp.async.wait_group %0;" : : "n"(GROUPS) : "memory");
}
#else
template <unsigned BYTES> static __device__ inline void attn_copy_async(void *to, const void *from, bool there) {
    ATTN_UNROLL for (unsigned i = 0; i < BYTES / sizeof(unsigned); i++) static_cast<unsigned *>(to)[i] =
        there ? static_cast<const unsigned *>(from)[i] : 0u;
}

static __device__ inline void attn_commit_copies() {}
template <unsigned GROUPS> static __device__ inline void attn_await_copies() {}
#endif

#endif

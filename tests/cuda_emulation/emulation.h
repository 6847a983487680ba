/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA backend without a GPU: its sources compiled for the CPU by a cuda_runtime.h of our own, as a module that the library loads
 * like the real one. Each CUDA thread is a fiber; barriers and shuffles wait for those that take part, at one place of the source,
 * and anything else (a thread that has left, another place) fails the launch and loses the device. Blocks run one after the
 * other in random order, threads in a random order that changes at every wait; shared memory is NaN before each block and ends where the
 * launch said: what is written behind fails the launch, under AddressSanitizer what is read too. Work is done when it is launched, on memory of the host,
 * unless the program has loaded the driver of tests/cuda_driver: then it is that one's streams that do it.
 *
 * Tests reach the machine that the module believes in by attn_emulation(), from the loaded module. */
#ifndef ATTN_TESTS_EMULATION_H
#define ATTN_TESTS_EMULATION_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct attn_emulated {
    int driver;       /* version; 0: none is installed */
    int needed;       /* the version that the module's runtime needs */
    int devices;      /* how many there are */
    int current;      /* the calling thread's device */
    int capability;   /* 10 major + minor */
    int without_code; /* no kernel was compiled for the device */
    int record;       /* a cudaError_t: what cudaGetLastError will answer */
    int lost;         /* a cudaError_t that sticks, or 0 */
    int fail_with;    /* a cudaError_t for the call that fails */
    size_t fail_at;   /* fails the n-th call of the runtime from now on; 0: none */
    size_t launches;
    void *stream; /* of the last launch */
    uint64_t seed;
    int without_cublas, old_cublas; /* there is no such library, or one that is too old */
    size_t handles, products;       /* of cuBLAS: that live, that were computed */
} attn_emulated;

typedef attn_emulated *(*attn_emulation_entry)(void);
attn_emulated *attn_emulation(void);

#ifdef __cplusplus
}
#endif

#endif

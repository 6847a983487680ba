/* Contexts on NVIDIA GPUs: libattention's CUDA module.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 *     attn_cuda_options cuda = ATTN_CUDA_OPTIONS_INIT;
 *     cuda.stream = stream;
 *     attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
 *     options.device = ATTN_DEVICE_CUDA;
 *     options.cuda = &cuda;
 *     attn_context_create(&options, &context);
 *
 * Plans and runs are those of attention.h, with these differences:
 *   Memory      every tensor, starts, lengths and mask included, and the workspace are memory that the device can
 *               read and write: cudaMalloc's, for one. The structures of arguments stay in the host's.
 *   Streams     a run puts its work on the context's stream and returns; it neither waits nor allocates, so it can be captured in a
 *               graph. What goes wrong on the device shows in a later call.
 *   Ranges      starts are clamped to [0, T], lengths to [0, T - start]: no run reads them on the host to refuse them.
 *   Kept        whether a forward pass of the same sizes filled it is not checked either.
 *   Threads     the options threads and parallel_for have no effect. Concurrent runs on one stream follow one another.
 *   fork()      a context that was made before it is refused in the child (ATTN_ERROR_FORKED).
 *   Errors      the module brings a CUDA runtime of its own. An error pending on it is refused, not taken (ATTN_ERROR_PENDING); the
 *               record that the caller's runtime keeps is neither read nor changed.
 *   cuBLAS      implementations with that name load libcublas.so, version 12 or later, from where the system finds it, when a plan first asks
 *               for them; without it they are refused. Products are in float32, never TF32, and without atomics, on a workspace that is part of the
 *               run's. A handle that the caller brings is cuBLAS's as this process has it loaded. Its stream, math mode, pointer mode and
 *               atomics mode are as they were after each run; so is its workspace, if it was on the context's stream already (cublasSetStream
 *               takes it away). It has to serve nobody else while a run is put on the stream.
 *   The calling thread's current device is left as it was.
 *
 * Without the module, a driver or a device, a program that asks for none of them works as ever: nothing here is loaded before a context
 * asks for it.
 */
#ifndef ATTENTION_ATTENTION_CUDA_H
#define ATTENTION_ATTENTION_CUDA_H

#include "attention/attention.h"

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st; /* cudaStream_t and cublasHandle_t point to these; this header needs no other */
struct cublasContext;

/* Options of a context on CUDA, for attn_context_options.cuda. Creating one can answer, beside the statuses of every context,
 * ATTN_ERROR_NO_MODULE, ATTN_ERROR_MODULE_VERSION, ATTN_ERROR_NO_DRIVER, ATTN_ERROR_OLD_DRIVER, ATTN_ERROR_NO_DEVICE,
 * ATTN_ERROR_ARCHITECTURE, ATTN_ERROR_PENDING, ATTN_ERROR_DEVICE_LOST, ATTN_ERROR_INTERNAL. */
typedef struct attn_cuda_options {
    size_t struct_size;
    uint64_t flags; /* none yet; an unknown bit is refused */
    int ordinal;    /* the device, as the CUDA runtime counts them */
    struct CUstream_st
        *stream; /* a cudaStream_t of that device, alive as long as runs are made; NULL: the default stream */
    const char *
        module; /* file of the module; NULL: libattention_cuda.so beside the library, else in the folder that the library was built with */
    struct cublasContext *
        cublas; /* a cublasHandle_t of that device, alive as long as the context and its plans; NULL: one is made when a plan first needs it */
} attn_cuda_options;

#ifdef __cplusplus
#define ATTN_CUDA_OPTIONS_INIT attn_cuda_options_init()
static inline attn_cuda_options attn_cuda_options_init() {
    attn_cuda_options options = attn_cuda_options();
    options.struct_size = sizeof options;
    return options;
}
#else
#define ATTN_CUDA_OPTIONS_INIT                                                                                         \
    { .struct_size = sizeof(attn_cuda_options) }
#endif

#ifdef __cplusplus
}
#endif

#endif

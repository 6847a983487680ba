/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA backend's state behind one context, and how errors of the CUDA runtime become statuses. */
#ifndef ATTN_CUDA_DEVICE_H
#define ATTN_CUDA_DEVICE_H

#include "cuda/cublas.h"
#include "lib/backend.h"

#include <cuda_runtime.h>
#include <sys/types.h>

struct attn_device {
    attn_device_options options;
    pid_t process; /* that opened it: the runtime does not survive a fork */
    char name[256], architecture[16];
    unsigned capability;      /* 10 major + minor */
    mutable attn_cublas blas; /* has a lock of its own */

    cudaStream_t stream() const { return static_cast<cudaStream_t>(options.stream); }
};

attn_status attn_cuda_status(cudaError_t error);

/* The same for an error of a call of our own, which is taken off the runtime's record: a later call is not to find it pending. */
attn_status attn_cuda_take(cudaError_t error);

/* ATTN_OK, or why a run can't begin: another process, or a record of the runtime's that is not clean. */
attn_status attn_cuda_ready(const attn_device *device);

attn_status attn_cuda_open(const attn_device_options *options, attn_device **device, const char **message);
void attn_cuda_close(attn_device *device);

/* Makes a device the thread's current one, and puts back the one that was. */
class attn_current_device {
  public:
    explicit attn_current_device(int ordinal);
    ~attn_current_device();
    attn_current_device(const attn_current_device &) = delete;
    attn_current_device &operator=(const attn_current_device &) = delete;
    cudaError_t error;

  private:
    int previous;
    bool changed;
};

#endif

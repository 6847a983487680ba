/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for NVIDIA's cuda_runtime.h when the CUDA backend is compiled for the CPU: what the backend uses of it and no more. See
 * emulation.h for what it does. Names and numbers are those of the CUDA runtime's documentation. */
#ifndef ATTN_TESTS_CUDA_RUNTIME_H
#define ATTN_TESTS_CUDA_RUNTIME_H

#include <cmath>
#include <cstddef>
#include <cstring>
#include <functional>
#include <memory>

#define __launch_bounds__(...)
#define __global__
#define __device__
#define __host__
#define __shared__
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __grid_constant__

enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInsufficientDriver = 35,
    cudaErrorDevicesUnavailable = 46,
    cudaErrorInvalidDeviceFunction = 98,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101,
    cudaErrorNoKernelImageForDevice = 209,
    cudaErrorECCUncorrectable = 214,
    cudaErrorUnsupportedPtxVersion = 222,
    cudaErrorIllegalAddress = 700,
    cudaErrorLaunchTimeout = 702,
    cudaErrorAssert = 710,
    cudaErrorHardwareStackError = 714,
    cudaErrorIllegalInstruction = 715,
    cudaErrorMisalignedAddress = 716,
    cudaErrorInvalidAddressSpace = 717,
    cudaErrorInvalidPc = 718,
    cudaErrorLaunchFailure = 719
};

enum cudaDeviceAttr { cudaDevAttrComputeCapabilityMajor = 75, cudaDevAttrComputeCapabilityMinor = 76 };

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

struct __attribute__((aligned(16))) float4 {
    float x, y, z, w;
};

typedef struct CUstream_st *cudaStream_t;

struct cudaDeviceProp {
    char name[256];
};

struct cudaFuncAttributes {
    int numRegs;
};

struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    std::size_t dynamicSmemBytes;
    cudaStream_t stream;
};

cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaGetDevice(int *device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device);
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, const void *function);

cudaError_t cudaMemsetAsync(void *memory, int value, std::size_t size, cudaStream_t stream);

/* What no run may call: here so that a planted call is found by what it does to a capture. */
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaMalloc(void **memory, std::size_t size);
cudaError_t cudaFree(void *memory);

/* ---- Streams (streams.cpp) ---------------------------------------------------------------------- */

/* Work on a stream: what fails when it is done loses the device. */
cudaError_t attn_emulate_put(cudaStream_t stream, const std::function<cudaError_t()> &work);
/* Before what can't be done while the thread captures a stream. */
cudaError_t attn_emulate_allow();

/* ---- cuBLAS (cublas.cpp) ------------------------------------------------------------------------ */

/* The file to load it from; tiles small enough for small cases to have several of them, and a workspace that is quickly allocated. */
const char *attn_emulated_cublas();
#define ATTN_CUBLAS_LIBRARY attn_emulated_cublas()
#define ATTN_CUDA_SDPA_SCORES 4000
#define ATTN_CUDA_SDPA_KEYS 100
#define ATTN_CUDA_SDPA_QUERIES 24
#define ATTN_CUDA_LONG_ROW 64
#define ATTN_CUDA_CUBLAS_WORKSPACE 65600

/* A call of another library's: what it fails with. */
cudaError_t attn_emulate_library_call();
std::size_t attn_emulate_draw(std::size_t below);

/* ---- Kernels: launches, and what they see ------------------------------------------------------- */

extern dim3 threadIdx, blockIdx, blockDim, gridDim;

/* A kernel with its parameters: its address and bytes for the interpreter of PTX, the call of it for the CPU. */
struct attn_emulated_kernel {
    const void *function;
    std::shared_ptr<const void> parameters;
    std::size_t parameter_bytes;
    std::function<void()> call;
};

cudaError_t attn_emulate(const cudaLaunchConfig_t *config, const attn_emulated_kernel &kernel);
void attn_emulate_barrier(int line);
float attn_emulate_exchange(int line, unsigned mask, float value, unsigned lane);

/* Tensor cores, as cuda/mma.h has them. */
void attn_mma_tf32(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]);

/* Asynchronous copies, as cuda/async_copy.h has them. */
void attn_emulate_copy(void *to, const void *from, unsigned bytes, bool there);
void attn_commit_copies();
void attn_emulate_await(unsigned groups);
template <unsigned BYTES> static inline void attn_copy_async(void *to, const void *from, bool there) {
    attn_emulate_copy(to, from, BYTES, there);
}
template <unsigned GROUPS> static inline void attn_await_copies() { attn_emulate_await(GROUPS); }

template <typename Parameters>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(Parameters), const Parameters &given) {
    const std::shared_ptr<const Parameters> parameters = std::make_shared<const Parameters>(given);
    return attn_emulate(
        config, {reinterpret_cast<const void *>(kernel), parameters, sizeof given, [=] { kernel(*parameters); }});
}

#define __syncthreads() attn_emulate_barrier(__LINE__)
#define __shfl_xor_sync(mask, value, distance)                                                                         \
    attn_emulate_exchange(__LINE__, mask, value, threadIdx.x % 32 ^ static_cast<unsigned>(distance))
#define __shfl_sync(mask, value, lane) attn_emulate_exchange(__LINE__, mask, value, lane)

#endif

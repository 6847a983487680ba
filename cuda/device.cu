/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda/device.h"

#include "cuda/attend.h"

#include <cstdio>
#include <cstring>
#include <unistd.h>

attn_status attn_cuda_status(cudaError_t error) {
    static const struct {
        cudaError_t error;
        attn_status status;
    } table[] = {
        {cudaSuccess, ATTN_OK},
        {cudaErrorMemoryAllocation, ATTN_ERROR_OUT_OF_MEMORY},
        {cudaErrorInsufficientDriver, ATTN_ERROR_OLD_DRIVER},
        {cudaErrorNoDevice, ATTN_ERROR_NO_DEVICE},
        {cudaErrorInvalidDevice, ATTN_ERROR_NO_DEVICE},
        {cudaErrorDevicesUnavailable, ATTN_ERROR_NO_DEVICE},
        {cudaErrorNoKernelImageForDevice, ATTN_ERROR_ARCHITECTURE},
        {cudaErrorInvalidDeviceFunction, ATTN_ERROR_ARCHITECTURE},
        {cudaErrorUnsupportedPtxVersion, ATTN_ERROR_ARCHITECTURE},
        {cudaErrorECCUncorrectable, ATTN_ERROR_DEVICE_LOST},
        {cudaErrorIllegalAddress, ATTN_ERROR_DEVICE_LOST},
        {cudaErrorLaunchTimeout, ATTN_ERROR_DEVICE_LOST},
        {cudaErrorAssert, ATTN_ERROR_DEVICE_LOST},
        {cudaErrorHardwareStackError, ATTN_ERROR_DEVICE_LOST},
        {cudaErrorIllegalInstruction, ATTN_ERROR_DEVICE_LOST},
        {cudaErrorMisalignedAddress, ATTN_ERROR_DEVICE_LOST},
        {cudaErrorInvalidAddressSpace, ATTN_ERROR_DEVICE_LOST},
        {cudaErrorInvalidPc, ATTN_ERROR_DEVICE_LOST},
        {cudaErrorLaunchFailure, ATTN_ERROR_DEVICE_LOST},
    };
    for (const auto &row : table)
        if (row.error == error) return row.status;
    return ATTN_ERROR_INTERNAL;
}

attn_status attn_cuda_take(cudaError_t error) {
    if (error != cudaSuccess) cudaGetLastError();
    return attn_cuda_status(error);
}

static attn_status status_of_pending(cudaError_t error) {
    if (error == cudaSuccess) return ATTN_OK;
    return attn_cuda_status(error) == ATTN_ERROR_DEVICE_LOST ? ATTN_ERROR_DEVICE_LOST : ATTN_ERROR_PENDING;
}

attn_status attn_cuda_ready(const attn_device *device) {
    return device->process != getpid() ? ATTN_ERROR_FORKED : status_of_pending(cudaPeekAtLastError());
}

attn_current_device::attn_current_device(int ordinal) : error(cudaGetDevice(&previous)), changed(false) {
    if (error != cudaSuccess || previous == ordinal) return;
    error = cudaSetDevice(ordinal);
    changed = error == cudaSuccess;
}

attn_current_device::~attn_current_device() {
    if (changed && cudaSetDevice(previous) != cudaSuccess) cudaGetLastError();
}

namespace {

attn_status explain(attn_status status, const char **message) {
    switch (status) {
    case ATTN_ERROR_NO_DRIVER:
        *message = "no CUDA driver is installed";
        break;
    case ATTN_ERROR_OLD_DRIVER:
        *message = "the CUDA driver is older than the module's runtime needs";
        break;
    case ATTN_ERROR_NO_DEVICE:
        *message = "is not among the devices that this process sees, or is taken";
        break;
    case ATTN_ERROR_ARCHITECTURE:
        *message = "the module has no code for its architecture";
        break;
    case ATTN_ERROR_PENDING:
        *message = "the caller left an error pending on the CUDA runtime (cudaGetLastError takes it)";
        break;
    case ATTN_ERROR_DEVICE_LOST:
        *message = "failed; this process can't use it any more";
        break;
    case ATTN_ERROR_OUT_OF_MEMORY:
        *message = "no memory";
        break;
    default:
        *message = "the CUDA runtime failed";
        break;
    }
    return status;
}

/* Before anything else is asked of the runtime. Where the driver or the devices keep it from starting, it names that as the error pending, too. */
attn_status check_driver() {
    int version = 0, devices = 0;
    const cudaError_t found = cudaPeekAtLastError();
    const bool may_be_start = found == cudaErrorInsufficientDriver || found == cudaErrorNoDevice;
    attn_status status = may_be_start ? ATTN_OK : status_of_pending(found);
    if (!status) status = attn_cuda_take(cudaDriverGetVersion(&version));
    if (status) return status;
    if (version == 0) return ATTN_ERROR_NO_DRIVER;
    status = attn_cuda_take(cudaGetDeviceCount(&devices));
    if (status) return status;
    return devices == 0 ? ATTN_ERROR_NO_DEVICE : status_of_pending(found);
}

attn_status describe(attn_device *device) {
    const int ordinal = device->options.ordinal;
    int major = 0, minor = 0;
    cudaDeviceProp properties;
    attn_current_device current(ordinal);
    cudaError_t error = current.error;
    if (!error) error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, ordinal);
    if (!error) error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, ordinal);
    if (!error) error = cudaGetDeviceProperties(&properties, ordinal);
    if (!error) error = attn_attend_probe();
    if (error) return attn_cuda_take(error);
    device->capability = static_cast<unsigned>(10 * major + minor);
    std::snprintf(device->architecture, sizeof device->architecture, "sm%d%d", major, minor);
    std::snprintf(device->name, sizeof device->name, "%.255s", properties.name);
    return ATTN_OK;
}

} // namespace

attn_status attn_cuda_open(const attn_device_options *options, attn_device **opened, const char **message) {
    attn_status status = check_driver();
    if (status) return explain(status, message);
    void *const memory = options->allocate(options->memory_user, sizeof(attn_device));
    if (!memory) return explain(ATTN_ERROR_OUT_OF_MEMORY, message);
    attn_device *const device = static_cast<attn_device *>(memory);
    std::memset(memory, 0, sizeof *device);
    device->options = *options;
    device->process = getpid();
    status = describe(device);
    if (status) {
        options->release(options->memory_user, memory);
        return explain(status, message);
    }
    attn_cublas_open(&device->blas, static_cast<cublasContext *>(options->cublas));
    *opened = device;
    return ATTN_OK;
}

void attn_cuda_close(attn_device *device) {
    const attn_device_options options = device->options;
    attn_cublas_close(&device->blas, device->process == getpid());
    options.release(options.memory_user, device);
}

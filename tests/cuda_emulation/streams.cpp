/* SPDX-License-Identifier: Apache-2.0 */
/* The emulated runtime's work on streams: the stand-in driver's where the program has loaded it, else done at once. */
#include "tests/cuda_driver/streams.h"

#include "tests/cuda_emulation/cuda_runtime.h"
#include "tests/cuda_emulation/emulation.h"

#include <cstdlib>
#include <dlfcn.h>

namespace {

/* A function of the stand-in driver; NULL where there is none. */
template <typename Function> Function in_driver(const char *name) {
    void *const library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    if (!library) return nullptr;
    void *const found = dlsym(library, ATTN_DRIVER_PUT) ? dlsym(library, name) : nullptr;
    dlclose(library);
    return reinterpret_cast<Function>(found);
}

typedef std::function<cudaError_t()> work_function;

int run(void *argument) { return (*static_cast<work_function *>(argument))(); }

void forget(void *argument) { delete static_cast<work_function *>(argument); }

} // namespace

cudaError_t attn_emulate_put(cudaStream_t stream, const work_function &work) {
    const attn_driver_put_entry put = in_driver<attn_driver_put_entry>(ATTN_DRIVER_PUT);
    if (!put) return work();
    const attn_work given = {run, forget, new work_function(work)};
    return static_cast<cudaError_t>(put(stream, &given));
}

cudaError_t attn_emulate_allow() {
    const attn_driver_allow_entry allow = in_driver<attn_driver_allow_entry>(ATTN_DRIVER_ALLOW);
    return allow ? static_cast<cudaError_t>(allow()) : cudaSuccess;
}

/* ---- What no run may call -------------------------------------------------------------------------- */

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    const attn_driver_wait_entry wait = in_driver<attn_driver_wait_entry>(ATTN_DRIVER_WAIT);
    return wait ? static_cast<cudaError_t>(wait(stream)) : cudaSuccess;
}

cudaError_t cudaMalloc(void **memory, std::size_t size) {
    const cudaError_t error = attn_emulate_allow();
    *memory = error ? nullptr : std::malloc(size);
    return error;
}

cudaError_t cudaFree(void *memory) {
    const cudaError_t error = attn_emulate_allow();
    if (!error) std::free(memory);
    return error;
}

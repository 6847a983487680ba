/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA backend, a module of its own: what it exports, and its list of implementations. */
#include "cuda/backward.h"
#include "cuda/composition.h"
#include "cuda/device.h"
#include "cuda/forward.h"
#include "cuda/kept.h"
#include "cuda/matmul.h"
#include "cuda/sdpa.h"
#include "cuda/softmax.h"

#define TEXT_OF(value) #value
#define TEXT(macro) TEXT_OF(macro)

namespace {

int device_threads(const attn_device *) { return 1; }

const char *device_architecture(const attn_device *device) { return device->architecture; }

const char *device_name(const attn_device *device) { return device->name; }

const char *device_blas(const attn_device *device) { return attn_cublas_text(device); }

const attn_implementation *implementation(size_t index) {
    const struct {
        const attn_implementation *list;
        size_t count;
    } lists[] = {
        {attn_cuda_forward_implementations, attn_cuda_forward_implementations_count},
        {attn_cuda_backward_implementations, attn_cuda_backward_implementations_count},
        {attn_cuda_composition_forward_implementations, attn_cuda_composition_forward_implementations_count},
        {attn_cuda_composition_backward_implementations, attn_cuda_composition_backward_implementations_count},
        {attn_cuda_matmul_implementations, attn_cuda_matmul_implementations_count},
        {attn_cuda_sdpa_implementations, attn_cuda_sdpa_implementations_count},
        {attn_cuda_softmax_implementations, attn_cuda_softmax_implementations_count},
    };
    for (const auto &part : lists) {
        if (index < part.count) return &part.list[index];
        index -= part.count;
    }
    return nullptr;
}

size_t kept_size(const attn_layer_problem *problem) {
    attn_cuda_kept unused;
    return attn_cuda_kept_carve(problem, nullptr, &unused);
}

const attn_backend backend = {"cuda",
                              true,
                              attn_cuda_clear_gradients,
                              attn_cuda_open,
                              attn_cuda_close,
                              device_threads,
                              device_architecture,
                              device_name,
                              device_blas,
                              nullptr,
                              nullptr,
                              implementation,
                              kept_size};

const attn_module module = {TEXT(ATTN_VERSION_MAJOR) "." TEXT(ATTN_VERSION_MINOR) "." TEXT(ATTN_VERSION_PATCH),
                            ATTN_BACKEND_INTERFACE, &backend};

} // namespace

extern "C" ATTN_API const attn_module *attn_cuda_module(void) { return &module; }

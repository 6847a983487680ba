/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU backend: opens and closes its device and lists its implementations. */
#include "cpu/blocks.h"
#include "cpu/composition.h"
#include "cpu/device.h"
#include "cpu/float_environment.h"
#include "cpu/fused.h"
#include "cpu/fused_backward.h"
#include "cpu/kept.h"
#include "cpu/sdpa.h"

static attn_status choose_isa(attn_device *device, const char **message) {
    device->isa = device->features.best;
    if (!device->options.isa) return ATTN_OK;
    if (!attn_cpu_isa_from_name(device->options.isa, &device->isa)) {
        *message = "want scalar, avx2 or avx512";
        return ATTN_ERROR_UNSUPPORTED;
    }
    device->options.isa = attn_cpu_isa_name(device->isa);
    const char *refusal = attn_cpu_refuse_isa(device, device->isa);
    if (refusal) *message = refusal;
    return refusal ? ATTN_ERROR_UNSUPPORTED : ATTN_OK;
}

static attn_status open_device(const attn_device_options *options, attn_device **opened, const char **message) {
    attn_device *device = options->allocate(options->memory_user, sizeof *device);
    *message = "context: no memory for the CPU device and its threads";
    if (!device) return ATTN_ERROR_OUT_OF_MEMORY;
    *device = (attn_device){.options = *options};
    device->openblas = &device->openblas_slot;
    if (options->no_blas) attn_openblas_switch_off(device->openblas, options->no_blas);
    attn_cpu_detect(&device->features);
    attn_status status = choose_isa(device, message);
    if (!status && !(device->threads = attn_threads_create(options))) status = ATTN_ERROR_OUT_OF_MEMORY;
    if (status) {
        options->release(options->memory_user, device);
        return status;
    }
    *opened = device;
    return ATTN_OK;
}

static void close_device(attn_device *device) {
    const attn_device_options options = device->options;
    attn_threads_destroy(device->threads);
    options.release(options.memory_user, device);
}

static int device_threads(const attn_device *device) { return attn_threads_count(device->threads); }

static const char *device_isa(const attn_device *device) { return attn_cpu_isa_name(device->isa); }

static const char *device_features(const attn_device *device) { return device->features.text; }

static const char *device_blas(const attn_device *device) { return attn_cpu_openblas(device)->text; }

/* In order of preference: what the parts of the backend offer, one part after the other. */
static const struct {
    const attn_implementation *list;
    const size_t *count;
} parts[] = {
    {attn_fused_implementations, &attn_fused_implementations_count},
    {attn_fused_backward_implementations, &attn_fused_backward_implementations_count},
    {attn_composition_implementations, &attn_composition_implementations_count},
    {attn_sdpa_openblas_implementations, &attn_sdpa_openblas_implementations_count},
    {attn_sdpa_own_implementations, &attn_sdpa_own_implementations_count},
    {attn_matmul_openblas_implementations, &attn_matmul_openblas_implementations_count},
    {attn_blocks_implementations, &attn_blocks_implementations_count},
    {NULL, NULL},
};

static const attn_implementation *implementation(size_t index) {
    for (size_t part = 0; parts[part].list; part++) {
        if (index < *parts[part].count) return &parts[part].list[index];
        index -= *parts[part].count;
    }
    return NULL;
}

const attn_backend *attn_cpu_backend(void) {
    static const attn_backend backend = {.name = "cpu",
                                         .open = open_device,
                                         .close = close_device,
                                         .threads = device_threads,
                                         .isa = device_isa,
                                         .features = device_features,
                                         .blas = device_blas,
                                         .enter = attn_float_enter,
                                         .leave = attn_float_leave,
                                         .implementation = implementation,
                                         .kept_size = attn_kept_size};
    return &backend;
}

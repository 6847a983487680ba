/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU backend's state behind one context: what its implementations may ask of it. */
#ifndef ATTN_CPU_DEVICE_H
#define ATTN_CPU_DEVICE_H

#include "cpu/features.h"
#include "cpu/openblas.h"
#include "cpu/threads.h"
#include "lib/backend.h"

struct attn_device {
    attn_device_options options;
    attn_cpu_features features;
    attn_cpu_isa isa; /* the highest to use; at most features.best */
    attn_threads *threads;
    attn_openblas_slot openblas_slot;
    attn_openblas_slot *openblas; /* &openblas_slot, which is filled through a const device too */
};

static inline const attn_openblas *attn_cpu_openblas(const attn_device *device) {
    return attn_openblas_of(device->openblas);
}

/* NULL, or why code of this set is not to run on the device: a hard reason. */
static inline const char *attn_cpu_refuse_isa(const attn_device *device, attn_cpu_isa isa) {
    static const char *const lacking[ATTN_CPU_ISAS] = {
        NULL, "needs avx2 and fma, which this CPU or its system lacks",
        "needs avx512f, dq, bw and vl, which this CPU or its system lacks"};
    static const char *const restricted[ATTN_CPU_ISAS] = {"needs avx2, the context is restricted to scalar",
                                                          "needs avx512, the context is restricted to avx2",
                                                          "needs avx512"};
    if (isa > device->features.best) return lacking[isa];
    return isa > device->isa ? restricted[device->isa] : NULL;
}

#endif

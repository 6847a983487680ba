/* SPDX-License-Identifier: Apache-2.0 */
/* What suites of the emulated CUDA module share: contexts on it, and the machine behind it. */
#ifndef ATTN_TESTS_SUITE_EMULATED_H
#define ATTN_TESTS_SUITE_EMULATED_H

#include "tests/suite.h"

#include "attention/attention_cuda.h"
#include "tests/cuda_emulation/emulation.h"

#include <dlfcn.h>

static inline attn_status create(const attn_cuda_options *cuda, attn_context **context) {
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.device = ATTN_DEVICE_CUDA;
    options.cuda = cuda;
    return attn_context_create(&options, context);
}

/* The emulated module: the build's, or one to try in its place, which either name may tell. */
static inline const char *emulated_module(void) {
    const char *other = getenv("ATTN_TEST_EMULATED");
    if (!other) other = getenv("ATTN_TEST_ON");
    return other ? other : CUDA_MODULE;
}

static inline attn_cuda_options emulated_options(void) {
    attn_cuda_options cuda = ATTN_CUDA_OPTIONS_INIT;
    cuda.module = emulated_module();
    return cuda;
}

/* A function of the module, and the machine that it believes in. */
static inline void emulated_function(const char *name, void *function) {
    void *library = dlopen(emulated_module(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    cr_assert(library, "%s", dlerror());
    void *symbol = dlsym(library, name);
    cr_assert(symbol, "no %s", name);
    memcpy(function, &symbol, sizeof symbol);
    dlclose(library);
}

static inline attn_emulated *machine(void) {
    attn_emulation_entry entry;
    emulated_function("attn_emulation", &entry);
    return entry();
}

#endif

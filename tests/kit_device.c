/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/kit_device.h"

#include "tests/driver.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static const driver *device; /* NULL: buffers are the host's alone */
static const char *used;

static bool is_emulated(const char *module) {
    void *library = module ? dlopen(module, RTLD_NOW | RTLD_LOCAL) : NULL;
    const bool found = library && dlsym(library, "attn_emulation");
    if (library) dlclose(library);
    return found;
}

/* A driver that the program has loaded is there to be used. */
static bool has_driver(void) {
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    if (library) dlclose(library);
    return library;
}

void kit_device_use(const char *module) {
    used = module;
    if (is_emulated(module) && !has_driver()) return;
    const char *why;
    device = driver_open(&why);
    if (device) return;
    fprintf(stderr, "test kit: %s\n", why);
    exit(1);
}

const char *kit_device_module(void) {
    static bool looked;
    const char *module = looked ? NULL : getenv("ATTN_TEST_ON");
    looked = true;
    if (module && !used) kit_device_use(module);
    return used;
}

void kit_device_add(void *pages, size_t bytes) {
    kit_device_module();
    if (device && bytes > 0)
        DRIVER_MUST(device->host_register(pages, bytes, DRIVER_HOST_PORTABLE | DRIVER_HOST_DEVICE_MAP));
}

void kit_device_remove(void *pages, size_t bytes) {
    if (!device || bytes == 0) return;
    kit_device_wait();
    DRIVER_MUST(device->host_unregister(pages));
}

void kit_device_wait(void) {
    if (device) DRIVER_MUST(device->synchronize());
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/driver.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool load(driver *d, const char **why) {
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    *why = "libcuda.so.1 can't be loaded";
    if (!library) return false;
    void *found;
#define X(field, name, parameters)                                                                                     \
    *why = name " is not in libcuda.so.1";                                                                             \
    if (!(found = dlsym(library, name))) return false;                                                                 \
    memcpy(&d->field, &found, sizeof found);
    DRIVER_FUNCTIONS(X)
#undef X
    return true;
}

const driver *driver_open(const char **why) {
    static driver loaded;
    static bool is_open;
    if (is_open) return &loaded;
    if (!load(&loaded, why)) return NULL;
    int device;
    void *context;
    *why = "there is no device";
    if (loaded.init(0) || loaded.device_get(&device, 0) || loaded.context_retain(&context, device) ||
        loaded.context_set(context))
        return NULL;
    is_open = true;
    return &loaded;
}

void driver_must(int error, const char *what) {
    if (!error) return;
    fprintf(stderr, "the driver answers %d: %s\n", error, what);
    exit(1);
}

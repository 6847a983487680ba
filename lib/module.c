/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/module.h"

#include "lib/process.h"
#include "lib/status.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char module_name[] = "libattention_cuda.so";
static const char entry_name[] = "attn_cuda_module";

typedef char module_path[PATH_MAX];

/* The module in the folder, if there is such a file. */
static bool in_folder(module_path path, size_t length, const char *folder) {
    const int written = snprintf(path, sizeof(module_path), "%.*s/%s", (int)length, folder, module_name);
    return written > 0 && (size_t)written < sizeof(module_path) && access(path, F_OK) == 0;
}

/* Beside the library: in the folder of the file that this function is in. */
static bool beside_library(module_path path) {
    Dl_info info;
    bool (*const here)(module_path) = beside_library;
    const void *address;
    memcpy(&address, &here, sizeof address); /* ISO C has no conversion from a function pointer */
    if (!dladdr(address, &info) || !info.dli_fname) return false;
    const char *slash = strrchr(info.dli_fname, '/');
    return slash && slash - info.dli_fname < PATH_MAX &&
           in_folder(path, (size_t)(slash - info.dli_fname), info.dli_fname);
}

static attn_status find_module(const char *file, module_path path) {
    if (file && *file) {
        if (strlen(file) >= sizeof(module_path))
            return attn_fail(ATTN_ERROR_NO_MODULE, "options.cuda.module: is longer than a path, \"%.64s...\"", file);
        strcpy(path, file);
        return ATTN_OK;
    }
    if (beside_library(path)) return ATTN_OK;
    if (*ATTN_MODULE_DIR && in_folder(path, strlen(ATTN_MODULE_DIR), ATTN_MODULE_DIR)) return ATTN_OK;
    return attn_fail(ATTN_ERROR_NO_MODULE, "options.cuda: %s is not beside the library%s%s", module_name,
                     *ATTN_MODULE_DIR ? ", nor in " : "", ATTN_MODULE_DIR);
}

static attn_status adopt(void *library, const char *path, const attn_backend **backend) {
    attn_module_entry entry;
    void *symbol = dlsym(library, entry_name);
    if (!symbol)
        return attn_fail(ATTN_ERROR_MODULE_VERSION,
                         "options.cuda: %.256s has no %s, want the module of libattention %s", path, entry_name,
                         attn_version());
    memcpy(&entry, &symbol, sizeof entry);
    const attn_module *module = entry();
    if (strcmp(module->version, attn_version()) != 0)
        return attn_fail(ATTN_ERROR_MODULE_VERSION, "options.cuda: %.256s is of libattention %.32s, want %s", path,
                         module->version, attn_version());
    if (module->interface != ATTN_BACKEND_INTERFACE)
        return attn_fail(ATTN_ERROR_MODULE_VERSION,
                         "options.cuda: %.256s is of another build of libattention %s (interface %llx, want %llx)",
                         path, attn_version(), (unsigned long long)module->interface,
                         (unsigned long long)ATTN_BACKEND_INTERFACE);
    *backend = module->backend;
    return ATTN_OK;
}

attn_status attn_load_cuda(const char *file, const attn_backend **backend) {
    module_path path;
    const attn_status status = find_module(file, path);
    if (status) return status;
    if (attn_process_is_static())
        return attn_fail(ATTN_ERROR_NO_MODULE, "options.cuda: %.256s can't be loaded into a static program", path);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (library) return adopt(library, path, backend);
    const char *why = dlerror();
    return attn_fail(ATTN_ERROR_NO_MODULE, "options.cuda: %.256s can't be loaded: %s", path, why ? why : "no memory");
}

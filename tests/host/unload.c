/* SPDX-License-Identifier: Apache-2.0 */
/* A host that closes the library (its first argument) while a context and its threads are alive, and goes on. */
#include "attention/attention.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static int find(void *library, const char *name, void *function) {
    void *symbol = dlsym(library, name);
    memcpy(function, &symbol, sizeof symbol);
    return symbol != NULL;
}

int main(int count, char **arguments) {
    attn_status (*create)(const attn_context_options *options, attn_context **context);
    void (*destroy)(attn_context * context);
    const attn_context_options options = {.struct_size = sizeof options, .threads = 4};
    attn_context *context;
    void *library = count == 2 ? dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    if (!library) return puts("no library"), 1;
    if (!find(library, "attn_context_create", &create) || !find(library, "attn_context_destroy", &destroy))
        return puts("not the library"), 1;
    if (create(&options, &context)) return puts("no context"), 1;
    dlclose(library);
    destroy(context); /* wakes its threads, which go on in their own code */
    return 0;
}

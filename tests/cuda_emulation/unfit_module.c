/* SPDX-License-Identifier: Apache-2.0 */
/* A module that the library must not adopt; UNFIT_... says what is wrong with it. */
#include "lib/backend.h"

#ifdef UNFIT_NO_ENTRY
ATTN_API int attn_unrelated(void);
int attn_unrelated(void) { return 0; }
#else
ATTN_API const attn_module *attn_cuda_module(void);

const attn_module *attn_cuda_module(void) {
    static const attn_module module = {
#ifdef UNFIT_VERSION
        .version = "0.0.1",
        .interface = ATTN_BACKEND_INTERFACE,
#else
        .version = "0.1.0",
        .interface = ATTN_BACKEND_INTERFACE + 1,
#endif
    };
    return &module;
}
#endif

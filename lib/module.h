/* SPDX-License-Identifier: Apache-2.0 */
/* Backends that are modules of their own, loaded when a context asks for one. */
#ifndef ATTN_LIB_MODULE_H
#define ATTN_LIB_MODULE_H

#include "lib/backend.h"

/* Loads the CUDA module from the file, or with NULL (or "") from where it is installed. ATTN_ERROR_NO_MODULE, ATTN_ERROR_MODULE_VERSION. A
 * module stays loaded until the process ends: the runtime that it brings does not survive less. */
attn_status attn_load_cuda(const char *file, const attn_backend **backend);

#endif

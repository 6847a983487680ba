/* SPDX-License-Identifier: Apache-2.0 */
/* Failing with a message: every entry point that fails leaves through here. */
#ifndef ATTN_LIB_STATUS_H
#define ATTN_LIB_STATUS_H

#include "attention/attention.h"

/* Keeps the formatted message for the calling thread and returns the status.
 * The form is "argument: is FOUND, want WANTED", so that a caller can act on it without reading the header again. */
attn_status attn_fail(attn_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif

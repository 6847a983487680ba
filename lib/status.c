/* SPDX-License-Identifier: Apache-2.0 */
/* Version, status texts and the message of the calling thread. */
#include "lib/status.h"

#include <stdarg.h>
#include <stdio.h>

#define TEXT_OF(value) #value
#define TEXT(macro) TEXT_OF(macro)

static _Thread_local char last_message[1024];

static const char *const status_texts[] = {
    [ATTN_OK] = "success",
    [ATTN_ERROR_INVALID_ARGUMENT] = "invalid argument",
    [ATTN_ERROR_SHAPE] = "negative or mismatched size",
    [ATTN_ERROR_OVERFLOW] = "a product of sizes or strides does not fit",
    [ATTN_ERROR_ALIGNMENT] = "misaligned pointer",
    [ATTN_ERROR_OVERLAP] = "an output overlaps other memory of the call",
    [ATTN_ERROR_WORKSPACE] = "workspace too small",
    [ATTN_ERROR_RANGE] = "lengths or sizes out of range",
    [ATTN_ERROR_UNSUPPORTED] = "unsupported",
    [ATTN_ERROR_OUT_OF_MEMORY] = "out of memory",
    [ATTN_ERROR_IO] = "reading or writing a file failed",
    [ATTN_ERROR_FORMAT] = "malformed file",
    [ATTN_ERROR_MISMATCH] = "the file does not hold what was expected",
    [ATTN_ERROR_NOT_FOUND] = "not found",
    [ATTN_ERROR_FORKED] = "not usable in a forked child",
    [ATTN_ERROR_INTERNAL] = "an underlying library failed",
    [ATTN_ERROR_NO_MODULE] = "the device's module can't be loaded",
    [ATTN_ERROR_MODULE_VERSION] = "the device's module is of another version",
    [ATTN_ERROR_NO_DRIVER] = "no driver for the device",
    [ATTN_ERROR_OLD_DRIVER] = "the device's driver is too old",
    [ATTN_ERROR_NO_DEVICE] = "no such device",
    [ATTN_ERROR_ARCHITECTURE] = "no code for the device's architecture",
    [ATTN_ERROR_PENDING] = "an error was left pending on the device",
    [ATTN_ERROR_DEVICE_LOST] = "the device failed",
};

const char *attn_version(void) {
    return TEXT(ATTN_VERSION_MAJOR) "." TEXT(ATTN_VERSION_MINOR) "." TEXT(ATTN_VERSION_PATCH);
}

const char *attn_status_string(attn_status status) {
    const size_t index = (size_t)status;
    return index < sizeof status_texts / sizeof *status_texts ? status_texts[index] : "unknown status";
}

const char *attn_last_error_message(void) { return last_message; }

attn_status attn_fail(attn_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(last_message, sizeof last_message, format, arguments);
    va_end(arguments);
    return status;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What the checks of all operations share: settings, counts, and a context forced to each implementation. */
#ifndef ATTN_TOOLS_CHECK_H
#define ATTN_TOOLS_CHECK_H

#include "attention/weights.h"

#include <stdbool.h>

enum { CHECK_IMPLEMENTATIONS = 64 };

typedef struct check_settings {
    const char *path, *implementation, *isa, *module;
    attn_device_kind device;
    int threads;
    bool verbose;
} check_settings;

/* An implementation's own context, made when first needed: loading a BLAS takes time. */
typedef struct check_forced {
    const char *name;
    attn_context *context;
    char refusal[256]; /* why the last case that it refused was */
    size_t refused;
} check_forced;

typedef struct checker {
    const check_settings *settings;
    attn_context *context; /* unforced, to list implementations */
    check_forced forced[CHECK_IMPLEMENTATIONS];
    size_t forced_count, passed, failed, absent;
    char last_absent[128];
} checker;

/* Counts and prints a failure. */
void check_fail(checker *check, const char *name, const char *reason);

/* Counts what an implementation made of a case: error over gate, and where. */
void check_judge(checker *check, const char *name, const char *implementation, double error, const char *where);

/* Whether the settings ask for an implementation. */
bool check_wanted(const check_settings *settings, const char *implementation);

/* The context of an implementation; NULL after a failure has been counted. */
check_forced *check_force(checker *check, const char *name, const char *implementation);

/* Notes that an implementation refused a case, with the calling thread's message. */
void check_refused(check_forced *forced);

/* Notes that the device has no implementation at all for a pass in a type. */
void check_absent(checker *check, const char *name, const char *pass, attn_dtype dtype);

/* All cases of a file (sdpa_check.c). */
void check_sdpa_file(checker *check, const attn_weights_file *file);

#endif

/* A file that takes the place of another, whole or not at all, and leaves nothing behind.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef ATTN_LIB_REPLACE_H
#define ATTN_LIB_REPLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* A file on its way to a path. It has no name where the file system can hold such files; else a hidden one with a random
 * part. */
typedef struct attn_replacement {
    const char *path; /* the caller's */
    char *name;       /* that it has until it is in place; NULL: none */
    int descriptor;   /* -1: closed */
    bool replaces;    /* there is a file whose mode and owner it gets */
    mode_t mode;
    uid_t owner;
    gid_t group;
    const char *failed; /* after a false: what failed, */
    int cause;          /* and an errno, 0 where failed says all */
} attn_replacement;

/* Opens one for a path. What stands there must be a regular file that may be written, a link or nothing. */
bool attn_replacement_open(attn_replacement *file, const char *path);

/* Appends; a limit on file sizes is EFBIG alone, without SIGXFSZ. */
bool attn_replacement_write(attn_replacement *file, const void *data, size_t size);

/* Syncs it, gives it the mode and the owner of the file that it replaces, and the name. Closed whatever happens. */
bool attn_replacement_commit(attn_replacement *file);

/* Drops it; does nothing to one that is closed. */
void attn_replacement_abandon(attn_replacement *file);

#endif

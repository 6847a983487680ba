/* SPDX-License-Identifier: Apache-2.0 */
/* A .keras file: a zip archive with three members, and perhaps a folder of assets. */
#ifndef ATTN_CONVERT_ARCHIVE_FILE_H
#define ATTN_CONVERT_ARCHIVE_FILE_H

#include <stddef.h>

typedef struct archive_file {
    const char *config, *metadata; /* text; metadata may be NULL */
    const void *weights;           /* an HDF5 file; stays in memory until archive_close */
    size_t weights_size;
} archive_file;

/* Checks every member and reads the three. data stays in use until archive_close. */
void archive_open(const void *data, size_t size, archive_file *out);

enum {
    ARCHIVE_END = 22,                     /* bytes of the record that ends an archive */
    ARCHIVE_TAIL = ARCHIVE_END + 0xffff, /* with the longest comment behind it */
};

/* How many bytes before the end of data the record lies that ends an archive; 0 without one. */
size_t archive_end(const void *data, size_t size);

void archive_close(void);

#endif

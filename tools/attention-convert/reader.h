/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a Keras file and lays its weights out as a safetensors file. Trusts nothing; meant to run in a sandbox. */
#ifndef ATTN_CONVERT_READER_H
#define ATTN_CONVERT_READER_H

#include "report.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct reader_options {
    const char *layer; /* this one alone; NULL: all */
    bool list;         /* a file without the attention layer is fine */
} reader_options;

/* Prepares the libraries, before the sandbox closes. */
void reader_prepare(void);

/* Reads the Keras file in data and writes a safetensors file to the descriptor, a memory file. Returns the exit code that
 * is also in *result, with message and notes. */
int reader_run(const void *data, size_t size, const reader_options *options, int descriptor, report *result);

/* Whether a file of that size is HDF5, with a user block before it or not, or a zip archive, with other bytes before it or
 * not. The descriptor's position stays. */
bool reader_knows(int descriptor, size_t size);

#endif

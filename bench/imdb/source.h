/* SPDX-License-Identifier: Apache-2.0
 * Where reviews come from: the data set's archive as it is published (.tar.gz), packed otherwise, or unpacked. */
#ifndef BENCH_IMDB_SOURCE_H
#define BENCH_IMDB_SOURCE_H

#include <stddef.h>

enum { SOURCE_TRAIN, SOURCE_TEST, SOURCE_SPLITS };
enum { SOURCE_NEGATIVE, SOURCE_POSITIVE, SOURCE_LABELS };

/* The folders of the data set, by split and label, such as "train/pos". */
extern const char *const source_folder[SOURCE_SPLITS][SOURCE_LABELS];

/* The environment variable that names the data where the command line does not. */
#define SOURCE_VARIABLE "ATTN_IMDB"

/* Longer than any review by far; a file that is longer is not one, and is given cut to this length. */
enum { SOURCE_LONGEST = 1 << 20 };

/* Receives a file of one of the four folders: its name there, its bytes. Both are valid during the call. */
typedef void (*source_take)(void *user, int split, int label, const char *name, const char *bytes, size_t size);

/* Gives every file of the four folders, in the order of the archive or the system. path NULL: no data was named.
 * An archive that ends early or is damaged, and a folder that can't be read, end the program with the reason. */
void source_read(const char *path, source_take take, void *user);

#endif

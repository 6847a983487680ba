/* SPDX-License-Identifier: Apache-2.0 */
/* Helpers of the converter's suite: running the program, folders of models, files made to be refused. */
#ifndef ATTN_TESTS_CONVERT_FILES_H
#define ATTN_TESTS_CONVERT_FILES_H

#include "attention/weights.h"

#include <stdbool.h>
#include <stddef.h>

/* What the program answered. */
typedef struct answer {
    int code;          /* its exit code; -1: it ended by a signal */
    char out[1 << 16]; /* standard output and error */
} answer;

/* The latest. */
extern answer got;

/* Runs attention-convert with arguments that end in NULL; the macro adds that. */
void convert(const char *const *arguments);
#define CONVERT(...) convert((const char *const[]){__VA_ARGS__, NULL})

/* The path of a file in a scratch folder; stays valid. The first asked for makes the folder, clean_up removes it. */
const char *in_scratch(const char *name);
void clean_up(void);

/* Converts a file that must be refused with this code, a message that holds these words, within 10 s, and nothing written. */
void expect_refusal(const char *path, int code, const char *message);

/* A file of a Keras model, by the scheme <model>_tf<version>.<kind>. */
typedef struct model_file {
    char path[512], name[128], model[96], version[16], kind[16];
    bool by_groups; /* its layers have no names but those of its groups */
} model_file;

/* Calls visit for each model file of a folder; returns how many there were. */
size_t for_models(const char *folder, void (*visit)(const model_file *file));

/* What a model's weights are: a file with <model>/<layer>/<weight>. NULL when the model is in none. */
attn_weights_file *open_expected(const model_file *of);

/* Whole files, from malloc. */
char *read_file(const char *path, size_t *size);
void write_file(const char *path, const char *data, size_t size);

#endif

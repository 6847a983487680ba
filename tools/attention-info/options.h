/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of attention-info. */
#ifndef ATTENTION_INFO_OPTIONS_H
#define ATTENTION_INFO_OPTIONS_H

#include <attention/sdpa.h>

#include <stdbool.h>

typedef struct info_options {
    attn_context_options context;
    attn_layer_desc problem;
    attn_sdpa_desc sdpa;
    bool has_problem, has_sdpa; /* an option described one */
    const char *file;           /* a weights file to show; NULL: none */
    bool help, version;
} info_options;

extern const char info_usage[];

/* False after a word on stderr about what is wrong. */
bool info_read_options(int count, char **words, info_options *options);

#endif

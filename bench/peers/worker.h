/* The C side of protocol.py: requests read from standard input, answers written to standard output.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef PEERS_WORKER_H
#define PEERS_WORKER_H

#include "attention/attention.h"

#include <stdbool.h>
#include <stdio.h>

typedef struct worker_case {
    char score[16], direction[32], directory[4000];
    long long batch, timesteps, features, units;
} worker_case;

/* What a worker can do. load answers by worker_variants or worker_error; the others answer false after worker_error. */
typedef struct worker {
    const char *directions; /* as JSON */
    int variants;           /* the most of a case */
    void (*load)(attn_context *context, const worker_case *wanted);
    bool (*run)(int variant);
    bool (*write)(int variant, FILE *file); /* the results; false without worker_error: the file can't be written */
    void (*unload)(void);
} worker;

void worker_error(const char *message);
bool worker_succeeded(attn_status status); /* worker_error with the library's message when the status is an error */
void worker_variants(const char *const *names, int count);

/* Serves until the input ends; answers the exit status. */
int worker_serve(const worker *w, int threads);

#endif

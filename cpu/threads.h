/* SPDX-License-Identifier: Apache-2.0 */
/* A pool of threads for short runs, or the caller's parallel-for behind the same call. */
#ifndef ATTN_CPU_THREADS_H
#define ATTN_CPU_THREADS_H

#include "lib/backend.h"

typedef struct attn_threads attn_threads;
typedef void (*attn_task)(void *argument, size_t index);

/* A pool for runs of options->threads tasks at a time (0: one for each processor that this process may use). When the system refuses to start
 * a thread, those started before it do the work. NULL: no memory. */
attn_threads *attn_threads_create(const attn_device_options *options);

/* No run may be in progress. In a child made by fork, where the threads do not exist, only memory is released. */
void attn_threads_destroy(attn_threads *pool);

/* How many tasks are worth making: as asked for, whatever the system granted, so that splits never depend on luck. */
int attn_threads_count(const attn_threads *pool);

/* Calls task(argument, i) for each i below count, in any order, on the caller's thread and any others, and returns when all have returned.
 * The caller alone does the work where the pool serves another run, in a forked child and in a nested call. */
void attn_threads_run(attn_threads *pool, size_t count, attn_task task, void *argument);

#endif

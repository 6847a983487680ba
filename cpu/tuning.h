/* Sizes and thresholds of the CPU backend, each with the measurement behind it (docs/kernels.md has the tables).
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Numbers marked "fixed" shape the order of summation: changing one changes bits. The others do not. */
#ifndef ATTN_CPU_TUNING_H
#define ATTN_CPU_TUNING_H

#include <stddef.h>

/* Fixed. Rows of H that make one partial result, counted from the start of an item's range: small enough for threads to share one
 * item where that pays, large enough that partial results are below 1 % of H. The additive score works D/2 times longer on a row. */
#define ATTN_CHUNK_ROWS ((size_t)512)
#define ATTN_CHUNK_ROWS_ADDITIVE ((size_t)128)

/* Queries that share one pass over H. With 8 the arithmetic takes longer than reading H from the third cache. */
#define ATTN_QUERY_BLOCK ((size_t)8)

/* Query rows that share their matrix products, at most. */
#define ATTN_GROUP_ROWS ((size_t)32)

/* Fixed. Query rows of a pass of the backward pass, which holds what it knows of them: items are taken so many at a time. */
#define ATTN_BACKWARD_ROWS ((size_t)1024)

/* Fixed. Groups of rows that each add up their own gradient of W2, at most. */
#define ATTN_BACKWARD_GROUPS ((size_t)32)

/* Tasks a thread should find, so that threads finish together. */
#define ATTN_TASKS_PER_THREAD ((size_t)4)

/* A group reads the weights once: it should hold so many items that this is a small part of reading their H. */
#define ATTN_WEIGHTS_SHARE ((size_t)8)

/* The largest W2 that a run without prepared weights packs as a whole; a larger one is packed piece by piece for every block of rows. */
#define ATTN_PACKED_BYTES ((size_t)262144)

/* Work, counted in reads of H and of weights, below which a second thread costs more than it brings: two IMDB items take 5.7 us
 * with one thread and 3.7 with two. */
#define ATTN_SERIAL_WORK ((size_t)150000)

/* From here on the composition on OpenBLAS takes over where the fused kernels would run on AVX-512 and OpenBLAS has kernels for
 * small products. Its time to theirs, float32, Zen 5, one thread (docs/blas.md): 2 queries of 64 features 1 : 1.5 (luong)
 * and 1 : 1.1 (bahdanau), 16 of 128 1 : 1.5 and 1 : 1.3; without a given query 1024 features 1 : 1.1, 1536 1 : 1.5. */
#define ATTN_OPENBLAS_QUERIES ((size_t)2)
#define ATTN_OPENBLAS_QUERIES_ADDITIVE ((size_t)16)
#define ATTN_OPENBLAS_FEATURES ((size_t)1536)

/* Elements of an item's H below which the composition's steps cost more than they save: 8 x 16 1 : 0.7, 10 x 32 1 : 1.1. */
#define ATTN_OPENBLAS_ITEM ((size_t)320)

#endif

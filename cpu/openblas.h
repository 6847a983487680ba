/* OpenBLAS, loaded at run time and used from one thread at a time: products that never wake its own threads.
 *
 * OpenBLAS 0.3.x has no limit on threads for one caller, and its global one belongs to the host. But it uses its threads only
 * from a certain size on. The products below are cut into tiles under that size, so that each runs in the calling thread,
 * whatever the host has set. See docs/blas.md.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef ATTN_CPU_OPENBLAS_H
#define ATTN_CPU_OPENBLAS_H

#include "attention/attention.h"

#include <stdatomic.h>
#include <stdbool.h>

/* The arguments that cblas_sgemm, cblas_sgemv and their double kin take; OpenBLAS with 64-bit integers is not used. */
typedef void (*attn_cblas_sgemm)(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a,
                                 int lda, const float *b, int ldb, float beta, float *c, int ldc);
typedef void (*attn_cblas_dgemm)(int order, int trans_a, int trans_b, int m, int n, int k, double alpha,
                                 const double *a, int lda, const double *b, int ldb, double beta, double *c, int ldc);
typedef void (*attn_cblas_sgemv)(int order, int trans, int m, int n, float alpha, const float *a, int lda,
                                 const float *x, int incx, float beta, float *y, int incy);
typedef void (*attn_cblas_dgemv)(int order, int trans, int m, int n, double alpha, const double *a, int lda,
                                 const double *x, int incx, double beta, double *y, int incy);

typedef struct attn_openblas {
    bool usable;
    char text[256];      /* "OpenBLAS 0.3.21 SkylakeX", or why there is none */
    bool threaded;       /* it has threads of its own, to be kept asleep */
    bool small_products; /* its core has kernels for small products, which neither pack nor thread */
    attn_cblas_sgemm sgemm;
    attn_cblas_dgemm dgemm;
    attn_cblas_sgemv sgemv;
    attn_cblas_dgemv dgemv;
} attn_openblas;

/* What one context knows of OpenBLAS: nothing, until somebody asks. */
typedef struct attn_openblas_slot {
    atomic_bool known;
    attn_openblas blas;
} attn_openblas_slot;

/* A context that is to do without: `by` names who says so. */
void attn_openblas_switch_off(attn_openblas_slot *slot, const char *by);

/* Loads OpenBLAS when it is asked for the first time, or finds out why not. The library stays loaded, for all contexts. The
 * answer stays valid as long as the slot; may be asked by many threads. */
const attn_openblas *attn_openblas_of(attn_openblas_slot *slot);

/* Rows of one tile that the products are cut to where the other sizes allow a choice. */
enum { ATTN_OPENBLAS_ROWS = 48 };

/* Whether (ATTN_OPENBLAS_ROWS, k) (k, n) is a single tile. */
bool attn_openblas_fits(const attn_openblas *blas, size_t n, size_t k);

/* All matrices row-major, row strides in [row length, INT_MAX]; every size >= 1. accumulate: add to the result. */

/* OpenBLAS adds up the terms of an element one after the other. The products take at most
 * ATTN_OPENBLAS_CHAIN of them in one call, which is enough for sums whose bounds count their terms;
 * those named exact, so few that terms of one size stay within the bounds of a score or a context. */
enum { ATTN_OPENBLAS_CHAIN = 128, ATTN_OPENBLAS_EXACT = 32 };

/* C (m, n) = A (m, k) B (k, n); one row or column becomes a product of a matrix and a vector. */
void attn_openblas_gemm(const attn_openblas *blas, attn_dtype dtype, size_t m, size_t n, size_t k, const void *a,
                        size_t lda, const void *b, size_t ldb, void *c, size_t ldc, bool accumulate);
void attn_openblas_gemm_exact(const attn_openblas *blas, attn_dtype dtype, size_t m, size_t n, size_t k, const void *a,
                              size_t lda, const void *b, size_t ldb, void *c, size_t ldc, bool accumulate);
/* C (m, n) = A (m, k) B^T, B (n, k) */
void attn_openblas_gemm_nt(const attn_openblas *blas, attn_dtype dtype, size_t m, size_t n, size_t k, const void *a,
                           size_t lda, const void *b, size_t ldb, void *c, size_t ldc, bool accumulate);
void attn_openblas_gemm_nt_exact(const attn_openblas *blas, attn_dtype dtype, size_t m, size_t n, size_t k,
                                 const void *a, size_t lda, const void *b, size_t ldb, void *c, size_t ldc,
                                 bool accumulate);
/* C (m, n) = A^T B, A (k, m), B (k, n) */
void attn_openblas_gemm_tn(const attn_openblas *blas, attn_dtype dtype, size_t m, size_t n, size_t k, const void *a,
                           size_t lda, const void *b, size_t ldb, void *c, size_t ldc, bool accumulate);

#endif

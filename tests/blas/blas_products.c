/* SPDX-License-Identifier: Apache-2.0 */
/* The tiled products of cpu/openblas.c, which is compiled into this program, against their definition: sizes around every
 * limit. Integers keep the sums exact; C and y begin as NaN where they are to be overwritten. */
#include "cpu/openblas.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST = 100 * 1040 + 64 };

static float a[MOST], b[1040 * 220], c[100 * 220], wanted[100 * 220], x[10000];
static unsigned long failed, passed;

static void judge(const char *name, size_t m, size_t n, size_t k, size_t row) {
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++)
            if (!(c[i * row + j] == wanted[i * row + j])) {
                printf("%s m %zu n %zu k %zu: (%zu, %zu) is %g, want %g\n", name, m, n, k, i, j, (double)c[i * row + j],
                       (double)wanted[i * row + j]);
                failed++;
                return;
            }
    passed++;
}

static void begin(size_t elements, float value) {
    for (size_t i = 0; i < elements; i++) c[i] = value;
}

static void products(const attn_openblas *blas, size_t m, size_t n, size_t k) {
    const size_t lda = k + 1, row = n + 3;
    for (int transposed = 0; transposed < 2; transposed++) {
        const size_t ldb = transposed ? k + 2 : n + 2;
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < n; j++) {
                float sum = 0;
                for (size_t p = 0; p < k; p++) sum += a[i * lda + p] * (transposed ? b[j * ldb + p] : b[p * ldb + j]);
                wanted[i * row + j] = sum;
            }
        begin(m * row, NAN);
        if (transposed)
            attn_openblas_gemm_nt(blas, ATTN_FLOAT32, m, n, k, a, lda, b, ldb, c, row, false);
        else
            attn_openblas_gemm(blas, ATTN_FLOAT32, m, n, k, a, lda, b, ldb, c, row, false);
        judge(transposed ? "gemm_nt" : "gemm", m, n, k, row);
        begin(m * row, 5);
        for (size_t i = 0; i < m * row; i++) wanted[i] += 5;
        if (transposed)
            attn_openblas_gemm_nt(blas, ATTN_FLOAT32, m, n, k, a, lda, b, ldb, c, row, true);
        else
            attn_openblas_gemm(blas, ATTN_FLOAT32, m, n, k, a, lda, b, ldb, c, row, true);
        judge(transposed ? "gemm_nt accumulating" : "gemm accumulating", m, n, k, row);
    }
}

/* A^T B, written and added. */
static void transposed_first(const attn_openblas *blas, size_t m, size_t n, size_t k) {
    const size_t lda = m + 1, ldb = n + 2, row = n + 3;
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < n; j++) {
                float sum = accumulate ? 5 : 0;
                for (size_t p = 0; p < k; p++) sum += a[p * lda + i] * b[p * ldb + j];
                wanted[i * row + j] = sum;
            }
        begin(m * row, accumulate ? 5 : NAN);
        attn_openblas_gemm_tn(blas, ATTN_FLOAT32, m, n, k, a, lda, b, ldb, c, row, accumulate);
        judge(accumulate ? "gemm_tn accumulating" : "gemm_tn", m, n, k, row);
    }
}

static void vectors(const attn_openblas *blas, size_t m, size_t n) {
    const size_t lda = n + 1;
    for (size_t i = 0; i < m; i++) {
        wanted[i] = 0;
        for (size_t j = 0; j < n; j++) wanted[i] += a[i * lda + j] * x[j];
    }
    begin(m, NAN);
    attn_openblas_gemm_nt(blas, ATTN_FLOAT32, 1, m, n, x, n, a, lda, c, m, false);
    judge("one row, gemm_nt", m, 1, n, 1);
    for (size_t j = 0; j < n; j++) {
        wanted[j] = 0;
        for (size_t i = 0; i < m; i++) wanted[j] += a[i * lda + j] * x[i];
    }
    begin(n, NAN);
    attn_openblas_gemm(blas, ATTN_FLOAT32, 1, n, m, x, m, a, lda, c, n, false);
    judge("one row, gemm", 1, n, m, n);
}

static void fill(float *to, size_t count) {
    static unsigned state = 1;
    for (size_t i = 0; i < count; i++) to[i] = (float)((state = state * 1664525u + 1013904223u) >> 28) - 8;
}

int main(void) {
    static const size_t rows[] = {1, 31, 48, 61, 100}, columns[] = {1, 18, 63, 65, 145, 210},
                        depths[] = {1, 31, 86, 301, 1030}, ends[] = {1, 4, 92, 93, 96, 97, 230, 448, 9216, 10000};
    static attn_openblas_slot slot;
    const attn_openblas *blas = attn_openblas_of(&slot);
    if (!blas->usable) return puts(blas->text), 1;
    fill(a, sizeof a / sizeof *a);
    fill(b, sizeof b / sizeof *b);
    fill(x, sizeof x / sizeof *x);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t j = 0; j < sizeof columns / sizeof *columns; j++)
            for (size_t p = 0; p < sizeof depths / sizeof *depths; p++) products(blas, rows[i], columns[j], depths[p]);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t j = 0; j < sizeof columns / sizeof *columns; j++)
            for (size_t p = 0; p < sizeof depths / sizeof *depths; p++)
                transposed_first(blas, rows[i], columns[j], depths[p]);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        for (size_t j = 0; j < sizeof ends / sizeof *ends; j++)
            if (ends[i] * (ends[j] + 1) <= MOST) vectors(blas, ends[i], ends[j]);
    printf("%lu passed, %lu failed\n", passed, failed);
    return failed || !passed;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for libopenblas.so.0 (by LD_LIBRARY_PATH): computes naively, and aborts where the real one would wake its
 * threads, map a buffer in a product, take one that callers share, or call xerbla. What it says it is comes from the environment:
 *   FAKE_OPENBLAS_CONFIG     openblas_get_config, by default that of Debian 12
 *   FAKE_OPENBLAS_CORE       openblas_get_corename, by default Haswell
 *   FAKE_OPENBLAS_PARALLEL   openblas_get_parallel, by default 1: threads of its own */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112 };

static const char *setting(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    return value ? value : otherwise;
}

__attribute__((visibility("default"))) const char *openblas_get_config(void);
__attribute__((visibility("default"))) const char *openblas_get_corename(void);
__attribute__((visibility("default"))) int openblas_get_parallel(void);

const char *openblas_get_config(void) {
    return setting("FAKE_OPENBLAS_CONFIG",
                   "OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH NO_AFFINITY Haswell MAX_THREADS=64");
}
const char *openblas_get_corename(void) { return setting("FAKE_OPENBLAS_CORE", "Haswell"); }
int openblas_get_parallel(void) { return atoi(setting("FAKE_OPENBLAS_PARALLEL", "1")); }

/* Buffers, which the real one maps when more are taken at one moment than ever before; not in a product, the library promises. */
static atomic_int taken, mapped, packing;
static char buffer;

__attribute__((visibility("default"))) void *blas_memory_alloc(int position);
__attribute__((visibility("default"))) void blas_memory_free(void *given);

void *blas_memory_alloc(int position) {
    (void)position;
    const int now = atomic_fetch_add(&taken, 1) + 1;
    if (now > atomic_load(&mapped)) atomic_store(&mapped, now);
    return &buffer;
}

void blas_memory_free(void *given) {
    (void)given;
    atomic_fetch_sub(&taken, 1);
}

static void demand(bool kept, const char *what, int m, int n, int k) {
    if (kept) return;
    fprintf(stderr, "fake OpenBLAS: %s: m %d, n %d, k %d\n", what, m, n, k);
    abort();
}

/* interface/gemm.c and kernel/x86_64/{s,d}gemm_small_kernel_permit_skylakex.c of 0.3.18 and later, for row-major operands of
 * which at most one is transposed. */
static bool small_kernel(bool trans_b, double m, double n, double k) {
    const char *core = openblas_get_corename();
    if (strcmp(core, "SkylakeX") && strcmp(core, "Cooperlake") && strcmp(core, "SapphireRapids")) return false;
    if (m * n * k > 1e6) return false;
    return !trans_b || (m * n <= 1200 && k >= 32);
}

static void check_gemm(int order, int trans_a, int trans_b, int m, int n, int k, int lda, int ldb, int ldc) {
    const bool trans = trans_b == TRANS, first = trans_a == TRANS;
    demand(order == ROW_MAJOR && (first || trans_a == NO_TRANS) && (trans || trans_b == NO_TRANS) && !(first && trans),
           "an order never used", m, n, k);
    demand(m > 0 && n > 0 && k > 0, "an empty product", m, n, k);
    demand(lda >= (first ? m : k) && ldb >= (trans ? k : n) && ldc >= n, "a row stride below the row", m, n, k);
    demand(m > 1 && n > 1, "a product that later versions hand to GEMV", m, n, k);
    if (!openblas_get_parallel() || small_kernel(trans, m, n, k)) return;
    demand((double)m * n * k <= 65536.0 * 4, "a product for threads", m, n, k);
}

static void check_gemv(int order, int trans, int m, int n, int lda, int incx, int incy, double beta, int element) {
    demand(order == ROW_MAJOR && (trans == TRANS || trans == NO_TRANS) && incx >= 1 && incy >= 1, "an order never used",
           m, n, 1);
    demand(m > 0 && n > 0 && lda >= n, "a row stride below the row", m, n, 1);
    demand(beta == 1, "a result to overwrite, which keeps its NaN in some versions", m, n, 1);
    demand((m + n + 128 / element) * element <= 2048, "vectors past the stack buffer", m, n, 1);
    demand(!openblas_get_parallel() || (double)m * n < 2304.0 * 4, "a product for threads", m, n, 1);
}

#define DEFINE(real, wide, gemm, gemv)                                                                                 \
    __attribute__((visibility("default"))) void gemm(int order, int trans_a, int trans_b, int m, int n, int k,         \
                                                     real alpha, const real *a, int lda, const real *b, int ldb,       \
                                                     real beta, real *c, int ldc);                                     \
    void gemm(int order, int trans_a, int trans_b, int m, int n, int k, real alpha, const real *a, int lda,            \
              const real *b, int ldb, real beta, real *c, int ldc) {                                                   \
        check_gemm(order, trans_a, trans_b, m, n, k, lda, ldb, ldc);                                                   \
        const int one = !small_kernel(trans_b == TRANS, m, n, k);                                                      \
        demand(atomic_fetch_add(&packing, one) + one <= atomic_load(&mapped), "no buffer", m, n, k);                   \
        for (long i = 0; i < m; i++)                                                                                   \
            for (long j = 0; j < n; j++) {                                                                             \
                wide sum = 0;                                                                                          \
                for (long p = 0; p < k; p++)                                                                           \
                    sum += (wide)(trans_a == TRANS ? a[p * lda + i] : a[i * lda + p]) *                                \
                           (trans_b == TRANS ? b[j * ldb + p] : b[p * ldb + j]);                                       \
                c[i * ldc + j] = (real)(alpha * sum + (beta == 0 ? 0 : (wide)beta * c[i * ldc + j]));                  \
            }                                                                                                          \
        atomic_fetch_sub(&packing, one);                                                                               \
    }                                                                                                                  \
    __attribute__((visibility("default"))) void gemv(int order, int trans, int m, int n, real alpha, const real *a,    \
                                                     int lda, const real *x, int incx, real beta, real *y, int incy);  \
    void gemv(int order, int trans, int m, int n, real alpha, const real *a, int lda, const real *x, int incx,         \
              real beta, real *y, int incy) {                                                                          \
        check_gemv(order, trans, m, n, lda, incx, incy, (double)beta, (int)sizeof(real));                              \
        const long rows = trans == TRANS ? n : m, terms = trans == TRANS ? m : n;                                      \
        for (long i = 0; i < rows; i++) {                                                                              \
            wide sum = 0;                                                                                              \
            for (long p = 0; p < terms; p++)                                                                           \
                sum += (wide)x[p * incx] * (trans == TRANS ? a[p * lda + i] : a[i * lda + p]);                         \
            y[i * incy] = (real)(alpha * sum + beta * (wide)y[i * incy]);                                              \
        }                                                                                                              \
    }

DEFINE(float, double, cblas_sgemm, cblas_sgemv)
DEFINE(double, long double, cblas_dgemm, cblas_dgemv)

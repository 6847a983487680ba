/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/openblas.h"

#include "cpu/sizes.h"

#include <limits.h>
#include <string.h>

enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112 };

/* ---- Tiles ---------------------------------------------------------------------------------------- */

/* Multiply-adds up to which OpenBLAS stays in the calling thread: GEMM, 65536 times GEMM_MULTITHREAD_THRESHOLD (4) in
 * interface/gemm.c; its small kernels, 100^3; GEMV, below 2304 times 4 in interface/gemv.c. */
static const size_t threading_limit = 262144;
static const size_t small_limit = 1000000;
static const size_t unthreaded_limit = (size_t)1 << 24; /* no limit of OpenBLAS's: keeps a call short */
static const size_t vector_limit = 9215;

/* A B^T has a small kernel only for few elements of C and long sums. */
static const size_t small_nt_elements = 1200;
static const size_t small_nt_depth = 32;

/* GEMV keeps its copies of x and y on the stack up to this many bytes, and takes a shared buffer above. */
static const size_t vector_stack = 2048;

static size_t round_up(size_t n, size_t step) { return (n + step - 1) / step * step; }

/* n in as few equal parts of at most `most` as possible, each a multiple of step but the last. */
static size_t equal_parts(size_t n, size_t most, size_t step) {
    if (n <= most) return n;
    size_t parts = (n + most - 1) / most;
    return least(most, round_up((n + parts - 1) / parts, step));
}

typedef struct attn_tile {
    size_t m, n, k;
} attn_tile;

static size_t product_limit(const attn_openblas *blas) {
    return !blas->threaded ? unthreaded_limit : blas->small_products ? small_limit : threading_limit;
}

/* At most limit multiply-adds; 64 columns are what the small kernels compute at a time. */
static attn_tile cut(size_t limit, size_t m, size_t n, size_t k) {
    if (m == 1 || n == 1) return (attn_tile){m, n, k}; /* see multiply_vector */
    const size_t rows = least(m, ATTN_OPENBLAS_ROWS);
    attn_tile tile = {.n = n};
    if (k > limit / rows || n > limit / rows / k) tile.n = least(n, 64);
    tile.k = equal_parts(k, limit / (rows * tile.n), 16);
    tile.m = equal_parts(m, limit / (tile.n * tile.k), 16);
    return tile;
}

/* A tile that is left over at an edge may miss the small kernel's terms, but is under the threading limit as well. */
static attn_tile cut_nt(const attn_openblas *blas, size_t m, size_t n, size_t k) {
    if (!blas->threaded) return cut(unthreaded_limit, m, n, k);
    if (!blas->small_products || k < small_nt_depth || m == 1 || n == 1) return cut(threading_limit, m, n, k);
    attn_tile tile = {.m = equal_parts(m, 32, 8)};
    tile.n = equal_parts(n, small_nt_elements / tile.m, 1);
    tile.k = equal_parts(k, small_limit / small_nt_elements, 16);
    return tile;
}

bool attn_openblas_fits(const attn_openblas *blas, size_t n, size_t k) {
    return n <= product_limit(blas) / ATTN_OPENBLAS_ROWS / k;
}

/* ---- Products ------------------------------------------------------------------------------------- */

/* The element at (row, column). */
static const void *at(const void *matrix, size_t row_stride, size_t row, size_t column, size_t size) {
    return (const char *)matrix + (row * row_stride + column) * size;
}

static size_t size_of(attn_dtype dtype) { return dtype == ATTN_FLOAT32 ? sizeof(float) : sizeof(double); }

typedef struct attn_product {
    const void *a, *b;
    size_t lda, ldb;
    void *c;
    size_t ldc;
    int trans_a, trans_b; /* never both */
} attn_product;

/* Below the threading limit, and with both vectors on OpenBLAS's stack. */
static attn_tile cut_vector(size_t m, size_t n, size_t size) {
    const size_t elements = vector_stack / size - 64;
    attn_tile tile = {.n = equal_parts(n, elements / 2, 16)};
    tile.m = equal_parts(m, least(vector_limit / tile.n, elements - tile.n), 4);
    return tile;
}

typedef struct attn_vector {
    void *first;
    size_t step;
} attn_vector;

static void clear(attn_vector y, size_t count, size_t size) {
    if (y.step == 1)
        memset(y.first, 0, count * size);
    else
        for (size_t i = 0; i < count; i++) memset((char *)y.first + i * y.step * size, 0, size);
}

/* y += A x, or A^T x. Never called to overwrite y: some versions multiply by the 0 that stands for it, which keeps a NaN. */
static void add_vector(const attn_openblas *blas, attn_dtype dtype, int trans, size_t rows, size_t columns,
                       const void *a, size_t lda, const void *x, size_t x_step, attn_vector y) {
    const size_t size = size_of(dtype);
    const attn_tile tile = cut_vector(rows, columns, size);
    for (size_t i = 0; i < rows; i += tile.m)
        for (size_t j = 0; j < columns; j += tile.n) {
            const int m = (int)least(tile.m, rows - i), n = (int)least(tile.n, columns - j);
            const void *part = at(a, lda, i, j, size), *from = at(x, x_step, trans == TRANS ? i : j, 0, size);
            void *to = (char *)y.first + (trans == TRANS ? j : i) * y.step * size;
            const int incx = (int)x_step, incy = (int)y.step;
            if (dtype == ATTN_FLOAT32)
                blas->sgemv(ROW_MAJOR, trans, m, n, 1, part, (int)lda, from, incx, 1, to, incy);
            else
                blas->dgemv(ROW_MAJOR, trans, m, n, 1, part, (int)lda, from, incx, 1, to, incy);
        }
}

/* A product with one row or column: later versions would hand it to GEMV, whose limit is lower. */
static void multiply_vector(const attn_openblas *blas, attn_dtype dtype, attn_tile size, const attn_product *p,
                            bool accumulate) {
    const attn_vector c = {p->c, size.m == 1 ? 1 : p->ldc};
    const size_t a_step = p->trans_a == TRANS ? p->lda : 1, b_step = p->trans_b == TRANS ? 1 : p->ldb;
    if (!accumulate) clear(c, size.m == 1 ? size.n : size.m, size_of(dtype));
    if (size.m > 1 && p->trans_a == TRANS)
        add_vector(blas, dtype, TRANS, size.k, size.m, p->a, p->lda, p->b, b_step, c);
    else if (size.m > 1)
        add_vector(blas, dtype, NO_TRANS, size.m, size.k, p->a, p->lda, p->b, b_step, c);
    else if (p->trans_b == TRANS)
        add_vector(blas, dtype, NO_TRANS, size.n, size.k, p->b, p->ldb, p->a, a_step, c);
    else
        add_vector(blas, dtype, TRANS, size.k, size.n, p->b, p->ldb, p->a, a_step, c);
}

static void multiply(const attn_openblas *blas, attn_dtype dtype, attn_tile size, const attn_product *p,
                     bool accumulate) {
    if (size.m == 1 || size.n == 1) {
        multiply_vector(blas, dtype, size, p, accumulate);
        return;
    }
    const int m = (int)size.m, n = (int)size.n, k = (int)size.k, lda = (int)p->lda, ldb = (int)p->ldb,
              ldc = (int)p->ldc;
    if (dtype == ATTN_FLOAT32)
        blas->sgemm(ROW_MAJOR, p->trans_a, p->trans_b, m, n, k, 1, p->a, lda, p->b, ldb, accumulate, p->c, ldc);
    else
        blas->dgemm(ROW_MAJOR, p->trans_a, p->trans_b, m, n, k, 1, p->a, lda, p->b, ldb, accumulate, p->c, ldc);
}

static void multiply_tiled(const attn_openblas *blas, attn_dtype dtype, attn_tile whole, attn_tile tile,
                           const attn_product *p, bool accumulate) {
    const size_t size = size_of(dtype);
    for (size_t m = 0; m < whole.m; m += tile.m)
        for (size_t n = 0; n < whole.n; n += tile.n)
            for (size_t k = 0; k < whole.k; k += tile.k) {
                attn_product part = *p;
                part.a = p->trans_a == TRANS ? at(p->a, p->lda, k, m, size) : at(p->a, p->lda, m, k, size);
                part.b = p->trans_b == TRANS ? at(p->b, p->ldb, n, k, size) : at(p->b, p->ldb, k, n, size);
                part.c = (char *)p->c + (m * p->ldc + n) * size;
                attn_tile now = {least(tile.m, whole.m - m), least(tile.n, whole.n - n), least(tile.k, whole.k - k)};
                multiply(blas, dtype, now, &part, accumulate || k > 0);
            }
}

/* In steps of k that are as equal as can be, none longer than a chain may be. */
static attn_tile shorten(attn_tile tile, size_t k, size_t chain) {
    tile.k = equal_parts(k, least(tile.k, chain), chain < ATTN_OPENBLAS_CHAIN ? 4 : 16);
    return tile;
}

static void multiply_nn(const attn_openblas *blas, attn_dtype dtype, attn_tile size, const attn_product *product,
                        bool accumulate, size_t chain) {
    const attn_tile tile = shorten(cut(product_limit(blas), size.m, size.n, size.k), size.k, chain);
    multiply_tiled(blas, dtype, size, tile, product, accumulate);
}

static void multiply_nt(const attn_openblas *blas, attn_dtype dtype, attn_tile size, const attn_product *product,
                        bool accumulate, size_t chain) {
    multiply_tiled(blas, dtype, size, shorten(cut_nt(blas, size.m, size.n, size.k), size.k, chain), product,
                   accumulate);
}

void attn_openblas_gemm(const attn_openblas *blas, attn_dtype dtype, size_t m, size_t n, size_t k, const void *a,
                        size_t lda, const void *b, size_t ldb, void *c, size_t ldc, bool accumulate) {
    const attn_product product = {a, b, lda, ldb, c, ldc, NO_TRANS, NO_TRANS};
    multiply_nn(blas, dtype, (attn_tile){m, n, k}, &product, accumulate, ATTN_OPENBLAS_CHAIN);
}

void attn_openblas_gemm_exact(const attn_openblas *blas, attn_dtype dtype, size_t m, size_t n, size_t k, const void *a,
                              size_t lda, const void *b, size_t ldb, void *c, size_t ldc, bool accumulate) {
    const attn_product product = {a, b, lda, ldb, c, ldc, NO_TRANS, NO_TRANS};
    multiply_nn(blas, dtype, (attn_tile){m, n, k}, &product, accumulate, ATTN_OPENBLAS_EXACT);
}

void attn_openblas_gemm_nt(const attn_openblas *blas, attn_dtype dtype, size_t m, size_t n, size_t k, const void *a,
                           size_t lda, const void *b, size_t ldb, void *c, size_t ldc, bool accumulate) {
    const attn_product product = {a, b, lda, ldb, c, ldc, NO_TRANS, TRANS};
    multiply_nt(blas, dtype, (attn_tile){m, n, k}, &product, accumulate, ATTN_OPENBLAS_CHAIN);
}

void attn_openblas_gemm_nt_exact(const attn_openblas *blas, attn_dtype dtype, size_t m, size_t n, size_t k,
                                 const void *a, size_t lda, const void *b, size_t ldb, void *c, size_t ldc,
                                 bool accumulate) {
    const attn_product product = {a, b, lda, ldb, c, ldc, NO_TRANS, TRANS};
    multiply_nt(blas, dtype, (attn_tile){m, n, k}, &product, accumulate, ATTN_OPENBLAS_EXACT);
}

void attn_openblas_gemm_tn(const attn_openblas *blas, attn_dtype dtype, size_t m, size_t n, size_t k, const void *a,
                           size_t lda, const void *b, size_t ldb, void *c, size_t ldc, bool accumulate) {
    const attn_product product = {a, b, lda, ldb, c, ldc, TRANS, NO_TRANS};
    multiply_nn(blas, dtype, (attn_tile){m, n, k}, &product, accumulate, ATTN_OPENBLAS_CHAIN);
}

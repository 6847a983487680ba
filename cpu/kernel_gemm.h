/* Products of small matrices, read where they lie. A template, see vec_names.h.
 *
 * C = A B goes by tiles of a few rows by a few vectors of columns whose sums stay in registers; a
 * row of B is loaded once for all rows of the tile. Every element of C is the sum of chains of
 * fused multiply-adds from zero, added up over GEMM_DEPTH steps of k, those over GEMM_DEEP, and
 * those as halves of halves, whatever the tile: a row's bits depend on nothing but its own
 * operands. Few rows make wide tiles, so that there are sums enough to hide an addition's latency.
 *
 * C = A^T B, whose sums run over rows, takes the same tiles: they differ in how A is walked.
 *
 * C = A B^T sums the lanes of k in one register for each element, by chains of SUM_PART vectors
 * that are added up as halves of halves, then VEC_LANES registers at once (v_sum_each). */
/* SPDX-License-Identifier: Apache-2.0 */

#undef GEMM_ROWS
#if VEC_BITS == 512
#define GEMM_ROWS 8 /* by 3 vectors: 24 sums in 32 registers */
#else
#define GEMM_ROWS 4 /* by 3 vectors: 12 sums in 16 registers */
#endif
#undef GEMM_WIDE
#define GEMM_WIDE 8 /* the most vectors of any tile */
#undef GEMM_DEPTH
#define GEMM_DEPTH 256 /* bounds a panel of B by the first cache */
#undef GEMM_CHAIN
#define GEMM_CHAIN 128 /* terms of a chain: enough for a sum whose bound counts its terms */
#undef GEMM_EXACT
#define GEMM_EXACT 32 /* and of a context's, whose bound 64 equal terms would leave */
#undef GEMM_DEEP
#define GEMM_DEEP (GEMM_DEPTH * 32) /* terms that go to C one panel after the other */

typedef struct NAMED(gemm_operands) {
    const real *a, *b;
    real *c;
    ptrdiff_t a_row, a_depth; /* from one row of the product, and one step of k, to the next; one of them is 1 */
    ptrdiff_t ldb, ldc;
    size_t k, chain, tail; /* chain: terms added up one after the other; tail: lanes of the tile's last vector */
    const real *before;    /* NULL, or what the tile's chains before this one add up to, as rows of whole vectors */
    bool accumulate;
} NAMED(gemm_operands);

/* One chain of g->k terms for each element. */
static ALWAYS_INLINE void NAMED(gemm_tile)(const NAMED(gemm_operands) * g, size_t rows, size_t vectors,
                                           bool transposed) {
    vec sum[GEMM_ROWS][GEMM_WIDE];
    const size_t last = vectors - 1, tail = g->tail;
    const ptrdiff_t a_row = transposed ? 1 : g->a_row, a_depth = transposed ? g->a_depth : 1;
    UNROLL for (size_t r = 0; r < rows; r++) { UNROLL for (size_t j = 0; j < vectors; j++) sum[r][j] = v_zero(); }
    const real *a = g->a, *b = g->b;
    for (size_t k = 0; k < g->k; k++, a += a_depth, b += g->ldb) {
        vec row[GEMM_WIDE];
        UNROLL for (size_t j = 0; j < last; j++) row[j] = v_load(b + j * VEC_LANES);
        row[last] = v_load_n(b + last * VEC_LANES, tail);
        UNROLL for (size_t r = 0; r < rows; r++) {
            vec x = v_set1(a[(ptrdiff_t)r * a_row]);
            UNROLL for (size_t j = 0; j < vectors; j++) sum[r][j] = v_fma(x, row[j], sum[r][j]);
        }
        if (transposed)
            HIDE(a); /* gcc 12, which makes vectors of the scalar kernels' loads, would read past the last row */
    }
    if (g->before) {
        UNROLL for (size_t r = 0; r < rows; r++) {
            const real *before = g->before + r * vectors * VEC_LANES;
            UNROLL for (size_t j = 0; j < last; j++) sum[r][j] = v_add(v_load(before + j * VEC_LANES), sum[r][j]);
            sum[r][last] = v_add(v_load_n(before + last * VEC_LANES, tail), sum[r][last]);
        }
    }
    UNROLL for (size_t r = 0; r < rows; r++) {
        real *c = g->c + (ptrdiff_t)r * g->ldc;
        if (g->accumulate) {
            UNROLL for (size_t j = 0; j < last; j++) sum[r][j] = v_add(v_load(c + j * VEC_LANES), sum[r][j]);
            sum[r][last] = v_add(v_load_n(c + last * VEC_LANES, tail), sum[r][last]);
        }
        UNROLL for (size_t j = 0; j < last; j++) v_store(c + j * VEC_LANES, sum[r][j]);
        v_store_n(c + last * VEC_LANES, sum[r][last], tail);
    }
}

/* One function a tile, so that its sizes are constants. */
#undef GEMM_TILE
#define GEMM_TILE(rows, vectors)                                                                                       \
    static void NAMED(gemm_##rows##x##vectors)(const NAMED(gemm_operands) * g) {                                       \
        NAMED(gemm_tile)(g, rows, vectors, false);                                                                     \
    }                                                                                                                  \
    static void NAMED(gemm_tn_##rows##x##vectors)(const NAMED(gemm_operands) * g) {                                    \
        NAMED(gemm_tile)(g, rows, vectors, true);                                                                      \
    }
GEMM_TILE(1, 1)
GEMM_TILE(1, 2)
GEMM_TILE(1, 3)
GEMM_TILE(1, 4)
GEMM_TILE(1, 5)
GEMM_TILE(1, 6)
GEMM_TILE(1, 7)
GEMM_TILE(1, 8)
GEMM_TILE(2, 1)
GEMM_TILE(2, 2)
GEMM_TILE(2, 3)
GEMM_TILE(2, 4)
GEMM_TILE(4, 1)
GEMM_TILE(4, 2)
GEMM_TILE(4, 3)
#if VEC_BITS == 512
GEMM_TILE(8, 1)
GEMM_TILE(8, 2)
GEMM_TILE(8, 3)
#endif

typedef struct NAMED(gemm_shape) {
    size_t rows, widest; /* vectors */
    void (*tile[GEMM_WIDE])(const NAMED(gemm_operands) *);
} NAMED(gemm_shape);

/* From the tallest on; each takes the rows that the ones before left. */
#undef GEMM_TALLEST
#if VEC_BITS == 512
#define GEMM_TALLEST(kind) {8, 3, {NAMED(kind##_8x1), NAMED(kind##_8x2), NAMED(kind##_8x3)}},
#else
#define GEMM_TALLEST(kind)
#endif
#undef GEMM_SHAPES
#define GEMM_SHAPES(kind)                                                                                              \
    static const NAMED(gemm_shape) NAMED(kind##_shapes)[] = {                                                          \
        GEMM_TALLEST(kind){4, 3, {NAMED(kind##_4x1), NAMED(kind##_4x2), NAMED(kind##_4x3)}},                           \
        {2, 4, {NAMED(kind##_2x1), NAMED(kind##_2x2), NAMED(kind##_2x3), NAMED(kind##_2x4)}},                          \
        {1,                                                                                                            \
         8,                                                                                                            \
         {NAMED(kind##_1x1), NAMED(kind##_1x2), NAMED(kind##_1x3), NAMED(kind##_1x4), NAMED(kind##_1x5),               \
          NAMED(kind##_1x6), NAMED(kind##_1x7), NAMED(kind##_1x8)}},                                                   \
    };
GEMM_SHAPES(gemm)
GEMM_SHAPES(gemm_tn)

#undef GEMM_SUMS
#define GEMM_SUMS (GEMM_ROWS * 3 > GEMM_WIDE ? GEMM_ROWS * 3 : GEMM_WIDE) /* the most vectors of sums of any tile */

/* One tile over GEMM_DEPTH steps of k at most. A tile sums up one chain alone, so that its loop has all registers. */
static void NAMED(gemm_chains)(void (*tile)(const NAMED(gemm_operands) *), size_t vectors,
                               const NAMED(gemm_operands) * whole) {
    if (whole->k <= whole->chain) {
        tile(whole);
        return;
    }
    real parts[GEMM_SUMS * VEC_LANES] __attribute__((aligned(64)));
    NAMED(gemm_operands) g = *whole;
    g.c = parts;
    g.ldc = (ptrdiff_t)(vectors * VEC_LANES);
    g.accumulate = false;
    g.k = whole->chain;
    size_t left = whole->k;
    for (; left > whole->chain; left -= whole->chain) {
        tile(&g);
        g.a += (ptrdiff_t)whole->chain * whole->a_depth;
        g.b += (ptrdiff_t)whole->chain * whole->ldb;
        g.accumulate = true;
    }
    g.c = whole->c;
    g.ldc = whole->ldc;
    g.accumulate = whole->accumulate;
    g.k = left;
    g.before = parts;
    tile(&g);
}

/* One tile over all of k: too deep a sum is that of its halves. */
static void NAMED(gemm_deep)(void (*tile)(const NAMED(gemm_operands) *), size_t rows, size_t vectors,
                             NAMED(gemm_operands) g) {
    const size_t k = g.k, columns = (vectors - 1) * VEC_LANES + g.tail;
    if (k <= GEMM_DEEP) {
        for (size_t done = 0; done < k; done += GEMM_DEPTH) {
            g.k = k - done < GEMM_DEPTH ? k - done : GEMM_DEPTH;
            NAMED(gemm_chains)(tile, vectors, &g);
            g.a += (ptrdiff_t)GEMM_DEPTH * g.a_depth;
            g.b += (ptrdiff_t)GEMM_DEPTH * g.ldb;
            g.accumulate = true;
        }
        return;
    }
    real half[GEMM_SUMS * VEC_LANES];
    NAMED(gemm_operands) other = g;
    g.k = (k / 2 + GEMM_DEPTH - 1) / GEMM_DEPTH * GEMM_DEPTH;
    NAMED(gemm_deep)(tile, rows, vectors, g);
    other.a += (ptrdiff_t)g.k * g.a_depth;
    other.b += (ptrdiff_t)g.k * g.ldb;
    other.k = k - g.k;
    other.c = half;
    other.ldc = (ptrdiff_t)(vectors * VEC_LANES);
    other.accumulate = false;
    NAMED(gemm_deep)(tile, rows, vectors, other);
    for (size_t r = 0; r < rows; r++)
        NAMED(add_to)(half + r * vectors * VEC_LANES, g.c + (ptrdiff_t)r * g.ldc, columns);
}

/* A multiple of shape->rows rows, panel of columns by panel; the panels are as equal in width as whole vectors allow. */
static void NAMED(gemm_panels)(const NAMED(gemm_shape) * shape, NAMED(gemm_operands) g, size_t m, size_t n) {
    const real *a = g.a;
    real *c = g.c;
    for (size_t left = (n + VEC_LANES - 1) / VEC_LANES; left > 0;) {
        size_t panels = (left + shape->widest - 1) / shape->widest, vectors = (left + panels - 1) / panels;
        size_t columns = vectors * VEC_LANES < n ? vectors * VEC_LANES : n;
        g.tail = columns - (vectors - 1) * VEC_LANES;
        for (size_t i = 0; i < m; i += shape->rows) {
            g.a = a + (ptrdiff_t)i * g.a_row;
            g.c = c + (ptrdiff_t)i * g.ldc;
            if (g.k <= g.chain)
                shape->tile[vectors - 1](&g);
            else if (g.k <= GEMM_DEPTH)
                NAMED(gemm_chains)(shape->tile[vectors - 1], vectors, &g);
            else
                NAMED(gemm_deep)(shape->tile[vectors - 1], shape->rows, vectors, g);
        }
        g.b += columns;
        c += columns;
        n -= columns;
        left -= vectors;
    }
}

/* The operands are those of the whole product; k that long. */
static void NAMED(gemm_by)(const NAMED(gemm_shape) * shape, NAMED(gemm_operands) whole, size_t m, size_t n,
                           bool with_tanh) {
    for (size_t i = 0; i < m; shape++) {
        size_t rows = (m - i) / shape->rows * shape->rows;
        if (rows == 0) continue;
        NAMED(gemm_operands) g = whole;
        g.c = whole.c + (ptrdiff_t)i * whole.ldc;
        const size_t step = whole.k > GEMM_DEEP ? whole.k : GEMM_DEPTH;
        for (size_t done = 0; done < whole.k; done += step) {
            g.a = whole.a + (ptrdiff_t)i * whole.a_row + (ptrdiff_t)done * whole.a_depth;
            g.b = whole.b + (ptrdiff_t)done * whole.ldb;
            g.k = whole.k - done < step ? whole.k - done : step;
            g.accumulate = whole.accumulate || done > 0;
            NAMED(gemm_panels)(shape, g, rows, n);
        }
        if (with_tanh) {
            for (size_t r = 0; r < rows; r++)
                NAMED(tanh_row)(g.c + (ptrdiff_t)r * g.ldc, g.c + (ptrdiff_t)r * g.ldc, n);
        }
        i += rows;
    }
}

static void NAMED(gemm)(size_t m, size_t n, size_t k, const void *a, ptrdiff_t lda, const void *b, ptrdiff_t ldb,
                        void *c, ptrdiff_t ldc, int accumulate, int with_tanh) {
    NAMED(gemm_operands)
    g = {.a = a,
         .b = b,
         .c = c,
         .a_row = lda,
         .a_depth = 1,
         .ldb = ldb,
         .ldc = ldc,
         .k = k,
         .chain = GEMM_CHAIN,
         .accumulate = accumulate};
    NAMED(gemm_by)(NAMED(gemm_shapes), g, m, n, with_tanh);
}

static void NAMED(gemm_exact)(size_t m, size_t n, size_t k, const void *a, ptrdiff_t lda, const void *b, ptrdiff_t ldb,
                              void *c, ptrdiff_t ldc) {
    NAMED(gemm_operands)
    g = {.a = a, .b = b, .c = c, .a_row = lda, .a_depth = 1, .ldb = ldb, .ldc = ldc, .k = k, .chain = GEMM_EXACT};
    NAMED(gemm_by)(NAMED(gemm_shapes), g, m, n, false);
}

static void NAMED(gemm_tn)(size_t m, size_t n, size_t k, const void *a, ptrdiff_t lda, const void *b, ptrdiff_t ldb,
                           void *c, ptrdiff_t ldc, int accumulate) {
    NAMED(gemm_operands)
    g = {.a = a,
         .b = b,
         .c = c,
         .a_row = 1,
         .a_depth = lda,
         .ldb = ldb,
         .ldc = ldc,
         .k = k,
         .chain = GEMM_CHAIN,
         .accumulate = accumulate};
    NAMED(gemm_by)(NAMED(gemm_tn_shapes), g, m, n, false);
}

/* A tile's elements fill groups of VEC_LANES sums, row after row. */
#undef GEMM_NT_SUMS
#define GEMM_NT_SUMS (VEC_LANES < 8 ? 8 : VEC_LANES)

/* Columns from `kept` on are not read and count as zeros. */
static ALWAYS_INLINE void NAMED(gemm_nt_step)(size_t rows, size_t columns, size_t kept, const real *a, ptrdiff_t lda,
                                              const real *b, ptrdiff_t ldb, size_t n, vec *sum) {
    vec x[GEMM_NT_SUMS];
    UNROLL for (size_t r = 0; r < rows; r++) x[r] = v_load_n(a + (ptrdiff_t)r * lda, n);
    UNROLL for (size_t j = 0; j < columns; j++) {
        vec y = v_load_n(b + (ptrdiff_t)j * ldb, j < kept ? n : 0);
        UNROLL for (size_t r = 0; r < rows; r++) sum[r * columns + j] = v_fma(x[r], y, sum[r * columns + j]);
    }
}

static ALWAYS_INLINE void NAMED(gemm_nt_chain)(size_t rows, size_t columns, size_t kept, size_t k, const real *a,
                                               ptrdiff_t lda, const real *b, ptrdiff_t ldb, vec *sum) {
    UNROLL for (size_t i = 0; i < rows * columns; i++) sum[i] = v_zero();
    size_t done = 0;
    for (; done + VEC_LANES <= k; done += VEC_LANES)
        NAMED(gemm_nt_step)(rows, columns, kept, a + done, lda, b + done, ldb, VEC_LANES, sum);
    if (done < k) NAMED(gemm_nt_step)(rows, columns, kept, a + done, lda, b + done, ldb, k - done, sum);
}

/* Of a tile, the lanes' sums over any k, in memory. */
#undef GEMM_NT_HALVES
#define GEMM_NT_HALVES(rows)                                                                                           \
    static void NAMED(gemm_nt_sums_##rows)(size_t kept, size_t k, const real *a, ptrdiff_t lda, const real *b,         \
                                           ptrdiff_t ldb, vec *to) {                                                   \
        enum { columns = GEMM_NT_SUMS / rows };                                                                        \
        if (k <= SUM_PART * VEC_LANES) {                                                                               \
            vec sum[GEMM_NT_SUMS];                                                                                     \
            NAMED(gemm_nt_chain)(rows, columns, kept, k, a, lda, b, ldb, sum);                                         \
            UNROLL for (size_t i = 0; i < GEMM_NT_SUMS; i++) to[i] = sum[i];                                           \
            return;                                                                                                    \
        }                                                                                                              \
        const size_t half = NAMED(first_half)(k);                                                                      \
        vec other[GEMM_NT_SUMS];                                                                                       \
        NAMED(gemm_nt_sums_##rows)(kept, half, a, lda, b, ldb, to);                                                    \
        NAMED(gemm_nt_sums_##rows)(kept, k - half, a + half, lda, b + half, ldb, other);                               \
        for (size_t i = 0; i < GEMM_NT_SUMS; i++) to[i] = v_add(to[i], other[i]);                                      \
    }
GEMM_NT_HALVES(1)
GEMM_NT_HALVES(4)

static ALWAYS_INLINE void NAMED(gemm_nt_put)(size_t rows, size_t columns, size_t kept, const vec *sum, real *c,
                                             ptrdiff_t ldc) {
    real element[GEMM_NT_SUMS];
    UNROLL for (size_t i = 0; i < rows * columns; i += VEC_LANES) v_store(element + i, v_sum_each(sum + i));
    UNROLL for (size_t r = 0; r < rows; r++) memcpy(c + (ptrdiff_t)r * ldc, element + r * columns, kept * sizeof(real));
}

static ALWAYS_INLINE void NAMED(gemm_nt_tile)(size_t rows, size_t columns, size_t kept, size_t k, const real *a,
                                              ptrdiff_t lda, const real *b, ptrdiff_t ldb, real *c, ptrdiff_t ldc) {
    vec sum[GEMM_NT_SUMS];
    NAMED(gemm_nt_chain)(rows, columns, kept, k, a, lda, b, ldb, sum);
    NAMED(gemm_nt_put)(rows, columns, kept, sum, c, ldc);
}

/* The last tile is moved back over columns that are done already, which get the same bits again. */
#undef GEMM_NT_PANELS
#define GEMM_NT_PANELS(rows)                                                                                           \
    static void NAMED(gemm_nt_long_##rows)(size_t n, size_t k, const real *a, ptrdiff_t lda, const real *b,            \
                                           ptrdiff_t ldb, real *c, ptrdiff_t ldc) {                                    \
        enum { columns = GEMM_NT_SUMS / rows };                                                                        \
        for (size_t done = 0; done < n; done += columns) {                                                             \
            const size_t j = n < columns || done < n - columns ? done : n - columns;                                   \
            const size_t kept = n < columns ? n : columns;                                                             \
            vec sum[GEMM_NT_SUMS];                                                                                     \
            NAMED(gemm_nt_sums_##rows)(kept, k, a, lda, b + (ptrdiff_t)j * ldb, ldb, sum);                             \
            NAMED(gemm_nt_put)(rows, columns, kept, sum, c + j, ldc);                                                  \
        }                                                                                                              \
    }                                                                                                                  \
    static void NAMED(gemm_nt_##rows)(size_t n, size_t k, const real *a, ptrdiff_t lda, const real *b, ptrdiff_t ldb,  \
                                      real *c, ptrdiff_t ldc) {                                                        \
        enum { columns = GEMM_NT_SUMS / rows };                                                                        \
        if (k > SUM_PART * VEC_LANES) {                                                                                \
            NAMED(gemm_nt_long_##rows)(n, k, a, lda, b, ldb, c, ldc);                                                  \
            return;                                                                                                    \
        }                                                                                                              \
        if (n < columns) NAMED(gemm_nt_tile)(rows, columns, n, k, a, lda, b, ldb, c, ldc);                             \
        for (size_t done = 0; n >= columns && done < n; done += columns) {                                             \
            const size_t j = done < n - columns ? done : n - columns;                                                  \
            NAMED(gemm_nt_tile)(rows, columns, columns, k, a, lda, b + (ptrdiff_t)j * ldb, ldb, c + j, ldc);           \
        }                                                                                                              \
    }
GEMM_NT_PANELS(1)
GEMM_NT_PANELS(4)

static void NAMED(gemm_nt)(size_t m, size_t n, size_t k, const void *a, ptrdiff_t lda, const void *b, ptrdiff_t ldb,
                           void *c, ptrdiff_t ldc) {
    const real *from = a;
    real *to = c;
    size_t i = 0;
    for (; i + 4 <= m; i += 4)
        NAMED(gemm_nt_4)(n, k, from + (ptrdiff_t)i * lda, lda, b, ldb, to + (ptrdiff_t)i * ldc, ldc);
    for (; i < m; i++) NAMED(gemm_nt_1)(n, k, from + (ptrdiff_t)i * lda, lda, b, ldb, to + (ptrdiff_t)i * ldc, ldc);
}

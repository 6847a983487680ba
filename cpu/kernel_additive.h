/* The additive score, fused with the running softmax: e[s] = sum over a of v[a] tanh((H[s] W2)[a] + qw[a]).
 * A template, see vec_names.h.
 *
 * Rows go in blocks that the first cache holds. H W2 is built tile by tile, a few rows by a few vectors of columns whose sums stay
 * in registers. The tanh of a finished tile is a job that the next tile works off, one vector every few steps of
 * its own product: tanh then runs on what the multiplications leave idle, permutations and loads. With several queries
 * the product of a block is kept and serves them all.
 *
 * Columns fill whole vectors, the last one padded with zeros. In float32, one to four columns left over don't: as many
 * rows as there are fours in a vector share one (with 16 lanes, A = 100 takes 6 1/4 vectors a row, not 7).
 *
 * Every element of H W2 is one chain of fused multiply-adds over k, broken at boundaries that depend on D alone, and every score is
 * summed in one order, wherever its row stands. */
/* SPDX-License-Identifier: Apache-2.0 */

#undef ADDITIVE_ROWS
#undef ADDITIVE_VECTORS
#if VEC_BITS == 512
#define ADDITIVE_ROWS 8 /* by 3 vectors and 2 shared ones: 26 sums in 32 registers */
#define ADDITIVE_VECTORS 3
#else
#define ADDITIVE_ROWS 4 /* by 2 vectors and 2 shared ones: 10 sums in 16 registers, which leaves some to tanh */
#define ADDITIVE_VECTORS 2
#endif
#undef ADDITIVE_BLOCK
#define ADDITIVE_BLOCK 32 /* rows: at D = 100, 13 KB of H beside the 19 KB of a panel of W2 */
#undef ADDITIVE_DEPTH
#define ADDITIVE_DEPTH 128 /* bounds the rounding error of a chain, and a panel of W2 by the first cache */
#undef ADDITIVE_PACE
#define ADDITIVE_PACE 4 /* steps of k to one tanh */

#undef ADDITIVE_GROUPS
#define ADDITIVE_GROUPS (ADDITIVE_BLOCK / GROUP_ROWS)
#undef ADDITIVE_TILES
#define ADDITIVE_TILES (ADDITIVE_BLOCK / ADDITIVE_ROWS)
#undef ADDITIVE_FOURS
#define ADDITIVE_FOURS (REAL_BITS == 32 && VEC_LANES >= 8)
#undef ROWS_SHARING
#define ROWS_SHARING (ADDITIVE_FOURS ? VEC_LANES / 4 : 1) /* a vector */
#undef ADDITIVE_SHARED
#define ADDITIVE_SHARED (ADDITIVE_ROWS / ROWS_SHARING) /* vectors a tile */
#undef ADDITIVE_SLOTS
#define ADDITIVE_SLOTS                                                                                                 \
    (ADDITIVE_ROWS + ADDITIVE_SHARED) /* partial scores of a tile: its rows', then its shared vectors' */
#undef ADDITIVE_SUMS
#define ADDITIVE_SUMS (ADDITIVE_TILES * ADDITIVE_SLOTS * VEC_LANES)

/* Packed: v, padded; the panels of W2, each (D, its columns); the columns that go in fours, (D, 4). */
typedef struct NAMED(additive_shape) {
    size_t features, width;
    size_t vectors; /* of columns */
    bool fours;     /* columns are left that go in fours */
    size_t padded;  /* columns, the fours counted as a vector */
} NAMED(additive_shape);

static NAMED(additive_shape) NAMED(additive_shape_of)(size_t features, size_t score_width) {
    size_t whole = score_width / VEC_LANES, rest = score_width % VEC_LANES;
    bool fours = ADDITIVE_FOURS && whole > 0 && rest > 0 && rest <= 4;
    size_t padded = (whole + (rest > 0)) * VEC_LANES;
    return (NAMED(additive_shape)){features, score_width, whole + (rest > 0 && !fours), fours, padded};
}

/* Panels are as equal in width as whole vectors allow; `left` vectors are still to go. */
static size_t NAMED(panel_vectors)(size_t left) {
    size_t panels = (left + ADDITIVE_VECTORS - 1) / ADDITIVE_VECTORS;
    return (left + panels - 1) / panels;
}

/* A row of the score's width, padded; what goes in fours is repeated. */
static void NAMED(pad_columns)(const NAMED(additive_shape) * shape, const real *from, real *to) {
    memcpy(to, from, shape->width * sizeof(real));
    memset(to + shape->width, 0, (shape->padded - shape->width) * sizeof(real));
    if (!shape->fours) return;
    real *last = to + shape->vectors * VEC_LANES;
    for (size_t i = 4; i < VEC_LANES; i += 4) memcpy(last + i, last, 4 * sizeof(real));
}

static size_t NAMED(packed_additive_size)(size_t features, size_t score_width, int with_w2) {
    NAMED(additive_shape) shape = NAMED(additive_shape_of)(features, score_width);
    size_t columns = shape.vectors * VEC_LANES + (shape.fours ? 4 : 0);
    return (shape.padded + (with_w2 ? features * columns : 0)) * sizeof(real);
}

/* Columns from `from` on, `kept` of them and zeros up to whole vectors. */
static real *NAMED(pack_panel)(size_t rows, size_t stride, const real *from, size_t kept, size_t vectors, real *to) {
    size_t rest = kept - (vectors - 1) * VEC_LANES;
    for (size_t k = 0; k < rows; k++, from += stride, to += VEC_LANES) {
        const real *at = from;
        for (size_t j = 1; j < vectors; j++, at += VEC_LANES, to += VEC_LANES) v_store(to, v_load(at));
        v_store(to, v_load_n(at, rest));
    }
    return to;
}

/* The columns that go in fours, `kept` of them. */
static void NAMED(pack_fours)(size_t rows, size_t stride, const real *from, size_t kept, real *to) {
    for (size_t k = 0; k < rows; k++, from += stride, to += 4) {
        for (size_t j = 0; j < 4; j++) to[j] = j < kept ? from[j] : 0;
    }
}

static void NAMED(pack_additive)(size_t features, size_t score_width, const void *w2, const void *v, void *packed) {
    NAMED(additive_shape) shape = NAMED(additive_shape_of)(features, score_width);
    NAMED(pad_columns)(&shape, v, packed);
    if (!w2) return;
    real *to = (real *)packed + shape.padded;
    const real *from = w2;
    size_t width = score_width;
    for (size_t left = shape.vectors; left > 0;) {
        size_t vectors = NAMED(panel_vectors)(left), columns = vectors * VEC_LANES;
        size_t kept = columns < width ? columns : width;
        to = NAMED(pack_panel)(features, score_width, from, kept, vectors, to);
        from += kept;
        width -= kept;
        left -= vectors;
    }
    if (shape.fours) NAMED(pack_fours)(features, score_width, from, width, to);
}

/* tanh of one tile's product: its vectors in the order of z, `next` to `end`. */
typedef struct NAMED(tanh_job) {
    real *z;            /* see tile_operands */
    const real *qw, *v; /* from the tile's first column on */
    real *sums;         /* the tile's slots */
    size_t next, end, row_bits, vectors;
    real *kept[ADDITIVE_ROWS]; /* where the rows' tanh go, from the tile's first column on; NULL: nowhere */
    size_t columns;            /* that they have from there on */
} NAMED(tanh_job);

/* A vector of a row's tanh, or of the columns that several rows share one for, to where the rows' are kept. */
static ALWAYS_INLINE void NAMED(keep_tanh)(const NAMED(tanh_job) * job, size_t row, size_t column, vec t) {
    size_t left = job->columns - column * VEC_LANES;
    if (column < job->vectors) {
        v_store_n(job->kept[row] + column * VEC_LANES, t, left < VEC_LANES ? left : VEC_LANES);
        return;
    }
    real shared[VEC_LANES];
    v_store(shared, t);
    for (size_t i = 0; i < ROWS_SHARING; i++) {
        real *to = job->kept[row * ROWS_SHARING + i] + column * VEC_LANES;
        v_store_n(to, v_load_n(shared + i * 4, left), left);
    }
}

static ALWAYS_INLINE void NAMED(tanh_step)(NAMED(tanh_job) * job) {
    size_t i = job->next++, column = i >> job->row_bits, row = i - (column << job->row_bits);
    real *sum = job->sums + (row + (column == job->vectors ? ADDITIVE_ROWS : 0)) * VEC_LANES;
    vec t = v_tanh(v_add(v_load(job->z + i * VEC_LANES), v_load(job->qw + column * VEC_LANES)));
    v_store(sum, v_fma(v_load(job->v + column * VEC_LANES), t, v_load(sum)));
    if (job->kept[0]) NAMED(keep_tanh)(job, row, column, t);
}

static void NAMED(finish_job)(NAMED(tanh_job) * job) {
    while (job->next < job->end) NAMED(tanh_step)(job);
}

typedef struct NAMED(tile_operands) {
    const NAMED(row_group) * group;
    size_t row; /* the tile's first, counted from the group's first */
    const real *w, *w_fours;
    real *z; /* the tile's product: (vectors, rows) of vectors, then the shared ones */
    size_t first, depth;
    bool accumulate;
} NAMED(tile_operands);

static ALWAYS_INLINE void NAMED(product_tile)(const NAMED(tile_operands) * g, NAMED(tanh_job) * job, size_t rows,
                                              size_t vectors, bool fours) {
    vec sum[ADDITIVE_ROWS][3], shared[ADDITIVE_SHARED];
    const real *row[ADDITIVE_ROWS], *w = g->w, *w_fours = g->w_fours;
    UNROLL for (size_t r = 0; r < rows; r++) {
        row[r] = g->group[(g->row + r) / GROUP_ROWS].row[(g->row + r) % GROUP_ROWS] + g->first;
        UNROLL for (size_t j = 0; j < vectors; j++) sum[r][j] = v_zero();
        shared[r / ROWS_SHARING] = v_zero();
    }

#define STEP(k)                                                                                                        \
    do {                                                                                                               \
        vec b[3], b4 = v_zero(), x4 = v_zero();                                                                        \
        UNROLL for (size_t c = 0; c < vectors; c++) b[c] = v_load(w + ((k)*vectors + c) * VEC_LANES);                  \
        if (fours) b4 = v_load_fours(w_fours + (k)*4);                                                                 \
        UNROLL for (size_t r = 0; r < rows; r++) {                                                                     \
            vec x = v_set1(row[r][k]);                                                                                 \
            UNROLL for (size_t c = 0; c < vectors; c++) sum[r][c] = v_fma(x, b[c], sum[r][c]);                         \
            size_t place = r % ROWS_SHARING, s = r / ROWS_SHARING;                                                     \
            if (fours) x4 = place == 0 ? x : v_put_four(x4, x, (int)place);                                            \
            if (fours && place + 1 == ROWS_SHARING) shared[s] = v_fma(x4, b4, shared[s]);                              \
        }                                                                                                              \
    } while (0)
    size_t k = 0, tanhs = job->end - job->next, most = g->depth / ADDITIVE_PACE;
    for (size_t end = (tanhs < most ? tanhs : most) * ADDITIVE_PACE; k < end; k += ADDITIVE_PACE) {
        UNROLL for (size_t j = 0; j < ADDITIVE_PACE; j++) STEP(k + j);
        NAMED(tanh_step)(job);
    }
    for (; k < g->depth; k++) STEP(k);
#undef STEP
    NAMED(finish_job)(job); /* its z may be this one's */

    real *z = g->z;
    UNROLL for (size_t j = 0; j < vectors; j++) {
        UNROLL for (size_t r = 0; r < rows; r++, z += VEC_LANES) {
            v_store(z, g->accumulate ? v_add(v_load(z), sum[r][j]) : sum[r][j]);
        }
    }
    if (!fours) return;
    UNROLL for (size_t i = 0; i < rows / ROWS_SHARING; i++, z += VEC_LANES) {
        v_store(z, g->accumulate ? v_add(v_load(z), shared[i]) : shared[i]);
    }
}

/* One function a tile, so that its sizes are constants: [is it tall][are there fours][vectors - 1]. */
#undef PRODUCT_TILE
#define PRODUCT_TILE(rows, vectors, fours)                                                                             \
    static void NAMED(product_##rows##x##vectors##_##fours)(const NAMED(tile_operands) * g, NAMED(tanh_job) * job) {   \
        NAMED(product_tile)(g, job, rows, vectors, ADDITIVE_FOURS && fours);                                           \
    }
#undef PRODUCT_TILES
#define PRODUCT_TILES(rows)                                                                                            \
    PRODUCT_TILE(rows, 1, 0)                                                                                           \
    PRODUCT_TILE(rows, 2, 0)                                                                                           \
    PRODUCT_TILE(rows, 3, 0) PRODUCT_TILE(rows, 1, 1) PRODUCT_TILE(rows, 2, 1) PRODUCT_TILE(rows, 3, 1)
#undef PRODUCT_ROW
#define PRODUCT_ROW(rows)                                                                                              \
    {                                                                                                                  \
        {NAMED(product_##rows##x1_0), NAMED(product_##rows##x2_0), NAMED(product_##rows##x3_0)}, {                     \
            NAMED(product_##rows##x1_1), NAMED(product_##rows##x2_1), NAMED(product_##rows##x3_1)                      \
        }                                                                                                              \
    }
PRODUCT_TILES(4)
#if ADDITIVE_ROWS == 8
PRODUCT_TILES(8)
#endif
static void (*const NAMED(product_tiles)[][2][3])(const NAMED(tile_operands) *, NAMED(tanh_job) *) = {
    PRODUCT_ROW(4),
#if ADDITIVE_ROWS == 8
    PRODUCT_ROW(8),
#endif
};

/* A block: rows that some query attends, in groups whose scores fill a vector, and what is known of them. */
typedef struct NAMED(additive_block) {
    NAMED(row_group) group[ADDITIVE_GROUPS];
    size_t groups, count;
    const real *ahead; /* the row after the block: rows from there on are fetched meanwhile */
    ptrdiff_t stride;
    size_t step, fetched; /* that row's step */
    real *sums;           /* its partial scores: ADDITIVE_SLOTS vectors a tile */
} NAMED(additive_block);

static void NAMED(next_block)(const attn_rows *rows, size_t queries, size_t *step, NAMED(additive_block) * block) {
    block->groups = block->count = block->fetched = 0;
    while (block->groups < ADDITIVE_GROUPS && *step < rows->rows) {
        NAMED(row_group) *group = &block->group[block->groups];
        NAMED(next_group)(rows, queries, step, group);
        if (group->count == 0) break;
        block->count += group->count; /* only the last group has free places */
        block->groups++;
    }
    block->ahead = (const real *)((uintptr_t)rows->h + (uintptr_t)((ptrdiff_t)*step * rows->h_time) * sizeof(real));
    block->stride = rows->h_time;
    block->step = *step;
}

typedef struct NAMED(additive_work) {
    NAMED(additive_shape) shape;
    const real *v, *w2, *w2_fours;
    const real *raw; /* W2 as the caller has it, packed piece by piece into piece and piece_fours; NULL: w2 holds it */
    real *piece, *piece_fours;
    real *qw;        /* of one query, padded */
    real *sums;      /* of two blocks */
    real *z;         /* products: of one tile, of a panel's tiles, or of all */
    real *tanh;      /* of one query's rows: kept for a backward pass; NULL: not */
    size_t depth;    /* of a piece of k */
    size_t ahead;    /* rows to fetch before each tile, for all of the next block in all of this one's panels */
    bool keep_all;   /* several queries share the products */
    bool keep_tiles; /* products grow piece by piece */
} NAMED(additive_work);

static NAMED(additive_work) NAMED(additive_work_in)(size_t features, size_t score_width, size_t queries,
                                                    const attn_additive_weights *weights, real *scratch) {
    NAMED(additive_shape) shape = NAMED(additive_shape_of)(features, score_width);
    const real *packed = weights->packed;
    NAMED(additive_work) work = {.shape = shape, .v = packed, .raw = weights->w2, .keep_all = queries > 1};
    work.piece = scratch;
    work.piece_fours = work.piece + ADDITIVE_DEPTH * ADDITIVE_VECTORS * VEC_LANES;
    work.qw = work.piece_fours + ADDITIVE_DEPTH * 4;
    work.w2 = packed + shape.padded;
    work.w2_fours = work.w2 + features * shape.vectors * VEC_LANES;
    work.sums = work.qw + shape.padded;
    work.z = work.sums + 2 * ADDITIVE_SUMS;
    size_t pieces = (features + ADDITIVE_DEPTH - 1) / ADDITIVE_DEPTH;
    work.depth = (features + pieces - 1) / pieces;
    work.keep_tiles = work.keep_all || pieces > 1;
    size_t panels = (shape.vectors + ADDITIVE_VECTORS - 1) / ADDITIVE_VECTORS;
    work.ahead = (ADDITIVE_ROWS + panels - 1) / panels;
    return work;
}

static size_t NAMED(additive_scratch)(size_t features, size_t score_width) {
    size_t padded = NAMED(additive_shape_of)(features, score_width).padded;
    size_t piece = ADDITIVE_DEPTH * (ADDITIVE_VECTORS * VEC_LANES + 4);
    return (piece + padded * (1 + ADDITIVE_BLOCK) + 2 * ADDITIVE_SUMS) * sizeof(real);
}

static void NAMED(clear_sums)(const NAMED(additive_block) * block) {
    for (size_t i = 0; i < ADDITIVE_SUMS; i += VEC_LANES) v_store(block->sums + i, v_zero());
}

/* Columns from vector `first` on. */
typedef struct NAMED(panel) {
    size_t first, vectors;
    bool fours; /* the last panel takes them along */
} NAMED(panel);

static bool NAMED(next_panel)(const NAMED(additive_shape) * shape, NAMED(panel) * panel) {
    panel->first += panel->vectors;
    size_t left = shape->vectors - panel->first;
    if (left == 0) return false;
    panel->vectors = NAMED(panel_vectors)(left);
    panel->fours = shape->fours && panel->vectors == left;
    return true;
}

static size_t NAMED(tile_rows)(const NAMED(additive_block) * block, size_t tile) {
    return block->count - tile * ADDITIVE_ROWS > 4 ? ADDITIVE_ROWS : 4;
}

static real *NAMED(product_place)(const NAMED(additive_work) * work, const NAMED(panel) * panel, size_t tile) {
    size_t tile_size = panel->vectors * ADDITIVE_ROWS + (panel->fours ? ADDITIVE_SHARED : 0);
    size_t place = work->keep_tiles ? tile * tile_size : 0;
    if (work->keep_all) place += panel->first * ADDITIVE_BLOCK;
    return work->z + place * VEC_LANES;
}

/* Where the tanh of a tile's rows are kept. A free place stands for the row that it repeats. */
static void NAMED(place_kept)(const NAMED(additive_work) * work, const NAMED(additive_block) * block,
                              const NAMED(panel) * panel, size_t tile, NAMED(tanh_job) * job) {
    job->kept[0] = NULL;
    if (!work->tanh) return;
    job->columns = work->shape.width - panel->first * VEC_LANES;
    for (size_t r = 0; r < ADDITIVE_ROWS; r++) {
        size_t place = tile * ADDITIVE_ROWS + r, lane = place % GROUP_ROWS;
        const NAMED(row_group) *group = &block->group[place / GROUP_ROWS < block->groups ? place / GROUP_ROWS : 0];
        size_t step = group->step[place < block->count ? lane : 0];
        job->kept[r] = work->tanh + step * work->shape.width + panel->first * VEC_LANES;
    }
}

/* A tile of a panel: where its product lies, and how that becomes partial scores. */
static void NAMED(start_job)(const NAMED(additive_work) * work, const NAMED(additive_block) * block,
                             const NAMED(panel) * panel, size_t tile, NAMED(tanh_job) * job) {
    size_t rows = NAMED(tile_rows)(block, tile);
    job->z = NAMED(product_place)(work, panel, tile);
    job->qw = work->qw + panel->first * VEC_LANES;
    job->v = work->v + panel->first * VEC_LANES;
    job->sums = block->sums + tile * ADDITIVE_SLOTS * VEC_LANES;
    job->next = 0;
    job->end = panel->vectors * rows + (panel->fours ? rows / ROWS_SHARING : 0);
    job->row_bits = rows == 8 ? 3 : 2;
    job->vectors = panel->vectors;
    NAMED(place_kept)(work, block, panel, tile, job);
}

/* Before each tile, fetches some of the next block's rows, and of where their tanh are kept. It may go past the last row: a
 * prefetch reads nothing. */
static void NAMED(fetch_ahead)(const NAMED(additive_work) * work, NAMED(additive_block) * block) {
    const size_t row_bytes = work->shape.features * sizeof(real), kept_bytes = work->shape.width * sizeof(real);
    for (size_t rows = work->ahead; rows > 0 && block->fetched < ADDITIVE_BLOCK; rows--, block->fetched++) {
        uintptr_t row = (uintptr_t)block->ahead + (uintptr_t)((ptrdiff_t)block->fetched * block->stride) * sizeof(real);
        for (size_t i = 0; i < row_bytes; i += 64) __builtin_prefetch((const void *)(row + i), 0, 3);
        if (!work->tanh) continue;
        uintptr_t kept = (uintptr_t)work->tanh + (block->step + block->fetched) * kept_bytes;
        for (size_t i = 0; i < kept_bytes; i += 64) __builtin_prefetch((const void *)(kept + i), 1, 3);
    }
}

/* The scores of the rows from `first` on: their slots' lanes, summed. Shared vectors hold four columns of each row; they join the first
 * four lanes. */
static vec NAMED(additive_scores)(const NAMED(additive_block) * block, size_t first, bool fours) {
    vec sums[VEC_LANES];
    UNROLL for (size_t i = 0; i < VEC_LANES; i++) {
        size_t row = first + i, tile = row / ADDITIVE_ROWS, in_tile = row % ADDITIVE_ROWS;
        const real *slots = block->sums + tile * ADDITIVE_SLOTS * VEC_LANES;
        sums[i] = v_load(slots + in_tile * VEC_LANES);
        if (fours) sums[i] = v_add(sums[i], v_load_n(slots + ADDITIVE_ROWS * VEC_LANES + in_tile * 4, 4));
    }
    return v_sum_each(sums);
}

/* What a block's scores are folded into: one query's outputs. */
typedef struct NAMED(additive_query) {
    const attn_rows *rows;
    size_t index;
    real *maximum, *sum, *context, *scores;
} NAMED(additive_query);

static ALWAYS_INLINE void NAMED(fold_block_sized)(const NAMED(additive_block) * block,
                                                  const NAMED(additive_query) * query, bool fours, size_t full,
                                                  size_t tail) {
    for (size_t i = 0; i < block->groups; i++) {
        const NAMED(row_group) *group = &block->group[i];
        vec keep[GROUP_VECTORS], e[GROUP_VECTORS];
        NAMED(kept_lanes)(query->rows, group, query->index, keep);
        for (size_t j = 0; j < GROUP_VECTORS; j++)
            e[j] = NAMED(additive_scores)(block, i * GROUP_ROWS + j * VEC_LANES, fours);
        NAMED(hide_lanes)(keep, e);
        if (query->scores) NAMED(put_scores)(group, e, query->scores);
        NAMED(fold_group)(group, e, keep, query->maximum, query->sum, query->context, full, tail);
    }
}

static void NAMED(fold_block)(const NAMED(additive_block) * block, const NAMED(additive_query) * query, bool fours) {
    size_t features = query->rows->features, full = (features - 1) / VEC_LANES, tail = features - full * VEC_LANES;
#define SIZED(n)                                                                                                       \
    case n:                                                                                                            \
        NAMED(fold_block_sized)(block, query, fours, n, tail);                                                         \
        break
    switch (full) {
        SIZED(0);
        SIZED(1);
        SIZED(2);
        SIZED(3);
        SIZED(4);
        SIZED(5);
        SIZED(6);
        SIZED(7);
    default:
        NAMED(fold_block_sized)(block, query, fours, full, tail);
    }
#undef SIZED
}

/* What goes along with the products of one query: the tanh of the tile before, and scores of the block before. */
typedef struct NAMED(pipeline) {
    NAMED(tanh_job) job;
    const NAMED(additive_block) * before; /* folded as soon as its last job is done; NULL: none */
    NAMED(additive_query) query;
} NAMED(pipeline);

static void NAMED(fold_before)(const NAMED(additive_work) * work, NAMED(pipeline) * pipeline) {
    if (!pipeline->before) return;
    NAMED(fold_block)(pipeline->before, &pipeline->query, work->shape.fours);
    pipeline->before = NULL;
}

/* The rows of a panel that the next product takes. */
static void NAMED(next_piece)(const NAMED(additive_work) * work, const NAMED(panel) * panel, NAMED(tile_operands) * g) {
    const size_t column = panel->first * VEC_LANES, columns = panel->vectors * VEC_LANES, width = work->shape.width;
    if (!work->raw) {
        g->w = work->w2 + work->shape.features * column + g->first * columns;
        g->w_fours = work->w2_fours + g->first * 4;
        return;
    }
    const real *from = work->raw + g->first * width + column;
    size_t kept = columns < width - column ? columns : width - column;
    NAMED(pack_panel)(g->depth, width, from, kept, panel->vectors, work->piece);
    if (panel->fours) NAMED(pack_fours)(g->depth, width, from + columns, width - column - columns, work->piece_fours);
    g->w = work->piece;
    g->w_fours = work->piece_fours;
}

/* A panel's product with the block. */
static void NAMED(panel_product)(const NAMED(additive_work) * work, NAMED(additive_block) * block,
                                 const NAMED(panel) * panel, NAMED(pipeline) * pipeline) {
    const size_t features = work->shape.features;
    NAMED(tile_operands) g = {.group = block->group};
    for (size_t first = 0; first < features; first += work->depth) {
        bool last = first + work->depth >= features;
        g.first = first;
        g.depth = last ? features - first : work->depth;
        g.accumulate = first > 0;
        NAMED(next_piece)(work, panel, &g);
        for (size_t tile = 0; tile * ADDITIVE_ROWS < block->count; tile++) {
            bool tall = NAMED(tile_rows)(block, tile) > 4;
            g.row = tile * ADDITIVE_ROWS;
            g.z = NAMED(product_place)(work, panel, tile);
            NAMED(fetch_ahead)(work, block);
            NAMED(product_tiles)[tall][panel->fours][panel->vectors - 1](&g, &pipeline->job);
            NAMED(fold_before)(work, pipeline);
            if (last && !work->keep_all) NAMED(start_job)(work, block, panel, tile, &pipeline->job);
        }
    }
}

static void NAMED(block_product)(const NAMED(additive_work) * work, NAMED(additive_block) * block,
                                 NAMED(pipeline) * pipeline) {
    for (NAMED(panel) panel = {0}; NAMED(next_panel)(&work->shape, &panel);) {
        NAMED(panel_product)(work, block, &panel, pipeline);
    }
}

static void NAMED(additive_one_query)(const NAMED(additive_work) * work, const real *qw,
                                      const NAMED(additive_query) * query) {
    NAMED(additive_block) blocks[2];
    NAMED(pipeline) pipeline = {.query = *query};
    NAMED(pad_columns)(&work->shape, qw, work->qw);
    for (size_t step = 0, turn = 0;; turn ^= 1) {
        NAMED(additive_block) *block = &blocks[turn];
        NAMED(next_block)(query->rows, 1, &step, block);
        if (block->count == 0) break;
        block->sums = work->sums + turn * ADDITIVE_SUMS;
        NAMED(clear_sums)(block);
        NAMED(block_product)(work, block, &pipeline);
        pipeline.before = block;
    }
    NAMED(finish_job)(&pipeline.job);
    NAMED(fold_before)(work, &pipeline);
}

/* Partial scores for one query out of the kept products. */
static void NAMED(tanh_of_all)(const NAMED(additive_work) * work, const NAMED(additive_block) * block) {
    for (NAMED(panel) panel = {0}; NAMED(next_panel)(&work->shape, &panel);) {
        for (size_t tile = 0; tile * ADDITIVE_ROWS < block->count; tile++) {
            NAMED(tanh_job) job;
            NAMED(start_job)(work, block, &panel, tile, &job);
            NAMED(finish_job)(&job);
        }
    }
}

static void NAMED(additive_queries)(const NAMED(additive_work) * work, const real *qw, size_t qw_stride, size_t queries,
                                    const attn_partial *partial, NAMED(additive_query) query, ptrdiff_t scores_stride) {
    NAMED(additive_block) block = {.sums = work->sums};
    NAMED(pipeline) idle = {.job.end = 0};
    real *scores = query.scores;
    for (size_t step = 0;;) {
        NAMED(next_block)(query.rows, queries, &step, &block);
        if (block.count == 0) break;
        NAMED(block_product)(work, &block, &idle);
        for (size_t i = 0; i < queries; i++) {
            NAMED(pad_columns)(&work->shape, qw + i * qw_stride, work->qw);
            NAMED(clear_sums)(&block);
            NAMED(tanh_of_all)(work, &block);
            query.index = i;
            query.maximum = (real *)partial->maximum + i;
            query.sum = (real *)partial->sum + i;
            query.context = (real *)partial->context + i * partial->context_stride;
            if (scores) query.scores = scores + (ptrdiff_t)i * scores_stride;
            NAMED(fold_block)(&block, &query, work->shape.fours);
        }
    }
}

static void NAMED(additive_rows)(const attn_rows *rows, const void *qw, size_t qw_stride, size_t queries,
                                 const attn_additive_weights *weights, size_t score_width, const attn_partial *partial,
                                 void *scores, ptrdiff_t scores_stride, void *tanh, void *scratch) {
    NAMED(additive_work) work = NAMED(additive_work_in)(rows->features, score_width, queries, weights, scratch);
    work.tanh = tanh;
    NAMED(additive_query)
    query = {
        .rows = rows, .maximum = partial->maximum, .sum = partial->sum, .context = partial->context, .scores = scores};
    if (scores && rows->mask) NAMED(hide_all)(scores, scores_stride, queries, rows->rows);
    if (queries == 1) {
        NAMED(additive_one_query)(&work, qw, &query);
    } else {
        NAMED(additive_queries)(&work, qw, qw_stride, queries, partial, query, scores_stride);
    }
}

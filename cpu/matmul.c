/* SPDX-License-Identifier: Apache-2.0 */
/* The batched matrix product by tiles of C, each multiplied into scratch and then scaled and added to where it belongs. A deep product is the
 * sum of some of TILE_DEPTH, by a tree (tree.h). */
#include "cpu/blocks.h"
#include "cpu/tree.h"
#include "cpu/units.h"

#include <string.h>

/* Fixed: how OpenBLAS sums depends on them. */
enum { TILE_ROWS = 64, TILE_COLUMNS = 256, TILE_DEPTH = 4096 };

typedef struct matmul {
    const attn_matmul_call *call;
    attn_matmul_problem sizes;
    const attn_products *products;
    size_t element, row_tiles, column_tiles;
    size_t levels; /* of sums of pieces */
} matmul;

static attn_units describe(const attn_device *device, const attn_matmul_problem *problem, matmul *m) {
    *m = (matmul){.sizes = *problem,
                  .element = problem->dtype == ATTN_FLOAT32 ? sizeof(float) : sizeof(double),
                  .row_tiles = divide_up(problem->rows, TILE_ROWS),
                  .column_tiles = divide_up(problem->columns, TILE_COLUMNS),
                  .levels = attn_tree_levels(divide_up(problem->depth, TILE_DEPTH))};
    attn_carver carver = {.base = NULL};
    const size_t tiles =
        problem->depth > TILE_DEPTH ? m->levels + 1 : 1; /* the sums, the last of which is the product; a piece */
    attn_carve(&carver, tiles * TILE_ROWS * TILE_COLUMNS, m->element);
    return (attn_units){.argument = m,
                        .count = problem->batch * problem->heads * m->row_tiles * m->column_tiles,
                        .scratch_size = attn_carved_size(&carver),
                        .slots = (size_t)attn_threads_count(device->threads)};
}

size_t attn_matmul_workspace_size(const attn_implementation *implementation, const attn_device *device,
                                  const attn_matmul_problem *planned) {
    (void)implementation;
    matmul m;
    attn_units units = describe(device, planned, &m);
    attn_carver carver = {.base = NULL};
    attn_units_carve(&units, &carver);
    return attn_carved_size(&carver);
}

static const char *at(const matmul *m, const void *data, const attn_strides *strides, size_t item, size_t head,
                      size_t row, size_t column) {
    const ptrdiff_t place = (ptrdiff_t)item * strides->batch + (ptrdiff_t)head * strides->head +
                            (ptrdiff_t)row * strides->row + (ptrdiff_t)column;
    return (const char *)data + place * (ptrdiff_t)m->element;
}

/* to = alpha from + beta to, from step elements apart. */
static void combine(const matmul *m, const char *from, size_t step, char *to, size_t n) {
    const double alpha = m->call->alpha, beta = m->call->beta;
    if (m->sizes.dtype == ATTN_FLOAT32) {
        const float *t = (const float *)from;
        float *c = (float *)to;
        for (size_t j = 0; j < n; j++)
            c[j] = (float)(alpha * (double)t[j * step] + (beta != 0 ? beta * (double)c[j] : 0));
        return;
    }
    const double *t = (const double *)from;
    double *c = (double *)to;
    for (size_t j = 0; j < n; j++) c[j] = alpha * t[j * step] + (beta != 0 ? beta * c[j] : 0);
}

/* op(A) op(B) of a tile; both transposed, it is (B A) that is computed, whose transpose the tile is. */
static void multiply_piece(const matmul *m, const char *a, const char *b, size_t rows, size_t columns, size_t first,
                           char *tile) {
    const attn_products *p = m->products;
    const attn_matmul_problem *s = &m->sizes;
    const size_t lda = (size_t)m->call->a_strides.row, ldb = (size_t)m->call->b_strides.row,
                 depth = least(TILE_DEPTH, s->depth - first);
    a += first * (s->transpose_a ? lda : 1) * m->element;
    b += first * (s->transpose_b ? 1 : ldb) * m->element;
    if (s->transpose_a && s->transpose_b)
        p->nn(p, s->dtype, columns, rows, depth, b, ldb, a, lda, tile, TILE_ROWS);
    else
        (s->transpose_a   ? p->tn
         : s->transpose_b ? p->nt
                          : p->nn)(p, s->dtype, rows, columns, depth, a, lda, b, ldb, tile, TILE_COLUMNS);
}

/* A tile as it lies in scratch. */
static void add_tile(const matmul *m, char *to, const char *from, size_t rows, size_t columns) {
    const bool transposed = m->sizes.transpose_a && m->sizes.transpose_b;
    const size_t count = transposed ? columns : rows, width = transposed ? rows : columns,
                 row = (size_t)(transposed ? TILE_ROWS : TILE_COLUMNS) * m->element;
    for (size_t i = 0; i < count; i++) m->products->kernels->add_to(from + i * row, to + i * row, width);
}

/* Returns where in scratch the tile lies. */
static const char *multiply(const matmul *m, const char *a, const char *b, size_t rows, size_t columns, char *scratch) {
    const size_t bytes = (size_t)TILE_ROWS * TILE_COLUMNS * m->element, depth = m->sizes.depth;
    char *const piece = scratch + m->levels * bytes;
    memset(scratch, 0, depth > TILE_DEPTH ? m->levels * bytes : 0);
    for (size_t first = 0; first < depth; first += TILE_DEPTH) {
        const size_t number = first / TILE_DEPTH;
        multiply_piece(m, a, b, rows, columns, first, attn_tree_begins(number) ? scratch : piece);
        if (!attn_tree_begins(number)) add_tile(m, scratch, piece, rows, columns);
        const bool last = depth - first <= TILE_DEPTH;
        for (size_t level = 0; level + 1 < m->levels && (last || attn_tree_carries(number, level)); level++) {
            add_tile(m, scratch + (level + 1) * bytes, scratch + level * bytes, rows, columns);
            memset(scratch + level * bytes, 0, bytes);
        }
    }
    return scratch + (m->levels - 1) * bytes;
}

static void run_tile(const void *argument, size_t unit, char *scratch) {
    const matmul *m = argument;
    const attn_matmul_call *call = m->call;
    const attn_matmul_problem *s = &m->sizes;
    const size_t matrix = unit / m->column_tiles / m->row_tiles, item = matrix / s->heads, head = matrix % s->heads;
    const size_t row = unit / m->column_tiles % m->row_tiles * TILE_ROWS,
                 column = unit % m->column_tiles * TILE_COLUMNS;
    const size_t rows = least(TILE_ROWS, s->rows - row), columns = least(TILE_COLUMNS, s->columns - column);
    const char *tile = scratch;
    if (call->a && call->b)
        tile = multiply(
            m, at(m, call->a, &call->a_strides, item, head, s->transpose_a ? 0 : row, s->transpose_a ? row : 0),
            at(m, call->b, &call->b_strides, item, head, s->transpose_b ? column : 0, s->transpose_b ? 0 : column),
            rows, columns, scratch);
    else
        memset(scratch, 0, TILE_ROWS * TILE_COLUMNS * m->element);
    const bool transposed = s->transpose_a && s->transpose_b;
    for (size_t i = 0; i < rows; i++)
        combine(m, tile + (transposed ? i : i * TILE_COLUMNS) * m->element, transposed ? TILE_ROWS : 1,
                (char *)call->c + (at(m, call->c, &call->c_strides, item, head, row + i, column) - (char *)call->c),
                columns);
}

void attn_matmul_compose(attn_device *device, const attn_products *products, const attn_matmul_call *call) {
    matmul m;
    attn_units units = describe(device, &call->sizes, &m);
    m.call = call, m.products = products;
    units.run = run_tile;
    attn_units_carve(&units, &(attn_carver){.base = call->workspace});
    const attn_matmul_problem *s = &m.sizes;
    attn_units_run(&units, device->threads,
                   (double)s->batch * (double)s->heads * (double)s->rows * (double)s->columns * (double)(s->depth + 4));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The batched matrix product by tiles of C, each multiplied into scratch and then scaled and added to where it belongs. */
#include "cpu/blocks.h"
#include "cpu/units.h"

#include <string.h>

/* Fixed: how OpenBLAS sums depends on them. */
enum { TILE_ROWS = 64, TILE_COLUMNS = 256 };

typedef struct matmul {
    const attn_matmul_call *call;
    attn_matmul_problem sizes;
    const attn_products *products;
    size_t element, row_tiles, column_tiles;
} matmul;

static attn_units describe(const attn_device *device, const attn_matmul_problem *problem, matmul *m) {
    *m = (matmul){.sizes = *problem,
                  .element = problem->dtype == ATTN_FLOAT32 ? sizeof(float) : sizeof(double),
                  .row_tiles = divide_up(problem->rows, TILE_ROWS),
                  .column_tiles = divide_up(problem->columns, TILE_COLUMNS)};
    attn_carver carver = {.base = NULL};
    attn_carve(&carver, (size_t)TILE_ROWS * TILE_COLUMNS, m->element);
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
static void multiply(const matmul *m, const char *a, const char *b, size_t rows, size_t columns, char *tile) {
    const attn_products *p = m->products;
    const attn_matmul_problem *s = &m->sizes;
    const size_t lda = (size_t)m->call->a_strides.row, ldb = (size_t)m->call->b_strides.row;
    if (s->transpose_a && s->transpose_b)
        p->nn(p, s->dtype, columns, rows, s->depth, b, ldb, a, lda, tile, TILE_ROWS);
    else
        (s->transpose_a   ? p->tn
         : s->transpose_b ? p->nt
                          : p->nn)(p, s->dtype, rows, columns, s->depth, a, lda, b, ldb, tile, TILE_COLUMNS);
}

static void run_tile(const void *argument, size_t unit, char *scratch) {
    const matmul *m = argument;
    const attn_matmul_call *call = m->call;
    const attn_matmul_problem *s = &m->sizes;
    const size_t matrix = unit / m->column_tiles / m->row_tiles, item = matrix / s->heads, head = matrix % s->heads;
    const size_t row = unit / m->column_tiles % m->row_tiles * TILE_ROWS,
                 column = unit % m->column_tiles * TILE_COLUMNS;
    const size_t rows = least(TILE_ROWS, s->rows - row), columns = least(TILE_COLUMNS, s->columns - column);
    if (call->a && call->b)
        multiply(m, at(m, call->a, &call->a_strides, item, head, s->transpose_a ? 0 : row, s->transpose_a ? row : 0),
                 at(m, call->b, &call->b_strides, item, head, s->transpose_b ? column : 0, s->transpose_b ? 0 : column),
                 rows, columns, scratch);
    else
        memset(scratch, 0, TILE_ROWS * TILE_COLUMNS * m->element);
    const bool transposed = s->transpose_a && s->transpose_b;
    for (size_t i = 0; i < rows; i++)
        combine(m, scratch + (transposed ? i : i * TILE_COLUMNS) * m->element, transposed ? TILE_ROWS : 1,
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

/* SPDX-License-Identifier: Apache-2.0 */
/* What the kit computes with on one instruction set. Its products are narrower than BLAS is made for: the library's own kernels
 * are faster there, and OpenBLAS serves where the library has none but plain C. */
#ifndef NN_MACHINE_H
#define NN_MACHINE_H

#include "examples/nn/cells.h"

typedef struct nn_machine {
    const nn_cells *cells;
    /* c (rows, columns) = a (rows, depth) b (depth, columns), all dense and row-major */
    void (*multiply)(size_t rows, size_t columns, size_t depth, const float *a, const float *b, float *c);
    /* c (rows, columns) += the transpose of a (depth, rows) times b (depth, columns) */
    void (*add_transposed)(size_t rows, size_t columns, size_t depth, const float *a, const float *b, float *c);
} nn_machine;

/* By the name that attn_context_isa gives. */
const nn_machine *nn_machine_for(const char *isa);

#endif

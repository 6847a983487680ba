/* SPDX-License-Identifier: Apache-2.0 */
/* The loops over single elements that the kit spends its time in, built once for each instruction set. */
#ifndef NN_CELLS_H
#define NN_CELLS_H

#include <stddef.h>
#include <stdint.h>

typedef struct nn_cells {
    /* One item's step of an LSTM. gates (4 units): the sums before bias and activation in, i, f, g, o out. h_t goes to hidden
     * and, unless it is NULL, to out. */
    void (*lstm_forward)(size_t units, float *gates, const float *bias, const float *cell_before, float *cell,
                         float *hidden, float *out);
    /* Back through it: from the gradient of h_t, which comes from above and from the later step, and, in grad_cell, the
     * part of c_t's that came from later steps, to that of the sums in grad_gates, added to grad_bias too, and the part of
     * c_(t-1)'s in grad_cell. */
    void (*lstm_backward)(size_t units, const float *gates, const float *cell_before, const float *cell,
                          const float *above, const float *later, float *grad_cell, float *grad_gates,
                          float *grad_bias);
    /* out = in / (1 - rate) where the half word is at least `below`, else 0; see nn_dropout_stream. key: the first pair's. */
    void (*dropout)(size_t count, uint64_t key, uint32_t below, float scale, const float *in, float *out);
} nn_cells;

#endif

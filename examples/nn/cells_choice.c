/* SPDX-License-Identifier: Apache-2.0 */
#include "examples/nn/cells.h"

#include <string.h>

extern const nn_cells nn_cells_scalar, nn_cells_avx2, nn_cells_avx512;

const nn_cells *nn_cells_for(const char *isa) {
#if defined(__x86_64__)
    if (!strcmp(isa, "avx512")) return &nn_cells_avx512;
    if (!strcmp(isa, "avx2")) return &nn_cells_avx2;
#endif
    (void)isa;
    return &nn_cells_scalar;
}

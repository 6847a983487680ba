/* All kernels of one dtype and their table. A template, see vec_names.h. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/vec.h"

#include "cpu/kernel_partial.h"

#undef KERNELS
#define KERNELS(suffix)                                                                                                \
    { .merge = merge_##suffix, .finish = finish_##suffix, .weights = weights_##suffix }

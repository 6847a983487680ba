/* All kernels of one dtype and their table. A template, see vec_names.h. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/vec.h"

#include "cpu/kernel_sum.h"

#include "cpu/kernel_partial.h"

#include "cpu/kernel_dot.h"
#include "cpu/kernel_gradient_rows.h"
#include "cpu/kernel_rows.h"

#include "cpu/kernel_additive.h"
#include "cpu/kernel_gemm.h"

#include "cpu/kernel_dot_backward.h"

#include "cpu/kernel_additive_backward.h"

/* clang-format off */
#undef KERNELS
#define KERNELS(suffix) {                                       \
        .gemm = gemm_##suffix,                                  \
        .gemm_exact = gemm_exact_##suffix,                      \
        .gemm_tn = gemm_tn_##suffix,                            \
        .gemm_nt = gemm_nt_##suffix,                            \
        .dot_rows = dot_rows_##suffix,                          \
        .additive_rows = additive_rows_##suffix,                \
        .packed_additive_size = packed_additive_size_##suffix,  \
        .pack_additive = pack_additive_##suffix,                \
        .additive_scratch = additive_scratch_##suffix,          \
        .merge = merge_##suffix,                                \
        .finish = finish_##suffix,                              \
        .weights = weights_##suffix,                            \
        .dot_backward = dot_backward_##suffix,                  \
        .additive_backward = additive_backward_##suffix,        \
        .dot_moments = dot_moments_##suffix,                    \
        .additive_moments = additive_moments_##suffix,          \
        .dot_backward_scratch = dot_backward_scratch_##suffix,  \
        .additive_backward_scratch = additive_backward_scratch_##suffix,\
        .softmax_row = softmax_row_##suffix,                    \
        .tanh_scores = tanh_scores_##suffix,                    \
        .tanh_row = tanh_row_##suffix,                          \
        .tanh_gradient_row = tanh_gradient_row_##suffix,        \
        .add_to = add_to_##suffix,                              \
        .dot_less = dot_less_##suffix,                          \
        .mean_less = mean_less_##suffix,                        \
        .take_times = take_times_##suffix,                      \
        .tanh_keep = tanh_keep_##suffix,                        \
        .row_scores = row_scores_##suffix,                      \
        .softmax_gradient = softmax_gradient_##suffix,          \
        .tanh_gradient = tanh_gradient_##suffix,                \
    }
/* clang-format on */

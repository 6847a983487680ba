/* SPDX-License-Identifier: Apache-2.0 */
/* Layer cases in a safetensors file: tensors named <case>/<tensor>, the case's name beginning with its score.
 *
 *     H (B, T, D), query (B, Tq, Dq)                                  inputs; without a query it is h_t
 *     luong_w (D, Dq); bahdanau_w1 (Dq, A), bahdanau_w2 (D, A), bahdanau_v (A, 1) or (A); w_c (D + Dq, U)
 *     option/starts, option/lengths (B) int32; option/mask (B, T) or (B, Tq, T) bool
 *     attention_weights (B, [Tq,] T), context (B, [Tq,] D), output (B, [Tq,] U), lse (B, [Tq])   float64 results
 *     <result>_f32                                                    what another float32 implementation made of it
 *     grad_<result>                                                   float32 incoming gradients, all at once
 *     grad_<input>                                                    float64 results of the backward pass
 *     grad_<input>_f32                                                what another float32 implementation made of it
 */
#ifndef ATTN_TOOLS_CASE_FILE_H
#define ATTN_TOOLS_CASE_FILE_H

#include "attention/weights.h"
#include "tests/kit.h"

enum {
    TENSOR_H,
    TENSOR_QUERY,
    TENSOR_LUONG_W,
    TENSOR_W1,
    TENSOR_W2,
    TENSOR_V,
    TENSOR_W_C,
    TENSOR_STARTS,
    TENSOR_LENGTHS,
    TENSOR_MASK,
    TENSOR_OUTPUT, /* the results, in the order of the kit's bits */
    TENSOR_CONTEXT,
    TENSOR_WEIGHTS,
    TENSOR_LSE,
    TENSORS,
    RESULTS = TENSORS - TENSOR_OUTPUT,
    GRADIENTS = TENSOR_STARTS /* of the inputs, which stand in the order of the kit's bits */
};

typedef struct file_case {
    char *name; /* printable */
    const attn_weights_tensor *tensors[TENSORS];
    const attn_weights_tensor *single[RESULTS]; /* the _f32 ones */
    const attn_weights_tensor *incoming[RESULTS], *gradients[GRADIENTS], *single_gradients[GRADIENTS];
    kit_case spec;
    bool fits_float32; /* every input is exact in float32 */
} file_case;

typedef struct case_list {
    const attn_weights_tensor **tensors; /* all of the file, sorted by name */
    size_t count, next;
} case_list;

bool case_list_open(const attn_weights_file *file, case_list *list);
void case_list_close(case_list *list);

/* The next case: 1; at the end: 0; a case that is not sound: -1, with `error` saying why. The case's name is freed by
 * the caller in either case. */
int case_list_next(case_list *list, file_case *out, char *error, size_t room);

/* The kit's bits of what gradients the case has. */
unsigned file_case_incoming(const file_case *c);
unsigned file_case_gradients(const file_case *c);

/* The case as a problem in the given dtype, its expected results, gradients and gates in place. NULL with `error` when it can't be read, or
 * contradicts itself. Sets fits_float32. */
kit_problem *file_case_problem(const attn_weights_file *file, file_case *c, attn_dtype dtype, char *error, size_t room);

#endif

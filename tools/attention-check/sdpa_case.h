/* SPDX-License-Identifier: Apache-2.0 */
/* Cases of scaled-dot-product attention in a safetensors file: tensors named <case>/<tensor>.
 *
 *     q (B, Hq, Sq, Dqk), k (B, Hkv, Skv, Dqk), v (B, Hkv, Skv, Dv)      float32
 *     option/scale, softcap, causal (1 top-left, 2 bottom-right), window_left, window_right   one number
 *     option/mask (bool), bias: four dimensions, those of size 1 repeat
 *     option/key_lengths (B) int32, alibi_slopes, sinks (Hq)
 *     out, lse, attention_weights                                      float64 results
 *     grad_...                                                         gradients, which nothing here computes
 * or, for the ONNX operator Attention (opsets 23 to 25), input/Q, K, V, attn_mask, past_key, past_value, nonpad_kv_seqlen;
 * attr/<name>; opset; output/Y and qk_matmul_output, of which only the weights (mode 3) are ours; present_key, present_value. */
#ifndef ATTN_TOOLS_SDPA_CASE_H
#define ATTN_TOOLS_SDPA_CASE_H

#include "attention/weights.h"
#include "tests/sdpa_kit.h"

typedef struct sdpa_file_case {
    const attn_weights_file *file;
    const attn_weights_tensor *const *tensors; /* of the case */
    size_t count, prefix;                      /* prefix: length of the case's name and its slash */
    char *error;
    size_t room;
} sdpa_file_case;

/* NULL: the case has none of that name. */
const attn_weights_tensor *sdpa_case_find(const sdpa_file_case *c, const char *name);

/* Says what is wrong; false. */
bool sdpa_case_refuse(const sdpa_file_case *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Whether each of the case's tensors is one of these names, up to a NULL, or begins with one that ends with '_' or '/'. */
bool sdpa_case_knows(const sdpa_file_case *c, const char *const *names);

/* The values, converted to a dtype, from malloc; NULL when they can't be read. */
void *sdpa_case_read(const sdpa_file_case *c, const attn_weights_tensor *t, attn_weights_dtype dtype);

/* An option of one number; `otherwise` where the case has none. False when it is there and is something else. */
bool sdpa_case_number(const sdpa_file_case *c, const char *name, double otherwise, double *number);

/* The case as a problem, its expected results and gates in place; NULL with `error`. */
sdpa_problem *sdpa_case_problem(const sdpa_file_case *c, const char *name, attn_dtype dtype);
sdpa_problem *sdpa_case_problem_onnx(const sdpa_file_case *c, const char *name, attn_dtype dtype);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The words of the name grammar, the same in names, messages and logs. */
#ifndef ATTN_LIB_NAMES_H
#define ATTN_LIB_NAMES_H

#include "lib/backend.h"

static inline const char *attn_score_name(attn_score score) {
    return score == ATTN_SCORE_LUONG ? "luong" : score == ATTN_SCORE_BAHDANAU ? "bahdanau" : "dot";
}

static inline const char *attn_operation_name(attn_operation operation) {
    static const char *const names[] = {
        [ATTN_OPERATION_LAYER_FORWARD] = "layer's forward",   [ATTN_OPERATION_LAYER_BACKWARD] = "layer's backward",
        [ATTN_OPERATION_SDPA_FORWARD] = "sdpa forward",       [ATTN_OPERATION_MATMUL] = "matmul",
        [ATTN_OPERATION_SOFTMAX_FORWARD] = "softmax forward", [ATTN_OPERATION_SOFTMAX_BACKWARD] = "softmax backward"};
    return names[operation];
}

static inline const char *attn_dtype_name(attn_dtype dtype) {
    static const char *const names[] = {
        [ATTN_FLOAT32] = "f32", [ATTN_FLOAT64] = "f64", [ATTN_FLOAT16] = "f16", [ATTN_BFLOAT16] = "bf16"};
    return names[dtype];
}

static inline size_t attn_dtype_size(attn_dtype dtype) {
    static const size_t sizes[] = {
        [ATTN_FLOAT32] = sizeof(float), [ATTN_FLOAT64] = sizeof(double), [ATTN_FLOAT16] = 2, [ATTN_BFLOAT16] = 2};
    return sizes[dtype];
}

/* Bytes of the numbers that a row or a head has one of: the log-sum-exp, sinks, slopes. */
static inline size_t attn_number_size(attn_dtype dtype) {
    return dtype == ATTN_FLOAT64 ? sizeof(double) : sizeof(float);
}

#endif

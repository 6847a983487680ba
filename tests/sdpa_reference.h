/* SPDX-License-Identifier: Apache-2.0 */
/* The oracle of scaled-dot-product attention: straight from the definition, in quadruple precision, one query after the other,
 * sharing no code with the library; with the gates of every result. Everything is dense and widened.
 *
 * u, eta as in gates.h. For a query over its T attended keys, p its attention weights:
 *     M_d = sum of p[j] |v[j][d]|, S = the largest |s[j]| (and the sink), A = the largest sum of |scale q k| + |slope * distance| + |bias|,
 *     + 2S with a softcap, for its tanh
 *     C   = 2A + 2S + sqrt(T) + 8
 *     output              u C M_d + eta max|v[j][d]|
 *     attention weights   2u C p + eta
 *     lse                 u (2A + 2S + 2 log(T + 1) + 8)
 * A score past the largest number of its type is infinite; where all are -inf nothing is attended. A sink of -inf is none; a slope that is not finite is NaN.
 * With 16-bit types u is float32's; A is 1 + D / 16 times as much and C has 2T / 16 more, for tensor cores cut sums after 16 products; added are the rounding of the
 * result, and for the output that of the weights. */
#ifndef ATTN_TESTS_SDPA_REFERENCE_H
#define ATTN_TESTS_SDPA_REFERENCE_H

#include "attention/sdpa.h"

#include <stdbool.h>
#include <stddef.h>

/* Dense arrays from malloc; what does not apply is NULL. A dimension of mask or bias of 1 repeats. */
typedef struct sdpa_content {
    double *q, *k, *v; /* (B, Hq, Sq, Dqk), (B, Hkv, Skv, Dqk), (B, Hkv, Skv, Dv) */
    int32_t *key_lengths;
    uint8_t *mask;
    double *bias, *alibi_slopes, *sinks;
    size_t mask_shape[4], bias_shape[4];
} sdpa_content;

typedef struct sdpa_expected {
    long double *output, *lse, *attention_weights; /* (B, Hq, Sq, Dv), (B, Hq, Sq), (B, Hq, Sq, Skv) */
    double *output_gates, *lse_gates, *attention_weights_gates;
} sdpa_expected;

/* desc: complete, with its sizes and defaults as a program sets them. */
bool sdpa_attended(const attn_sdpa_desc *desc, int64_t query_offset, const sdpa_content *content, int64_t item,
                   int64_t head, int64_t query, int64_t key);

/* Every array of `expected` has its full size. */
void sdpa_reference(const attn_sdpa_desc *desc, int64_t query_offset, const sdpa_content *content,
                    const sdpa_expected *expected);

int64_t sdpa_key_heads(const attn_sdpa_desc *desc);
int64_t sdpa_value_dim(const attn_sdpa_desc *desc);

#endif

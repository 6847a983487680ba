/* libattention: the building blocks of attention by composition, the batched matrix product and the masked softmax.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * With these a program puts together what attn_sdpa_forward does not offer: the scores by a product, their weights by a softmax, the
 * output by a product; and backwards the same way. The array of scores is then the caller's to hold.
 *
 * Plans, contexts, workspaces, threads, errors and determinism are those of attention.h; stride conventions as in sdpa.h: matrices
 * come in items and heads, and the last dimension is contiguous.
 */
#ifndef ATTENTION_BLOCKS_H
#define ATTENTION_BLOCKS_H

#include "attention/sdpa.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Batched matrix product ------------------------------------------------------------------------
 *
 *     C = alpha op(A) op(B) + beta C       for each item and head; op transposes where a flag says so
 *
 *     tensor   shape
 *     a        (B, H, M, K), or (B, H, K, M) with ATTN_MATMUL_TRANSPOSE_A
 *     b        (B, H, K, N), or (B, H, N, K) with ATTN_MATMUL_TRANSPOSE_B
 *     c        (B, H, M, N)
 *
 * The batch and head strides of a and b are taken as they are: 0 repeats one matrix. With beta 0, C is not read. With
 * K = 0, or alpha 0, the product is 0 and neither a nor b is read. Sums are accumulated in the dtype, in blocks, those of 16-bit types
 * in float32. An element's error is at most 2u (4 sqrt(K) + 8) times the sum of its terms' magnitudes, and the result's rounding to 16 bits.
 */
#define ATTN_MATMUL_TRANSPOSE_A UINT64_C(1)
#define ATTN_MATMUL_TRANSPOSE_B UINT64_C(2)

typedef struct attn_matmul_desc {
    size_t struct_size;
    uint64_t flags; /* ATTN_MATMUL_*; an unknown bit is refused */
    attn_dtype dtype;
    int64_t batch;   /* B >= 0, the largest of any run */
    int64_t heads;   /* H >= 0 */
    int64_t rows;    /* M >= 0, the largest of any run */
    int64_t columns; /* N >= 0, the largest of any run */
    int64_t depth;   /* K >= 0, the largest of any run */
} attn_matmul_desc;

typedef struct attn_matmul_args {
    size_t struct_size;
    int64_t batch;   /* of this run; ATTN_PLANNED */
    int64_t rows;    /* of this run; ATTN_PLANNED */
    int64_t columns; /* of this run; ATTN_PLANNED */
    int64_t depth;   /* of this run; ATTN_PLANNED */
    double alpha;    /* 1 from the initialiser; 0, or a normal number of the dtype, of float32 in 16 bits */
    double beta;     /* as alpha; it is op(A) op(B), rounded to that type, that alpha multiplies */
    const void *a;
    int64_t a_batch_stride; /* 0: the same for all items */
    int64_t a_head_stride;  /* 0: the same for all heads */
    int64_t a_row_stride;   /* dense: as long as a row */
    const void *b;
    int64_t b_batch_stride; /* as those of a */
    int64_t b_head_stride;
    int64_t b_row_stride;
    void *c;
    int64_t c_batch_stride; /* dense: H matrices */
    int64_t c_head_stride;  /* dense: M rows */
    int64_t c_row_stride;   /* dense: N */
    void *workspace;
    size_t workspace_size;
} attn_matmul_args;

#ifdef __cplusplus
#define ATTN_MATMUL_DESC_INIT attn_matmul_desc_init()
#define ATTN_MATMUL_ARGS_INIT attn_matmul_args_init()
#else
#define ATTN_MATMUL_DESC_INIT                                                                                          \
    { .struct_size = sizeof(attn_matmul_desc), .heads = 1 }
#define ATTN_MATMUL_ARGS_INIT                                                                                          \
    {                                                                                                                  \
        .struct_size = sizeof(attn_matmul_args), .batch = ATTN_PLANNED, .rows = ATTN_PLANNED, .columns = ATTN_PLANNED, \
        .depth = ATTN_PLANNED, .alpha = 1                                                                              \
    }
#endif

/* As attn_sdpa_forward_plan, attn_sdpa_forward_explain and attn_sdpa_forward, statuses included. */
ATTN_API attn_status attn_matmul_plan(attn_context *context, const attn_matmul_desc *desc, attn_plan **plan);
ATTN_API attn_status attn_matmul_explain(attn_context *context, const attn_matmul_desc *desc, attn_explain explain,
                                         void *user);
ATTN_API attn_status attn_matmul(const attn_plan *plan, const attn_matmul_args *args);

/* ---- Masked softmax ----------------------------------------------------------------------------------
 *
 * Forward, for each item, head and row:     p[j] = exp(scale * s[j]) / sum over attended r of exp(scale * s[r]),  0 where not attended
 *                                           lse  = log of that sum
 * Backward, from gp and gl:                 gs[j] = scale * p[j] (gp[j] - sum over r of p[r] gp[r] + gl)
 *
 *     tensor                   shape              forward                      backward
 *     scores                   (B, H, Sq, Skv)    input                        -
 *     key_lengths              (B) int32_t        input, optional              -
 *     mask                     (B, H, Sq, Skv)    input, optional: uint8_t     -
 *     attention_weights        (B, H, Sq, Skv)    output                       input
 *     lse                      (B, H, Sq)         output, optional             -
 *     grad_attention_weights   (B, H, Sq, Skv)    -                            input
 *     grad_lse                 (B, H, Sq)         -                            input, optional
 *     grad_scores              (B, H, Sq, Skv)    -                            output
 *
 * What is attended is as in attn_sdpa_forward: lengths, mask, causal. A row with nothing attended has weights 0 and lse
 * -inf. Scores of what is not attended are not read. Where a weight is 0 so is its gradient, whatever came in.
 * With the 16-bit types lse and grad_lse are float32, and so is the arithmetic.
 * In place: attention_weights may be scores, and grad_scores grad_attention_weights or attention_weights, with the same strides.
 */
typedef struct attn_softmax_desc {
    size_t struct_size;
    uint64_t flags; /* none yet; an unknown bit is refused */
    attn_dtype dtype;
    attn_causal causal; /* forward */
    int64_t batch;      /* B >= 0, the largest of any run */
    int64_t heads;      /* H >= 0 */
    int64_t queries;    /* Sq >= 0, the largest of any run */
    int64_t keys;       /* Skv >= 0, the largest of any run */
    double scale;       /* a normal number of the dtype, of float32 in 16 bits; 0: 1 */
} attn_softmax_desc;

typedef struct attn_softmax_forward_args {
    size_t struct_size;
    int64_t batch;        /* of this run; ATTN_PLANNED */
    int64_t queries;      /* of this run; ATTN_PLANNED */
    int64_t keys;         /* of this run; ATTN_PLANNED */
    int64_t query_offset; /* as in attn_sdpa_forward_args */
    const void *scores;
    int64_t scores_batch_stride; /* dense: H heads */
    int64_t scores_head_stride;  /* dense: Sq rows */
    int64_t scores_row_stride;   /* dense: Skv */
    const int32_t *key_lengths;
    const uint8_t *mask;
    int64_t mask_batch_stride; /* as in attn_sdpa_forward_args */
    int64_t mask_head_stride;
    int64_t mask_query_stride;
    int64_t mask_key_stride;
    void *attention_weights;
    int64_t attention_weights_batch_stride; /* as those of scores */
    int64_t attention_weights_head_stride;
    int64_t attention_weights_row_stride;
    void *lse;
    int64_t lse_batch_stride; /* dense: H heads */
    int64_t lse_head_stride;  /* dense: Sq; queries are contiguous */
    void *workspace;
    size_t workspace_size;
} attn_softmax_forward_args;

typedef struct attn_softmax_backward_args {
    size_t struct_size;
    int64_t batch;   /* of this run; ATTN_PLANNED */
    int64_t queries; /* of this run; ATTN_PLANNED */
    int64_t keys;    /* of this run; ATTN_PLANNED */
    const void *attention_weights;
    int64_t attention_weights_batch_stride; /* dense: H heads */
    int64_t attention_weights_head_stride;  /* dense: Sq rows */
    int64_t attention_weights_row_stride;   /* dense: Skv */
    const void *grad_attention_weights;
    int64_t grad_attention_weights_batch_stride; /* as those of attention_weights */
    int64_t grad_attention_weights_head_stride;
    int64_t grad_attention_weights_row_stride;
    const void *grad_lse;
    int64_t grad_lse_batch_stride; /* dense: H heads */
    int64_t grad_lse_head_stride;  /* dense: Sq; queries are contiguous */
    void *grad_scores;
    int64_t grad_scores_batch_stride; /* as those of attention_weights */
    int64_t grad_scores_head_stride;
    int64_t grad_scores_row_stride;
    void *workspace;
    size_t workspace_size;
} attn_softmax_backward_args;

#ifdef __cplusplus
#define ATTN_SOFTMAX_DESC_INIT attn_softmax_desc_init()
#define ATTN_SOFTMAX_FORWARD_ARGS_INIT attn_softmax_forward_args_init()
#define ATTN_SOFTMAX_BACKWARD_ARGS_INIT attn_softmax_backward_args_init()
#else
#define ATTN_SOFTMAX_DESC_INIT                                                                                         \
    { .struct_size = sizeof(attn_softmax_desc), .heads = 1 }
#define ATTN_SOFTMAX_FORWARD_ARGS_INIT                                                                                 \
    {                                                                                                                  \
        .struct_size = sizeof(attn_softmax_forward_args), .batch = ATTN_PLANNED, .queries = ATTN_PLANNED,              \
        .keys = ATTN_PLANNED, .mask_key_stride = 1                                                                     \
    }
#define ATTN_SOFTMAX_BACKWARD_ARGS_INIT                                                                                \
    {                                                                                                                  \
        .struct_size = sizeof(attn_softmax_backward_args), .batch = ATTN_PLANNED, .queries = ATTN_PLANNED,             \
        .keys = ATTN_PLANNED                                                                                           \
    }
#endif

/* As attn_sdpa_forward_plan, attn_sdpa_forward_explain and attn_sdpa_forward, statuses included. */
ATTN_API attn_status attn_softmax_forward_plan(attn_context *context, const attn_softmax_desc *desc, attn_plan **plan);
ATTN_API attn_status attn_softmax_forward_explain(attn_context *context, const attn_softmax_desc *desc,
                                                  attn_explain explain, void *user);
ATTN_API attn_status attn_softmax_forward(const attn_plan *plan, const attn_softmax_forward_args *args);
ATTN_API attn_status attn_softmax_backward_plan(attn_context *context, const attn_softmax_desc *desc, attn_plan **plan);
ATTN_API attn_status attn_softmax_backward_explain(attn_context *context, const attn_softmax_desc *desc,
                                                   attn_explain explain, void *user);
ATTN_API attn_status attn_softmax_backward(const attn_plan *plan, const attn_softmax_backward_args *args);

/* The initialisers for C++, which has no designated ones before C++20. */
#ifdef __cplusplus
static inline attn_matmul_desc attn_matmul_desc_init() {
    attn_matmul_desc desc = attn_matmul_desc();
    desc.struct_size = sizeof desc;
    desc.heads = 1;
    return desc;
}

static inline attn_matmul_args attn_matmul_args_init() {
    attn_matmul_args args = attn_matmul_args();
    args.struct_size = sizeof args;
    args.batch = args.rows = args.columns = args.depth = ATTN_PLANNED;
    args.alpha = 1;
    return args;
}

static inline attn_softmax_desc attn_softmax_desc_init() {
    attn_softmax_desc desc = attn_softmax_desc();
    desc.struct_size = sizeof desc;
    desc.heads = 1;
    return desc;
}

static inline attn_softmax_forward_args attn_softmax_forward_args_init() {
    attn_softmax_forward_args args = attn_softmax_forward_args();
    args.struct_size = sizeof args;
    args.batch = args.queries = args.keys = ATTN_PLANNED;
    args.mask_key_stride = 1;
    return args;
}

static inline attn_softmax_backward_args attn_softmax_backward_args_init() {
    attn_softmax_backward_args args = attn_softmax_backward_args();
    args.struct_size = sizeof args;
    args.batch = args.queries = args.keys = ATTN_PLANNED;
    return args;
}
#endif

#ifdef __cplusplus
}
#endif

#endif

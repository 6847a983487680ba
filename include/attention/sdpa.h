/* libattention: batched scaled-dot-product attention.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Glossary, beyond that of attention.h
 *   Hq, Hkv    query heads, and key heads: the keys and values of one of these serve Hq / Hkv query heads that follow one another
 *   Sq, Skv    queries and keys of one head
 *   Dqk, Dv    width of a query and a key, width of a value and of an output row
 *   position   where a query stands among the keys: causal, windows and slopes count from there
 *
 * Plans, contexts, workspaces, threads, errors and determinism are those of attention.h.
 */
#ifndef ATTENTION_SDPA_H
#define ATTENTION_SDPA_H

#include "attention/attention.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Forward -------------------------------------------------------------------------------------
 *
 * For each item b, query head h, its key head g = h / (Hq / Hkv), and each query i:
 *
 *     s[j]    = scale * q[i] . k[j]                              for j attended
 *     s[j]    = softcap * tanh(s[j] / softcap)                   with a softcap
 *     s[j]   -= alibi_slopes[h] * |position - j|                 with slopes
 *     s[j]   += bias[j]                                          with a bias
 *     l       = sum over j of exp(s[j]), + exp(sinks[h])         with sinks
 *     p[j]    = exp(s[j]) / l                                    attention weights
 *     output  = sum over j of p[j] v[j]
 *     lse     = log(l)
 *
 * Attended are the keys below the item's length that the mask shows, whose bias is not -inf, and that causal and the windows
 * leave, by position = i + query_offset (+ length - Sq with ATTN_CAUSAL_BOTTOM_RIGHT):
 *     causal j <= position, window_left j >= position - window_left, window_right j <= position + window_right.
 *
 *     tensor              shape                  given when
 *     q                   (B, Hq, Sq, Dqk)       always
 *     k                   (B, Hkv, Skv, Dqk)     always
 *     v                   (B, Hkv, Skv, Dv)      always
 *     key_lengths         (B) int32_t            ATTN_SDPA_KEY_LENGTHS; NULL: Skv
 *     mask                (B, Hq, Sq, Skv) uint8_t   ATTN_SDPA_MASK; non-zero = attend
 *     bias                (B, Hq, Sq, Skv)       ATTN_SDPA_BIAS: the additive mask
 *     alibi_slopes        (Hq)                   ATTN_SDPA_ALIBI
 *     sinks               (Hq)                   ATTN_SDPA_SINKS
 *     output              (B, Hq, Sq, Dv)        always
 *     lse                 (B, Hq, Sq)            pointer given
 *     attention_weights   (B, Hq, Sq, Skv)       ATTN_SDPA_WEIGHTS and pointer given; 0 where not attended
 *
 * All tensors have the descriptor's dtype save where said; sums are accumulated in it, in blocks (docs/numerics.md). With the 16-bit types lse,
 * alibi_slopes and sinks are float32, scores and sums too; weights are rounded before they multiply the values. The last dimension
 * is contiguous; the others lie as their strides say, so that (B, S, H, D), packed QKV and caches larger than their content
 * all serve. The strides of mask and bias are taken as they are: 0 repeats what is there, also along the keys. Those of
 * other tensors stand for "dense" when 0. The strides of an output nest: each is at least what the smaller ones reach.
 *
 * A query with one attended key has weight exactly 1. With none its output is 0, its weights are 0 and its lse is -inf, or the
 * sink, whatever number that is. Keys that no query of an item attends to are never read. A key hidden from some queries alone has no influence on
 * those while it is finite. NaN among what is attended makes NaN of what depends on it, and so does a bias that is NaN or +inf.
 * A sink of -inf is none; one that is NaN or +inf, and a slope that is not finite, make NaN of their head's queries that attend to a key.
 * Finite numbers, -0 and subnormal ones among them, are what they are: the mask hides, and a bias of -inf. One of -1e9, or the lowest
 * number, hides nothing: where it is everywhere in a row whose scores are small beside it, the weights are equal and lse is that number,
 * the logarithm of how many keys there are lost to its rounding.
 *
 * Scores up to 1e4 in magnitude are handled without overflow. q is multiplied by scale and rounded to the dtype first (CUDA: the product),
 * and so is what a slope takes; what is past the largest number of the type is infinite then: a score of -inf has weight 0, and where all are
 * -inf it is as if nothing were attended; +inf makes NaN. Values are summed by exp(s[j] - the largest score), before the division by l: as
 * many of them as are attended, times the largest, must stay a finite number (of float32 in the 16-bit types).
 *
 * Scores are computed for some queries and keys at a time: memory grows neither with Sq nor with Skv, unless the weights are
 * asked for.
 */

/* Where a query stands among the keys, and whether it sees those after it. */
typedef enum attn_causal {
    ATTN_CAUSAL_NONE = 0,
    ATTN_CAUSAL_TOP_LEFT = 1,    /* the first query sees the first key alone */
    ATTN_CAUSAL_BOTTOM_RIGHT = 2 /* the last query sees all keys of its item */
} attn_causal;

/* attn_sdpa_desc.flags: what runs may be given beside q, k and v, and asked for beside output and lse. A run may leave any out. */
#define ATTN_SDPA_MASK UINT64_C(1)
#define ATTN_SDPA_BIAS UINT64_C(2)
#define ATTN_SDPA_KEY_LENGTHS UINT64_C(4)
#define ATTN_SDPA_ALIBI UINT64_C(8)
#define ATTN_SDPA_SINKS UINT64_C(16)
#define ATTN_SDPA_WEIGHTS UINT64_C(32)

#define ATTN_NO_WINDOW (-1)

typedef struct attn_sdpa_desc {
    size_t struct_size;
    uint64_t flags; /* ATTN_SDPA_*; an unknown bit is refused */
    attn_dtype dtype;
    attn_causal causal;
    int64_t batch;        /* B >= 0, the largest of any run */
    int64_t query_heads;  /* Hq >= 0, a multiple of Hkv */
    int64_t key_heads;    /* Hkv >= 0; 0: Hq */
    int64_t queries;      /* Sq >= 0, the largest of any run */
    int64_t keys;         /* Skv >= 0, the largest of any run */
    int64_t head_dim;     /* Dqk >= 1 */
    int64_t value_dim;    /* Dv >= 0; ATTN_HEAD_DIM: Dqk */
    double scale;         /* a normal number of the dtype, of float32 in 16 bits; 0: 1 / sqrt(Dqk) */
    double softcap;       /* such a number above 0; 0: none */
    int64_t window_left;  /* keys before the position that are seen; ATTN_NO_WINDOW: all */
    int64_t window_right; /* keys behind it; ATTN_NO_WINDOW: all */
} attn_sdpa_desc;

#define ATTN_HEAD_DIM (-1) /* attn_sdpa_desc.value_dim */

#ifdef __cplusplus
#define ATTN_SDPA_DESC_INIT attn_sdpa_desc_init()
#else
#define ATTN_SDPA_DESC_INIT                                                                                            \
    {                                                                                                                  \
        .struct_size = sizeof(attn_sdpa_desc), .value_dim = ATTN_HEAD_DIM, .window_left = ATTN_NO_WINDOW,              \
        .window_right = ATTN_NO_WINDOW                                                                                 \
    }
#endif

typedef struct attn_sdpa_forward_args {
    size_t struct_size;
    int64_t batch;        /* of this run; ATTN_PLANNED */
    int64_t queries;      /* of this run; ATTN_PLANNED */
    int64_t keys;         /* of this run; ATTN_PLANNED */
    int64_t query_offset; /* added to every query's position; any sign, at most PTRDIFF_MAX / 8 in magnitude: 2^60 - 1 in 64 bits */
    const void *q;
    int64_t q_batch_stride; /* dense: Hq heads */
    int64_t q_head_stride;  /* dense: Sq rows */
    int64_t q_row_stride;   /* dense: Dqk */
    const void *k;
    int64_t k_batch_stride; /* dense: Hkv heads */
    int64_t k_head_stride;  /* dense: Skv rows */
    int64_t k_row_stride;   /* dense: Dqk */
    const void *v;
    int64_t v_batch_stride; /* dense: Hkv heads */
    int64_t v_head_stride;  /* dense: Skv rows */
    int64_t v_row_stride;   /* dense: Dv */
    const int32_t *key_lengths;
    const uint8_t *mask;
    int64_t mask_batch_stride; /* 0: the same for all items */
    int64_t mask_head_stride;  /* 0: the same for all heads */
    int64_t mask_query_stride; /* 0: the same for all queries */
    int64_t mask_key_stride;   /* 0: the same for all keys; 1 from the initialiser */
    const void *bias;
    int64_t bias_batch_stride; /* as those of the mask */
    int64_t bias_head_stride;
    int64_t bias_query_stride;
    int64_t bias_key_stride;
    const void *alibi_slopes;
    const void *sinks;
    void *output;
    int64_t output_batch_stride; /* dense: Hq heads */
    int64_t output_head_stride;  /* dense: Sq rows */
    int64_t output_row_stride;   /* dense: Dv */
    void *lse;
    int64_t lse_batch_stride; /* dense: Hq heads */
    int64_t lse_head_stride;  /* dense: Sq; queries are contiguous */
    void *attention_weights;
    int64_t attention_weights_batch_stride; /* dense: Hq heads */
    int64_t attention_weights_head_stride;  /* dense: Sq rows */
    int64_t attention_weights_row_stride;   /* dense: Skv */
    void *workspace;
    size_t workspace_size;
} attn_sdpa_forward_args;

#ifdef __cplusplus
#define ATTN_SDPA_FORWARD_ARGS_INIT attn_sdpa_forward_args_init()
#else
#define ATTN_SDPA_FORWARD_ARGS_INIT                                                                                    \
    {                                                                                                                  \
        .struct_size = sizeof(attn_sdpa_forward_args), .batch = ATTN_PLANNED, .queries = ATTN_PLANNED,                 \
        .keys = ATTN_PLANNED, .mask_key_stride = 1, .bias_key_stride = 1                                               \
    }
#endif

/* Plans the forward pass: validates the descriptor and chooses the implementation.
 * ATTN_ERROR_INVALID_ARGUMENT, ATTN_ERROR_SHAPE, ATTN_ERROR_OVERFLOW, ATTN_ERROR_UNSUPPORTED (the message names the refusals),
 * ATTN_ERROR_OUT_OF_MEMORY. On error *plan is NULL. */
ATTN_API attn_status attn_sdpa_forward_plan(attn_context *context, const attn_sdpa_desc *desc, attn_plan **plan);

/* Calls explain once for each implementation, with what attn_sdpa_forward_plan would make of it, and answers what that would. */
ATTN_API attn_status attn_sdpa_forward_explain(attn_context *context, const attn_sdpa_desc *desc, attn_explain explain,
                                               void *user);

/* Computes. See the formula and the table above; a pointer to a tensor without elements may be NULL.
 * ATTN_ERROR_INVALID_ARGUMENT, ATTN_ERROR_SHAPE, ATTN_ERROR_OVERFLOW, ATTN_ERROR_ALIGNMENT, ATTN_ERROR_OVERLAP,
 * ATTN_ERROR_WORKSPACE, ATTN_ERROR_RANGE (a length outside [0, Skv], sizes past the planned ones), ATTN_ERROR_UNSUPPORTED. */
ATTN_API attn_status attn_sdpa_forward(const attn_plan *plan, const attn_sdpa_forward_args *args);

/* The initialisers for C++, which has no designated ones before C++20. */
#ifdef __cplusplus
static inline attn_sdpa_desc attn_sdpa_desc_init() {
    attn_sdpa_desc desc = attn_sdpa_desc();
    desc.struct_size = sizeof desc;
    desc.value_dim = ATTN_HEAD_DIM;
    desc.window_left = desc.window_right = ATTN_NO_WINDOW;
    return desc;
}

static inline attn_sdpa_forward_args attn_sdpa_forward_args_init() {
    attn_sdpa_forward_args args = attn_sdpa_forward_args();
    args.struct_size = sizeof args;
    args.batch = args.queries = args.keys = ATTN_PLANNED;
    args.mask_key_stride = args.bias_key_stride = 1;
    return args;
}
#endif

#ifdef __cplusplus
}
#endif

#endif

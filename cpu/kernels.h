/* The contract between the CPU orchestration (fused.c) and the kernels, one table per instruction set.
 *
 * Kernels are written once, over the vector header (vec.h), in templates that are included once per dtype, and compiled once per
 * ISA; each ISA's object exports one symbol, its table. Kernels never validate, never allocate and hold no policy. Buffers
 * that kernels share among themselves (partials, packed weights, scratch) are aligned to 64 bytes; caller's tensors only to their element.
 * void pointers are float or double by the table.
 *
 * Bits: what a kernel computes for a row or an item must not depend on how many other rows or items the call holds. */
#ifndef ATTN_CPU_KERNELS_H
#define ATTN_CPU_KERNELS_H

#include "cpu/arithmetic.h"

#include <stddef.h>
#include <stdint.h>

/* A piece of one item's memory: rows of H that one query, or several, look at. */
typedef struct attn_rows {
    const void *h;
    ptrdiff_t h_time;      /* elements between rows */
    size_t rows, features; /* rows >= 1 */
    const uint8_t *mask;   /* of the first row and first query; NULL: all attended */
    ptrdiff_t mask_query, mask_time;
} attn_rows;

/* The running softmax of one query over some rows, and their context: weights relative to the maximum. Merged in fixed order.
 * Nothing attended yet: maximum -inf, sum 0, context 0. */
typedef struct attn_partial {
    void *maximum, *sum; /* one element a query */
    void *context;       /* (queries, context_stride) */
    size_t context_stride;
} attn_partial;

/* W2 and v of the additive score: packed by pack_additive, all or v alone. */
typedef struct attn_additive_weights {
    const void *packed;
    const void *w2; /* as the caller has it, where packed holds v alone: packed again piece by piece, to the same bits; else NULL */
} attn_additive_weights;

/* The queries of a block in the backward pass; every row aligned to its element only. */
typedef struct attn_backward_queries {
    size_t queries;
    const void *query;         /* (queries, D or A): as the scores take it */
    const void *grad_context;  /* (queries, D) */
    const void *maximum, *sum; /* of the softmax, as the forward pass kept them: one element a query */
    const double *delta;       /* sum of weight x gradient of the weight, less the gradient of the log-sum-exp */
    void *residual;            /* the sum of the gradients of the scores by dot product: added to */
    const void *grad_weights;  /* given gradients of the weights, of the first row on; NULL: none */
    void *grad_query;          /* (queries, D or A): of the query as the scores take it; added to */
    ptrdiff_t query_stride, grad_context_stride, grad_weights_row, grad_query_stride;
} attn_backward_queries;

/* What the additive score adds. */
typedef struct attn_additive_backward {
    size_t score_width;
    const void *tanh; /* of the first row, as the forward pass of one query kept it; NULL: computed again, by query and w2 */
    ptrdiff_t tanh_time;
    const void *v, *w2, *w2_transposed; /* (A), (D, A), (A, w2_transposed_row) */
    void *grad_w2, *grad_v;             /* (D, grad_w2_row), NULL: not wanted, and (A): added to */
    ptrdiff_t w2_transposed_row, grad_w2_row;
} attn_additive_backward;

typedef struct attn_kernels_real {
    /* C (m, n) = A (m, k) B (k, n), row-major with the given row strides; tanh applied to C when asked; C += when accumulate. */
    void (*gemm)(size_t m, size_t n, size_t k, const void *a, ptrdiff_t lda, const void *b, ptrdiff_t ldb, void *c, ptrdiff_t ldc, int accumulate,
                 int with_tanh);
    /* C (m, n) = A B by chains so short that a sum of one weight's terms, a context, stays within its bound; gemm's suit bounds that count terms. */
    void (*gemm_exact)(size_t m, size_t n, size_t k, const void *a, ptrdiff_t lda, const void *b, ptrdiff_t ldb, void *c, ptrdiff_t ldc);
    /* C (m, n) = A^T B, A (k, m) and B (k, n) row-major; C += when accumulate. */
    void (*gemm_tn)(size_t m, size_t n, size_t k, const void *a, ptrdiff_t lda, const void *b, ptrdiff_t ldb, void *c, ptrdiff_t ldc, int accumulate);
    /* C (m, n) = A (m, k) B^T, B (n, k) row-major. */
    void (*gemm_nt)(size_t m, size_t n, size_t k, const void *a, ptrdiff_t lda, const void *b, ptrdiff_t ldb, void *c, ptrdiff_t ldc);
    /* Scores of the rows against q (queries, q_stride), folded into one partial per query; raw scores also written to
     * scores (queries, scores_stride) where scores is not NULL (hidden rows: -inf). */
    void (*dot_rows)(const attn_rows *rows, const void *q, size_t q_stride, size_t queries, const attn_partial *partial, void *scores,
                     ptrdiff_t scores_stride);
    /* The same for the additive score: qw (queries, qw_stride) = query W1; scratch: additive_scratch bytes. Of one query the tanh of the
     * attended rows go to tanh (rows, A) where that is not NULL. */
    void (*additive_rows)(const attn_rows *rows, const void *qw, size_t qw_stride, size_t queries, const attn_additive_weights *weights,
                          size_t score_width, const attn_partial *partial, void *scores, ptrdiff_t scores_stride, void *tanh,
                          void *scratch);
    size_t (*packed_additive_size)(size_t features, size_t score_width, int with_w2); /* bytes */
    /* w2 NULL: v alone. */
    void (*pack_additive)(size_t features, size_t score_width, const void *w2, const void *v, void *packed);
    size_t (*additive_scratch)(size_t features, size_t score_width); /* bytes, whatever the number of rows and queries */
    /* into <- into merged with from, for each query. */
    void (*merge)(const attn_partial *into, const attn_partial *from, size_t queries, size_t features);
    /* context / sum in place (0 where nothing was attended), log-sum-exp to lse where not NULL. */
    void (*finish)(const attn_partial *partial, size_t queries, size_t features, void *context, ptrdiff_t context_row, void *lse);
    /* scores -> exp(score - maximum) / sum in place, n of them; 0 where nothing was attended. */
    void (*weights)(void *scores, size_t n, const void *maximum, const void *sum);
    /* The backward pass of some rows. grad_h (rows, D; NULL: not wanted) of the rows that some query attends: written, or added to; the
     * others are not touched. Scratch: dot_backward_scratch or additive_backward_scratch bytes. */
    void (*dot_backward)(const attn_rows *rows, const attn_backward_queries *queries, void *grad_h, ptrdiff_t grad_h_time, int accumulate,
                         void *scratch);
    void (*additive_backward)(const attn_rows *rows, const attn_backward_queries *queries, const attn_additive_backward *additive, void *grad_h,
                              ptrdiff_t grad_h_time, int accumulate, void *scratch);
    /* moments (queries, 2) += the sum over the rows of weight x gradient of the weight, and of the weights. */
    void (*dot_moments)(const attn_rows *rows, const attn_backward_queries *queries, double *moments, void *scratch);
    void (*additive_moments)(const attn_rows *rows, const attn_backward_queries *queries, const attn_additive_backward *additive,
                             double *moments, void *scratch);
    size_t (*dot_backward_scratch)(size_t features, size_t queries); /* bytes, whatever the number of rows */
    size_t (*additive_backward_scratch)(size_t features, size_t score_width, size_t queries);
    /* For compositions, whose products come from a BLAS (kernel_rows.h). */
    /* scores (hidden: -inf) -> exp(score - maximum) in place, with their maximum and sum. Nothing attended: -inf, 0, zeros. A NaN makes NaN of the sum. */
    void (*softmax_row)(void *scores, size_t n, void *maximum, void *sum);
    /* scores[r] = sum over k < width of v[k] tanh(z[r][k] + qw[k]), or += when accumulate. */
    void (*tanh_scores)(size_t rows, size_t width, const void *z, ptrdiff_t z_row, const void *qw, const void *v, void *scores, int accumulate);
    /* to[i] = tanh(from[i]); to may be from. */
    void (*tanh_row)(const void *from, void *to, size_t n);
    /* For backward passes. to = grad (1 - y^2), y = tanh; to += from; *to = a b - *less (NULL: 0). */
    void (*tanh_gradient_row)(const void *y, const void *grad, void *to, size_t n);
    void (*add_to)(const void *from, void *to, size_t n);
    void (*dot_less)(const void *a, const void *b, size_t n, const void *less, double *to);
    /* *to = moments[0] / moments[1] - *less, 0 for a quotient of zeros; to -= (*factor - *less) from. less NULL: 0. */
    void (*mean_less)(const double *moments, const void *less, double *to);
    void (*take_times)(const void *factor, const void *less, const void *from, void *to, size_t n);
    /* For compositions' backward pass (kernel_gradient_rows.h). */
    /* As tanh_scores, and t[r][k] = tanh(z[r][k] + qw[k]); t may be z. */
    void (*tanh_keep)(size_t rows, size_t width, const void *z, ptrdiff_t z_row, const void *qw, const void *v, void *t, ptrdiff_t t_row,
                      void *scores, int accumulate);
    /* scores[r] = sum over k < width of t[r][k] v[k] */
    void (*row_scores)(size_t rows, size_t width, const void *t, ptrdiff_t t_row, const void *v, void *scores);
    /* weights: p -> p (gradients + shift); gradients: -> p. Returns the sum of the new weights. */
    double (*softmax_gradient)(void *weights, size_t n, double shift, void *gradients);
    /* With g[r][k] = scores[r] v[k] (1 - t[r][k]^2): z = g, or z += g when accumulate; query[k] += sum of g[r][k]; weight[k] += sum of
     * scores[r] t[r][k]. z may be t. */
    void (*tanh_gradient)(size_t rows, size_t width, const void *t, ptrdiff_t t_row, const void *scores, const void *v, void *z, ptrdiff_t z_row,
                          int accumulate, void *query, void *weight);
} attn_kernels_real;

typedef struct attn_kernels {
    const char *isa;
    attn_kernels_real f32, f64;
} attn_kernels;

extern const attn_kernels attn_kernels_scalar;
extern const attn_kernels attn_kernels_avx2;
extern const attn_kernels attn_kernels_avx512;

#endif

/* Gradients through the additive score, in one pass over the rows. A template, see vec_names.h.
 *
 * With t = tanh(h W2 + qw) kept by the forward pass, p and ds as in kernel_dot_backward.h (e = v t),
 *   dz = ds v (1 - t^2),   dqw += sum of dz,   dv += ds t,   dH (+)= p g + dz W2^T,   dW2 += H^T dz.
 * The dz of a segment, summed over the queries, stay in the first caches between the two products that take them. */
/* SPDX-License-Identifier: Apache-2.0 */

#undef BACKWARD_VECTORS
#define BACKWARD_VECTORS 4 /* of columns at once: of v, dqw and dv */

/* Scratch: weights and gradients of scores, (queries, SEGMENT_ROWS) each; dz, (SEGMENT_ROWS, width padded). */
typedef struct NAMED(additive_backward_scratch_parts) {
    real *weights, *grads, *dz;
    ptrdiff_t dz_row;
} NAMED(additive_backward_scratch_parts);

static size_t NAMED(dz_columns)(size_t score_width) { return (score_width + VEC_LANES - 1) / VEC_LANES * VEC_LANES; }

static size_t NAMED(additive_backward_scratch)(size_t score_width, size_t queries) {
    return (2 * queries + NAMED(dz_columns)(score_width)) * SEGMENT_ROWS * sizeof(real);
}

static NAMED(additive_backward_scratch_parts)
    NAMED(additive_backward_parts)(size_t score_width, size_t queries, void *scratch) {
    real *weights = scratch, *grads = weights + queries * SEGMENT_ROWS;
    return (NAMED(additive_backward_scratch_parts)){weights, grads, grads + queries * SEGMENT_ROWS,
                                                    (ptrdiff_t)NAMED(dz_columns)(score_width)};
}

static const real *NAMED(tanh_at)(const attn_additive_backward *additive, size_t query, size_t step) {
    return (const real *)additive->tanh + (ptrdiff_t)query * additive->tanh_query +
           (ptrdiff_t)step * additive->tanh_time;
}

/* e = v t for the rows of a segment. */
static void NAMED(kept_scores)(const attn_additive_backward *additive, size_t query, size_t step, size_t rows,
                               real *scores) {
    const real *v = additive->v, *first = NAMED(tanh_at)(additive, query, step);
    const size_t width = additive->score_width;
    for (size_t r = 0; r < rows; r += VEC_LANES) {
        size_t count = rows - r < VEC_LANES ? rows - r : VEC_LANES;
        vec sums[VEC_LANES];
        for (size_t i = 0; i < VEC_LANES; i++) sums[i] = v_zero();
        for (size_t i = 0; i < count; i++) {
            const real *t = first + (ptrdiff_t)(r + i) * additive->tanh_time;
            vec sum = v_zero();
            size_t k = 0;
            for (; k + VEC_LANES <= width; k += VEC_LANES) sum = v_fma(v_load(v + k), v_load(t + k), sum);
            sums[i] = v_fma(v_load_n(v + k, width - k), v_load_n(t + k, width - k), sum);
        }
        v_store_n(scores + r, v_sum_each(sums), count);
    }
}

/* `vectors` vectors of columns from `column` on, the last one of `tail` lanes: dz of the segment's rows, or += dz; its sums to dqw and dv. */
static ALWAYS_INLINE void NAMED(dz_columns_of)(const attn_additive_backward *additive, const real *t, const real *ds,
                                               size_t rows, real *dz, ptrdiff_t dz_row, real *grad_qw, real *grad_v,
                                               size_t vectors, size_t tail, bool add) {
    const size_t last = vectors - 1;
    const real *column = additive->v;
    vec v[BACKWARD_VECTORS], sum[BACKWARD_VECTORS], sum_v[BACKWARD_VECTORS];
    UNROLL for (size_t j = 0; j < vectors; j++) {
        v[j] = j == last ? v_load_n(column + j * VEC_LANES, tail) : v_load(column + j * VEC_LANES);
        sum[j] = sum_v[j] = v_zero();
    }
    for (size_t r = 0; r < rows; r++, t += additive->tanh_time, dz += dz_row) {
        vec s = v_set1(ds[r]);
        UNROLL for (size_t j = 0; j < vectors; j++) {
            vec x = j == last ? v_load_n(t + j * VEC_LANES, tail) : v_load(t + j * VEC_LANES);
            vec y = v_mul(s, v_fnma(v_mul(v[j], x), x, v[j]));
            sum[j] = v_add(sum[j], y);
            sum_v[j] = v_fma(s, x, sum_v[j]);
            v_store(dz + j * VEC_LANES, add ? v_add(v_load(dz + j * VEC_LANES), y) : y);
        }
    }
    UNROLL for (size_t j = 0; j < vectors; j++) {
        size_t n = j == last ? tail : VEC_LANES;
        real *qw = grad_qw + j * VEC_LANES, *to = grad_v + j * VEC_LANES;
        v_store_n(qw, v_add(v_load_n(qw, n), sum[j]), n);
        v_store_n(to, v_add(v_load_n(to, n), sum_v[j]), n);
    }
}

static void NAMED(segment_dz)(const attn_additive_backward *additive, const attn_backward_queries *queries,
                              size_t query, size_t step, size_t rows, const real *ds, real *dz, ptrdiff_t dz_row) {
    const real *t = NAMED(tanh_at)(additive, query, step);
    real *grad_qw = (real *)queries->grad_query + (ptrdiff_t)query * queries->grad_query_stride;
    attn_additive_backward from = *additive;
    real *grad_v = additive->grad_v;
    const bool add = query > 0;
    for (size_t left = additive->score_width; left > 0;) {
        size_t columns = left < BACKWARD_VECTORS * VEC_LANES ? left : BACKWARD_VECTORS * VEC_LANES;
        size_t vectors = (columns + VEC_LANES - 1) / VEC_LANES, tail = columns - (vectors - 1) * VEC_LANES;
#define VECTORS(n)                                                                                                     \
    case n:                                                                                                            \
        NAMED(dz_columns_of)(&from, t, ds, rows, dz, dz_row, grad_qw, grad_v, n, tail, add);                           \
        break
        switch (vectors) {
            VECTORS(1);
            VECTORS(2);
            VECTORS(3);
            VECTORS(4);
        }
#undef VECTORS
        from.v = (const real *)from.v + columns;
        t += columns;
        dz += columns;
        grad_qw += columns;
        grad_v += columns;
        left -= columns;
    }
}

static void NAMED(additive_delta)(const attn_rows *rows, const attn_backward_queries *queries,
                                  const attn_additive_backward *additive, void *delta, void *scratch) {
    real *scores = scratch;
    for (size_t step = 0, n; (n = NAMED(next_segment)(rows, queries->queries, &step)) > 0; step += n) {
        attn_rows segment = NAMED(segment_of)(rows, step, n);
        for (size_t i = 0; i < queries->queries; i++) {
            NAMED(kept_scores)(additive, i, step, n, scores);
            NAMED(segment_weights)(&segment, queries, i, scores);
            NAMED(add_delta)(&segment, queries, i, step, scores, (real *)delta + i);
        }
    }
}

static void NAMED(additive_backward)(const attn_rows *rows, const attn_backward_queries *queries,
                                     const attn_additive_backward *additive, void *grad_h, ptrdiff_t grad_h_time,
                                     int accumulate, void *scratch) {
    const size_t count = queries->queries, features = rows->features, width = additive->score_width;
    NAMED(additive_backward_scratch_parts) parts = NAMED(additive_backward_parts)(width, count, scratch);
    for (size_t step = 0, n; (n = NAMED(next_segment)(rows, count, &step)) > 0; step += n) {
        attn_rows segment = NAMED(segment_of)(rows, step, n);
        real *to = (real *)grad_h + (ptrdiff_t)step * grad_h_time;
        NAMED(gemm_nt)
        (count, n, features, queries->grad_context, queries->grad_context_stride, segment.h, rows->h_time, parts.grads,
         SEGMENT_ROWS);
        for (size_t i = 0; i < count; i++) {
            real *p = parts.weights + i * SEGMENT_ROWS, *ds = parts.grads + i * SEGMENT_ROWS;
            NAMED(kept_scores)(additive, i, step, n, p);
            NAMED(segment_weights)(&segment, queries, i, p);
            NAMED(segment_gradients)(&segment, queries, i, step, p, ds, ds);
            NAMED(segment_dz)(additive, queries, i, step, n, ds, parts.dz, parts.dz_row);
        }
        NAMED(gemm_tn)
        (n, features, count, parts.weights, SEGMENT_ROWS, queries->grad_context, queries->grad_context_stride, to,
         grad_h_time, accumulate);
        NAMED(gemm)
        (n, features, width, parts.dz, parts.dz_row, additive->w2_transposed, (ptrdiff_t)features, to, grad_h_time, 1,
         0);
        NAMED(gemm_tn)
        (features, width, n, segment.h, rows->h_time, parts.dz, parts.dz_row, additive->grad_w2, (ptrdiff_t)width, 1);
    }
}

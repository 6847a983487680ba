/* Gradients through the additive score, in one pass over the rows. A template, see vec_names.h.
 *
 * With t = tanh(h W2 + qw) kept by the forward pass, p and ds as in kernel_dot_backward.h (e = v t),
 *   dz = ds v (1 - t^2),   dqw += sum of dz,   dv += ds t,   dH (+)= p g + dz W2^T,   dW2 += H^T dz.
 * The dz of a segment, summed over the queries, stay in the first caches between the two products that take them.
 *
 * One to four columns behind whole vectors would cost these products a vector a row: 7 where D = 100 fills 6 1/4. They go by
 * products of their own. Those of dH are sums over the columns of dz, as scores are; those of dW2 are computed as rows of its transpose, in
 * vectors along D, and added in at the end of a chunk. */
/* SPDX-License-Identifier: Apache-2.0 */

#undef BACKWARD_VECTORS
#define BACKWARD_VECTORS 4 /* of columns at once: of v, dqw and dv */

#undef NARROW
#define NARROW 4 /* columns behind whole vectors that go apart, at most */

/* Scratch: weights and gradients of scores, (queries, SEGMENT_ROWS) each; dz, and where nothing is kept h W2 and its tanh, each
 * (SEGMENT_ROWS, row); what goes apart of dH, (SEGMENT_ROWS, NARROW), and of dW2, (NARROW, D). */
typedef struct NAMED(additive_parts) {
    real *weights, *grads, *dz, *z, *t, *narrow_h, *narrow_w2;
    size_t row;
} NAMED(additive_parts);

static size_t NAMED(dz_row)(size_t score_width) { return (score_width + VEC_LANES - 1) / VEC_LANES * VEC_LANES; }

/* Of so many columns, those that go apart. */
static size_t NAMED(narrow_columns)(size_t columns) {
    const size_t rest = columns % VEC_LANES;
    return VEC_LANES > 2 * NARROW && columns > VEC_LANES && rest <= NARROW ? rest : 0;
}

static size_t NAMED(additive_backward_scratch)(size_t features, size_t score_width, size_t queries) {
    const size_t of_rows = 2 * queries + 3 * NAMED(dz_row)(score_width) + NARROW;
    return (of_rows * SEGMENT_ROWS + NARROW * features) * sizeof(real);
}

static NAMED(additive_parts) NAMED(additive_parts_in)(size_t score_width, size_t queries, void *scratch) {
    NAMED(additive_parts) parts = {.weights = scratch, .row = NAMED(dz_row)(score_width)};
    parts.grads = parts.weights + queries * SEGMENT_ROWS;
    parts.dz = parts.grads + queries * SEGMENT_ROWS;
    parts.z = parts.dz + parts.row * SEGMENT_ROWS;
    parts.t = parts.z + parts.row * SEGMENT_ROWS;
    parts.narrow_h = parts.t + parts.row * SEGMENT_ROWS;
    parts.narrow_w2 = parts.narrow_h + NARROW * SEGMENT_ROWS;
    return parts;
}

/* The tanh of a segment for one query, row by row. */
typedef struct NAMED(segment_tanh) {
    const real *data;
    ptrdiff_t row;
} NAMED(segment_tanh);

static void NAMED(product_again)(const attn_rows *segment, const attn_additive_backward *additive,
                                 const NAMED(additive_parts) * parts) {
    if (additive->tanh) return;
    NAMED(gemm)
    (segment->rows, additive->score_width, segment->features, segment->h, segment->h_time, additive->w2,
     (ptrdiff_t)additive->score_width, parts->z, (ptrdiff_t)parts->row, 0, 0);
}

static NAMED(segment_tanh) NAMED(tanh_of)(const attn_additive_backward *additive, const attn_backward_queries *queries,
                                          size_t query, size_t step, size_t rows, const NAMED(additive_parts) * parts) {
    if (additive->tanh) {
        const real *kept = additive->tanh;
        return (NAMED(segment_tanh)){kept + (ptrdiff_t)step * additive->tanh_time, additive->tanh_time};
    }
    const real *qw = (const real *)queries->query + (ptrdiff_t)query * queries->query_stride;
    const size_t width = additive->score_width;
    for (size_t r = 0; r < rows; r++) {
        const real *z = parts->z + r * parts->row;
        real *t = parts->t + r * parts->row;
        size_t k = 0;
        for (; k + VEC_LANES <= width; k += VEC_LANES) v_store(t + k, v_tanh(v_add(v_load(z + k), v_load(qw + k))));
        v_store_n(t + k, v_tanh(v_add(v_load_n(z + k, width - k), v_load_n(qw + k, width - k))), width - k);
    }
    return (NAMED(segment_tanh)){parts->t, (ptrdiff_t)parts->row};
}

/* e = v t for the rows of a segment. */
static void NAMED(scores_of_tanh)(const attn_additive_backward *additive, NAMED(segment_tanh) tanh, size_t rows,
                                  real *scores) {
    const real *v = additive->v;
    const size_t width = additive->score_width;
    for (size_t r = 0; r < rows; r += VEC_LANES) {
        size_t count = rows - r < VEC_LANES ? rows - r : VEC_LANES;
        vec sums[VEC_LANES];
        for (size_t i = 0; i < VEC_LANES; i++) sums[i] = v_zero();
        for (size_t i = 0; i < count; i++) {
            const real *t = tanh.data + (ptrdiff_t)(r + i) * tanh.row;
            sums[i] = NAMED(dot_lanes)(v, t, width);
        }
        v_store_n(scores + r, v_sum_each(sums), count);
    }
}

/* `vectors` vectors of columns from `column` on, the last one of `tail` lanes: dz of the segment's rows, or += dz; its sums to dqw and dv. */
static ALWAYS_INLINE void NAMED(dz_columns)(const real *weight, NAMED(segment_tanh) tanh, const real *ds, size_t rows,
                                            real *dz, ptrdiff_t dz_row, real *grad_qw, real *grad_v, size_t vectors,
                                            size_t tail, bool add) {
    const size_t last = vectors - 1;
    const real *t = tanh.data;
    vec v[BACKWARD_VECTORS], sum[BACKWARD_VECTORS], sum_v[BACKWARD_VECTORS];
    UNROLL for (size_t j = 0; j < vectors; j++) {
        v[j] = j == last ? v_load_n(weight + j * VEC_LANES, tail) : v_load(weight + j * VEC_LANES);
        sum[j] = sum_v[j] = v_zero();
    }
    for (size_t r = 0; r < rows; r++, t += tanh.row, dz += dz_row) {
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
                              size_t query, NAMED(segment_tanh) tanh, size_t rows, const real *ds, real *dz,
                              ptrdiff_t dz_row) {
    const real *v = additive->v;
    real *grad_qw = (real *)queries->grad_query + (ptrdiff_t)query * queries->grad_query_stride;
    real *grad_v = additive->grad_v;
    const bool add = query > 0;
    for (size_t left = additive->score_width; left > 0;) {
        size_t columns = left < BACKWARD_VECTORS * VEC_LANES ? left : BACKWARD_VECTORS * VEC_LANES;
        size_t vectors = (columns + VEC_LANES - 1) / VEC_LANES, tail = columns - (vectors - 1) * VEC_LANES;
#define VECTORS(n)                                                                                                     \
    case n:                                                                                                            \
        NAMED(dz_columns)(v, tanh, ds, rows, dz, dz_row, grad_qw, grad_v, n, tail, add);                               \
        break
        switch (vectors) {
            VECTORS(1);
            VECTORS(2);
            VECTORS(3);
            VECTORS(4);
        }
#undef VECTORS
        v += columns, tanh.data += columns, dz += columns, grad_qw += columns, grad_v += columns;
        left -= columns;
    }
}

static void NAMED(additive_moments)(const attn_rows *rows, const attn_backward_queries *queries,
                                    const attn_additive_backward *additive, double *moments, void *scratch) {
    const size_t count = queries->queries;
    const NAMED(additive_parts) parts = NAMED(additive_parts_in)(additive->score_width, count, scratch);
    for (size_t step = 0, n; (n = NAMED(next_segment)(rows, count, &step)) > 0; step += n) {
        attn_rows segment = NAMED(segment_of)(rows, step, n);
        NAMED(gemm_nt)
        (count, n, rows->features, queries->grad_context, queries->grad_context_stride, segment.h, rows->h_time,
         parts.grads, SEGMENT_ROWS);
        NAMED(product_again)(&segment, additive, &parts);
        for (size_t i = 0; i < count; i++) {
            NAMED(scores_of_tanh)
            (additive, NAMED(tanh_of)(additive, queries, i, step, n, &parts), n, parts.weights);
            NAMED(segment_weights)(&segment, queries, i, parts.weights);
            NAMED(add_moments)
            (&segment, queries, i, step, parts.weights, parts.grads + i * SEGMENT_ROWS, moments + 2 * i);
        }
    }
}

/* Of one query: weights and gradients of the scores, and what the segment gives to dz, dqw and dv. */
static void NAMED(segment_query)(const attn_rows *segment, const attn_backward_queries *queries,
                                 const attn_additive_backward *additive, size_t query, size_t step,
                                 const NAMED(additive_parts) * parts) {
    const size_t n = segment->rows;
    real *p = parts->weights + query * SEGMENT_ROWS, *ds = parts->grads + query * SEGMENT_ROWS;
    NAMED(segment_tanh) tanh = NAMED(tanh_of)(additive, queries, query, step, n, parts);
    NAMED(scores_of_tanh)(additive, tanh, n, p);
    NAMED(segment_weights)(segment, queries, query, p);
    NAMED(segment_gradients)(segment, queries, query, step, p, ds, ds);
    NAMED(segment_dz)(additive, queries, query, tanh, n, ds, parts->dz, (ptrdiff_t)parts->row);
}

/* dH += dz W2^T */
static void NAMED(segment_rows)(const attn_rows *segment, const attn_additive_backward *additive,
                                const NAMED(additive_parts) * parts, real *grad_h, ptrdiff_t grad_h_time) {
    const size_t width = additive->score_width, narrow = NAMED(narrow_columns)(segment->features),
                 whole = segment->features - narrow;
    const ptrdiff_t dz_row = (ptrdiff_t)parts->row;
    NAMED(gemm)
    (segment->rows, whole, width, parts->dz, dz_row, additive->w2_transposed, additive->w2_transposed_row, grad_h,
     grad_h_time, 1, 0);
    if (narrow == 0) return;
    NAMED(gemm_nt)
    (segment->rows, narrow, width, parts->dz, dz_row, (const real *)additive->w2 + whole * width, (ptrdiff_t)width,
     parts->narrow_h, NARROW);
    for (size_t r = 0; r < segment->rows; r++) {
        real *to = grad_h + (ptrdiff_t)r * grad_h_time + whole;
        v_store_n(to, v_add(v_load_n(to, narrow), v_load_n(parts->narrow_h + r * NARROW, narrow)), narrow);
    }
}

/* dW2 += H^T dz, but for what goes apart. */
static void NAMED(segment_w2)(const attn_rows *segment, const attn_additive_backward *additive,
                              const NAMED(additive_parts) * parts) {
    const size_t narrow = NAMED(narrow_columns)(additive->score_width), whole = additive->score_width - narrow;
    const ptrdiff_t dz_row = (ptrdiff_t)parts->row;
    NAMED(gemm_tn)
    (segment->features, whole, segment->rows, segment->h, segment->h_time, parts->dz, dz_row, additive->grad_w2,
     additive->grad_w2_row, 1);
    if (narrow == 0) return;
    NAMED(gemm_tn)
    (narrow, segment->features, segment->rows, parts->dz + whole, dz_row, segment->h, segment->h_time, parts->narrow_w2,
     (ptrdiff_t)segment->features, 1);
}

/* What went apart in its place. */
static void NAMED(add_narrow_w2)(const attn_additive_backward *additive, size_t features,
                                 const NAMED(additive_parts) * parts) {
    const size_t narrow = NAMED(narrow_columns)(additive->score_width), whole = additive->score_width - narrow;
    for (size_t j = 0; j < narrow; j++) {
        real *to = (real *)additive->grad_w2 + whole + j;
        const real *from = parts->narrow_w2 + j * features;
        for (size_t d = 0; d < features; d++) to[(ptrdiff_t)d * additive->grad_w2_row] += from[d];
    }
}

static void NAMED(additive_backward)(const attn_rows *rows, const attn_backward_queries *queries,
                                     const attn_additive_backward *additive, void *grad_h, ptrdiff_t grad_h_time,
                                     int accumulate, void *scratch) {
    const size_t count = queries->queries, features = rows->features;
    const NAMED(additive_parts) parts = NAMED(additive_parts_in)(additive->score_width, count, scratch);
    memset(parts.narrow_w2, 0, NARROW * features * sizeof(real));
    for (size_t step = 0, n; (n = NAMED(next_segment)(rows, count, &step)) > 0; step += n) {
        attn_rows segment = NAMED(segment_of)(rows, step, n);
        NAMED(gemm_nt)
        (count, n, features, queries->grad_context, queries->grad_context_stride, segment.h, rows->h_time, parts.grads,
         SEGMENT_ROWS);
        NAMED(product_again)(&segment, additive, &parts);
        for (size_t i = 0; i < count; i++) NAMED(segment_query)(&segment, queries, additive, i, step, &parts);
        if (grad_h) {
            real *to = (real *)grad_h + (ptrdiff_t)step * grad_h_time;
            NAMED(gemm_tn)
            (n, features, count, parts.weights, SEGMENT_ROWS, queries->grad_context, queries->grad_context_stride, to,
             grad_h_time, accumulate);
            NAMED(segment_rows)(&segment, additive, &parts, to, grad_h_time);
        }
        if (additive->grad_w2) NAMED(segment_w2)(&segment, additive, &parts);
    }
    if (additive->grad_w2) NAMED(add_narrow_w2)(additive, features, &parts);
}

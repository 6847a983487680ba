/* Gradients through scores by dot product, in one pass over the rows. A template, see vec_names.h.
 *
 * With the softmax's maximum m and sum l kept by the forward pass, g the gradient of the context and delta = sum of p da,
 *   p = exp(h q - m) / l,   da = h g,   ds = p (da - delta),   dq += ds h,   dh (+)= ds q + p g.
 *
 * All ds of a query add up to the gradient of its log-sum-exp, which is mostly 0, while delta has the rounding errors of the context that
 * it was made of. What the ds really add up to goes to `residual`, so that dq can be mended.
 *
 * In general the rows of a segment, which lie in the first caches, go through four products:
 *   [e; da] = [q; g] H^T,   then ds and p in their place,   dH (+)= [ds; p]^T [q; g],   dq += ds H.
 * A segment is some consecutive rows that some query attends; the others are not read. */
/* SPDX-License-Identifier: Apache-2.0 */

#undef SEGMENT_ROWS
#define SEGMENT_ROWS 64 /* bounds the rounding error of a sum over rows; at D = 100, 25 KB of H and of its gradient */

/* The rows from *step on that make a segment; answers how many, 0 at the end. */
static size_t NAMED(next_segment)(const attn_rows *rows, size_t queries, size_t *step) {
    size_t first = *step, end;
    if (rows->mask) {
        while (first < rows->rows && !NAMED(attended)(rows, first, queries)) first++;
    }
    size_t last = rows->rows - first < SEGMENT_ROWS ? rows->rows : first + SEGMENT_ROWS;
    for (end = rows->mask ? first : last; end < last && NAMED(attended)(rows, end, queries);) end++;
    *step = first;
    return end - first;
}

/* The segment's part of rows. */
static attn_rows NAMED(segment_of)(const attn_rows *rows, size_t step, size_t count) {
    attn_rows segment = *rows;
    segment.h = (const real *)rows->h + (ptrdiff_t)step * rows->h_time;
    segment.rows = count;
    if (rows->mask) segment.mask += (ptrdiff_t)step * rows->mask_time;
    return segment;
}

/* 1 where this query attends, from row `first` of the segment on, else 0. */
static vec NAMED(attended_lanes)(const attn_rows *segment, size_t query, size_t first, size_t n) {
    if (!segment->mask || segment->mask_query == 0) return v_set1(1);
    real keep[VEC_LANES] = {0};
    const uint8_t *mask = segment->mask + (ptrdiff_t)query * segment->mask_query;
    for (size_t i = 0; i < n; i++) keep[i] = mask[(ptrdiff_t)(first + i) * segment->mask_time] != 0;
    return v_load(keep);
}

/* One query's scores to weights; hidden rows 0. */
static void NAMED(segment_weights)(const attn_rows *segment, const attn_backward_queries *queries, size_t query,
                                   real *scores) {
    const real sum = ((const real *)queries->sum)[query];
    if (sum == 0) {
        memset(scores, 0, segment->rows * sizeof(real));
        return;
    }
    vec top = v_set1(((const real *)queries->maximum)[query]), factor = v_set1(1 / sum);
    const vec lowest = v_set1(-(real)INFINITY);
    for (size_t i = 0; i < segment->rows; i += VEC_LANES) {
        size_t n = segment->rows - i < VEC_LANES ? segment->rows - i : VEC_LANES;
        vec keep = NAMED(attended_lanes)(segment, query, i, n);
        /* What is hidden may be far above the maximum, and so may the 0 of a lane without a row. */
        vec e = v_select_gt(keep, v_zero(), v_keep_n(v_load_n(scores + i, n), n, lowest), lowest);
        vec p = v_mul(v_exp(v_sub(e, top)), factor);
        v_store_n(scores + i, v_select_gt(keep, v_zero(), p, v_zero()), n);
    }
}

static const real *NAMED(grad_weights_at)(const attn_backward_queries *queries, size_t query, size_t step) {
    return (const real *)queries->grad_weights + (ptrdiff_t)query * queries->grad_weights_row + step;
}

/* One query's weights, and the gradient of each by way of the context, to the gradient of its score. */
static void NAMED(segment_gradients)(const attn_rows *segment, const attn_backward_queries *queries, size_t query,
                                     size_t step, const real *weights, const real *grad, real *to) {
    const double delta = queries->delta[query];
    const vec high = v_set1((real)delta), low = v_set1((real)(delta - (double)(real)delta));
    const real *given = queries->grad_weights ? NAMED(grad_weights_at)(queries, query, step) : NULL;
    for (size_t i = 0; i < segment->rows; i += VEC_LANES) {
        size_t n = segment->rows - i < VEC_LANES ? segment->rows - i : VEC_LANES;
        vec p = v_load_n(weights + i, n), da = v_load_n(grad + i, n);
        if (given) da = v_add(da, v_load_n(given + i, n));
        vec ds = v_mul(p, v_sub(v_sub(da, high), low));
        v_store_n(to + i, v_select_gt(NAMED(attended_lanes)(segment, query, i, n), v_zero(), ds, v_zero()), n);
    }
}

/* moments += the sum of p da, the sum of p. */
static void NAMED(add_moments)(const attn_rows *segment, const attn_backward_queries *queries, size_t query,
                               size_t step, const real *weights, const real *grad, double *moments) {
    const real *given = queries->grad_weights ? NAMED(grad_weights_at)(queries, query, step) : NULL;
    vec first = v_zero(), sum = v_zero();
    for (size_t i = 0; i < segment->rows; i += VEC_LANES) {
        size_t n = segment->rows - i < VEC_LANES ? segment->rows - i : VEC_LANES;
        vec keep = NAMED(attended_lanes)(segment, query, i, n);
        vec p = v_load_n(weights + i, n), da = v_load_n(grad + i, n);
        if (given) da = v_add(da, v_load_n(given + i, n));
        first = v_add(first, v_select_gt(keep, v_zero(), v_mul(p, da), v_zero()));
        sum = v_add(sum, p);
    }
    moments[0] += (double)v_sum(first);
    moments[1] += (double)v_sum(sum);
}

static real NAMED(sum_of)(const real *from, size_t count) {
    vec sum = v_zero();
    for (size_t i = 0; i < count; i += VEC_LANES)
        sum = v_add(sum, v_load_n(from + i, count - i < VEC_LANES ? count - i : VEC_LANES));
    return v_sum(sum);
}

static void NAMED(copy_rows)(const void *from, ptrdiff_t stride, size_t rows, size_t columns, real *to) {
    for (size_t i = 0; i < rows; i++)
        memcpy(to + i * columns, (const real *)from + (ptrdiff_t)i * stride, columns * sizeof(real));
}

/* Scratch: the rows of q, then those of g; their products with a segment. */
static size_t NAMED(dot_backward_scratch)(size_t features, size_t queries) {
    return (2 * queries * (features + SEGMENT_ROWS)) * sizeof(real);
}

/* The rows of q, then those of g. */
static void NAMED(copy_both)(const attn_backward_queries *queries, size_t features, real *to) {
    NAMED(copy_rows)(queries->query, queries->query_stride, queries->queries, features, to);
    NAMED(copy_rows)
    (queries->grad_context, queries->grad_context_stride, queries->queries, features, to + queries->queries * features);
}

static void NAMED(dot_moments)(const attn_rows *rows, const attn_backward_queries *queries, double *moments,
                               void *scratch) {
    const size_t count = queries->queries, features = rows->features;
    real *both = scratch, *scores = both + 2 * count * features, *grads = scores + count * SEGMENT_ROWS;
    NAMED(copy_both)(queries, features, both);
    for (size_t step = 0, n; (n = NAMED(next_segment)(rows, count, &step)) > 0; step += n) {
        attn_rows segment = NAMED(segment_of)(rows, step, n);
        NAMED(gemm_nt)
        (2 * count, n, features, both, (ptrdiff_t)features, segment.h, rows->h_time, scores, SEGMENT_ROWS);
        for (size_t i = 0; i < count; i++) {
            real *e = scores + i * SEGMENT_ROWS;
            NAMED(segment_weights)(&segment, queries, i, e);
            NAMED(add_moments)(&segment, queries, i, step, e, grads + i * SEGMENT_ROWS, moments + 2 * i);
        }
    }
}

static void NAMED(dot_backward_from)(const attn_rows *rows, size_t step, const attn_backward_queries *queries,
                                     real *grad_h, ptrdiff_t grad_h_time, int accumulate, real *scratch) {
    const size_t count = queries->queries, features = rows->features;
    const ptrdiff_t width = (ptrdiff_t)features;
    real *both = scratch, *scores = both + 2 * count * features, *grads = scores + count * SEGMENT_ROWS;
    NAMED(copy_both)(queries, features, both);
    for (size_t n; (n = NAMED(next_segment)(rows, count, &step)) > 0; step += n) {
        attn_rows segment = NAMED(segment_of)(rows, step, n);
        NAMED(gemm_nt)(2 * count, n, features, both, width, segment.h, rows->h_time, scores, SEGMENT_ROWS);
        for (size_t i = 0; i < count; i++) {
            real *e = scores + i * SEGMENT_ROWS, *da = grads + i * SEGMENT_ROWS, p[SEGMENT_ROWS];
            NAMED(segment_weights)(&segment, queries, i, e);
            memcpy(p, e, n * sizeof(real));
            NAMED(segment_gradients)(&segment, queries, i, step, p, da, e);
            ((real *)queries->residual)[i] += NAMED(sum_of)(e, n);
            memcpy(da, p, n * sizeof(real));
        }
        if (grad_h) {
            NAMED(gemm_tn)
            (n, features, 2 * count, scores, SEGMENT_ROWS, both, width, grad_h + (ptrdiff_t)step * grad_h_time,
             grad_h_time, accumulate);
        }
        NAMED(gemm)
        (count, features, n, scores, SEGMENT_ROWS, segment.h, rows->h_time, queries->grad_query,
         queries->grad_query_stride, 1, 0);
    }
}

#if VEC_BITS == 512 /* which has the registers: q, g, dq and four sums */
/* ---- One query, rows of few vectors, none hidden ---------------------------------------------------
 *
 * q, g and dq stay in registers. As in the forward pass, the scores of a group of rows go interleaved with what follows from those of the
 * group before. */

/* What a group's scores become. */
typedef struct NAMED(group_gradients) {
    real weights[VEC_LANES], scores[VEC_LANES]; /* p and ds */
} NAMED(group_gradients);

/* Where one query's pass over rows has come to. */
typedef struct NAMED(backward_place) {
    const real *h;
    real *to; /* in grad_h */
    ptrdiff_t stride, to_stride;
} NAMED(backward_place);

/* A row whose weight is known: its gradient, and what it adds to dq. */
static ALWAYS_INLINE void NAMED(backward_row)(const real *row, real *to, real weight, real score, const vec *q,
                                              const vec *g, vec *dq, size_t full, size_t tail) {
    vec p = v_set1(weight), ds = v_set1(score);
    UNROLL for (size_t j = 0; j <= full; j++) {
        vec x = j == full ? v_load_n(row + j * VEC_LANES, tail) : v_load(row + j * VEC_LANES);
        vec y = v_fma(ds, q[j], v_mul(p, g[j]));
        dq[j] = v_fma(ds, x, dq[j]);
        if (j == full) {
            v_store_n(to + j * VEC_LANES, y, tail);
        } else {
            v_store(to + j * VEC_LANES, y);
        }
    }
}

/* e and da of the group at `place`; with `before`, those of the group before it go on to grad_h and dq. */
static ALWAYS_INLINE void NAMED(backward_step)(NAMED(backward_place) place, const NAMED(group_gradients) * before,
                                               const vec *q, const vec *g, vec *dq, vec *e, vec *da, size_t full,
                                               size_t tail) {
    const real *h = place.h, *last = place.h - VEC_LANES * place.stride;
    real *to = place.to - VEC_LANES * place.to_stride;
    vec folded[VEC_LANES / 2];
    ROLLED for (size_t r = 0; r < VEC_LANES; r += 2) {
        vec sum[4];
        UNROLL for (size_t i = 0; i < 2; i++) {
            const real *ahead = h + PREFETCH_ROWS * place.stride;
            UNROLL for (size_t j = 0; j <= full; j++) __builtin_prefetch(ahead + j * VEC_LANES);
            vec x = v_load_n(h + full * VEC_LANES, tail);
            sum[2 * i] = v_mul(x, q[full]);
            sum[2 * i + 1] = v_mul(x, g[full]);
            UNROLL for (size_t j = 0; j < full; j++) {
                x = v_load(h + j * VEC_LANES);
                KEEP_LOADED(x);
                sum[2 * i] = v_fma(x, q[j], sum[2 * i]);
                sum[2 * i + 1] = v_fma(x, g[j], sum[2 * i + 1]);
            }
            if (before)
                NAMED(backward_row)(last, to, before->weights[r + i], before->scores[r + i], q, g, dq, full, tail);
            h += place.stride;
            last += place.stride;
            to += place.to_stride;
            HIDE(h);
            HIDE(last);
            HIDE(to);
        }
        folded[r / 2] = v_fold(sum);
    }
    vec low = v_join(folded), high = v_join(folded + VEC_LANES / V_FOLD);
    *e = v_even(low, high);
    *da = v_odd(low, high);
}

static ALWAYS_INLINE void NAMED(add_vectors)(real *to, vec *from, size_t full, size_t tail) {
    UNROLL for (size_t j = 0; j < full; j++) {
        v_store(to + j * VEC_LANES, v_add(v_load(to + j * VEC_LANES), from[j]));
        from[j] = v_zero();
    }
    v_store_n(to + full * VEC_LANES, v_add(v_load_n(to + full * VEC_LANES, tail), from[full]), tail);
    from[full] = v_zero();
}

/* Whole groups; answers how many rows they were. */
static ALWAYS_INLINE size_t NAMED(dot_backward_pipeline)(const attn_rows *rows, const attn_backward_queries *queries,
                                                         real *grad_h, ptrdiff_t grad_h_time, size_t full,
                                                         size_t tail) {
    const real *query = queries->query, *grad_context = queries->grad_context, *given = queries->grad_weights;
    const vec top = v_set1(*(const real *)queries->maximum), delta = v_set1((real)*queries->delta),
              factor = v_set1(1 / *(const real *)queries->sum);
    NAMED(backward_place) place = {rows->h, grad_h, rows->h_time, grad_h_time};
    NAMED(group_gradients) group;
    vec q[8], g[8], dq[8], e, da, residual = v_zero();
    UNROLL for (size_t j = 0; j <= full; j++) {
        q[j] = v_load_n(query + j * VEC_LANES, j == full ? tail : VEC_LANES);
        g[j] = v_load_n(grad_context + j * VEC_LANES, j == full ? tail : VEC_LANES);
        dq[j] = v_zero();
    }
    size_t done = 0;
    for (; done + VEC_LANES <= rows->rows; done += VEC_LANES) {
        NAMED(backward_step)(place, done == 0 ? NULL : &group, q, g, dq, &e, &da, full, tail);
        vec p = v_mul(v_exp(v_sub(e, top)), factor);
        if (given) da = v_add(da, v_load(given + done));
        vec ds = v_mul(p, v_sub(da, delta));
        residual = v_add(residual, ds);
        v_store(group.weights, p);
        v_store(group.scores, ds);
        place.h += VEC_LANES * place.stride;
        place.to += VEC_LANES * place.to_stride;
        if (done % SEGMENT_ROWS == 0) NAMED(add_vectors)(queries->grad_query, dq, full, tail);
    }
    for (size_t i = 0; done > 0 && i < VEC_LANES; i++) {
        const ptrdiff_t back = (ptrdiff_t)i - VEC_LANES;
        NAMED(backward_row)
        (place.h + back * place.stride, place.to + back * place.to_stride, group.weights[i], group.scores[i], q, g, dq,
         full, tail);
    }
    NAMED(add_vectors)(queries->grad_query, dq, full, tail);
    *(real *)queries->residual += v_sum(residual);
    return done;
}

static size_t NAMED(dot_backward_groups)(const attn_rows *rows, const attn_backward_queries *queries, real *grad_h,
                                         ptrdiff_t grad_h_time) {
    size_t full = (rows->features - 1) / VEC_LANES, tail = rows->features - full * VEC_LANES;
#define SIZED(n)                                                                                                       \
    case n:                                                                                                            \
        return NAMED(dot_backward_pipeline)(rows, queries, grad_h, grad_h_time, n, tail)
    switch (full) {
        SIZED(0);
        SIZED(1);
        SIZED(2);
        SIZED(3);
        SIZED(4);
        SIZED(5);
        SIZED(6);
        SIZED(7);
    default:
        return 0;
    }
#undef SIZED
}
#else
static size_t NAMED(dot_backward_groups)(const attn_rows *rows, const attn_backward_queries *queries, real *grad_h,
                                         ptrdiff_t grad_h_time) {
    (void)rows, (void)queries, (void)grad_h, (void)grad_h_time;
    return 0;
}
#endif

static void NAMED(dot_backward)(const attn_rows *rows, const attn_backward_queries *queries, void *grad_h,
                                ptrdiff_t grad_h_time, int accumulate, void *scratch) {
    size_t done = 0;
    if (queries->queries == 1 && !rows->mask && grad_h && !accumulate)
        done = NAMED(dot_backward_groups)(rows, queries, grad_h, grad_h_time);
    if (done < rows->rows) NAMED(dot_backward_from)(rows, done, queries, grad_h, grad_h_time, accumulate, scratch);
}

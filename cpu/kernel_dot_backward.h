/* Gradients through scores by dot product, in one pass over the rows. A template, see vec_names.h.
 *
 * With the softmax's maximum m and sum l kept by the forward pass, g the gradient of the context and delta = sum of p da,
 *   p = exp(h q - m) / l,   da = h g,   ds = p (da - delta),   dq += ds h,   dh (+)= ds q + p g.
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
    vec top = v_set1(((const real *)queries->maximum)[query]), factor = v_set1(1 / ((const real *)queries->sum)[query]);
    for (size_t i = 0; i < segment->rows; i += VEC_LANES) {
        size_t n = segment->rows - i < VEC_LANES ? segment->rows - i : VEC_LANES;
        vec p = v_mul(v_exp(v_sub(v_load_n(scores + i, n), top)), factor);
        v_store_n(scores + i, v_select_gt(NAMED(attended_lanes)(segment, query, i, n), v_zero(), p, v_zero()), n);
    }
}

static const real *NAMED(grad_weights_at)(const attn_backward_queries *queries, size_t query, size_t step) {
    return (const real *)queries->grad_weights + (ptrdiff_t)query * queries->grad_weights_row + step;
}

/* One query's weights, and the gradient of each by way of the context, to the gradient of its score. */
static void NAMED(segment_gradients)(const attn_rows *segment, const attn_backward_queries *queries, size_t query,
                                     size_t step, const real *weights, const real *grad, real *to) {
    vec delta = v_set1(((const real *)queries->delta)[query]);
    const real *given = queries->grad_weights ? NAMED(grad_weights_at)(queries, query, step) : NULL;
    for (size_t i = 0; i < segment->rows; i += VEC_LANES) {
        size_t n = segment->rows - i < VEC_LANES ? segment->rows - i : VEC_LANES;
        vec p = v_load_n(weights + i, n), da = v_load_n(grad + i, n);
        if (given) da = v_add(da, v_load_n(given + i, n));
        vec ds = v_mul(p, v_sub(da, delta));
        v_store_n(to + i, v_select_gt(NAMED(attended_lanes)(segment, query, i, n), v_zero(), ds, v_zero()), n);
    }
}

/* delta += the sum of weight x given gradient of the weight. */
static void NAMED(add_delta)(const attn_rows *segment, const attn_backward_queries *queries, size_t query, size_t step,
                             const real *weights, real *delta) {
    const real *given = NAMED(grad_weights_at)(queries, query, step);
    vec sum = v_zero();
    for (size_t i = 0; i < segment->rows; i += VEC_LANES) {
        size_t n = segment->rows - i < VEC_LANES ? segment->rows - i : VEC_LANES;
        vec keep = NAMED(attended_lanes)(segment, query, i, n);
        vec term = v_mul(v_load_n(weights + i, n), v_load_n(given + i, n));
        sum = v_add(sum, v_select_gt(keep, v_zero(), term, v_zero()));
    }
    *delta += v_sum(sum);
}

static void NAMED(copy_rows)(const void *from, ptrdiff_t stride, size_t rows, size_t columns, real *to) {
    for (size_t i = 0; i < rows; i++)
        memcpy(to + i * columns, (const real *)from + (ptrdiff_t)i * stride, columns * sizeof(real));
}

/* Scratch: the rows of q, then those of g; their products with a segment. */
static size_t NAMED(dot_backward_scratch)(size_t features, size_t queries) {
    return (2 * queries * (features + SEGMENT_ROWS)) * sizeof(real);
}

static void NAMED(dot_delta)(const attn_rows *rows, const attn_backward_queries *queries, void *delta, void *scratch) {
    const size_t count = queries->queries;
    real *scores = scratch;
    for (size_t step = 0, n; (n = NAMED(next_segment)(rows, count, &step)) > 0; step += n) {
        attn_rows segment = NAMED(segment_of)(rows, step, n);
        NAMED(gemm_nt)
        (count, n, rows->features, queries->query, queries->query_stride, segment.h, rows->h_time, scores,
         SEGMENT_ROWS);
        for (size_t i = 0; i < count; i++) {
            NAMED(segment_weights)(&segment, queries, i, scores + i * SEGMENT_ROWS);
            NAMED(add_delta)(&segment, queries, i, step, scores + i * SEGMENT_ROWS, (real *)delta + i);
        }
    }
}

static void NAMED(dot_backward_from)(const attn_rows *rows, size_t step, const attn_backward_queries *queries,
                                     real *grad_h, ptrdiff_t grad_h_time, int accumulate, real *scratch) {
    const size_t count = queries->queries, features = rows->features;
    const ptrdiff_t width = (ptrdiff_t)features;
    real *both = scratch, *scores = both + 2 * count * features, *grads = scores + count * SEGMENT_ROWS;
    NAMED(copy_rows)(queries->query, queries->query_stride, count, features, both);
    NAMED(copy_rows)(queries->grad_context, queries->grad_context_stride, count, features, both + count * features);
    for (size_t n; (n = NAMED(next_segment)(rows, count, &step)) > 0; step += n) {
        attn_rows segment = NAMED(segment_of)(rows, step, n);
        NAMED(gemm_nt)(2 * count, n, features, both, width, segment.h, rows->h_time, scores, SEGMENT_ROWS);
        for (size_t i = 0; i < count; i++) {
            real *e = scores + i * SEGMENT_ROWS, *da = grads + i * SEGMENT_ROWS, p[SEGMENT_ROWS];
            NAMED(segment_weights)(&segment, queries, i, e);
            memcpy(p, e, n * sizeof(real));
            NAMED(segment_gradients)(&segment, queries, i, step, p, da, e);
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

static void NAMED(dot_backward)(const attn_rows *rows, const attn_backward_queries *queries, void *grad_h,
                                ptrdiff_t grad_h_time, int accumulate, void *scratch) {
    NAMED(dot_backward_from)(rows, 0, queries, grad_h, grad_h_time, accumulate, scratch);
}

/* Scores by dot product and the running softmax over them, in one pass. A template, see vec_names.h.
 *
 * Rows go in groups: their scores end in the lanes of a vector or a few, so that a group costs that many exp. While the rows
 * are still in the first cache they are added to the context by their weights. The weights are relative to the largest score so
 * far; when a group raises it, sum and context are scaled down.
 *
 * The rows of a group are summed from zero, and so are those of a few groups where the sums stay in registers, before they join what
 * was summed so far: a single chain of additions would gather, over rows that repeat, rounding errors of one sign.
 *
 *   group          row[i], i < count: the rows that some query attends; step[i]: their place in the call
 *   full, tail     a row is `full` whole vectors and one of `tail` lanes, 1 <= tail <= VEC_LANES
 *
 * q and context are padded with zeros to whole vectors. Hidden rows are not read. */
/* SPDX-License-Identifier: Apache-2.0 */

#undef VECTORS_AT_ONCE
#define VECTORS_AT_ONCE 8
#undef GROUP_ROWS
#define GROUP_ROWS 16 /* of any ISA */
#undef GROUP_VECTORS
#define GROUP_VECTORS (GROUP_ROWS / VEC_LANES)

typedef struct NAMED(row_group) {
    const real *row[GROUP_ROWS];
    size_t step[GROUP_ROWS];
    size_t count;
} NAMED(row_group);

static bool NAMED(attended)(const attn_rows *rows, size_t step, size_t queries) {
    const uint8_t *mask = rows->mask + (ptrdiff_t)step * rows->mask_time;
    if (rows->mask_query == 0) return *mask != 0;
    for (size_t q = 0; q < queries; q++, mask += rows->mask_query) {
        if (*mask) return true;
    }
    return false;
}

/* The next rows from *step on. Places that stay free repeat the first row: harmless to read, and dropped later. */
static ALWAYS_INLINE void NAMED(next_group)(const attn_rows *rows, size_t queries, size_t *step,
                                            NAMED(row_group) * group) {
    const real *h = rows->h;
    size_t s = *step, count = 0;
    for (; s < rows->rows && count < GROUP_ROWS; s++) {
        if (rows->mask && !NAMED(attended)(rows, s, queries)) continue;
        group->row[count] = h + (ptrdiff_t)s * rows->h_time;
        group->step[count++] = s;
    }
    for (size_t i = count; i < GROUP_ROWS; i++) group->row[i] = group->row[0];
    group->count = count;
    *step = s;
}

#if REAL_BITS == VEC_BITS
/* One lane: eight chains, because a single one over a whole row gathers too much rounding error; and of a wide row halves. */
static vec NAMED(row_score)(const real *row, const real *q, size_t features) {
    if (features > 8 * SUM_PART) {
        const size_t half = (features / 2 + 7) / 8 * 8;
        return NAMED(row_score)(row, q, half) + NAMED(row_score)(row + half, q + half, features - half);
    }
    vec sum[8];
    UNROLL for (size_t i = 0; i < 8; i++) sum[i] = v_zero();
    size_t j = 0;
    for (; j + 8 <= features; j += 8) {
        UNROLL for (size_t i = 0; i < 8; i++) sum[i] = v_fma(row[j + i], q[j + i], sum[i]);
    }
    for (; j < features; j++) sum[j % 8] = v_fma(row[j], q[j], sum[j % 8]);
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

static ALWAYS_INLINE void NAMED(group_scores)(const NAMED(row_group) * group, const real *q, size_t full, size_t tail,
                                              vec *scores) {
    for (size_t i = 0; i < GROUP_ROWS; i++)
        scores[i] = i < group->count ? NAMED(row_score)(group->row[i], q, full + tail) : 0;
}
#else
/* Of V_FOLD rows, lane by lane the sum over so many whole vectors from `first` on. */
static void NAMED(wide_sums)(const real *const *row, const real *q, size_t first, size_t vectors, vec *sum) {
    if (vectors > SUM_PART) {
        vec other[V_FOLD];
        NAMED(wide_sums)(row, q, first, vectors / 2, sum);
        NAMED(wide_sums)(row, q, first + vectors / 2, vectors - vectors / 2, other);
        UNROLL for (size_t i = 0; i < V_FOLD; i++) sum[i] = v_add(sum[i], other[i]);
        return;
    }
    vec part[V_FOLD];
    UNROLL for (size_t i = 0; i < V_FOLD; i++) part[i] = v_zero();
    for (size_t j = first; j < first + vectors; j++) {
        const vec x = v_load(q + j * VEC_LANES);
        UNROLL for (size_t i = 0; i < V_FOLD; i++) part[i] = v_fma(v_load(row[i] + j * VEC_LANES), x, part[i]);
    }
    UNROLL for (size_t i = 0; i < V_FOLD; i++) sum[i] = part[i];
}

static vec NAMED(wide_fold)(const real *const *row, const real *q, size_t full, size_t tail) {
    const vec x = v_load(q + full * VEC_LANES);
    vec sum[V_FOLD];
    NAMED(wide_sums)(row, q, 0, full, sum);
    for (size_t i = 0; i < V_FOLD; i++) sum[i] = v_fma(v_load_n(row[i] + full * VEC_LANES, tail), x, sum[i]);
    return v_fold(sum);
}

/* Of the rows from `first` on, one a lane. */
static ALWAYS_INLINE vec NAMED(lanes_scores)(const NAMED(row_group) * group, size_t first, const real *q, size_t full,
                                             size_t tail) {
    vec folded[VEC_LANES / V_FOLD];
    ROLLED for (size_t r = 0; r < VEC_LANES; r += V_FOLD) {
        if (first + r >= group->count) {
            folded[r / V_FOLD] = v_zero();
            continue;
        }
        const real *const *row = group->row + first + r;
        if (full > SUM_PART) {
            folded[r / V_FOLD] = NAMED(wide_fold)(row, q, full, tail);
            continue;
        }
        vec sum[V_FOLD], x = v_load(q + full * VEC_LANES);
        UNROLL for (size_t i = 0; i < V_FOLD; i++) sum[i] = v_mul(v_load_n(row[i] + full * VEC_LANES, tail), x);
        for (size_t j = 0; j < full; j++) {
            x = v_load(q + j * VEC_LANES);
            UNROLL for (size_t i = 0; i < V_FOLD; i++) sum[i] = v_fma(v_load(row[i] + j * VEC_LANES), x, sum[i]);
        }
        folded[r / V_FOLD] = v_fold(sum);
    }
    return v_join(folded);
}

static ALWAYS_INLINE void NAMED(group_scores)(const NAMED(row_group) * group, const real *q, size_t full, size_t tail,
                                              vec *scores) {
    for (size_t i = 0; i < GROUP_VECTORS; i++) scores[i] = NAMED(lanes_scores)(group, i * VEC_LANES, q, full, tail);
}
#endif

/* c += sum of p[i] row[i] over `vectors` vectors from column on; the last of them is of `tail` lanes when `last`. */
static ALWAYS_INLINE void NAMED(add_columns)(const NAMED(row_group) * group, const real *p, real *c, size_t vectors,
                                             bool last, size_t tail, size_t column) {
    vec sum[VECTORS_AT_ONCE];
    UNROLL for (size_t j = 0; j < vectors; j++) sum[j] = v_zero();
    for (size_t i = 0; i < group->count; i++) {
        const real *row = group->row[i] + column;
        vec weight = v_set1(p[i]);
        UNROLL for (size_t j = 0; j < vectors; j++) {
            vec x = last && j + 1 == vectors ? v_load_n(row + j * VEC_LANES, tail) : v_load(row + j * VEC_LANES);
            sum[j] = v_fma(weight, x, sum[j]);
        }
    }
    UNROLL for (size_t j = 0; j < vectors; j++) {
        real *to = c + column + j * VEC_LANES;
        v_store(to, v_add(v_load(to), sum[j]));
    }
}

static ALWAYS_INLINE void NAMED(group_context)(const NAMED(row_group) * group, const real *p, real *c, size_t full,
                                               size_t tail) {
    if (full < VECTORS_AT_ONCE) {
        NAMED(add_columns)(group, p, c, full + 1, true, tail, 0);
        return;
    }
    size_t j = 0;
    for (; j + VECTORS_AT_ONCE <= full; j += VECTORS_AT_ONCE) {
        NAMED(add_columns)(group, p, c, VECTORS_AT_ONCE, false, tail, j * VEC_LANES);
    }
    for (; j < full; j++) NAMED(add_columns)(group, p, c, 1, false, tail, j * VEC_LANES);
    NAMED(add_columns)(group, p, c, 1, true, tail, full * VEC_LANES);
}

/* Of a group's rows, how many stand in vector i. */
static ALWAYS_INLINE size_t NAMED(lanes_of)(const NAMED(row_group) * group, size_t i) {
    const size_t before = i * VEC_LANES, left = group->count > before ? group->count - before : 0;
    return left < VEC_LANES ? left : VEC_LANES;
}

/* 1 in the lanes whose rows this query attends, else 0. */
static ALWAYS_INLINE void NAMED(kept_lanes)(const attn_rows *rows, const NAMED(row_group) * group, size_t query,
                                            vec *keep) {
    if (!rows->mask || rows->mask_query == 0) {
        for (size_t i = 0; i < GROUP_VECTORS; i++) keep[i] = v_keep_n(v_set1(1), NAMED(lanes_of)(group, i), v_zero());
        return;
    }
    real lanes[GROUP_ROWS] = {0};
    for (size_t i = 0; i < group->count; i++) {
        lanes[i] = rows->mask[(ptrdiff_t)group->step[i] * rows->mask_time + (ptrdiff_t)query * rows->mask_query] != 0;
    }
    for (size_t i = 0; i < GROUP_VECTORS; i++) keep[i] = v_load(lanes + i * VEC_LANES);
}

static ALWAYS_INLINE void NAMED(hide_lanes)(const vec *keep, vec *scores) {
    for (size_t i = 0; i < GROUP_VECTORS; i++)
        scores[i] = v_select_gt(keep[i], v_zero(), scores[i], v_set1(-(real)INFINITY));
}

static ALWAYS_INLINE void NAMED(put_scores)(const NAMED(row_group) * group, const vec *scores, real *to) {
    if (group->step[group->count - 1] - group->step[0] + 1 == group->count) {
        for (size_t i = 0; i < GROUP_VECTORS && i * VEC_LANES < group->count; i++)
            v_store_n(to + group->step[0] + i * VEC_LANES, scores[i], NAMED(lanes_of)(group, i));
        return;
    }
    real s[GROUP_ROWS];
    for (size_t i = 0; i < GROUP_VECTORS; i++) v_store(s + i * VEC_LANES, scores[i]);
    for (size_t i = 0; i < group->count; i++) to[group->step[i]] = s[i];
}

/* Rows that no query attends are not visited. */
static void NAMED(hide_all)(real *scores, ptrdiff_t stride, size_t queries, size_t rows) {
    for (size_t i = 0; i < queries; i++, scores += stride) {
        for (size_t s = 0; s < rows; s++) scores[s] = -(real)INFINITY;
    }
}

/* Scales what is summed so far from the old maximum to a new one. */
static void NAMED(rescale)(real *maximum, real *sum, real *c, size_t vectors, real top) {
    real factor = NAMED(exp_one)(*maximum - top);
    *maximum = top;
    *sum *= factor;
    for (size_t j = 0; j < vectors; j++) v_store(c + j * VEC_LANES, v_mul(v_load(c + j * VEC_LANES), v_set1(factor)));
}

/* One group for one query. A NaN score is no maximum, but its weight is NaN. */
static ALWAYS_INLINE void NAMED(fold_group)(const NAMED(row_group) * group, const vec *scores, const vec *keep,
                                            real *maximum, real *sum, real *c, size_t full, size_t tail) {
    vec largest = v_set1(-(real)INFINITY), total = v_zero();
    for (size_t i = 0; i < GROUP_VECTORS; i++) largest = v_max(scores[i], largest);
    if (v_any_gt(largest, v_set1(*maximum))) {
        NAMED(rescale)(maximum, sum, c, full + 1, v_max_lanes(largest));
    }
    const vec shift = v_set1(*maximum > -(real)INFINITY ? *maximum : 0); /* this query may attend none so far */
    real p[GROUP_ROWS];
    for (size_t i = 0; i < GROUP_VECTORS; i++) {
        vec weights = v_select_gt(keep[i], v_zero(), v_exp(v_sub(scores[i], shift)), v_zero());
        v_store(p + i * VEC_LANES, weights);
        total = v_add(total, weights);
    }
    *sum += v_sum(total);
    NAMED(group_context)(group, p, c, full, tail);
}

/* ---- One query, rows of few vectors, none hidden ---------------------------------------------------
 *
 * q and the context stay in registers. The scores of a group go interleaved with the weighted sum of the group before it: the
 * fetch of rows from afar overlaps with arithmetic on rows in the first cache, and the latency of exp hides. */

#undef PREFETCH_ROWS
#define PREFETCH_ROWS 16
#undef PART_ROWS
#define PART_ROWS 32 /* whose sum stays in registers */
#undef PIPELINED
#define PIPELINED (VEC_BITS == 512) /* which has the registers: q, context and four sums */

static ALWAYS_INLINE void NAMED(add_row)(vec *c, const real *row, real weight, size_t full, size_t tail) {
    vec w = v_set1(weight);
    UNROLL for (size_t j = 0; j < full; j++) c[j] = v_fma(w, v_load(row + j * VEC_LANES), c[j]);
    c[full] = v_fma(w, v_load_n(row + full * VEC_LANES, tail), c[full]);
}

/* The scores of the group of `count` rows that begins at h; with `weights`, those of the whole group before it, c += its rows on
 * the way. Lanes from count on repeat the last row. */
static ALWAYS_INLINE vec NAMED(pipeline_step)(const real *h, ptrdiff_t stride, size_t count, const real *weights,
                                              const vec *q, vec *c, size_t full, size_t tail) {
    const real *before = weights ? h - VEC_LANES * stride : h;
    vec folded[VEC_LANES / V_FOLD];
    ROLLED for (size_t r = 0; r < VEC_LANES; r += V_FOLD) {
        vec score[V_FOLD];
        UNROLL for (size_t i = 0; i < V_FOLD; i++) {
            if (r < count) {
                const real *ahead = h + PREFETCH_ROWS * stride;
                UNROLL for (size_t j = 0; j <= full; j++) __builtin_prefetch(ahead + j * VEC_LANES);
                score[i] = v_mul(v_load_n(h + full * VEC_LANES, tail), q[full]);
                UNROLL for (size_t j = 0; j < full; j++) score[i] = v_fma(v_load(h + j * VEC_LANES), q[j], score[i]);
            } else {
                score[i] = v_zero();
            }
            if (weights) NAMED(add_row)(c, before, weights[r + i], full, tail);
            if (count == VEC_LANES || r + i + 1 < count) h += stride;
            before += stride;
            HIDE(h);
            HIDE(before);
        }
        folded[r / V_FOLD] = v_fold(score);
    }
    return v_join(folded);
}

/* The weights of the rows with these scores; sums and context come down when the maximum goes up. */
static ALWAYS_INLINE vec NAMED(pipeline_weights)(vec e, vec *top, vec *sums, real *sum, vec *c, size_t full) {
    if (__builtin_expect(v_any_gt(e, *top), 0)) {
        vec raised = v_set1(v_max_lanes(v_max(e, v_set1(-(real)INFINITY)))), factor = v_exp(v_sub(*top, raised));
        UNROLL for (size_t j = 0; j <= full; j++) c[j] = v_mul(c[j], factor);
        *sums = v_mul(*sums, factor);
        *sum *= NAMED(first_lane)(factor);
        *top = raised;
    }
    return v_exp(v_sub(e, *top));
}

/* What stands in `context`, relative to the maximum *base, takes the sum of a part. */
static ALWAYS_INLINE void NAMED(put_part)(real *context, vec *base, vec top, vec *c, size_t full) {
    const vec factor = v_any_gt(top, *base) ? v_exp(v_sub(*base, top)) : v_set1(1);
    UNROLL for (size_t j = 0; j <= full; j++) {
        v_store(context + j * VEC_LANES, v_fma(factor, v_load(context + j * VEC_LANES), c[j]));
        c[j] = v_zero();
    }
    *base = top;
}

static ALWAYS_INLINE void NAMED(dot_pipeline)(const attn_rows *rows, const real *query, real *maximum, real *sum,
                                              real *context, real *scores, size_t full, size_t tail) {
    const ptrdiff_t stride = rows->h_time;
    const real *h = rows->h;
    real weights[VEC_LANES] __attribute__((aligned(64)));
    vec q[8], c[8], sums = v_zero(), top = v_set1(*maximum), base = top;
    UNROLL for (size_t j = 0; j <= full; j++) {
        q[j] = v_load(query + j * VEC_LANES);
        c[j] = v_zero();
    }
    size_t done = 0;
    for (; done + VEC_LANES <= rows->rows; done += VEC_LANES, h += VEC_LANES * stride) {
        vec e = done ? NAMED(pipeline_step)(h, stride, VEC_LANES, weights, q, c, full, tail)
                     : NAMED(pipeline_step)(h, stride, VEC_LANES, NULL, q, c, full, tail);
        if (scores) v_store(scores + done, e);
        if (done % PART_ROWS == 0) NAMED(put_part)(context, &base, top, c, full);
        vec w = NAMED(pipeline_weights)(e, &top, &sums, sum, c, full);
        sums = v_add(sums, w);
        v_store(weights, w);
    }
    size_t last = done ? VEC_LANES : 0; /* rows whose weights wait */
    h -= VEC_LANES * stride;
    if (done < rows->rows) {
        const size_t rest = rows->rows - done;
        h += VEC_LANES * stride;
        vec e = NAMED(pipeline_step)(h, stride, rest, last ? weights : NULL, q, c, full, tail);
        e = v_keep_n(e, rest, v_set1(-(real)INFINITY));
        if (scores) v_store_n(scores + done, e, rest);
        vec w = v_keep_n(NAMED(pipeline_weights)(e, &top, &sums, sum, c, full), rest, v_zero());
        sums = v_add(sums, w);
        v_store(weights, w);
        last = rest;
    }
    for (size_t i = 0; i < last; i++, h += stride) NAMED(add_row)(c, h, weights[i], full, tail);
    NAMED(put_part)(context, &base, top, c, full);
    *sum += v_sum(sums);
    *maximum = NAMED(first_lane)(top);
}

/* ---- Any number of queries, rows of any width ------------------------------------------------------ */

static ALWAYS_INLINE void NAMED(dot_rows_sized)(const attn_rows *rows, const real *q, size_t q_stride, size_t queries,
                                                const attn_partial *partial, real *scores, ptrdiff_t scores_stride,
                                                size_t full, size_t tail, bool pipelined) {
    NAMED(row_group) group;
    size_t step = 0;
    if (pipelined && queries == 1 && !rows->mask) {
        NAMED(dot_pipeline)(rows, q, partial->maximum, partial->sum, partial->context, scores, full, tail);
        return;
    }
    while (step < rows->rows) {
        NAMED(next_group)(rows, queries, &step, &group);
        if (group.count == 0) break;
        for (size_t i = 0; i < queries; i++) {
            vec keep[GROUP_VECTORS], e[GROUP_VECTORS];
            NAMED(kept_lanes)(rows, &group, i, keep);
            NAMED(group_scores)(&group, q + i * q_stride, full, tail, e);
            NAMED(hide_lanes)(keep, e);
            if (scores) NAMED(put_scores)(&group, e, scores + (ptrdiff_t)i * scores_stride);
            NAMED(fold_group)
            (&group, e, keep, (real *)partial->maximum + i, (real *)partial->sum + i,
             (real *)partial->context + i * partial->context_stride, full, tail);
        }
    }
}

static void NAMED(dot_rows)(const attn_rows *rows, const void *q, size_t q_stride, size_t queries,
                            const attn_partial *partial, void *scores, ptrdiff_t scores_stride) {
    size_t full = (rows->features - 1) / VEC_LANES, tail = rows->features - full * VEC_LANES;
    real *to = scores;
    if (to && rows->mask) NAMED(hide_all)(to, scores_stride, queries, rows->rows);
#define SIZED(n)                                                                                                       \
    case n:                                                                                                            \
        NAMED(dot_rows_sized)(rows, q, q_stride, queries, partial, to, scores_stride, n, tail, PIPELINED);             \
        break
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
        NAMED(dot_rows_sized)(rows, q, q_stride, queries, partial, to, scores_stride, full, tail, false);
    }
#undef SIZED
}

/* Running softmax: merge partial results, finish them, turn scores into weights. A template, see vec_names.h.
 *
 * A partial over some rows is m = max e[s], l = sum exp(e[s] - m), c = sum exp(e[s] - m) H[s]. Two of them merge into
 *   m = max(m1, m2),  l = l1 exp(m1 - m) + l2 exp(m2 - m),  c likewise.
 * An empty one (m = -inf, l = 0, c = 0) changes nothing, not a bit. */
/* SPDX-License-Identifier: Apache-2.0 */

static inline real NAMED(first_lane)(vec a) {
    real x;
    v_store_n(&x, a, 1);
    return x;
}

static real NAMED(exp_one)(real x) { return NAMED(first_lane)(v_exp(v_set1(x))); }

/* c <- a c + b d; a factor of 1 is exact, and a factor of 0 stands for an empty side, whose c is 0. */
static void NAMED(merge_context)(real *c, real a, const real *d, real b, size_t features) {
    vec va = v_set1(a), vb = v_set1(b);
    size_t i = 0;
    for (; i + VEC_LANES <= features; i += VEC_LANES) {
        v_store(c + i, v_fma(vb, v_load(d + i), v_mul(va, v_load(c + i))));
    }
    size_t n = features - i;
    if (n) v_store_n(c + i, v_fma(vb, v_load_n(d + i, n), v_mul(va, v_load_n(c + i, n))), n);
}

static void NAMED(merge)(const attn_partial *into, const attn_partial *from, size_t queries, size_t features) {
    real *m = into->maximum, *l = into->sum, *c = into->context;
    const real *m2 = from->maximum, *l2 = from->sum, *c2 = from->context;
    for (size_t q = 0; q < queries; q++, c += into->context_stride, c2 += from->context_stride) {
        /* A sum of 0 means empty; a NaN sum is not, though its maximum may be -inf. */
        if (l2[q] == 0) continue;
        if (l[q] == 0) {
            m[q] = m2[q];
            l[q] = l2[q];
            memcpy(c, c2, features * sizeof(real));
            continue;
        }
        real top = m[q] > m2[q] ? m[q] : m2[q];
        real shift = top == -(real)INFINITY ? 0 : top; /* sums that are NaN, with no maximum between them */
        real a = NAMED(exp_one)(m[q] - shift), b = NAMED(exp_one)(m2[q] - shift);
        m[q] = top;
        l[q] = l[q] * a + l2[q] * b;
        NAMED(merge_context)(c, a, c2, b, features);
    }
}

static void NAMED(finish)(const attn_partial *partial, size_t queries, size_t features, void *context,
                          ptrdiff_t context_row, void *lse) {
    const real *m = partial->maximum, *l = partial->sum, *from = partial->context;
    real *to = context, *log_sum = lse;
    for (size_t q = 0; q < queries; q++, from += partial->context_stride, to += context_row) {
        vec divisor = v_set1(l[q] == 0 ? 1 : l[q]);
        size_t i = 0;
        for (; i + VEC_LANES <= features; i += VEC_LANES) v_store(to + i, v_div(v_load(from + i), divisor));
        size_t n = features - i;
        if (n) v_store_n(to + i, v_div(v_load_n(from + i, n), divisor), n);
        if (log_sum) log_sum[q] = l[q] == 0 ? -(real)INFINITY : (real)((double)m[q] + log((double)l[q]));
    }
}

static void NAMED(weights)(void *scores, size_t n, const void *maximum, const void *sum) {
    real *s = scores;
    real m = *(const real *)maximum, l = *(const real *)sum;
    if (l == 0) {
        memset(s, 0, n * sizeof(real));
        return;
    }
    /* With a sum that is NaN there may be no maximum. */
    vec top = v_set1(m > -(real)INFINITY ? m : 0), factor = v_set1(1 / l);
    size_t i = 0;
    for (; i + VEC_LANES <= n; i += VEC_LANES) v_store(s + i, v_mul(v_exp(v_sub(v_load(s + i), top)), factor));
    size_t rest = n - i;
    if (rest) {
        vec last = v_keep_n(v_load_n(s + i, rest), rest, v_set1(-(real)INFINITY));
        v_store_n(s + i, v_mul(v_exp(v_sub(last, top)), factor), rest);
    }
}

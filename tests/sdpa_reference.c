/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sdpa_reference.h"

#include "tests/kit_number.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* As in reference.c. */
#if __LDBL_MANT_DIG__ == 113
typedef long double quad;
#define EXP expl
#define TANH tanhl
#define LOG logl
#define SQRT sqrtl
#else
typedef __float128 quad;
__float128 expq(__float128 x);
__float128 tanhq(__float128 x);
__float128 logq(__float128 x);
__float128 sqrtq(__float128 x);
#define EXP expq
#define TANH tanhq
#define LOG logq
#define SQRT sqrtq
#endif

/* Products after which tensor cores cut a sum to float32. */
enum { TENSOR_TERMS = 16 };

int64_t sdpa_key_heads(const attn_sdpa_desc *desc) { return desc->key_heads ? desc->key_heads : desc->query_heads; }

int64_t sdpa_value_dim(const attn_sdpa_desc *desc) {
    return desc->value_dim == ATTN_HEAD_DIM ? desc->head_dim : desc->value_dim;
}

static size_t place(const size_t *shape, int64_t item, int64_t head, int64_t query, int64_t key) {
    const size_t at[4] = {(size_t)item, (size_t)head, (size_t)query, (size_t)key};
    size_t index = 0;
    for (int d = 0; d < 4; d++) index = index * shape[d] + (shape[d] == 1 ? 0 : at[d]);
    return index;
}

static int64_t position(const attn_sdpa_desc *desc, int64_t query_offset, const sdpa_content *content, int64_t item,
                        int64_t query) {
    const int64_t length = content->key_lengths ? content->key_lengths[item] : desc->keys;
    return query + query_offset + (desc->causal == ATTN_CAUSAL_BOTTOM_RIGHT ? length - desc->queries : 0);
}

bool sdpa_attended(const attn_sdpa_desc *desc, int64_t query_offset, const sdpa_content *content, int64_t item,
                   int64_t head, int64_t query, int64_t key) {
    const int64_t at = position(desc, query_offset, content, item, query);
    if (content->key_lengths && key >= content->key_lengths[item]) return false;
    if (desc->causal != ATTN_CAUSAL_NONE && key > at) return false;
    if (desc->window_left >= 0 && key < at - desc->window_left) return false;
    if (desc->window_right >= 0 && key > at + desc->window_right) return false;
    if (content->mask && !content->mask[place(content->mask_shape, item, head, query, key)]) return false;
    return !content->bias || content->bias[place(content->bias_shape, item, head, query, key)] != -INFINITY;
}

/* A number of the type that scores are in: what rounds past its largest one is infinite. */
static quad held(const attn_sdpa_desc *desc, quad score) {
    const bool wide = kit_number_dtype(desc->dtype) == ATTN_FLOAT64;
    const quad end = wide ? (quad)DBL_MAX + (quad)0x1p970 : (quad)FLT_MAX + (quad)0x1p103; /* half a unit further */
    return score >= end ? INFINITY : score <= -end ? -INFINITY : score;
}

/* A head's sink; -inf: none. */
static double sink_of(const sdpa_content *content, int64_t head) {
    return content->sinks ? content->sinks[head] : -INFINITY;
}

/* One query: its scores and what they are worth. */
typedef struct query_state {
    quad *score; /* of each key */
    bool *attended;
    double a, s; /* A and S */
    size_t count;
    bool any; /* of the scores is more than -inf */
    quad largest, sum;
} query_state;

static void score_query(const attn_sdpa_desc *desc, int64_t query_offset, const sdpa_content *content, int64_t item,
                        int64_t head, int64_t query, query_state *state) {
    const int64_t group = desc->query_heads / sdpa_key_heads(desc), D = desc->head_dim;
    const double *q = content->q + ((item * desc->query_heads + head) * desc->queries + query) * D;
    const double *keys = content->k + (item * sdpa_key_heads(desc) + head / group) * desc->keys * D;
    const quad scale = desc->scale != 0 ? (quad)desc->scale : 1 / SQRT((quad)D);
    const int64_t at = position(desc, query_offset, content, item, query);
    state->largest = -INFINITY, state->sum = 0, state->a = state->s = 0, state->count = 0;
    state->any = false;
    const double sink = sink_of(content, head);
    if (sink != -INFINITY) state->largest = sink, state->s = fabs(sink);
    for (int64_t j = 0; j < desc->keys; j++) {
        state->attended[j] = sdpa_attended(desc, query_offset, content, item, head, query, j);
        if (!state->attended[j]) continue;
        quad score = 0;
        double size = 0;
        for (int64_t d = 0; d < D; d++) {
            score += (quad)q[d] * keys[j * D + d];
            size += fabs((double)scale * q[d] * keys[j * D + d]);
        }
        score *= scale;
        if (desc->softcap > 0) {
            score = (quad)desc->softcap * TANH(score / (quad)desc->softcap);
            size += 2 * fabs((double)score);
        }
        if (content->alibi_slopes) {
            const double slope = isfinite(content->alibi_slopes[head]) ? content->alibi_slopes[head] : NAN;
            const quad term = held(desc, (quad)slope * (quad)(at > j ? at - j : j - at));
            score = held(desc, score - term);
            size += fabs((double)term);
        }
        if (content->bias) {
            const double term = content->bias[place(content->bias_shape, item, head, query, j)];
            score = held(desc, score + (quad)term);
            size += fabs(term);
        }
        state->score[j] = score;
        state->a = size > state->a ? size : state->a;
        state->s = fabs((double)score) > state->s ? fabs((double)score) : state->s;
        state->largest = score > state->largest ? score : state->largest;
        state->count++;
        state->any = state->any || score != -INFINITY;
    }
}

static void finish_query(const attn_sdpa_desc *desc, const sdpa_content *content, int64_t item, int64_t head,
                         int64_t query, query_state *state, const sdpa_expected *out) {
    const int64_t group = desc->query_heads / sdpa_key_heads(desc), V = sdpa_value_dim(desc), S = desc->keys;
    const double *values = content->v + (item * sdpa_key_heads(desc) + head / group) * S * V;
    const size_t row = (size_t)((item * desc->query_heads + head) * desc->queries + query);
    const attn_dtype dtype = desc->dtype;
    const bool stored_short = kit_number_dtype(dtype) != dtype;
    const double u = kit_unit(dtype), eta = kit_smallest(dtype);
    if (stored_short) state->a *= 1 + (double)desc->head_dim / TENSOR_TERMS;
    const double cuts = stored_short ? 2 * (double)state->count / TENSOR_TERMS : 0;
    const double c = 2 * state->a + 2 * state->s + sqrt((double)state->count) + cuts + 8;
    const double sink = sink_of(content, head);
    if (!state->any) memset(state->attended, 0, (size_t)S * sizeof *state->attended);
    if (state->any && sink != -INFINITY) state->sum += EXP((quad)sink - state->largest);
    for (int64_t j = 0; j < S; j++)
        if (state->attended[j]) state->sum += state->score[j] = EXP(state->score[j] - state->largest);
    out->lse[row] = !state->any ? (long double)sink : (long double)(state->largest + LOG(state->sum));
    out->lse_gates[row] = u * (2 * state->a + 2 * state->s + 2 * log((double)state->count + 1) + 8);
    for (int64_t j = 0; j < S; j++) {
        const quad p = state->attended[j] ? state->score[j] / state->sum : 0;
        out->attention_weights[row * (size_t)S + (size_t)j] = (long double)p;
        const double gate = 2 * u * c * (double)p + eta;
        out->attention_weights_gates[row * (size_t)S + (size_t)j] = gate + kit_storage_error(dtype, (double)p + gate);
        state->score[j] = p;
    }
    for (int64_t d = 0; d < V; d++) {
        quad sum = 0;
        double size = 0, largest = 0, stored = 0;
        for (int64_t j = 0; j < S; j++) {
            if (!state->attended[j]) continue;
            const double v = values[j * V + d];
            stored += kit_storage_error(dtype, (double)state->score[j]) * fabs(v);
            sum += state->score[j] * (quad)v;
            size += (double)state->score[j] * fabs(v);
            largest = fabs(v) > largest ? fabs(v) : largest;
        }
        out->output[row * (size_t)V + (size_t)d] = (long double)sum;
        const double gate = u * c * size + eta * largest + stored;
        out->output_gates[row * (size_t)V + (size_t)d] = gate + kit_storage_error(dtype, fabs((double)sum) + gate);
    }
}

void sdpa_reference(const attn_sdpa_desc *desc, int64_t query_offset, const sdpa_content *content,
                    const sdpa_expected *expected) {
    query_state state = {.score = calloc((size_t)desc->keys + 1, sizeof *state.score),
                         .attended = calloc((size_t)desc->keys + 1, sizeof *state.attended)};
    if (!state.score || !state.attended) abort();
    for (int64_t item = 0; item < desc->batch; item++)
        for (int64_t head = 0; head < desc->query_heads; head++)
            for (int64_t query = 0; query < desc->queries; query++) {
                score_query(desc, query_offset, content, item, head, query, &state);
                finish_query(desc, content, item, head, query, &state, expected);
            }
    free(state.score);
    free(state.attended);
}

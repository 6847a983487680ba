/* SPDX-License-Identifier: Apache-2.0 */
/* A case of the ONNX operator Attention as a problem of ours: packed heads taken apart, the past put before the present, the mask
 * widened to all keys. */
#include "tests/kit_content.h"
#include "tools/attention-check/sdpa_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The operator's own tests grant these; a float16 result has been rounded to 11 bits, and so was what went into it. */
static const double relative = 1e-3, absolute = 1e-7, half_relative = 4e-3, half_absolute = 1e-3;

enum { MOST = 1 << 16 };

/* An input of three dimensions (B, S, H D) or four (B, H, S, D), as (B, H, S, D). */
typedef struct operand {
    int64_t batch, heads, rows, width;
    double *values;
} operand;

static bool read_operand(const sdpa_file_case *c, const char *name, double heads, operand *o) {
    const attn_weights_tensor *t = sdpa_case_find(c, name);
    if (!t || t->rank < 3 || t->rank > 4)
        return sdpa_case_refuse(c, "%s with three or four dimensions is missing", name);
    for (int d = 0; d < t->rank; d++)
        if (t->shape[d] < 1 || t->shape[d] > MOST)
            return sdpa_case_refuse(c, "%s has a size of %lld, wanted 1 to %d", name, (long long)t->shape[d], MOST);
    if (t->rank == 3 && !(heads >= 1 && t->shape[2] % (int64_t)heads == 0))
        return sdpa_case_refuse(c, "%s can't be split into %g heads", name, heads);
    double *values = sdpa_case_read(c, t, ATTN_WEIGHTS_F64);
    if (!values) return false;
    if (t->rank == 4) {
        *o = (operand){t->shape[0], t->shape[1], t->shape[2], t->shape[3], values};
        return true;
    }
    *o = (operand){t->shape[0], (int64_t)heads, t->shape[1], t->shape[2] / (int64_t)heads,
                   kit_array(t->elements + 1, sizeof *values)};
    for (int64_t b = 0; b < o->batch; b++)
        for (int64_t s = 0; s < o->rows; s++)
            for (int64_t h = 0; h < o->heads; h++)
                memcpy(o->values + ((b * o->heads + h) * o->rows + s) * o->width,
                       values + ((b * o->rows + s) * o->heads + h) * o->width, (size_t)o->width * sizeof *values);
    free(values);
    return true;
}

/* The past's rows before the present ones. */
static bool prepend(const sdpa_file_case *c, const char *name, operand *o, int64_t *past_rows) {
    operand past;
    *past_rows = 0;
    if (!sdpa_case_find(c, name)) return true;
    if (!read_operand(c, name, 0, &past)) return false;
    const bool fits = past.batch == o->batch && past.heads == o->heads && past.width == o->width;
    const int64_t rows = past.rows + o->rows, width = o->width;
    double *joined = kit_array((size_t)(o->batch * o->heads * rows * width) + 1, sizeof *joined);
    for (int64_t n = 0; fits && n < o->batch * o->heads; n++) {
        memcpy(joined + n * rows * width, past.values + n * past.rows * width,
               (size_t)(past.rows * width) * sizeof *joined);
        memcpy(joined + (n * rows + past.rows) * width, o->values + n * o->rows * width,
               (size_t)(o->rows * width) * sizeof *joined);
    }
    free(past.values);
    free(o->values);
    o->values = joined, o->rows = rows, *past_rows = past.rows;
    return fits || sdpa_case_refuse(c, "%s does not fit what follows it", name);
}

/* attn_mask: of up to four dimensions, aligned at the last; keys that it does not reach are hidden. */
static bool read_mask(const sdpa_file_case *c, const sdpa_case *spec, sdpa_content *content) {
    const attn_weights_tensor *t = sdpa_case_find(c, "input/attn_mask");
    const int64_t whole[4] = {spec->batch, spec->query_heads, spec->queries, spec->keys};
    if (!t) return true;
    size_t from[4] = {1, 1, 1, 1};
    if (t->rank < 1 || t->rank > 4) return sdpa_case_refuse(c, "attn_mask has rank %d", t->rank);
    for (int d = 0; d < t->rank; d++) from[4 - t->rank + d] = (size_t)t->shape[d];
    for (int d = 0; d < 4; d++)
        if (from[d] != 1 && (d == 3 ? (int64_t)from[d] > whole[d] : (int64_t)from[d] != whole[d]))
            return sdpa_case_refuse(c, "attn_mask does not fit the scores");
    const bool boolean = t->dtype == ATTN_WEIGHTS_BOOL;
    const size_t rows = from[0] * from[1] * from[2], keys = (size_t)spec->keys;
    void *values = sdpa_case_read(c, t, boolean ? ATTN_WEIGHTS_BOOL : ATTN_WEIGHTS_F64);
    if (!values) return false;
    size_t *shape = boolean ? content->mask_shape : content->bias_shape;
    for (int d = 0; d < 3; d++) shape[d] = from[d];
    shape[3] = keys;
    if (boolean)
        content->mask = kit_array(rows * keys + 1, 1);
    else
        content->bias = kit_array(rows * keys + 1, sizeof *content->bias);
    for (size_t i = 0; i < rows * keys; i++) {
        const size_t row = i / keys, key = i % keys;
        if (boolean)
            content->mask[i] = key < from[3] && ((uint8_t *)values)[row * from[3] + key];
        else
            content->bias[i] = key < from[3] ? ((double *)values)[row * from[3] + key] : -INFINITY;
    }
    free(values);
    return true;
}

static bool read_lengths(const sdpa_file_case *c, const sdpa_case *spec, sdpa_content *content) {
    const attn_weights_tensor *t = sdpa_case_find(c, "input/nonpad_kv_seqlen");
    if (!t) return true;
    if (t->elements != (size_t)spec->batch) return sdpa_case_refuse(c, "nonpad_kv_seqlen is not one for each item");
    int64_t *values = sdpa_case_read(c, t, ATTN_WEIGHTS_I64);
    content->key_lengths = kit_array(t->elements + 1, sizeof *content->key_lengths);
    bool fine = values != NULL;
    for (size_t b = 0; fine && b < t->elements; b++) {
        fine = values[b] >= 0 && values[b] <= spec->keys;
        content->key_lengths[b] = (int32_t)values[b];
    }
    free(values);
    return fine || sdpa_case_refuse(c, "nonpad_kv_seqlen goes past the keys");
}

/* What a mode of qk_matmul_output asks for that has a place here: the weights. */
enum { MODE_WEIGHTS = 3 };

typedef struct attributes {
    double q_heads, k_heads, causal, left, right, mode;
} attributes;

static bool read_attributes(const sdpa_file_case *c, sdpa_case *spec, attributes *a) {
    return sdpa_case_number(c, "attr/q_num_heads", 0, &a->q_heads) &&
           sdpa_case_number(c, "attr/kv_num_heads", 0, &a->k_heads) &&
           sdpa_case_number(c, "attr/is_causal", 0, &a->causal) &&
           sdpa_case_number(c, "attr/left_window_size", -1, &a->left) &&
           sdpa_case_number(c, "attr/right_window_size", -1, &a->right) &&
           sdpa_case_number(c, "attr/qk_matmul_output_mode", 0, &a->mode) &&
           sdpa_case_number(c, "attr/scale", 0, &spec->scale) && sdpa_case_number(c, "attr/softcap", 0, &spec->softcap);
}

static bool read_content(const sdpa_file_case *c, sdpa_case *spec, const attributes *a, sdpa_content *content) {
    operand q = {0}, k = {0}, v = {0};
    int64_t past = 0, past_values = 0;
    bool fine = read_operand(c, "input/Q", a->q_heads, &q) && read_operand(c, "input/K", a->k_heads, &k) &&
                read_operand(c, "input/V", a->k_heads, &v) && prepend(c, "input/past_key", &k, &past) &&
                prepend(c, "input/past_value", &v, &past_values);
    content->q = q.values, content->k = k.values, content->v = v.values;
    if (!fine) return false;
    if (k.batch != q.batch || v.batch != q.batch || v.heads != k.heads || v.rows != k.rows || k.width != q.width ||
        q.heads % k.heads != 0 || past != past_values)
        return sdpa_case_refuse(c, "the shapes of Q, K and V do not fit together");
    spec->batch = q.batch, spec->query_heads = q.heads, spec->key_heads = k.heads, spec->queries = q.rows;
    spec->keys = k.rows, spec->head_dim = q.width, spec->value_dim = v.width;
    if (sdpa_case_find(c, "input/Q")->rank == 3) spec->options |= SDPA_TOKENS;
    /* A query stands behind the past, or where the item's keys end. */
    const bool lengths = sdpa_case_find(c, "input/nonpad_kv_seqlen");
    if (a->causal != 0) spec->causal = lengths ? ATTN_CAUSAL_BOTTOM_RIGHT : ATTN_CAUSAL_TOP_LEFT;
    spec->offset = past;
    spec->left = (int64_t)a->left + 1, spec->right = (int64_t)a->right + 1;
    return read_lengths(c, spec, content) && read_mask(c, spec, content);
}

/* A result of the file, with the operator's tolerance for gates. */
static bool put_result(const sdpa_file_case *c, const char *name, double heads, const operand *shape, long double **to,
                       double **limits) {
    operand o;
    if (!read_operand(c, name, heads, &o)) return false;
    const bool half = sdpa_case_find(c, name)->dtype == ATTN_WEIGHTS_F16;
    const size_t count = (size_t)(o.batch * o.heads * o.rows * o.width);
    const bool fits =
        o.batch == shape->batch && o.heads == shape->heads && o.rows == shape->rows && o.width == shape->width;
    *to = kit_array(count + 1, sizeof **to);
    *limits = kit_array(count + 1, sizeof **limits);
    for (size_t i = 0; i < count; i++) {
        (*to)[i] = (long double)o.values[i];
        (*limits)[i] = (half ? half_absolute : absolute) + (half ? half_relative : relative) * fabs(o.values[i]);
    }
    free(o.values);
    return fits || sdpa_case_refuse(c, "%s has another shape than the inputs make", name);
}

static bool put_expected(const sdpa_file_case *c, const attributes *a, sdpa_problem *problem) {
    const sdpa_case *s = &problem->spec;
    const operand output = {s->batch, s->query_heads, s->queries, s->value_dim, NULL},
                  weights = {s->batch, s->query_heads, s->queries, s->keys, NULL};
    problem->args.lse = NULL;
    if (a->mode != MODE_WEIGHTS) problem->args.attention_weights = NULL;
    return put_result(c, "output/Y", a->q_heads, &output, &problem->expected.output, &problem->expected.output_gates) &&
           (a->mode != MODE_WEIGHTS ||
            put_result(c, "output/qk_matmul_output", 0, &weights, &problem->expected.attention_weights,
                       &problem->expected.attention_weights_gates));
}

sdpa_problem *sdpa_case_problem_onnx(const sdpa_file_case *c, const char *name, attn_dtype dtype) {
    static const char *const names[] = {"opset", "input/", "attr/", "output/", NULL};
    sdpa_case spec = {.dtype = dtype};
    sdpa_content content = {0};
    attributes a;
    snprintf(spec.name, sizeof spec.name, "%.60s", name);
    const bool fine =
        sdpa_case_knows(c, names) && read_attributes(c, &spec, &a) && read_content(c, &spec, &a, &content);
    sdpa_problem *problem = fine ? sdpa_problem_from(&spec, &content, KIT_GUARD_BEHIND) : NULL;
    if (!fine) sdpa_content_free(&content);
    if (!fine || put_expected(c, &a, problem)) return problem;
    sdpa_problem_free(problem);
    return NULL;
}

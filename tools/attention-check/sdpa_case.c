/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/attention-check/sdpa_case.h"

#include "tests/kit_content.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 1 << 24 }; /* of any size: past it the reference would take for ever */

/* ---- Names and values ------------------------------------------------------------------------------- */

const attn_weights_tensor *sdpa_case_find(const sdpa_file_case *c, const char *name) {
    for (size_t i = 0; i < c->count; i++)
        if (!strcmp(c->tensors[i]->name + c->prefix, name)) return c->tensors[i];
    return NULL;
}

bool sdpa_case_refuse(const sdpa_file_case *c, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(c->error, c->room, format, arguments);
    va_end(arguments);
    return false;
}

static bool is_known(const char *name, const char *const *names) {
    for (; *names; names++) {
        const size_t length = strlen(*names);
        const bool begins = (*names)[length - 1] == '_' || (*names)[length - 1] == '/';
        if (begins ? !strncmp(name, *names, length) : !strcmp(name, *names)) return true;
    }
    return false;
}

bool sdpa_case_knows(const sdpa_file_case *c, const char *const *names) {
    for (size_t i = 0; i < c->count; i++)
        if (!is_known(c->tensors[i]->name + c->prefix, names))
            return sdpa_case_refuse(c, "unknown tensor %.64s", c->tensors[i]->name + c->prefix);
    return true;
}

void *sdpa_case_read(const sdpa_file_case *c, const attn_weights_tensor *t, attn_weights_dtype dtype) {
    const size_t size = t->elements * attn_weights_dtype_size(dtype);
    /* What can't be given takes no memory: elements of an unknown dtype may be any number. */
    if (attn_weights_read(c->file, t, dtype, NULL, 0) == ATTN_ERROR_UNSUPPORTED) {
        sdpa_case_refuse(c, "%s", attn_last_error_message());
        return NULL;
    }
    void *values = kit_array(size + 1, 1);
    if (attn_weights_read(c->file, t, dtype, values, size) == ATTN_OK) return values;
    sdpa_case_refuse(c, "%s", attn_last_error_message());
    free(values);
    return NULL;
}

bool sdpa_case_number(const sdpa_file_case *c, const char *name, double otherwise, double *number) {
    const attn_weights_tensor *t = sdpa_case_find(c, name);
    *number = otherwise;
    if (!t) return true;
    if (t->elements != 1) return sdpa_case_refuse(c, "%s has %zu elements, wanted one", name, t->elements);
    const bool whole = t->dtype == ATTN_WEIGHTS_I64;
    void *value = sdpa_case_read(c, t, whole ? ATTN_WEIGHTS_I64 : ATTN_WEIGHTS_F64);
    if (value) *number = whole ? (double)*(int64_t *)value : *(double *)value;
    free(value);
    return value != NULL;
}

/* ---- A case of ours ----------------------------------------------------------------------------------- */

static bool read_sizes(const sdpa_file_case *c, sdpa_case *spec) {
    const attn_weights_tensor *const t[3] = {sdpa_case_find(c, "q"), sdpa_case_find(c, "k"), sdpa_case_find(c, "v")};
    for (int i = 0; i < 3; i++) {
        if (!t[i] || t[i]->rank != 4) return sdpa_case_refuse(c, "%c with four dimensions is missing", "qkv"[i]);
        for (int d = 0; d < 4; d++)
            if (t[i]->shape[d] < 1 || t[i]->shape[d] > MOST)
                return sdpa_case_refuse(c, "%c has a size of %lld, wanted 1 to %d", "qkv"[i],
                                        (long long)t[i] -> shape[d], MOST);
    }
    const int64_t *q = t[0]->shape, *k = t[1]->shape, *v = t[2]->shape;
    if (k[0] != q[0] || v[0] != q[0] || v[1] != k[1] || v[2] != k[2] || k[3] != q[3] || q[1] % k[1] != 0)
        return sdpa_case_refuse(c, "the shapes of q, k and v do not fit together");
    spec->batch = q[0], spec->query_heads = q[1], spec->key_heads = k[1], spec->queries = q[2], spec->keys = k[2];
    spec->head_dim = q[3], spec->value_dim = v[3];
    return true;
}

static bool read_numbers(const sdpa_file_case *c, sdpa_case *spec) {
    double causal, left, right;
    if (!sdpa_case_number(c, "option/scale", 0, &spec->scale) ||
        !sdpa_case_number(c, "option/softcap", 0, &spec->softcap) ||
        !sdpa_case_number(c, "option/causal", 0, &causal) || !sdpa_case_number(c, "option/window_left", -1, &left) ||
        !sdpa_case_number(c, "option/window_right", -1, &right))
        return false;
    if (!(causal >= 0 && causal <= 2 && left >= -1 && left < MOST && right >= -1 && right < MOST))
        return sdpa_case_refuse(c, "causal is %g, the windows %g and %g: out of range", causal, left, right);
    spec->causal = (attn_causal)(int)causal;
    spec->left = (int64_t)left + 1, spec->right = (int64_t)right + 1;
    return true;
}

/* An optional array of doubles. */
static bool read_array(const sdpa_file_case *c, const char *name, size_t elements, double **values) {
    const attn_weights_tensor *t = sdpa_case_find(c, name);
    if (!t) return true;
    if (t->elements != elements)
        return sdpa_case_refuse(c, "%s has %zu elements, wanted %zu", name, t->elements, elements);
    *values = sdpa_case_read(c, t, ATTN_WEIGHTS_F64);
    return *values != NULL;
}

/* An optional tensor over the scores: each dimension theirs, or 1. */
static bool read_scores(const sdpa_file_case *c, const char *name, const sdpa_case *spec, attn_weights_dtype dtype,
                        size_t shape[4], void **values) {
    const attn_weights_tensor *t = sdpa_case_find(c, name);
    const int64_t whole[4] = {spec->batch, spec->query_heads, spec->queries, spec->keys};
    if (!t) return true;
    for (int d = 0; d < 4; d++) {
        if (t->rank != 4 || (t->shape[d] != 1 && t->shape[d] != whole[d]))
            return sdpa_case_refuse(c, "%s does not fit the scores", name);
        shape[d] = (size_t)t->shape[d];
    }
    *values = sdpa_case_read(c, t, dtype);
    return *values != NULL;
}

static bool read_content(const sdpa_file_case *c, const sdpa_case *spec, sdpa_content *content) {
    void *mask = NULL, *bias = NULL;
    const attn_weights_tensor *lengths = sdpa_case_find(c, "option/key_lengths");
    content->q = sdpa_case_read(c, sdpa_case_find(c, "q"), ATTN_WEIGHTS_F64);
    content->k = sdpa_case_read(c, sdpa_case_find(c, "k"), ATTN_WEIGHTS_F64);
    content->v = sdpa_case_read(c, sdpa_case_find(c, "v"), ATTN_WEIGHTS_F64);
    bool fine = content->q && content->k && content->v &&
                read_array(c, "option/alibi_slopes", (size_t)spec->query_heads, &content->alibi_slopes) &&
                read_array(c, "option/sinks", (size_t)spec->query_heads, &content->sinks) &&
                read_scores(c, "option/mask", spec, ATTN_WEIGHTS_BOOL, content->mask_shape, &mask) &&
                read_scores(c, "option/bias", spec, ATTN_WEIGHTS_F64, content->bias_shape, &bias);
    content->mask = mask, content->bias = bias;
    if (!fine || !lengths) return fine;
    if (lengths->elements != (size_t)spec->batch) return sdpa_case_refuse(c, "key_lengths is not one for each item");
    content->key_lengths = sdpa_case_read(c, lengths, ATTN_WEIGHTS_I32);
    for (int64_t b = 0; content->key_lengths && b < spec->batch; b++)
        if (content->key_lengths[b] < 0 || content->key_lengths[b] > spec->keys)
            return sdpa_case_refuse(c, "key_lengths[%lld] is %d, past its %lld keys", (long long)b,
                                    (int)content->key_lengths[b], (long long)spec->keys);
    return content->key_lengths != NULL;
}

/* What the file expects in place of what the reference made, whose gates stay; float64 was rounded on both sides. */
static bool put_expected(const sdpa_file_case *c, sdpa_problem *problem) {
    const sdpa_case *s = &problem->spec;
    const size_t rows = (size_t)(s->batch * s->query_heads * s->queries);
    sdpa_problem_expect(problem);
    const struct {
        const char *name;
        size_t count;
        long double *to;
        double *gates;
    } results[] = {{"out", rows * (size_t)s->value_dim, problem->expected.output, problem->expected.output_gates},
                   {"lse", rows, problem->expected.lse, problem->expected.lse_gates},
                   {"attention_weights", rows * (size_t)s->keys, problem->expected.attention_weights,
                    problem->expected.attention_weights_gates}};
    if (!sdpa_case_find(c, "out")) return sdpa_case_refuse(c, "out is missing");
    for (size_t i = 0; i < sizeof results / sizeof *results; i++) {
        double *values = NULL;
        if (!read_array(c, results[i].name, results[i].count, &values)) return false;
        for (size_t j = 0; values && j < results[i].count; j++) {
            results[i].to[j] = (long double)values[j];
            if (s->dtype == ATTN_FLOAT64) results[i].gates[j] *= 2;
        }
        free(values);
    }
    return true;
}

sdpa_problem *sdpa_case_problem(const sdpa_file_case *c, const char *name, attn_dtype dtype) {
    static const char *const names[] = {"q", "k", "v", "option/", "out", "lse", "attention_weights", "grad_", NULL};
    sdpa_case spec = {.dtype = dtype};
    sdpa_content content = {0};
    snprintf(spec.name, sizeof spec.name, "%.60s", name);
    if (!sdpa_case_knows(c, names) || !read_sizes(c, &spec) || !read_numbers(c, &spec)) return NULL;
    const bool fine = read_content(c, &spec, &content);
    sdpa_problem *problem = fine ? sdpa_problem_from(&spec, &content, KIT_GUARD_BEHIND) : NULL;
    if (!fine) sdpa_content_free(&content);
    if (!fine || put_expected(c, problem)) return problem;
    sdpa_problem_free(problem);
    return NULL;
}

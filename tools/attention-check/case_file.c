/* SPDX-License-Identifier: Apache-2.0 */
/* Which tensors belong to which case, and whether their names, dtypes and shapes make sense together. */
#include "tools/attention-check/case_file.h"

#include "lib/quote.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LUONG = 1 << ATTN_SCORE_LUONG,
    BAHDANAU = 1 << ATTN_SCORE_BAHDANAU,
    DOT = 1 << ATTN_SCORE_DOT,
    ANY = LUONG | BAHDANAU | DOT
};
enum { MOST = 1 << 26 }; /* of any size: past it, loops over tensors without elements would take for ever */

typedef enum tensor_kind { INPUT, OPTION, RESULT } tensor_kind;

static const struct known_tensor {
    const char *name;
    tensor_kind kind;
    int scores;
} known[TENSORS] = {
    [TENSOR_H] = {"H", INPUT, ANY},
    [TENSOR_QUERY] = {"query", INPUT, ANY},
    [TENSOR_LUONG_W] = {"luong_w", INPUT, LUONG},
    [TENSOR_W1] = {"bahdanau_w1", INPUT, BAHDANAU},
    [TENSOR_W2] = {"bahdanau_w2", INPUT, BAHDANAU},
    [TENSOR_V] = {"bahdanau_v", INPUT, BAHDANAU},
    [TENSOR_W_C] = {"w_c", INPUT, ANY},
    [TENSOR_STARTS] = {"option/starts", OPTION, ANY},
    [TENSOR_LENGTHS] = {"option/lengths", OPTION, ANY},
    [TENSOR_MASK] = {"option/mask", OPTION, ANY},
    [TENSOR_OUTPUT] = {"output", RESULT, ANY},
    [TENSOR_CONTEXT] = {"context", RESULT, ANY},
    [TENSOR_WEIGHTS] = {"attention_weights", RESULT, ANY},
    [TENSOR_LSE] = {"lse", RESULT, ANY},
};

static bool refuse(char *error, size_t room, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error, room, format, arguments);
    va_end(arguments);
    return false;
}

/* ---- Names ------------------------------------------------------------------------------------------ */

static int compare_names(const void *a, const void *b) {
    const attn_weights_tensor *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

bool case_list_open(const attn_weights_file *file, case_list *list) {
    const size_t count = attn_weights_count(file);
    *list = (case_list){calloc(count + 1, sizeof *list->tensors), count, 0};
    if (!list->tensors) return false;
    for (size_t i = 0; i < count; i++) list->tensors[i] = attn_weights_tensor_at(file, i);
    qsort(list->tensors, count, sizeof *list->tensors, compare_names);
    return true;
}

void case_list_close(case_list *list) { free(list->tensors); }

/* A name from a file may hold anything: what a terminal would act on becomes '?'. */
static char *printable(const char *name, size_t length) {
    char *copy = malloc(length + 1);
    if (!copy) return NULL;
    for (size_t i = 0; i < length; i++) copy[i] = (unsigned char)name[i] < 32 || name[i] == 127 ? '?' : name[i];
    copy[length] = 0;
    return copy;
}

static bool score_of(const char *name, attn_score *score) {
    for (int s = ATTN_SCORE_LUONG; s <= ATTN_SCORE_DOT; s++) {
        const char *prefix = kit_score_name((attn_score)s);
        const size_t length = strlen(prefix);
        if (strncmp(name, prefix, length) || name[length] != '_') continue;
        *score = (attn_score)s;
        return true;
    }
    return false;
}

/* Takes a tensor into the case by its name. */
static bool take_tensor(file_case *c, const char *name, const attn_weights_tensor *tensor) {
    const bool gradient = !strncmp(name, "grad_", 5);
    const char *base = gradient ? name + 5 : name;
    for (size_t i = 0; i < TENSORS; i++) {
        const size_t length = strlen(known[i].name);
        if (strncmp(base, known[i].name, length)) continue;
        const bool plain = !base[length], single = !strcmp(base + length, "_f32");
        if ((!plain && !single) || !(known[i].scores & 1 << c->spec.score)) continue;
        const tensor_kind kind = known[i].kind;
        if (gradient && kind == INPUT)
            *(single ? &c->single_gradients[i] : &c->gradients[i]) = tensor;
        else if (gradient && kind == RESULT && plain)
            c->incoming[i - TENSOR_OUTPUT] = tensor;
        else if (gradient || (single && kind != RESULT))
            return false;
        else
            *(single ? &c->single[i - TENSOR_OUTPUT] : &c->tensors[i]) = tensor;
        return true;
    }
    return false;
}

/* ---- Shapes ----------------------------------------------------------------------------------------- */

static bool check_shape(const char *name, const attn_weights_tensor *t, int rank, const int64_t *shape, char *error,
                        size_t room) {
    bool same = t->rank == rank;
    for (int i = 0; same && i < rank; i++) same = t->shape[i] == shape[i];
    if (same) return true;
    char wanted[128] = "", found[ATTN_WEIGHTS_MAX_RANK * 24] = "";
    for (int i = 0; i < rank; i++)
        snprintf(wanted + strlen(wanted), sizeof wanted - strlen(wanted), "%s%lld", i ? ", " : "", (long long)shape[i]);
    for (int i = 0; i < t->rank; i++)
        snprintf(found + strlen(found), sizeof found - strlen(found), "%s%lld", i ? ", " : "", (long long)t->shape[i]);
    return refuse(error, room, "%s has shape (%s), wanted (%s)", name, found, wanted);
}

static bool check_dtype(const char *name, const attn_weights_tensor *t, bool fits, const char *wanted, char *error,
                        size_t room) {
    char found[ATTN_QUOTE_SIZE];
    return fits || refuse(error, room, "%s is %s, wanted %s", name, attn_quote(found, t->dtype_name), wanted);
}

static bool is_float(const attn_weights_tensor *t) {
    return t->dtype == ATTN_WEIGHTS_F16 || t->dtype == ATTN_WEIGHTS_BF16 || t->dtype == ATTN_WEIGHTS_F32 ||
           t->dtype == ATTN_WEIGHTS_F64;
}

/* Reads B, T, D, Tq, Dq, A and U off the inputs; what they leave open is checked afterwards. */
static bool read_sizes(file_case *c, char *error, size_t room) {
    const attn_weights_tensor *const *t = c->tensors;
    kit_case *s = &c->spec;
    if (!t[TENSOR_H]) return refuse(error, room, "H is missing");
    if (t[TENSOR_H]->rank != 3) return refuse(error, room, "H has rank %d, wanted 3", t[TENSOR_H]->rank);
    s->batch = t[TENSOR_H]->shape[0], s->timesteps = t[TENSOR_H]->shape[1],
    s->features = s->query_features = t[TENSOR_H]->shape[2];
    s->queries = ATTN_LAST_STEP;
    if (t[TENSOR_QUERY]) {
        if (t[TENSOR_QUERY]->rank != 3)
            return refuse(error, room, "query has rank %d, wanted 3", t[TENSOR_QUERY]->rank);
        s->queries = t[TENSOR_QUERY]->shape[1], s->query_features = t[TENSOR_QUERY]->shape[2];
    }
    if (s->score == ATTN_SCORE_BAHDANAU) {
        if (!t[TENSOR_W1] || !t[TENSOR_W2] || !t[TENSOR_V])
            return refuse(error, room, "bahdanau_%s is missing", !t[TENSOR_W1] ? "w1" : !t[TENSOR_W2] ? "w2" : "v");
        s->score_width = t[TENSOR_V]->rank > 0 ? t[TENSOR_V]->shape[0] : 0;
    }
    if (s->score == ATTN_SCORE_LUONG && !t[TENSOR_LUONG_W]) return refuse(error, room, "luong_w is missing");
    if (t[TENSOR_W_C] && t[TENSOR_W_C]->rank == 2) s->units = t[TENSOR_W_C]->shape[1];
    const int64_t sizes[] = {s->batch,          s->timesteps,   s->features, s->queries,
                             s->query_features, s->score_width, s->units};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i] > MOST)
            return refuse(error, room, "a size of %lld is past what this program takes (%d)", (long long)sizes[i],
                          MOST);
    if (s->features < 1 || s->query_features < 1) return refuse(error, room, "H and query need at least one feature");
    if (s->score == ATTN_SCORE_BAHDANAU && s->score_width < 1)
        return refuse(error, room, "bahdanau_v needs at least one element");
    return true;
}

static bool check_inputs(const file_case *c, char *error, size_t room) {
    const kit_case *s = &c->spec;
    const int64_t B = s->batch, T = s->timesteps, D = s->features, Dq = s->query_features, A = s->score_width,
                  U = s->units;
    const int64_t Tq = s->queries == ATTN_LAST_STEP ? 1 : s->queries;
    const attn_weights_tensor *v = c->tensors[TENSOR_V], *mask = c->tensors[TENSOR_MASK];
    const bool masks = mask && mask->rank == 3;
    const struct {
        int tensor, rank;
        int64_t shape[3];
    } wanted[] = {{TENSOR_H, 3, {B, T, D}},     {TENSOR_QUERY, 3, {B, Tq, Dq}},
                  {TENSOR_LUONG_W, 2, {D, Dq}}, {TENSOR_W1, 2, {Dq, A}},
                  {TENSOR_W2, 2, {D, A}},       {TENSOR_V, v && v->rank == 1 ? 1 : 2, {A, 1}},
                  {TENSOR_W_C, 2, {D + Dq, U}}, {TENSOR_STARTS, 1, {B}},
                  {TENSOR_LENGTHS, 1, {B}},     {TENSOR_MASK, masks ? 3 : 2, {B, masks ? Tq : T, T}}};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        const int which = wanted[i].tensor;
        const attn_weights_tensor *t = c->tensors[which];
        const char *name = known[which].name;
        if (!t) continue;
        if (!check_shape(name, t, wanted[i].rank, wanted[i].shape, error, room)) return false;
        if (known[which].kind == INPUT && !check_dtype(name, t, is_float(t), "a float", error, room)) return false;
        if ((which == TENSOR_STARTS || which == TENSOR_LENGTHS) &&
            !check_dtype(name, t, t->dtype == ATTN_WEIGHTS_I32, "I32", error, room))
            return false;
        if (which == TENSOR_MASK && !check_dtype(name, t, t->dtype == ATTN_WEIGHTS_BOOL, "BOOL", error, room))
            return false;
    }
    return true;
}

static bool check_results(const file_case *c, char *error, size_t room) {
    const kit_case *s = &c->spec;
    const bool given = s->queries != ATTN_LAST_STEP;
    const int64_t widths[RESULTS] = {s->units, s->features, s->timesteps, 0};
    if (!c->tensors[TENSOR_WEIGHTS]) return refuse(error, room, "attention_weights is missing");
    if (!c->tensors[TENSOR_CONTEXT]) return refuse(error, room, "context is missing");
    if (!c->tensors[TENSOR_OUTPUT] != !c->tensors[TENSOR_W_C])
        return refuse(error, room, "%s is there, %s is missing", c->tensors[TENSOR_W_C] ? "w_c" : "output",
                      c->tensors[TENSOR_W_C] ? "output" : "w_c");
    for (int i = 0; i < RESULTS; i++) {
        const int which = TENSOR_OUTPUT + i, inner = which == TENSOR_LSE ? 0 : 1;
        const int64_t shape[3] = {s->batch, given ? s->queries : widths[i], widths[i]};
        const attn_weights_tensor *const both[2] = {c->tensors[which], c->single[i]};
        for (int single = 0; single < 2; single++) {
            if (!both[single]) continue;
            char name[32];
            snprintf(name, sizeof name, "%s%s", known[which].name, single ? "_f32" : "");
            if (!check_shape(name, both[single], 1 + given + inner, shape, error, room)) return false;
            const attn_weights_dtype dtype = single ? ATTN_WEIGHTS_F32 : ATTN_WEIGHTS_F64;
            if (!check_dtype(name, both[single], both[single]->dtype == dtype, attn_weights_dtype_name(dtype), error,
                             room))
                return false;
        }
        if (c->single[i] && !c->tensors[which])
            return refuse(error, room, "%s_f32 has no %s beside it", known[which].name, known[which].name);
    }
    return true;
}

unsigned file_case_incoming(const file_case *c) {
    unsigned bits = 0;
    for (int i = 0; i < RESULTS; i++) bits |= c->incoming[i] ? 1u << i : 0;
    return bits;
}

unsigned file_case_gradients(const file_case *c) {
    unsigned bits = 0;
    for (int i = 0; i < GRADIENTS; i++) bits |= c->gradients[i] ? 1u << i : 0;
    return bits;
}

/* One gradient: shaped as the tensor it belongs to. */
static bool check_gradient(const attn_weights_tensor *gradient, const attn_weights_tensor *of, const char *of_name,
                           const char *suffix, attn_weights_dtype dtype, char *error, size_t room) {
    char name[48];
    if (!gradient) return true;
    snprintf(name, sizeof name, "grad_%s%s", of_name, suffix);
    if (!of) return refuse(error, room, "%s is there, %s is missing", name, of_name);
    return check_shape(name, gradient, of->rank, of->shape, error, room) &&
           check_dtype(name, gradient, gradient->dtype == dtype, attn_weights_dtype_name(dtype), error, room);
}

static bool check_gradients(const file_case *c, char *error, size_t room) {
    for (int i = 0; i < RESULTS; i++)
        if (!check_gradient(c->incoming[i], c->tensors[TENSOR_OUTPUT + i], known[TENSOR_OUTPUT + i].name, "",
                            ATTN_WEIGHTS_F32, error, room))
            return false;
    for (int i = 0; i < GRADIENTS; i++) {
        if (!check_gradient(c->gradients[i], c->tensors[i], known[i].name, "", ATTN_WEIGHTS_F64, error, room) ||
            !check_gradient(c->single_gradients[i], c->tensors[i], known[i].name, "_f32", ATTN_WEIGHTS_F32, error,
                            room))
            return false;
        if (c->single_gradients[i] && !c->gradients[i])
            return refuse(error, room, "grad_%s_f32 has no grad_%s beside it", known[i].name, known[i].name);
    }
    if (!file_case_incoming(c) != !file_case_gradients(c))
        return refuse(error, room, "gradients of %s alone", file_case_incoming(c) ? "results" : "inputs");
    return true;
}

int case_list_next(case_list *list, file_case *out, char *error, size_t room) {
    *out = (file_case){0};
    if (list->next == list->count) return 0;
    const char *first = list->tensors[list->next]->name, *slash = strchr(first, '/');
    const size_t length = slash ? (size_t)(slash - first) : strlen(first);
    out->name = printable(first, length);
    bool sound = out->name != NULL;
    if (!sound) refuse(error, room, "out of memory");
    if (sound && !slash) sound = refuse(error, room, "a tensor that belongs to no case");
    if (sound && !score_of(first, &out->spec.score))
        sound = refuse(error, room, "the name begins with none of luong_, bahdanau_, dot_");
    for (; list->next < list->count; list->next++) {
        const char *name = list->tensors[list->next]->name;
        if (strncmp(name, first, length) || name[length] != (slash ? '/' : 0)) break;
        if (!sound || take_tensor(out, name + length + 1, list->tensors[list->next])) continue;
        char *shown = printable(name + length + 1, strlen(name + length + 1));
        sound = refuse(error, room, "unknown tensor %s", shown ? shown : "");
        free(shown);
    }
    if (!sound || !read_sizes(out, error, room) || !check_inputs(out, error, room) ||
        !check_results(out, error, room) || !check_gradients(out, error, room))
        return -1;
    if (out->tensors[TENSOR_MASK]) out->spec.options |= KIT_MASK;
    if (out->tensors[TENSOR_MASK] && out->tensors[TENSOR_MASK]->rank == 3) out->spec.options |= KIT_MASK_QUERIES;
    return 1;
}

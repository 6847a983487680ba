/* Scaled-dot-product attention by composition.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A key head and the query heads that share it make one matrix product: their rows, (head, query), are taken some at a time, and
 * one such block is a unit of work. It goes through the keys, some at a time: scores, softmax within the block, its values'
 * sum, merged into what came before. What a unit computes depends on its item alone, never on the batch or the threads.
 *
 * Keys that no row of a unit attends to are never read: ranges leave them out, and where a mask or a bias hides more of them, those
 * attended are gathered first. */
#include "cpu/sdpa.h"

#include "cpu/tree.h"
#include "cpu/units.h"

#include <limits.h>
#include <math.h>
#include <string.h>

/* Fixed: they shape the order of summation. */
enum { BLOCK_ROWS = 64, BLOCK_KEYS = 256 };

typedef struct sdpa {
    const attn_sdpa_call *call;
    attn_sdpa_problem sizes;
    const attn_products *products;
    size_t element;
    size_t group, rows; /* query heads that share a key head, and their rows */
    size_t block_rows, block_keys, row_blocks;
    size_t q_row, k_row, scores_row, value_row; /* row strides of the scratch */
} sdpa;

/* What one query sees: the keys [begin, end), less what mask and bias hide. */
typedef struct query_row {
    size_t head, query;
    ptrdiff_t position;
    size_t begin, end;
    const uint8_t *mask; /* of key 0, or NULL */
    const char *bias;
} query_row;

/* Of one thread. */
typedef struct scratch {
    query_row *rows;
    void *q;      /* (block rows, q_row), scaled */
    void *scores; /* (block rows, scores_row) */
    void *k, *v;  /* (block keys, k_row or value_row): gathered */
    size_t *index;
    void *terms;                         /* (block keys): what is added to a row's scores */
    attn_partial part;                   /* of a block of keys */
    attn_partial sums[ATTN_TREE_LEVELS]; /* of the blocks so far, by a tree (tree.h); the last is that of all */
    attn_partial all;
    size_t levels;
} scratch;

/* Some rows of a key head. */
typedef struct unit {
    size_t item, key_head, count;
    size_t length;     /* the item's */
    size_t begin, end; /* keys that some row sees */
} unit;

/* Some keys of it. */
typedef struct key_block {
    size_t first, end;
    const size_t *index; /* those attended, counted from first; NULL: all of them */
    size_t count;
    const void *k, *v;
    size_t k_row, v_row;
} key_block;

/* ---- Sizes ---------------------------------------------------------------------------------------- */

static void measure(sdpa *a) {
    const attn_sdpa_problem *p = &a->sizes;
    a->element = p->dtype == ATTN_FLOAT32 ? sizeof(float) : sizeof(double);
    a->group = p->key_heads ? p->query_heads / p->key_heads : 0;
    a->rows = a->group * p->queries;
    a->block_rows = least(BLOCK_ROWS, a->rows);
    a->block_keys = least(BLOCK_KEYS, p->keys);
    a->row_blocks = a->rows ? divide_up(a->rows, a->block_rows) : 0;
    a->q_row = a->k_row = padded(p->head_dim, a->element);
    a->scores_row = padded(a->block_keys, a->element);
    a->value_row = padded(p->value_dim, a->element);
}

static void carve_partial(const sdpa *a, attn_carver *carver, attn_partial *partial) {
    partial->maximum = attn_carve(carver, a->block_rows, a->element);
    partial->sum = attn_carve(carver, a->block_rows, a->element);
    partial->context = attn_carve(carver, a->block_rows, a->value_row * a->element);
    partial->context_stride = a->value_row;
}

static void carve_scratch(const sdpa *a, attn_carver *carver, scratch *s) {
    s->rows = attn_carve(carver, a->block_rows, sizeof *s->rows);
    s->q = attn_carve(carver, a->block_rows, a->q_row * a->element);
    s->scores = attn_carve(carver, a->block_rows, a->scores_row * a->element);
    s->k = attn_carve(carver, a->block_keys, a->k_row * a->element);
    s->v = attn_carve(carver, a->block_keys, a->value_row * a->element);
    s->index = attn_carve(carver, a->block_keys, sizeof *s->index);
    s->terms = attn_carve(carver, a->block_keys, a->element);
    carve_partial(a, carver, &s->part);
    s->levels = attn_tree_levels(divide_up(a->sizes.keys, BLOCK_KEYS));
    for (size_t level = 0; level < s->levels; level++) carve_partial(a, carver, &s->sums[level]);
    s->all = s->sums[s->levels - 1];
}

static attn_units describe(const attn_device *device, const attn_sdpa_problem *problem, sdpa *a) {
    *a = (sdpa){.sizes = *problem};
    measure(a);
    attn_carver carver = {.base = NULL};
    scratch counted;
    carve_scratch(a, &carver, &counted);
    return (attn_units){.argument = a,
                        .count = problem->batch * problem->key_heads * a->row_blocks,
                        .scratch_size = attn_carved_size(&carver),
                        .slots = (size_t)attn_threads_count(device->threads)};
}

size_t attn_sdpa_workspace_size(const attn_implementation *implementation, const attn_device *device,
                                const attn_sdpa_problem *planned) {
    (void)implementation;
    sdpa a;
    attn_units units = describe(device, planned, &a);
    attn_carver carver = {.base = NULL};
    attn_units_carve(&units, &carver);
    return attn_carved_size(&carver);
}

/* ---- Places ---------------------------------------------------------------------------------------- */

static char *at(const sdpa *a, void *matrix, size_t row, size_t row_stride, size_t column) {
    return (char *)matrix + (row * row_stride + column) * a->element;
}

static ptrdiff_t offset(const attn_strides *strides, size_t item, size_t head, size_t row) {
    return (ptrdiff_t)item * strides->batch + (ptrdiff_t)head * strides->head + (ptrdiff_t)row * strides->row;
}

static const char *row_in(const sdpa *a, const void *data, const attn_strides *strides, size_t item, size_t head,
                          size_t row) {
    return (const char *)data + offset(strides, item, head, row) * (ptrdiff_t)a->element;
}

static char *row_out(const sdpa *a, void *data, const attn_strides *strides, size_t item, size_t head, size_t row) {
    return (char *)data + offset(strides, item, head, row) * (ptrdiff_t)a->element;
}

static attn_partial partial_row(const sdpa *a, const attn_partial *p, size_t row) {
    return (attn_partial){at(a, p->maximum, row, 1, 0), at(a, p->sum, row, 1, 0),
                          at(a, p->context, row, a->value_row, 0), a->value_row};
}

/* ---- Scalars of either type -------------------------------------------------------------------------- */

static double get(const sdpa *a, const void *value) {
    return a->sizes.dtype == ATTN_FLOAT32 ? (double)*(const float *)value : *(const double *)value;
}

static void set(const sdpa *a, void *to, double value) {
    if (a->sizes.dtype == ATTN_FLOAT32)
        *(float *)to = (float)value;
    else
        *(double *)to = value;
}

/* to[i] = factor from[i], rounded once. */
static void scale_row(const sdpa *a, const void *from, double factor, void *to, size_t n) {
    if (a->sizes.dtype == ATTN_FLOAT32)
        for (size_t i = 0; i < n; i++) ((float *)to)[i] = (float)(factor * (double)((const float *)from)[i]);
    else
        for (size_t i = 0; i < n; i++) ((double *)to)[i] = factor * ((const double *)from)[i];
}

/* scores / softcap, as far as tanh tells them apart: the quotient by a small cap may be past the type's numbers. */
static double capped(double quotient) { return quotient > 1024 ? 1024 : quotient < -1024 ? -1024 : quotient; }

static void divide_row(const sdpa *a, void *scores, double softcap, size_t n) {
    const double factor = 1 / softcap;
    if (a->sizes.dtype == ATTN_FLOAT32)
        for (size_t i = 0; i < n; i++) ((float *)scores)[i] = (float)capped(factor * (double)((float *)scores)[i]);
    else
        for (size_t i = 0; i < n; i++) ((double *)scores)[i] = capped(((double *)scores)[i] / softcap);
}

static void hide_row(const sdpa *a, void *scores, size_t n) {
    if (a->sizes.dtype == ATTN_FLOAT32)
        for (size_t i = 0; i < n; i++) ((float *)scores)[i] = -INFINITY;
    else
        for (size_t i = 0; i < n; i++) ((double *)scores)[i] = -INFINITY;
}

/* Hides what the mask does not show. */
static void mask_row(const sdpa *a, void *scores, const uint8_t *mask, ptrdiff_t step, size_t n) {
    if (a->sizes.dtype == ATTN_FLOAT32)
        for (size_t i = 0; i < n; i++)
            ((float *)scores)[i] = mask[(ptrdiff_t)i * step] ? ((float *)scores)[i] : -INFINITY;
    else
        for (size_t i = 0; i < n; i++)
            ((double *)scores)[i] = mask[(ptrdiff_t)i * step] ? ((double *)scores)[i] : -INFINITY;
}

/* Hides where the bias is -inf: a score that is NaN has not become so by its addition. */
static void bias_row(const sdpa *a, void *scores, const void *bias, size_t n) {
    if (a->sizes.dtype == ATTN_FLOAT32)
        for (size_t i = 0; i < n; i++)
            ((float *)scores)[i] = ((const float *)bias)[i] == -INFINITY ? -INFINITY : ((float *)scores)[i];
    else
        for (size_t i = 0; i < n; i++)
            ((double *)scores)[i] = ((const double *)bias)[i] == -INFINITY ? -INFINITY : ((double *)scores)[i];
}

/* ---- Rows ------------------------------------------------------------------------------------------- */

static size_t clip(ptrdiff_t key, size_t length) { return key < 0 ? 0 : least((size_t)key, length); }

static void see(const sdpa *a, const unit *u, query_row *row) {
    const attn_sdpa_problem *p = &a->sizes;
    const bool bottom_right = p->causal == ATTN_CAUSAL_BOTTOM_RIGHT;
    row->position = (ptrdiff_t)row->query + a->call->query_offset +
                    (bottom_right ? (ptrdiff_t)u->length - (ptrdiff_t)p->queries : 0);
    row->begin = p->window_left < 0 ? 0 : clip(row->position - p->window_left, u->length);
    row->end = p->window_right < 0 ? u->length : clip(row->position + p->window_right + 1, u->length);
    if (p->causal) row->end = least(row->end, clip(row->position + 1, u->length));
}

/* Nothing attended yet. */
static void empty(const sdpa *a, const attn_partial *sum, size_t row) {
    const attn_partial p = partial_row(a, sum, row);
    set(a, p.maximum, -INFINITY);
    set(a, p.sum, 0);
    memset(p.context, 0, a->sizes.value_dim * a->element);
}

/* The rows of a unit, their queries scaled and the keys that they see. */
static void enter(const sdpa *a, unit *u, size_t first, const scratch *s) {
    const attn_sdpa_call *call = a->call;
    u->length = call->key_lengths ? (size_t)call->key_lengths[u->item] : a->sizes.keys;
    u->begin = u->length, u->end = 0;
    for (size_t i = 0; i < u->count; i++) {
        query_row *row = &s->rows[i];
        *row = (query_row){.head = u->key_head * a->group + (first + i) / a->sizes.queries,
                           .query = (first + i) % a->sizes.queries};
        see(a, u, row);
        if (row->begin < row->end) u->begin = least(u->begin, row->begin), u->end = most(u->end, row->end);
        if (call->mask) row->mask = call->mask + offset(&call->mask_strides, u->item, row->head, row->query);
        if (call->bias) row->bias = row_in(a, call->bias, &call->bias_strides, u->item, row->head, row->query);
        scale_row(a, row_in(a, call->q, &call->q_strides, u->item, row->head, row->query), a->sizes.scale,
                  at(a, s->q, i, a->q_row, 0), a->sizes.head_dim);
        for (size_t level = 0; level < s->levels; level++) empty(a, &s->sums[level], i);
    }
}

static bool is_hidden(const sdpa *a, const query_row *row, size_t key) {
    if (key < row->begin || key >= row->end) return true;
    if (row->mask && !row->mask[(ptrdiff_t)key * a->call->mask_strides.element]) return true;
    return row->bias &&
           get(a, row->bias + (ptrdiff_t)key * a->call->bias_strides.element * (ptrdiff_t)a->element) == -INFINITY;
}

/* ---- Keys ------------------------------------------------------------------------------------------- */

/* Adds the keys that one row attends to. */
static void find_seen(const sdpa *a, const query_row *row, const key_block *k, bool *seen) {
    const size_t begin = most(k->first, row->begin), end = least(k->end, row->end);
    const ptrdiff_t step = a->call->mask_strides.element;
    if (row->bias)
        for (size_t key = begin; key < end; key++) seen[key - k->first] |= !is_hidden(a, row, key);
    else
        for (size_t key = begin; key < end; key++) seen[key - k->first] |= row->mask[(ptrdiff_t)key * step] != 0;
}

/* Where a mask or a bias can hide keys from all rows, those that some row attends to. */
static void find_keys(const sdpa *a, const unit *u, key_block *k, const scratch *s) {
    bool seen[BLOCK_KEYS] = {false};
    k->count = k->end - k->first;
    k->index = NULL;
    if (!a->call->mask && !a->call->bias) return;
    for (size_t i = 0; i < u->count; i++) find_seen(a, &s->rows[i], k, seen);
    size_t count = 0;
    for (size_t j = 0; j < k->count; j++)
        if (seen[j]) s->index[count++] = j;
    if (count < k->count) k->index = s->index;
    k->count = count;
}

/* Rows as the products can take them: where they lie, or gathered. */
static const void *gather(const sdpa *a, const unit *u, const key_block *k, const void *data,
                          const attn_strides *strides, size_t width, void *to, size_t to_row, size_t *row) {
    const char *from = row_in(a, data, strides, u->item, u->key_head, k->first);
    *row = (size_t)strides->row;
    if (!k->index && strides->row <= INT_MAX) return from;
    for (size_t j = 0; j < k->count; j++) {
        const size_t key = k->index ? k->index[j] : j;
        memcpy(at(a, to, j, to_row, 0), from + (ptrdiff_t)key * strides->row * (ptrdiff_t)a->element,
               width * a->element);
    }
    *row = to_row;
    return to;
}

/* ---- Scores ----------------------------------------------------------------------------------------- */

/* terms[j] = the row's bias, or what its slope takes, for the block's keys. */
static const void *bias_terms(const sdpa *a, const query_row *row, const key_block *k, const scratch *s) {
    const ptrdiff_t step = a->call->bias_strides.element * (ptrdiff_t)a->element;
    const char *from = row->bias + (ptrdiff_t)k->first * step;
    if (!k->index && a->call->bias_strides.element == 1) return from;
    for (size_t j = 0; j < k->count; j++)
        memcpy(at(a, s->terms, j, 1, 0), from + (ptrdiff_t)(k->index ? k->index[j] : j) * step, a->element);
    return s->terms;
}

static const void *alibi_terms(const sdpa *a, const query_row *row, const key_block *k, const scratch *s) {
    const double given = get(a, (const char *)a->call->alibi_slopes + row->head * a->element);
    const double slope = isfinite(given) ? given : NAN; /* at no distance an infinite one would be NaN, and hide elsewhere */
    for (size_t j = 0; j < k->count; j++) {
        const ptrdiff_t key = (ptrdiff_t)(k->first + (k->index ? k->index[j] : j));
        const ptrdiff_t distance = row->position > key ? row->position - key : key - row->position;
        set(a, at(a, s->terms, j, 1, 0), -slope * (double)distance);
    }
    return s->terms;
}

/* What the bias hides is hidden already. */
static void hide(const sdpa *a, const query_row *row, const key_block *k, void *scores) {
    if (k->index) {
        for (size_t j = 0; j < k->count; j++)
            if (is_hidden(a, row, k->first + k->index[j])) set(a, at(a, scores, 0, 0, j), -INFINITY);
        return;
    }
    const size_t begin = least(k->end, most(k->first, row->begin)), end = most(begin, least(k->end, row->end));
    hide_row(a, scores, begin - k->first);
    hide_row(a, at(a, scores, 0, 0, end - k->first), k->end - end);
    if (row->mask)
        mask_row(a, at(a, scores, 0, 0, begin - k->first), row->mask + (ptrdiff_t)begin * a->call->mask_strides.element,
                 a->call->mask_strides.element, end - begin);
}

static void finish_scores(const sdpa *a, const query_row *row, const key_block *k, void *scores, const scratch *s) {
    const attn_kernels_real *kernels = a->products->kernels;
    if (a->sizes.softcap > 0) { /* apart from the scale, which it might take out of the range of a query's numbers */
        divide_row(a, scores, a->sizes.softcap, k->count);
        kernels->tanh_row(scores, scores, k->count);
        scale_row(a, scores, a->sizes.softcap, scores, k->count);
    }
    if (a->call->alibi_slopes) kernels->add_to(alibi_terms(a, row, k, s), scores, k->count);
    if (row->bias) {
        const void *terms = bias_terms(a, row, k, s);
        kernels->add_to(terms, scores, k->count);
        bias_row(a, scores, terms, k->count);
    }
    hide(a, row, k, scores);
}

/* The scores as they are, to where the weights will stand. */
static void keep_scores(const sdpa *a, const unit *u, const query_row *row, const key_block *k, const void *scores) {
    const attn_sdpa_call *call = a->call;
    char *to = row_out(a, call->attention_weights, &call->weights_strides, u->item, row->head, row->query);
    to += k->first * a->element;
    if (!k->index) {
        memcpy(to, scores, k->count * a->element);
        return;
    }
    hide_row(a, to, k->end - k->first);
    for (size_t j = 0; j < k->count; j++)
        memcpy(to + k->index[j] * a->element, (const char *)scores + j * a->element, a->element);
}

static void attend(const sdpa *a, const unit *u, key_block *k, const attn_partial *into, const scratch *s) {
    const attn_sdpa_call *call = a->call;
    find_keys(a, u, k, s);
    if (k->count) {
        k->k = gather(a, u, k, call->k, &call->k_strides, a->sizes.head_dim, s->k, a->k_row, &k->k_row);
        a->products->nt(a->products, a->sizes.dtype, u->count, k->count, a->sizes.head_dim, s->q, a->q_row, k->k,
                        k->k_row, s->scores, a->scores_row);
    }
    for (size_t i = 0; i < u->count; i++) {
        void *scores = at(a, s->scores, i, a->scores_row, 0);
        const attn_partial p = partial_row(a, into, i);
        finish_scores(a, &s->rows[i], k, scores, s);
        if (call->attention_weights) keep_scores(a, u, &s->rows[i], k, scores);
        a->products->kernels->softmax_row(scores, k->count, p.maximum, p.sum);
    }
    if (k->count && a->sizes.value_dim) {
        k->v = gather(a, u, k, call->v, &call->v_strides, a->sizes.value_dim, s->v, a->value_row, &k->v_row);
        a->products->exact(a->products, a->sizes.dtype, u->count, a->sizes.value_dim, k->count, s->scores,
                           a->scores_row, k->v, k->v_row, into->context, a->value_row);
    }
    /* 0 times a value that is NaN */
    for (size_t i = 0; i < u->count; i++) {
        const attn_partial p = partial_row(a, into, i);
        if (get(a, p.sum) == 0) memset(p.context, 0, a->sizes.value_dim * a->element);
    }
}

/* ---- Results ---------------------------------------------------------------------------------------- */

static void finish_weights(const sdpa *a, const unit *u, const query_row *row, const attn_partial *p, bool nothing) {
    const attn_sdpa_call *call = a->call;
    char *to = row_out(a, call->attention_weights, &call->weights_strides, u->item, row->head, row->query);
    if (nothing) {
        memset(to, 0, a->sizes.keys * a->element);
        return;
    }
    memset(to, 0, u->begin * a->element);
    a->products->kernels->weights(to + u->begin * a->element, u->end - u->begin, p->maximum, p->sum);
    memset(to + u->end * a->element, 0, (a->sizes.keys - u->end) * a->element);
    /* A NaN sum makes NaN of hidden keys too. */
    for (size_t key = u->begin; isnan(get(a, p->sum)) && key < u->end; key++)
        if (is_hidden(a, row, key)) set(a, to + key * a->element, 0);
}

/* A sink is one more score, with no value; one of -inf is none. */
static void add_sink(const sdpa *a, const query_row *row, const attn_partial *into, const attn_partial *part) {
    memcpy(part->maximum, (const char *)a->call->sinks + row->head * a->element, a->element);
    set(a, part->sum, 1);
    memset(part->context, 0, a->sizes.value_dim * a->element);
    a->products->kernels->merge(into, part, 1, a->sizes.value_dim);
}

static void finish_row(const sdpa *a, const unit *u, size_t i, const scratch *s) {
    const attn_sdpa_call *call = a->call;
    const query_row *row = &s->rows[i];
    const attn_partial p = partial_row(a, &s->all, i);
    const bool nothing = get(a, p.sum) == 0; /* is attended, or all scores are -inf */
    if (call->sinks && get(a, (const char *)call->sinks + row->head * a->element) != -INFINITY) {
        const attn_partial part = partial_row(a, &s->part, i);
        add_sink(a, row, &p, &part);
    }
    char *lse =
        call->lse ? row_out(a, call->lse, &call->lse_strides, u->item, row->head, 0) + row->query * a->element : NULL;
    char *output =
        call->output ? row_out(a, call->output, &call->output_strides, u->item, row->head, row->query) : p.context;
    a->products->kernels->finish(&p, 1, a->sizes.value_dim, output, 0, lse);
    if (call->attention_weights) finish_weights(a, u, row, &p, nothing);
}

/* A level's sum to the one above, and the level empty. */
static void carry(const sdpa *a, const unit *u, const scratch *s, size_t level) {
    a->products->kernels->merge(&s->sums[level + 1], &s->sums[level], u->count, a->sizes.value_dim);
    for (size_t i = 0; i < u->count; i++) empty(a, &s->sums[level], i);
}

/* Later queries see more keys when causal: they come first, so that the threads end together. */
static void run_unit(const void *argument, size_t number, char *memory) {
    const sdpa *a = argument;
    scratch carved, *s = &carved;
    carve_scratch(a, &(attn_carver){.base = memory}, s);
    const size_t block = a->row_blocks - 1 - number % a->row_blocks, head = number / a->row_blocks;
    const size_t first = block * a->block_rows;
    unit u = {.item = head / a->sizes.key_heads,
              .key_head = head % a->sizes.key_heads,
              .count = least(a->block_rows, a->rows - first)};
    enter(a, &u, first, s);
    for (size_t key = u.begin, done = 0; key < u.end; done++) {
        key_block k = {.first = key, .end = least(u.end, (key / BLOCK_KEYS + 1) * BLOCK_KEYS)};
        const bool begins = attn_tree_begins(done);
        attend(a, &u, &k, begins ? &s->sums[0] : &s->part, s);
        if (!begins) a->products->kernels->merge(&s->sums[0], &s->part, u.count, a->sizes.value_dim);
        for (size_t level = 0; level + 1 < s->levels && attn_tree_carries(done, level); level++) carry(a, &u, s, level);
        key = k.end;
    }
    for (size_t level = 0; level + 1 < s->levels; level++) carry(a, &u, s, level);
    for (size_t i = 0; i < u.count; i++) finish_row(a, &u, i, s);
}

void attn_sdpa_compose(attn_device *device, const attn_products *products, const attn_sdpa_call *call) {
    sdpa a;
    attn_units units = describe(device, &call->sizes, &a);
    a.call = call, a.products = products;
    units.run = run_unit;
    attn_units_carve(&units, &(attn_carver){.base = call->workspace});
    const attn_sdpa_problem *p = &a.sizes;
    attn_units_run(&units, device->threads,
                   (double)p->batch * (double)p->query_heads * (double)p->queries * (double)p->keys *
                       (double)(p->head_dim + p->value_dim));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The masked softmax, a few rows at a time. */
#include "cpu/blocks.h"
#include "cpu/fused_kind.h"
#include "cpu/units.h"

#include <math.h>
#include <string.h>

enum { ROWS = 16 }; /* of a unit */

typedef struct softmax {
    const attn_softmax_call *call;
    attn_softmax_problem sizes;
    const attn_kernels_real *kernels;
    size_t element, rows, blocks; /* rows: of an item */
} softmax;

static attn_units describe(const attn_device *device, const attn_softmax_problem *problem, softmax *x) {
    *x = (softmax){.sizes = *problem,
                   .element = problem->dtype == ATTN_FLOAT32 ? sizeof(float) : sizeof(double),
                   .rows = problem->heads * problem->queries};
    x->blocks = divide_up(x->rows, ROWS);
    attn_carver carver = {.base = NULL};
    attn_carve(&carver, problem->keys + 2, x->element); /* a row, and two numbers behind it */
    return (attn_units){.argument = x,
                        .count = problem->batch * x->blocks,
                        .scratch_size = attn_carved_size(&carver),
                        .slots = (size_t)attn_threads_count(device->threads)};
}

size_t attn_softmax_workspace_size(const attn_implementation *implementation, const attn_device *device,
                                   const attn_softmax_problem *planned) {
    (void)implementation;
    softmax x;
    attn_units units = describe(device, planned, &x);
    attn_carver carver = {.base = NULL};
    attn_units_carve(&units, &carver);
    return attn_carved_size(&carver);
}

/* ---- Rows ------------------------------------------------------------------------------------------- */

typedef struct softmax_row {
    size_t item, head, query, end; /* keys [0, end) are attended, but for the mask */
    const uint8_t *mask;           /* of key 0, or NULL */
} softmax_row;

static const char *at(const softmax *x, const void *data, const attn_strides *strides, const softmax_row *row) {
    const ptrdiff_t place = (ptrdiff_t)row->item * strides->batch + (ptrdiff_t)row->head * strides->head +
                            (ptrdiff_t)row->query * strides->row;
    return (const char *)data + place * (ptrdiff_t)x->element;
}

static char *at_out(const softmax *x, void *data, const attn_strides *strides, const softmax_row *row) {
    return (char *)data + (at(x, data, strides, row) - (const char *)data);
}

/* lse and its gradient are rows of queries. */
static const char *number_at(const softmax *x, const void *data, const attn_strides *strides, const softmax_row *row) {
    const softmax_row first = {.item = row->item, .head = row->head};
    return at(x, data, strides, &first) + row->query * x->element;
}

static softmax_row enter(const softmax *x, size_t item, size_t number) {
    const attn_softmax_call *call = x->call;
    const attn_softmax_problem *s = &x->sizes;
    softmax_row row = {.item = item, .head = number / s->queries, .query = number % s->queries};
    row.end = call->key_lengths ? (size_t)call->key_lengths[item] : s->keys;
    const ptrdiff_t length = (ptrdiff_t)row.end;
    ptrdiff_t position = (ptrdiff_t)row.query + call->query_offset;
    if (s->causal == ATTN_CAUSAL_BOTTOM_RIGHT) position += length - (ptrdiff_t)s->queries;
    if (s->causal) row.end = position < 0 ? 0 : least(row.end, (size_t)position + 1);
    if (call->mask)
        row.mask = call->mask + (ptrdiff_t)item * call->mask_strides.batch +
                   (ptrdiff_t)row.head * call->mask_strides.head + (ptrdiff_t)row.query * call->mask_strides.row;
    return row;
}

static bool shows(const softmax *x, const softmax_row *row, size_t key) {
    return !row->mask || row->mask[(ptrdiff_t)key * x->call->mask_strides.element];
}

static double get(const softmax *x, const void *value) {
    return x->sizes.dtype == ATTN_FLOAT32 ? (double)*(const float *)value : *(const double *)value;
}

static void set(const softmax *x, void *to, double value) {
    if (x->sizes.dtype == ATTN_FLOAT32)
        *(float *)to = (float)value;
    else
        *(double *)to = value;
}

/* ---- Forward ------------------------------------------------------------------------------------------ */

/* Scores to where the weights will stand: scaled, -inf where hidden. */
static void put_scores(const softmax *x, const softmax_row *row, const char *scores, char *to) {
    for (size_t j = 0; j < row->end; j++) {
        const bool shown = shows(x, row, j);
        set(x, to + j * x->element, shown ? x->sizes.scale * get(x, scores + j * x->element) : -INFINITY);
    }
}

static void forward_row(const softmax *x, const softmax_row *row, char *scratch) {
    const attn_softmax_call *call = x->call;
    char *maximum = scratch, *sum = scratch + x->element;
    char *to = call->weights ? at_out(x, call->weights, &call->weights_strides, row) : scratch + 2 * x->element;
    if (row->end && call->scores) put_scores(x, row, at(x, call->scores, &call->scores_strides, row), to);
    x->kernels->softmax_row(to, row->end, maximum, sum);
    char *lse =
        call->lse ? (char *)call->lse + (number_at(x, call->lse, &call->lse_strides, row) - (char *)call->lse) : NULL;
    const attn_partial partial = {maximum, sum, to, x->sizes.keys};
    x->kernels->finish(&partial, 1, row->end, to, 0, lse);
    /* A NaN sum makes NaN of hidden keys too. */
    for (size_t j = 0; isnan(get(x, sum)) && j < row->end; j++)
        if (!shows(x, row, j)) set(x, to + j * x->element, 0);
    if (call->weights) memset(to + row->end * x->element, 0, (x->sizes.keys - row->end) * x->element);
}

/* ---- Backward ----------------------------------------------------------------------------------------- */

/* Gradients where there is a weight, 0 where there is none; the weights themselves to scratch. */
static void select_gradients(const softmax *x, const char *weights, const char *grad, char *kept, char *to) {
    const size_t n = x->sizes.keys;
    if (x->sizes.dtype == ATTN_FLOAT32)
        for (size_t j = 0; j < n; j++) {
            const float p = ((const float *)weights)[j], g = ((const float *)grad)[j];
            ((float *)kept)[j] = p;
            ((float *)to)[j] = p == 0 ? 0 : g;
        }
    else
        for (size_t j = 0; j < n; j++) {
            const double p = ((const double *)weights)[j], g = ((const double *)grad)[j];
            ((double *)kept)[j] = p;
            ((double *)to)[j] = p == 0 ? 0 : g;
        }
}

static void scale_to(const softmax *x, const char *from, char *to) {
    const size_t n = x->sizes.keys;
    const double scale = x->sizes.scale;
    if (x->sizes.dtype == ATTN_FLOAT32)
        for (size_t j = 0; j < n; j++) ((float *)to)[j] = (float)(scale * (double)((const float *)from)[j]);
    else
        for (size_t j = 0; j < n; j++) ((double *)to)[j] = scale * ((const double *)from)[j];
}

static void backward_row(const softmax *x, const softmax_row *row, char *scratch) {
    const attn_softmax_call *call = x->call;
    char *to = at_out(x, call->grad_scores, &call->grad_scores_strides, row);
    double mean;
    select_gradients(x, at(x, call->given_weights, &call->weights_strides, row),
                     at(x, call->grad_weights, &call->grad_weights_strides, row), scratch, to);
    const char *grad_lse = call->grad_lse ? number_at(x, call->grad_lse, &call->grad_lse_strides, row) : NULL;
    x->kernels->dot_less(scratch, to, x->sizes.keys, grad_lse, &mean);
    x->kernels->softmax_gradient(scratch, x->sizes.keys, -mean, to);
    /* A weight of 0 times a mean that is NaN. */
    for (size_t j = 0; isnan(mean) && j < x->sizes.keys; j++)
        if (get(x, to + j * x->element) == 0) set(x, scratch + j * x->element, 0);
    scale_to(x, scratch, to);
}

/* ---- Units -------------------------------------------------------------------------------------------- */

static void run_rows(const void *argument, size_t unit, char *scratch) {
    const softmax *x = argument;
    const size_t item = unit / x->blocks, first = unit % x->blocks * ROWS, end = least(x->rows, first + ROWS);
    for (size_t i = first; i < end; i++) {
        const softmax_row row = enter(x, item, i);
        if (x->call->grad_scores)
            backward_row(x, &row, scratch);
        else
            forward_row(x, &row, scratch);
    }
}

attn_status attn_softmax_run(const attn_implementation *implementation, attn_device *device,
                             const attn_softmax_call *call) {
    softmax x;
    attn_units units = describe(device, &call->sizes, &x);
    x.call = call, x.kernels = kernels_of(implementation);
    units.run = run_rows;
    attn_units_carve(&units, &(attn_carver){.base = call->workspace});
    attn_units_run(&units, device->threads, 16 * (double)call->sizes.batch * (double)x.rows * (double)call->sizes.keys);
    return ATTN_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The backward pass of a problem: incoming gradients in guarded memory, a run, and the verdict on what it wrote. */
#include "tests/kit_content.h"
#include "tests/kit_device.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OUTPUT, CONTEXT, WEIGHTS, LSE, INCOMING };
enum { H, QUERY, LUONG_W, W1, W2, V, W_C, GRADIENTS };

static const char *const names[GRADIENTS] = {"grad_h",           "grad_query",      "grad_luong_w", "grad_bahdanau_w1",
                                             "grad_bahdanau_w2", "grad_bahdanau_v", "grad_w_c"};

/* What a set of incoming gradients must give. */
struct expectation {
    long double *gradients[GRADIENTS]; /* NULL: not yet made */
    double *gates[GRADIENTS];
};

struct kit_gradients {
    double *values[INCOMING]; /* dense, of the distinct items */
    kit_tensor incoming[INCOMING], out[GRADIENTS];
    uint64_t hash;
    struct expectation expected[1 << INCOMING]; /* by what is given */
    unsigned given, wanted;
    uint64_t accumulate;
};

/* ---- Making ---------------------------------------------------------------------------------------- */

static void fill_incoming(const kit_case *spec, const reference_input *in, double *const values[INCOMING],
                          const size_t counts[INCOMING]) {
    uint64_t state = spec->seed ^ UINT64_C(0x6772616473);
    for (int which = 0; which < INCOMING; which++)
        for (size_t i = 0; i < counts[which]; i++) values[which][i] = kit_fill_gradient(spec, &state);
    for (size_t row = 0; row < in->batch * in->queries; row++) {
        bool any = false;
        for (size_t s = 0; s < in->timesteps; s++) {
            const bool attended = reference_attended(in, row / in->queries, row % in->queries, s);
            any = any || attended;
            if (!attended) values[WEIGHTS][row * in->timesteps + s] = NAN; /* never read */
        }
        if (!any) values[LSE][row] = NAN;
    }
}

static void lay(const kit_tensor *t, const double *values, size_t distinct) {
    for (size_t item = 0; item < t->items; item++)
        for (size_t row = 0; row < t->rows && t->width; row++)
            kit_tensor_put(t, item, row, values + ((item % distinct) * t->rows + row) * t->width);
}

static void incoming_shapes(const reference_input *in, size_t rows[INCOMING], size_t widths[INCOMING],
                            size_t counts[INCOMING]) {
    const size_t all_rows[INCOMING] = {in->queries, in->queries, in->queries, 1};
    const size_t all_widths[INCOMING] = {in->units, in->features, in->timesteps, in->queries};
    for (int i = 0; i < INCOMING; i++) {
        rows[i] = all_rows[i];
        widths[i] = all_widths[i];
        counts[i] = in->batch * rows[i] * widths[i];
    }
}

/* Elements of a gradient, of the distinct items. */
static size_t count_of(const reference_input *in, int which) {
    const size_t D = in->features, Dq = in->query_features, A = in->score_width;
    const bool luong = in->score == ATTN_SCORE_LUONG, additive = in->score == ATTN_SCORE_BAHDANAU;
    const size_t counts[GRADIENTS] = {in->batch * in->timesteps * D,
                                      in->given_query ? in->batch * in->queries * Dq : 0,
                                      luong ? D * Dq : 0,
                                      additive ? Dq * A : 0,
                                      additive ? D * A : 0,
                                      additive ? A : 0,
                                      (D + Dq) * in->units};
    return counts[which];
}

static void make(kit_problem *problem) {
    if (problem->gradients) return;
    const reference_input in = kit_problem_input(problem);
    const size_t B = (size_t)problem->spec.batch,
                 element = problem->spec.dtype == ATTN_FLOAT32 ? sizeof(float) : sizeof(double);
    const unsigned layout = problem->spec.options & (KIT_TIME_MAJOR | KIT_SLICES), slices = layout & KIT_SLICES;
    struct kit_gradients *g = problem->gradients = kit_array(1, sizeof *g);
    size_t rows[INCOMING], widths[INCOMING], counts[INCOMING];
    incoming_shapes(&in, rows, widths, counts);
    for (int i = 0; i < INCOMING; i++) {
        g->values[i] = kit_array(counts[i], sizeof(double));
        g->incoming[i] = kit_tensor_make(
            &(kit_tensor){.element = element, .items = B, .rows = rows[i], .width = widths[i]}, slices, problem->guard);
    }
    fill_incoming(&problem->spec, &in, g->values, counts);
    for (int i = H; i <= QUERY; i++) {
        const size_t count = i == H           ? in.timesteps
                             : in.given_query ? in.queries
                                              : 0,
                     width = i == H ? in.features : in.query_features;
        g->out[i] = kit_tensor_make(&(kit_tensor){.element = element, .items = B, .rows = count, .width = width},
                                    layout, problem->guard);
    }
    for (int i = LUONG_W; i < GRADIENTS; i++)
        g->out[i] = kit_tensor_make(&(kit_tensor){.element = element, .items = 1, .rows = 1, .width = count_of(&in, i)},
                                    0, problem->guard);
}

static void forget(struct kit_gradients *g) {
    for (size_t given = 0; given < 1 << INCOMING; given++)
        for (int i = 0; i < GRADIENTS; i++) {
            free(g->expected[given].gradients[i]);
            free(g->expected[given].gates[i]);
            g->expected[given].gradients[i] = NULL, g->expected[given].gates[i] = NULL;
        }
}

void kit_problem_set_incoming(kit_problem *problem, unsigned which, const double *values) {
    make(problem);
    const reference_input in = kit_problem_input(problem);
    size_t rows[INCOMING], widths[INCOMING], counts[INCOMING];
    incoming_shapes(&in, rows, widths, counts);
    for (int i = 0; i < INCOMING; i++)
        if (which == 1u << i && counts[i]) memcpy(problem->gradients->values[i], values, counts[i] * sizeof *values);
    forget(problem->gradients);
}

void kit_gradients_free(struct kit_gradients *g) {
    if (!g) return;
    for (int i = 0; i < INCOMING; i++) {
        free(g->values[i]);
        kit_free(g->incoming[i].memory);
    }
    for (int i = 0; i < GRADIENTS; i++) kit_free(g->out[i].memory);
    forget(g);
    free(g);
}

/* ---- Expecting --------------------------------------------------------------------------------------- */

static reference_gradients as_gradients(long double *const arrays[GRADIENTS]) {
    return (reference_gradients){arrays[H],  arrays[QUERY], arrays[LUONG_W], arrays[W1],
                                 arrays[W2], arrays[V],     arrays[W_C]};
}

/* Multiplications that the reference makes, as for the forward pass. */
static double reference_work(const reference_input *in) {
    const double rows = (double)in->batch * (double)in->queries * (double)in->timesteps * (double)in->features;
    return rows * (in->score == ATTN_SCORE_BAHDANAU ? 3 * (double)in->score_width : 6);
}

static const struct expectation *expect(kit_problem *problem) {
    const struct kit_gradients *g = problem->gradients;
    struct expectation *e = &problem->gradients->expected[g->given];
    if (e->gradients[H]) return e;
    if (problem->like) {
        make(problem->like);
        problem->like->gradients->given = g->given;
        return expect(problem->like);
    }
    kit_problem_expect(problem);
    const reference_input in = kit_problem_input(problem);
    const reference_result forward = {problem->expected.output, problem->expected.context,
                                      problem->expected.attention_weights, problem->expected.lse};
    long double *sizes[GRADIENTS];
    size_t *copies = kit_array(in.batch, sizeof *copies);
    for (size_t b = 0; b < (size_t)problem->spec.batch; b++) copies[b % in.batch]++;
    reference_incoming incoming = {.copies = copies};
    const double **const from[INCOMING] = {&incoming.output, &incoming.context, &incoming.attention_weights,
                                           &incoming.lse};
    for (int i = 0; i < INCOMING; i++)
        if (g->given & 1u << i) *from[i] = g->values[i];
    for (int i = 0; i < GRADIENTS; i++) {
        e->gradients[i] = kit_array(count_of(&in, i), sizeof *e->gradients[i]);
        e->gates[i] = kit_array(count_of(&in, i), sizeof *e->gates[i]);
        sizes[i] = kit_array(count_of(&in, i), sizeof *sizes[i]);
    }
    const reference_gradients expected = as_gradients(e->gradients), scratch = as_gradients(sizes);
    const bool quad = problem->spec.dtype == ATTN_FLOAT64 && reference_work(&in) < 4e6;
    (quad ? reference_backward_quad : reference_backward_float64)(&in, &forward, &incoming, false, &expected);
    gates_backward(&in, &forward, &incoming, problem->spec.dtype, &scratch,
                   &(gates_gradients){e->gates[H], e->gates[QUERY], e->gates[LUONG_W], e->gates[W1], e->gates[W2],
                                      e->gates[V], e->gates[W_C]});
    for (int i = 0; i < GRADIENTS; i++) {
        for (size_t j = 0; j < count_of(&in, i) && problem->spec.dtype == ATTN_FLOAT64 && !quad; j++)
            e->gates[i][j] *= 2;
        free(sizes[i]);
    }
    free(copies);
    return e;
}

static int index_of(unsigned bit) {
    int index = 0;
    while (!(bit >> index & 1)) index++;
    return index;
}

/* What the case can be given. */
static unsigned possible(const kit_problem *problem, unsigned incoming) {
    return problem->spec.units ? incoming : incoming & ~(unsigned)KIT_OUTPUT;
}

long double *kit_problem_expected_gradient(kit_problem *problem, unsigned incoming, unsigned which, size_t *count) {
    make(problem);
    problem->gradients->given = possible(problem, incoming);
    const reference_input in = kit_problem_input(problem);
    *count = count_of(&in, index_of(which));
    return expect(problem)->gradients[index_of(which)];
}

double *kit_problem_gradient_gates(kit_problem *problem, unsigned which) {
    return expect(problem)->gates[index_of(which)];
}

/* ---- Running ------------------------------------------------------------------------------------------ */

/* What an accumulating run finds: multiples of 1/8. */
static double prior(size_t i) { return (double)((i * 37 + 3) % 11) / 8 - 0.625; }

static bool accumulates(uint64_t accumulate, int which) {
    return accumulate & (which == H       ? ATTN_ACCUMULATE_H
                         : which == QUERY ? ATTN_ACCUMULATE_QUERY
                                          : ATTN_ACCUMULATE_WEIGHTS);
}

static void poison(const kit_tensor *t, bool fill) {
    kit_tensor_poison(t);
    double *row = kit_array(t->width, sizeof *row);
    for (size_t item = 0; fill && item < t->items; item++)
        for (size_t r = 0; r < t->rows && t->width; r++) {
            for (size_t i = 0; i < t->width; i++) row[i] = prior((item * t->rows + r) * t->width + i);
            kit_tensor_put(t, item, r, row);
        }
    free(row);
}

attn_layer_backward_args kit_problem_back_args(kit_problem *problem, unsigned incoming, unsigned gradients) {
    make(problem);
    const struct kit_gradients *g = problem->gradients;
    const attn_layer_forward_args *f = &problem->args;
    attn_layer_backward_args args = ATTN_LAYER_BACKWARD_ARGS_INIT;
    args.batch = f->batch, args.timesteps = f->timesteps, args.queries = f->queries;
    args.h = f->h, args.h_batch_stride = f->h_batch_stride, args.h_time_stride = f->h_time_stride;
    args.query = f->query;
    args.query_batch_stride = f->query_batch_stride, args.query_row_stride = f->query_row_stride;
    args.starts = f->starts, args.lengths = f->lengths, args.mask = f->mask;
    args.mask_batch_stride = f->mask_batch_stride, args.mask_query_stride = f->mask_query_stride;
    args.mask_time_stride = f->mask_time_stride;
    args.weights = f->weights;
    args.kept = problem->kept, args.kept_size = problem->kept_size;
    struct {
        const void **pointer;
        int64_t *batch, *row;
    } in[INCOMING] = {{&args.grad_output, &args.grad_output_batch_stride, &args.grad_output_row_stride},
                      {&args.grad_context, &args.grad_context_batch_stride, &args.grad_context_row_stride},
                      {&args.grad_attention_weights, &args.grad_attention_weights_batch_stride,
                       &args.grad_attention_weights_row_stride},
                      {&args.grad_lse, &args.grad_lse_batch_stride, NULL}};
    const bool strides = problem->spec.options & (KIT_TIME_MAJOR | KIT_SLICES);
    for (int i = 0; i < INCOMING; i++) {
        if (!(incoming & 1u << i) || !g->incoming[i].elements) continue;
        *in[i].pointer = g->incoming[i].data;
        if (strides) *in[i].batch = (int64_t)g->incoming[i].item_stride;
        if (strides && in[i].row) *in[i].row = (int64_t)g->incoming[i].row_stride;
    }
    void **const out[GRADIENTS] = {&args.grad_h,
                                   &args.grad_query,
                                   &args.gradients.luong_w,
                                   &args.gradients.bahdanau_w1,
                                   &args.gradients.bahdanau_w2,
                                   &args.gradients.bahdanau_v,
                                   &args.gradients.w_c};
    for (int i = 0; i < GRADIENTS; i++)
        if (gradients & 1u << i && g->out[i].elements) *out[i] = g->out[i].data;
    if (strides) {
        args.grad_h_batch_stride = (int64_t)g->out[H].item_stride;
        args.grad_h_time_stride = (int64_t)g->out[H].row_stride;
        args.grad_query_batch_stride = (int64_t)g->out[QUERY].item_stride;
        args.grad_query_row_stride = (int64_t)g->out[QUERY].row_stride;
    }
    return args;
}

static uint64_t hash_incoming(const struct kit_gradients *g) {
    uint64_t hash = 0;
    for (int i = 0; i < INCOMING; i++) hash = kit_tensor_hash(&g->incoming[i], hash);
    return hash;
}

attn_layer_backward_args kit_problem_back_ready(kit_problem *problem, unsigned incoming, unsigned gradients,
                                                uint64_t accumulate) {
    attn_layer_backward_args args = kit_problem_back_args(problem, incoming, gradients);
    struct kit_gradients *g = problem->gradients;
    const reference_input in = kit_problem_input(problem);
    g->given = possible(problem, incoming);
    g->wanted = gradients;
    g->accumulate = args.accumulate = accumulate;
    for (int i = 0; i < INCOMING; i++)
        if (in.batch) lay(&g->incoming[i], g->values[i], in.batch);
    g->hash = hash_incoming(g);
    for (int i = 0; i < GRADIENTS; i++) poison(&g->out[i], accumulates(accumulate, i));
    return args;
}

attn_status kit_problem_back(kit_problem *problem, const attn_plan *plan, unsigned incoming, unsigned gradients,
                             uint64_t accumulate) {
    attn_layer_backward_args args = kit_problem_back_ready(problem, incoming, gradients, accumulate);
    args.workspace_size = attn_plan_workspace_size(plan);
    args.workspace = kit_alloc(args.workspace_size, problem->guard);
    const attn_status status = attn_layer_backward(plan, &args);
    kit_device_wait();
    kit_free(args.workspace);
    return status;
}

void kit_problem_poison_back(kit_problem *problem) {
    for (int i = 0; i < GRADIENTS; i++) poison(&problem->gradients->out[i], false);
}

/* ---- Judging ------------------------------------------------------------------------------------------- */

static void check_gradient(const kit_problem *problem, const struct expectation *e, int which, kit_verdict *verdict) {
    const struct kit_gradients *g = problem->gradients;
    const kit_tensor *t = &g->out[which];
    const reference_input in = kit_problem_input(problem);
    const bool wanted = g->wanted & 1u << which, adds = accumulates(g->accumulate, which);
    const double u = problem->spec.dtype == ATTN_FLOAT32 ? 0x1p-24 : 0x1p-53;
    for (size_t item = 0; item < t->items; item++)
        for (size_t row = 0; row < t->rows && wanted; row++)
            for (size_t i = 0; i < t->width; i++) {
                const size_t at = ((which <= QUERY ? item % in.batch : 0) * t->rows + row) * t->width + i;
                const double before = adds ? prior((item * t->rows + row) * t->width + i) : 0;
                const long double expected = e->gradients[which][at] + (long double)before;
                /* What is added to rounds as often as something is added. */
                const double gate = e->gates[which][at] + (adds ? 8 * u * (fabs(before) + fabs((double)expected)) : 0);
                const double value = kit_tensor_get(t, item, row, i),
                             error = gates_error((long double)value, expected, gate);
                if (error <= verdict->error) continue;
                verdict->error = error;
                snprintf(verdict->where, sizeof verdict->where, "%s[%zu][%zu][%zu] is %.9g, expected %.9Lg, gate %.3g",
                         names[which], item, row, i, value, expected, gate);
            }
    bool clean = kit_tensor_gaps_untouched(t);
    for (size_t item = 0; item < t->items && !wanted; item++)
        for (size_t row = 0; row < t->rows; row++)
            for (size_t i = 0; i < t->width; i++) clean = clean && (adds || isnan(kit_tensor_get(t, item, row, i)));
    if (clean) return;
    verdict->error = INFINITY;
    snprintf(verdict->where, sizeof verdict->where, "%s: written %s", names[which],
             wanted ? "between the rows" : "though not wanted");
}

kit_verdict kit_problem_check_back(kit_problem *problem) {
    kit_verdict verdict = {0, "exact"};
    const struct kit_gradients *g = problem->gradients;
    const struct expectation *e = expect(problem);
    for (int i = 0; i < GRADIENTS; i++) check_gradient(problem, e, i, &verdict);
    if (hash_incoming(g) != g->hash || !kit_problem_inputs_unchanged(problem)) {
        verdict.error = INFINITY;
        snprintf(verdict.where, sizeof verdict.where, "an input was written to");
    }
    return verdict;
}

void *kit_problem_gradient(const kit_problem *problem, unsigned which, size_t *bytes) {
    *bytes = 0;
    if (!(problem->gradients->wanted & which)) return NULL;
    return kit_tensor_copy(&problem->gradients->out[index_of(which)], bytes);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/fused_backward.h"

#include "cpu/device.h"
#include "cpu/fused_backward_block.h"
#include "cpu/fused_kind.h"
#include "cpu/sizes.h"

#include <stdatomic.h>
#include <string.h>

/* ---- Schedule and workspace ------------------------------------------------------------------------ */

/* How a run is cut, by its sizes alone. Items go in passes, so that their query rows need bounded memory. In each, chunks of items
 * make groups; a group adds up what its chunks give to the additive score's weights, in order, and the groups' sums are
 * added up in order at the end. */
typedef struct schedule {
    size_t items;  /* of a pass */
    size_t chunks; /* of the longest possible range */
    size_t groups; /* of a pass; the additive score's partial sums */
} schedule;

static schedule schedule_of(const attn_layer_problem *problem) {
    schedule s = {.items = least(most(ATTN_BACKWARD_ROWS / problem->queries, 1), problem->batch),
                  .chunks = divide_up(problem->timesteps, chunk_rows(problem))};
    s.groups = s.items * s.chunks;
    if (problem->score ==
        ATTN_SCORE_BAHDANAU) { /* their sums take no more than H does, and never more for smaller sizes */
        size_t worth = problem->batch * problem->timesteps / problem->score_width;
        s.groups = most(least(problem->batch * s.chunks, least(worth, ATTN_BACKWARD_GROUPS)), 1);
    }
    return s;
}

/* The sizes are the planned ones, so that any run within them fits. */
typedef struct backward_workspace {
    attn_backward_rows rows;
    size_t rows_at_once;
    void *w2_transposed;
    char *partials; /* one a group: what it adds to W2, then to v */
    size_t partial_size, partial_v;
    char *scratch; /* one a thread */
    size_t scratch_size;
} backward_workspace;

static void carve_additive(attn_carver *carver, const attn_layer_problem *problem, backward_workspace *w) {
    const size_t element = element_of(problem), width = padded(problem->score_width, element);
    w->w2_transposed = attn_carve(carver, problem->score_width, padded(problem->features, element) * element);
    w->partial_v = problem->features * width * element;
    w->partial_size = w->partial_v + width * element;
    w->partials = attn_carve(carver, schedule_of(problem).groups, w->partial_size);
}

static backward_workspace carve_workspace(attn_carver *carver, const attn_kernels_real *kernels,
                                          const attn_layer_problem *problem, size_t threads) {
    const bool additive = problem->score == ATTN_SCORE_BAHDANAU;
    const size_t element = element_of(problem), width = query_width(problem), features = problem->features,
                 query_features = problem->query_features, queries = least(problem->queries, ATTN_QUERY_BLOCK);
    const schedule s = schedule_of(problem);
    backward_workspace w = {.rows_at_once =
                                least(most(ATTN_BACKWARD_ROWS, problem->queries), problem->batch * problem->queries)};
    const size_t rows = w.rows_at_once;
    w.rows.x = attn_carve(carver, rows, query_features * element);
    if (problem->units) w.rows.gz = attn_carve(carver, rows, problem->units * element);
    w.rows.grad_joint = attn_carve(carver, rows, (features + query_features) * element);
    if (problem->score == ATTN_SCORE_DOT) {
        w.rows.query = w.rows.x;
    } else if (!attn_kept_has_tanh(problem)) {
        w.rows.query = attn_carve(carver, rows, width * element);
    }
    w.rows.delta = attn_carve(carver, rows, sizeof *w.rows.delta);
    w.rows.grad_query = attn_carve(carver, most(s.chunks, 1), rows * width * element);
    if (!additive) w.rows.residual = attn_carve(carver, most(s.chunks, 1), rows * element);
    w.rows.grad_x = attn_carve(carver, rows, query_features * element);
    if (additive) carve_additive(carver, problem, &w);
    w.scratch_size = padded(additive ? kernels->additive_backward_scratch(features, width, queries)
                                     : kernels->dot_backward_scratch(features, queries),
                            1);
    w.scratch = attn_carve(carver, threads, w.scratch_size);
    return w;
}

static size_t workspace_size(const attn_implementation *implementation, const attn_device *device,
                             const attn_layer_problem *planned) {
    attn_carver carver = {0};
    carve_workspace(&carver, kernels_of(implementation), planned, (size_t)attn_threads_count(device->threads));
    return attn_carved_size(&carver);
}

/* ---- Run ------------------------------------------------------------------------------------------- */

typedef struct backward_run {
    attn_backward_operands operands;
    schedule schedule;
    backward_workspace workspace;
    attn_threads *threads;
    size_t items; /* of this pass, from operands.first_item on */
    size_t units; /* of the step that is shared among threads */
    atomic_size_t next;
    bool shared, first_pass, last_pass;
} backward_run;

static bool next_unit(backward_run *run, size_t *unit) {
    *unit = atomic_fetch_add_explicit(&run->next, 1, memory_order_relaxed);
    return *unit < run->units;
}

/* A task is one thread's share of a step: it takes units as long as there are any. */
static void share(backward_run *run, size_t units, attn_task task) {
    run->units = units;
    atomic_init(&run->next, 0);
    size_t tasks = run->shared ? least(units, (size_t)attn_threads_count(run->threads)) : 1;
    if (tasks == 1) {
        task(run, 0);
    } else {
        attn_threads_run(run->threads, tasks, task, run);
    }
}

static void *scratch_of(const backward_run *run, size_t task) {
    return run->workspace.scratch + task * run->workspace.scratch_size;
}

/* ---- Steps over query rows ---- */

static size_t rows_of(const backward_run *run) { return run->items * run->operands.call->sizes.queries; }

/* Rows of a unit: no more than leave each thread some, no fewer than make a tile of a product. */
static size_t unit_rows(const backward_run *run) {
    size_t tasks = (size_t)attn_threads_count(run->threads) * ATTN_TASKS_PER_THREAD;
    return least(divide_up(divide_up(rows_of(run), tasks), 8) * 8, ATTN_GROUP_ROWS);
}

static void begin_rows(void *argument, size_t task) {
    backward_run *run = argument;
    const size_t rows = unit_rows(run);
    (void)task;
    for (size_t unit; next_unit(run, &unit);)
        attn_backward_begin(&run->operands, unit * rows, least(rows, rows_of(run) - unit * rows));
}

static void end_rows(void *argument, size_t task) {
    backward_run *run = argument;
    const size_t rows = unit_rows(run);
    (void)task;
    for (size_t unit; next_unit(run, &unit);)
        attn_backward_end(&run->operands, unit * rows, least(rows, rows_of(run) - unit * rows));
}

/* ---- Steps over rows of H ---- */

static void find_deltas(void *argument, size_t task) {
    backward_run *run = argument;
    for (size_t unit; next_unit(run, &unit);)
        attn_backward_delta(&run->operands, run->operands.first_item + unit, scratch_of(run, task));
}

static char *partial_of(const backward_run *run, size_t group) {
    return run->workspace.partials ? run->workspace.partials + group * run->workspace.partial_size : NULL;
}

/* Items are not cut where there are as many as groups. */
static bool whole_items(const backward_run *run) { return run->items >= run->schedule.groups; }

/* Where a group begins among the chunks. */
static size_t first_chunk(const backward_run *run, size_t group) {
    const size_t chunks = run->schedule.chunks, groups = run->schedule.groups;
    return whole_items(run) ? run->items * group / groups * chunks : run->items * chunks * group / groups;
}

/* The additive score's gradients are not mended afterwards as gq is for the others, because W2's is a sum of many: its delta
 * comes from the rows of H themselves. A group with all of an item goes over it twice while it is in the second cache. */
static bool delta_from_groups(const backward_run *run) {
    return run->operands.call->sizes.score == ATTN_SCORE_BAHDANAU && whole_items(run);
}

static bool delta_from_rows(const backward_run *run) {
    const attn_layer_call *call = run->operands.call;
    return (call->sizes.score == ATTN_SCORE_BAHDANAU || call->grad.attention_weights) && !delta_from_groups(run);
}

static void run_groups(void *argument, size_t task) {
    backward_run *run = argument;
    const size_t chunks = run->schedule.chunks;
    for (size_t group; next_unit(run, &group);) {
        char *partial = partial_of(run, group);
        if (partial && run->first_pass) memset(partial, 0, run->workspace.partial_size);
        for (size_t i = first_chunk(run, group); i < first_chunk(run, group + 1); i++) {
            const size_t item = run->operands.first_item + i / chunks;
            if (i % chunks == 0 && delta_from_groups(run))
                attn_backward_delta(&run->operands, item, scratch_of(run, task));
            attn_backward_chunk(&run->operands, item, i % chunks, partial,
                                partial ? partial + run->workspace.partial_v : NULL, scratch_of(run, task));
        }
    }
}

/* ---- Weights ---- */

/* One gradient of a weight: a product over the query rows, C (m, n) = A^T B, or the groups' sums. */
typedef struct weight_gradient {
    const void *a, *b;
    ptrdiff_t a_row, b_row;
    void *to;
    size_t m, n;
    size_t partial; /* bytes into the groups' partial sums, where a is NULL */
} weight_gradient;

enum { WEIGHT_GRADIENTS = 5, SLICE_ROWS = 16 };

static size_t weight_gradients(const backward_run *run, weight_gradient gradients[WEIGHT_GRADIENTS]) {
    const attn_layer_call *call = run->operands.call;
    const attn_layer_call_gradients *grad = &call->grad;
    const attn_backward_rows *rows = &run->operands.rows;
    const attn_kept *kept = &run->operands.kept;
    const size_t element = run->operands.element, features = call->sizes.features, width = run->operands.width,
                 query_features = call->sizes.query_features, units = call->sizes.units;
    const ptrdiff_t d = (ptrdiff_t)features, dq = (ptrdiff_t)query_features, w = (ptrdiff_t)width, u = (ptrdiff_t)units,
                    c = (ptrdiff_t)kept->context_row;
    const size_t first = run->operands.first_item * call->sizes.queries;
    const void *context = (const char *)kept->context + first * kept->context_row * element;
    void *w_c_query = grad->w_c ? (char *)grad->w_c + features * units * element : NULL;
    const weight_gradient all[] = {
        {rows->grad_query, rows->x, d, dq, grad->luong_w, features, query_features, 0},
        {rows->x, rows->grad_query, dq, w, grad->bahdanau_w1, query_features, width, 0},
        {context, rows->gz, c, u, grad->w_c, features, units, 0},
        {rows->x, rows->gz, dq, u, w_c_query, query_features, units, 0},
        {NULL, NULL, 0, 0, run->last_pass ? grad->bahdanau_w2 : NULL, features, width, 0},
        {NULL, NULL, 0, 0, run->last_pass ? grad->bahdanau_v : NULL, 1, width, run->workspace.partial_v},
    };
    size_t count = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].to) gradients[count++] = all[i];
    return count;
}

/* The groups' sums of some rows, added up in the first group's place, where rows are padded. */
static void merge_groups(const backward_run *run, const weight_gradient *gradient, size_t first, size_t rows) {
    const attn_backward_operands *operands = &run->operands;
    const size_t stride = padded(gradient->n, operands->element), bytes = gradient->n * operands->element,
                 offset = gradient->partial + first * stride * operands->element;
    char *sum = partial_of(run, 0) + offset, *to = (char *)gradient->to + first * bytes;
    for (size_t group = 1; group < run->schedule.groups; group++)
        operands->kernels->add_to(partial_of(run, group) + offset, sum, rows * stride);
    for (size_t i = 0; i < rows; i++, sum += stride * operands->element, to += bytes) {
        if (operands->call->grad.add_weights) {
            operands->kernels->add_to(sum, to, gradient->n);
        } else {
            memcpy(to, sum, bytes);
        }
    }
}

static void weight_slice(const backward_run *run, const weight_gradient *gradient, size_t slice) {
    const attn_backward_operands *operands = &run->operands;
    const size_t first = slice * SLICE_ROWS, rows = least(SLICE_ROWS, gradient->m - first);
    if (!gradient->a) {
        merge_groups(run, gradient, first, rows);
        return;
    }
    operands->kernels->gemm_tn(rows, gradient->n, rows_of(run), (const char *)gradient->a + first * operands->element,
                               gradient->a_row, gradient->b, gradient->b_row,
                               (char *)gradient->to + first * gradient->n * operands->element, (ptrdiff_t)gradient->n,
                               operands->call->grad.add_weights || !run->first_pass);
}

static void run_weights(void *argument, size_t task) {
    backward_run *run = argument;
    weight_gradient gradients[WEIGHT_GRADIENTS];
    const size_t count = weight_gradients(run, gradients);
    (void)task;
    for (size_t unit; next_unit(run, &unit);) {
        for (size_t i = 0; i < count; i++) {
            const size_t slices = divide_up(gradients[i].m, SLICE_ROWS);
            if (unit < slices) {
                weight_slice(run, &gradients[i], unit);
                break;
            }
            unit -= slices;
        }
    }
}

static void share_weights(backward_run *run) {
    weight_gradient gradients[WEIGHT_GRADIENTS];
    size_t slices = 0;
    for (size_t i = weight_gradients(run, gradients); i-- > 0;) slices += divide_up(gradients[i].m, SLICE_ROWS);
    if (slices) share(run, slices, run_weights);
}

/* ---- All steps ---- */

/* W2^T, its rows padded. */
static void transpose(const attn_layer_problem *sizes, const void *from, void *to) {
    const size_t rows = sizes->features, columns = sizes->score_width, stride = padded(rows, element_of(sizes));
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < columns; j++) {
            if (sizes->dtype == ATTN_FLOAT32) {
                ((float *)to)[j * stride + i] = ((const float *)from)[i * columns + j];
            } else {
                ((double *)to)[j * stride + i] = ((const double *)from)[i * columns + j];
            }
        }
    }
}

static void run_pass(backward_run *run) {
    const size_t steps = divide_up(rows_of(run), unit_rows(run));
    share(run, steps, begin_rows);
    if (delta_from_rows(run)) share(run, run->items, find_deltas);
    if (run->schedule.groups) share(run, run->schedule.groups, run_groups);
    share(run, steps, end_rows);
    share_weights(run);
}

static attn_status run_backward(const attn_implementation *implementation, attn_device *device,
                                const attn_layer_problem *planned, const attn_layer_call *call) {
    const attn_kernels_real *kernels = kernels_of(implementation);
    const attn_layer_problem *sizes = &call->sizes;
    attn_carver carver = {.base = call->workspace};
    backward_run run = {.schedule = schedule_of(sizes),
                        .workspace =
                            carve_workspace(&carver, kernels, planned, (size_t)attn_threads_count(device->threads)),
                        .threads = device->threads,
                        .shared = worth_sharing(sizes)};
    run.operands = (attn_backward_operands){.call = call,
                                            .kernels = kernels,
                                            .rows = run.workspace.rows,
                                            .w2_transposed = run.workspace.w2_transposed,
                                            .element = element_of(sizes),
                                            .chunk_rows = chunk_rows(sizes),
                                            .width = query_width(sizes),
                                            .rows_at_once = run.workspace.rows_at_once};
    attn_kept_carve(sizes, call->kept, &run.operands.kept);
    if (run.workspace.w2_transposed) transpose(sizes, call->bahdanau_w2, run.workspace.w2_transposed);
    for (size_t first = 0; first < sizes->batch; first += run.schedule.items) {
        run.operands.first_item = first;
        run.items = least(run.schedule.items, sizes->batch - first);
        run.first_pass = first == 0;
        run.last_pass = first + run.items == sizes->batch;
        run_pass(&run);
    }
    return ATTN_OK;
}

/* ---- Implementations ------------------------------------------------------------------------------- */

static const char *refuse(const attn_implementation *implementation, const attn_device *device,
                          const attn_layer_problem *problem, bool *hard) {
    (void)problem;
    *hard = true;
    return attn_cpu_refuse_isa(device, kind_of(implementation)->isa);
}

#define BACKWARD(isa, score_name, score_value, type_name, type_value)                                                  \
    {                                                                                                                  \
        .name = "cpu:" #isa ":" #score_name ":backward:" #type_name, .operation = ATTN_OPERATION_LAYER_BACKWARD,       \
        .score = score_value, .dtype = type_value, .batch_invariant = true, .data = &attn_fused_##isa,                 \
        .refuse = refuse, .workspace_size = workspace_size, .run = run_backward                                        \
    }
#define BACKWARD_TYPES(isa, name, score)                                                                               \
    BACKWARD(isa, name, score, f32, ATTN_FLOAT32), BACKWARD(isa, name, score, f64, ATTN_FLOAT64)
#define BACKWARD_SCORES(isa)                                                                                           \
    BACKWARD_TYPES(isa, luong, ATTN_SCORE_LUONG), BACKWARD_TYPES(isa, dot, ATTN_SCORE_DOT),                            \
        BACKWARD_TYPES(isa, bahdanau, ATTN_SCORE_BAHDANAU)

const attn_implementation attn_fused_backward_implementations[] = {
#if defined(__x86_64__)
    BACKWARD_SCORES(avx512), BACKWARD_SCORES(avx2),
#endif
    BACKWARD_SCORES(scalar)};
const size_t attn_fused_backward_implementations_count =
    sizeof attn_fused_backward_implementations / sizeof *attn_fused_backward_implementations;

/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/fused.h"

#include "cpu/device.h"
#include "cpu/fused_block.h"
#include "cpu/fused_kind.h"
#include "cpu/sizes.h"
#include "cpu/tree.h"
#include "cpu/tuning.h"
#include "lib/carve.h"

#include <stdatomic.h>
#include <string.h>

/* ---- Weights, prepared or as they come ------------------------------------------------------------ */

/* Where the weights lie in prepared memory. */
typedef struct prepared_layout {
    void *luong_w, *bahdanau_w1, *additive, *w_c;
    ptrdiff_t luong_row, w1_row, w_c_row;
} prepared_layout;

static void *carve_additive(attn_carver *carver, const attn_kernels_real *kernels, const attn_layer_problem *problem,
                            bool with_w2) {
    return attn_carve(carver, kernels->packed_additive_size(problem->features, problem->score_width, with_w2), 1);
}

/* Whether a run packs W2 as a whole, which is quicker, or piece by piece, which takes no memory to speak of. */
static bool packs_w2(const attn_layer_problem *problem) {
    return problem->features * problem->score_width * element_of(problem) <= ATTN_PACKED_BYTES;
}

static prepared_layout carve_prepared(attn_carver *carver, const attn_kernels_real *kernels,
                                      const attn_layer_problem *problem) {
    prepared_layout layout = {0};
    size_t element = element_of(problem), joint = problem->features + problem->query_features;
    size_t luong_row = padded(problem->query_features, element), w1_row = padded(problem->score_width, element);
    size_t w_c_row = padded(problem->units, element);
    if (problem->score == ATTN_SCORE_LUONG) layout.luong_w = attn_carve(carver, problem->features * luong_row, element);
    if (problem->score == ATTN_SCORE_BAHDANAU) {
        layout.bahdanau_w1 = attn_carve(carver, problem->query_features * w1_row, element);
        layout.additive = carve_additive(carver, kernels, problem, true);
    }
    layout.w_c = attn_carve(carver, joint * w_c_row, element);
    layout.luong_row = (ptrdiff_t)luong_row;
    layout.w1_row = (ptrdiff_t)w1_row;
    layout.w_c_row = (ptrdiff_t)w_c_row;
    return layout;
}

static size_t prepared_size(const attn_implementation *implementation, const attn_layer_problem *planned) {
    attn_carver carver = {0};
    carve_prepared(&carver, kernels_of(implementation), planned);
    return attn_carved_size(&carver);
}

static void copy_matrix(void *to, ptrdiff_t to_row, const void *from, size_t rows, size_t columns, size_t element) {
    for (size_t i = 0; i < rows; i++) {
        char *row = (char *)to + i * (size_t)to_row * element;
        memcpy(row, (const char *)from + i * columns * element, columns * element);
        memset(row + columns * element, 0, ((size_t)to_row - columns) * element);
    }
}

static void prepare(const attn_implementation *implementation, const attn_layer_problem *planned,
                    const attn_layer_call *weights, void *prepared) {
    const attn_kernels_real *kernels = kernels_of(implementation);
    attn_carver carver = {.base = prepared};
    prepared_layout to = carve_prepared(&carver, kernels, planned);
    size_t element = element_of(planned), joint = planned->features + planned->query_features;
    if (to.luong_w)
        copy_matrix(to.luong_w, to.luong_row, weights->luong_w, planned->features, planned->query_features, element);
    if (to.bahdanau_w1) {
        copy_matrix(to.bahdanau_w1, to.w1_row, weights->bahdanau_w1, planned->query_features, planned->score_width,
                    element);
        kernels->pack_additive(planned->features, planned->score_width, weights->bahdanau_w2, weights->bahdanau_v,
                               to.additive);
    }
    if (planned->units) copy_matrix(to.w_c, to.w_c_row, weights->w_c, joint, planned->units, element);
}

/* ---- Schedule and workspace ------------------------------------------------------------------------ */

/* How a run is cut into tasks, which changes no bit. Groups of blocks go from their queries to their output without a barrier.
 * Where there are too few blocks for the threads and T is long, the chunks of all blocks are the tasks, between a
 * common beginning and a common end. */
typedef struct schedule {
    size_t block_queries, blocks_per_item, blocks; /* see attn_fused_operands */
    size_t group;                                  /* blocks of a group */
    size_t chunks;                                 /* of the longest possible range */
    size_t threads;
    bool split;
} schedule;

/* How many blocks make reading the weights once for them cheap beside reading their rows of H. */
static size_t blocks_worth_weights(const attn_layer_problem *problem) {
    size_t weights =
        query_width(problem) * problem->query_features + (problem->features + problem->query_features) * problem->units;
    return divide_up(weights, problem->timesteps * problem->features / ATTN_WEIGHTS_SHARE + 1);
}

static schedule schedule_of(const attn_layer_problem *problem, size_t threads) {
    schedule s = {.block_queries = least(problem->queries, ATTN_QUERY_BLOCK), .threads = threads};
    s.blocks_per_item = divide_up(problem->queries, ATTN_QUERY_BLOCK);
    s.blocks = problem->batch * s.blocks_per_item;
    s.chunks = divide_up(problem->timesteps, chunk_rows(problem));
    size_t tasks = threads * ATTN_TASKS_PER_THREAD;
    s.split = threads > 1 && s.chunks > 1 && s.blocks < tasks;
    s.group = least(most(divide_up(s.blocks, tasks), blocks_worth_weights(problem)), divide_up(s.blocks, threads));
    s.group = least(s.group, ATTN_GROUP_ROWS / s.block_queries);
    return s;
}

/* The sizes are the planned ones, so that any run within them fits. */
typedef struct fused_workspace {
    attn_fused_rows rows; /* ATTN_GROUP_ROWS a thread; split: those of all blocks */
    attn_partial chunks;  /* SCRATCH_ROWS for each level a thread; split: of each block and chunk */
    char *additive;       /* one a thread */
    size_t additive_size;
    void *packed; /* additive weights of this run */
} fused_workspace;

enum { SCRATCH_ROWS = 16 }; /* a block's, and no cache line shared by threads */

static attn_partial carve_partial(attn_carver *carver, size_t rows, size_t context_stride, size_t element) {
    void *maximum = attn_carve(carver, rows, element), *sum = attn_carve(carver, rows, element);
    return (attn_partial){maximum, sum, attn_carve(carver, rows, context_stride * element), context_stride};
}

static fused_workspace carve_workspace(attn_carver *carver, const attn_kernels_real *kernels,
                                       const attn_layer_problem *problem, size_t threads) {
    fused_workspace w = {0};
    size_t element = element_of(problem), context_stride = padded(problem->features, element);
    schedule s = schedule_of(problem, threads);
    size_t split_blocks = threads > 1 && s.chunks > 1 ? least(s.blocks, threads * ATTN_TASKS_PER_THREAD) : 0;
    size_t rows = most(threads * ATTN_GROUP_ROWS, split_blocks * s.block_queries);
    size_t joint = problem->features + problem->query_features;
    w.rows.joint = attn_carve(carver, rows, joint * element);
    w.rows.query = attn_carve(carver, rows, padded(query_width(problem), element) * element);
    w.rows.result = carve_partial(carver, rows, context_stride, element);
    const size_t levels = attn_tree_levels(s.chunks);
    w.chunks = carve_partial(carver, most(threads * levels * SCRATCH_ROWS, split_blocks * s.block_queries * s.chunks),
                             context_stride, element);
    if (problem->score == ATTN_SCORE_BAHDANAU) {
        w.additive_size = padded(kernels->additive_scratch(problem->features, problem->score_width), 1);
        w.additive = attn_carve(carver, threads, w.additive_size);
        w.packed = carve_additive(carver, kernels, problem, packs_w2(problem));
    }
    return w;
}

static size_t workspace_size(const attn_implementation *implementation, const attn_device *device,
                             const attn_layer_problem *planned) {
    attn_carver carver = {0};
    carve_workspace(&carver, kernels_of(implementation), planned, (size_t)attn_threads_count(device->threads));
    return attn_carved_size(&carver);
}

/* ---- Run ------------------------------------------------------------------------------------------- */

typedef struct fused_run {
    attn_fused_operands operands;
    schedule schedule;
    fused_workspace workspace;
    size_t units; /* groups, or chunks of blocks */
    atomic_size_t next;
} fused_run;

static attn_fused_scratch scratch_of(const fused_run *run, size_t task) {
    const size_t levels = attn_tree_levels(run->schedule.chunks), row = task * levels * SCRATCH_ROWS;
    const attn_partial *chunks = &run->workspace.chunks;
    return (attn_fused_scratch){
        .chunk = attn_fused_partial_at(&run->operands, chunks, row),
        .sums = attn_fused_partial_at(&run->operands, chunks, row + SCRATCH_ROWS),
        .levels = levels,
        .sums_stride = SCRATCH_ROWS,
        .additive = run->workspace.additive ? run->workspace.additive + task * run->workspace.additive_size : NULL};
}

static bool next_unit(fused_run *run, size_t *unit) {
    *unit = atomic_fetch_add_explicit(&run->next, 1, memory_order_relaxed);
    return *unit < run->units;
}

/* A task is one thread's share: it takes groups as long as there are any. */
static void run_groups(void *argument, size_t task) {
    fused_run *run = argument;
    const attn_fused_operands *operands = &run->operands;
    attn_fused_rows rows = attn_fused_rows_at(operands, &run->workspace.rows, task * ATTN_GROUP_ROWS);
    attn_fused_scratch scratch = scratch_of(run, task);
    for (size_t unit; next_unit(run, &unit);) {
        size_t first = unit * run->schedule.group, count = least(run->schedule.group, run->schedule.blocks - first),
               row = 0;
        attn_fused_begin(operands, first, count, &rows);
        for (size_t block = first; block < first + count; block++) {
            attn_fused_rows here = attn_fused_rows_at(operands, &rows, row);
            attn_fused_chunks(operands, block, &here, &scratch);
            row += attn_fused_block_rows(operands, block);
        }
        attn_fused_end(operands, first, count, &rows);
    }
}

/* Where the rows of a block begin when all are held at once: no block but an item's last is short. */
static size_t first_row(const fused_run *run, size_t block) {
    size_t item = block / run->schedule.blocks_per_item;
    return item * run->operands.call->sizes.queries +
           (block - item * run->schedule.blocks_per_item) * run->schedule.block_queries;
}

static attn_partial chunk_partial(const fused_run *run, size_t block, size_t chunk) {
    size_t row = (block * run->schedule.chunks + chunk) * run->schedule.block_queries;
    return attn_fused_partial_at(&run->operands, &run->workspace.chunks, row);
}

static void run_chunks(void *argument, size_t task) {
    fused_run *run = argument;
    const attn_fused_operands *operands = &run->operands;
    attn_fused_scratch scratch = scratch_of(run, task);
    for (size_t unit; next_unit(run, &unit);) {
        size_t block = unit / run->schedule.chunks, chunk = unit - block * run->schedule.chunks;
        attn_fused_rows rows = attn_fused_rows_at(operands, &run->workspace.rows, first_row(run, block));
        attn_partial partial = chunk_partial(run, block, chunk);
        attn_fused_clear(operands, &partial, attn_fused_block_rows(operands, block));
        attn_fused_chunk(operands, block, chunk, rows.query, &partial, scratch.additive);
    }
}

typedef struct block_chunks {
    const fused_run *run;
    size_t block;
} block_chunks;

static void merge_chunk(const void *argument, size_t to, size_t from) {
    const block_chunks *b = argument;
    const attn_fused_operands *operands = &b->run->operands;
    const attn_partial into = chunk_partial(b->run, b->block, to), partial = chunk_partial(b->run, b->block, from);
    operands->kernels->merge(&into, &partial, attn_fused_block_rows(operands, b->block),
                             operands->call->sizes.features);
}

/* In the order of attn_fused_chunks. */
static void merge_chunks(const fused_run *run) {
    const attn_fused_operands *operands = &run->operands;
    for (size_t block = 0; block < run->schedule.blocks; block++) {
        const attn_fused_rows rows = attn_fused_rows_at(operands, &run->workspace.rows, first_row(run, block));
        const attn_partial all = chunk_partial(run, block, 0);
        attn_tree_add_up(run->schedule.chunks, merge_chunk, &(block_chunks){run, block});
        operands->kernels->merge(&rows.result, &all, attn_fused_block_rows(operands, block),
                                 operands->call->sizes.features);
    }
}

static void share(fused_run *run, attn_threads *threads, size_t units, attn_task task) {
    run->units = units;
    atomic_init(&run->next, 0);
    size_t tasks = worth_sharing(&run->operands.call->sizes) ? least(units, run->schedule.threads) : 1;
    if (tasks == 1) {
        task(run, 0);
    } else {
        attn_threads_run(threads, tasks, task, run);
    }
}

static attn_fused_weights weights_of(const attn_kernels_real *kernels, const attn_layer_problem *planned,
                                     const attn_layer_call *call, void *packed) {
    if (call->prepared) {
        attn_carver carver = {.base = (char *)(uintptr_t)call->prepared};
        prepared_layout from = carve_prepared(&carver, kernels, planned);
        return (attn_fused_weights){{from.luong_w, from.luong_row},
                                    {from.bahdanau_w1, from.w1_row},
                                    {from.w_c, from.w_c_row},
                                    {from.additive, NULL}};
    }
    const bool whole = packs_w2(planned);
    if (packed)
        kernels->pack_additive(planned->features, planned->score_width, whole ? call->bahdanau_w2 : NULL,
                               call->bahdanau_v, packed);
    return (attn_fused_weights){{call->luong_w, (ptrdiff_t)planned->query_features},
                                {call->bahdanau_w1, (ptrdiff_t)planned->score_width},
                                {call->w_c, (ptrdiff_t)planned->units},
                                {packed, whole ? NULL : call->bahdanau_w2}};
}

static attn_status run_fused(const attn_implementation *implementation, attn_device *device,
                             const attn_layer_problem *planned, const attn_layer_call *call) {
    const attn_kernels_real *kernels = kernels_of(implementation);
    const attn_layer_problem *sizes = &call->sizes;
    if (sizes->batch == 0 || sizes->queries == 0) return ATTN_OK;
    size_t threads = (size_t)attn_threads_count(device->threads), element = element_of(planned);
    attn_carver carver = {.base = call->workspace};
    fused_run run = {.schedule = schedule_of(sizes, threads),
                     .workspace = carve_workspace(&carver, kernels, planned, threads)};
    run.operands = (attn_fused_operands){.call = call,
                                         .kernels = kernels,
                                         .element = element,
                                         .chunk_rows = chunk_rows(planned),
                                         .block_queries = run.schedule.block_queries,
                                         .blocks_per_item = run.schedule.blocks_per_item,
                                         .query_width = query_width(planned),
                                         .query_stride = padded(query_width(planned), element),
                                         .context_stride = padded(planned->features, element)};
    run.operands.weights = weights_of(kernels, planned, call, run.workspace.packed);
    if (call->kept) attn_kept_carve(sizes, call->kept, &run.operands.kept);
    if (run.schedule.split && worth_sharing(sizes)) {
        attn_fused_begin(&run.operands, 0, run.schedule.blocks, &run.workspace.rows);
        share(&run, device->threads, run.schedule.blocks * run.schedule.chunks, run_chunks);
        merge_chunks(&run);
        attn_fused_end(&run.operands, 0, run.schedule.blocks, &run.workspace.rows);
    } else {
        share(&run, device->threads, divide_up(run.schedule.blocks, run.schedule.group), run_groups);
    }
    return ATTN_OK;
}

/* ---- Implementations ------------------------------------------------------------------------------- */

/* Where the composition on OpenBLAS was measured to be faster, see tuning.h. A context held below the machine's best set of
 * instructions asked for that set, and gets it. OpenBLAS is asked after last: asking loads it. */
static const char *yield(const attn_device *device, const attn_layer_problem *problem) {
    const bool additive = problem->score == ATTN_SCORE_BAHDANAU;
    if (!device->options.blas_choice || problem->timesteps < ATTN_OPENBLAS_ITEM / problem->features) return NULL;
    if (device->features.best == ATTN_CPU_SCALAR)
        return attn_cpu_openblas(device)->usable ? "slower here than OpenBLAS, which has vector code for this CPU"
                                                 : NULL;
    if (device->isa != ATTN_CPU_AVX512) return NULL;
    const char *reason = NULL;
    if (problem->queries >= (additive ? ATTN_OPENBLAS_QUERIES_ADDITIVE : ATTN_OPENBLAS_QUERIES))
        reason = "slower than OpenBLAS with this many queries";
    else if (problem->features >= ATTN_OPENBLAS_FEATURES &&
             (additive || (problem->score == ATTN_SCORE_LUONG && problem->batch > 1)))
        reason = "slower than OpenBLAS with this many features";
    return reason && attn_cpu_openblas(device)->small_products ? reason : NULL;
}

static const char *refuse(const attn_implementation *implementation, const attn_device *device,
                          const attn_layer_problem *problem, bool *hard) {
    const char *reason = attn_cpu_refuse_isa(device, kind_of(implementation)->isa);
    *hard = reason != NULL;
    return reason ? reason : yield(device, problem);
}

#define FUSED(isa, score_name, score_value, type_name, type_value)                                                     \
    {                                                                                                                  \
        .name = "cpu:" #isa ":" #score_name ":forward:" #type_name, .operation = ATTN_OPERATION_LAYER_FORWARD,         \
        .score = score_value, .dtype = type_value, .batch_invariant = true, .data = &attn_fused_##isa,                 \
        .refuse = refuse, .workspace_size = workspace_size, .prepared_size = prepared_size, .prepare = prepare,        \
        .run = run_fused                                                                                               \
    }
#define FUSED_TYPES(isa, name, score)                                                                                  \
    FUSED(isa, name, score, f32, ATTN_FLOAT32), FUSED(isa, name, score, f64, ATTN_FLOAT64)
#define FUSED_SCORES(isa)                                                                                              \
    FUSED_TYPES(isa, luong, ATTN_SCORE_LUONG), FUSED_TYPES(isa, dot, ATTN_SCORE_DOT),                                  \
        FUSED_TYPES(isa, bahdanau, ATTN_SCORE_BAHDANAU)

#if defined(__x86_64__)
const attn_fused_kind attn_fused_avx512 = {&attn_kernels_avx512, ATTN_CPU_AVX512};
const attn_fused_kind attn_fused_avx2 = {&attn_kernels_avx2, ATTN_CPU_AVX2};
#endif
const attn_fused_kind attn_fused_scalar = {&attn_kernels_scalar, ATTN_CPU_SCALAR};

const attn_implementation attn_fused_implementations[] = {
#if defined(__x86_64__)
    FUSED_SCORES(avx512), FUSED_SCORES(avx2),
#endif
    FUSED_SCORES(scalar)};
const size_t attn_fused_implementations_count = sizeof attn_fused_implementations / sizeof *attn_fused_implementations;

/* libattention: attention on CPUs and GPUs behind one C interface.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Glossary
 *   B   batch           items computed by one call
 *   T   timesteps       rows of the memory H of one item: the keys, which are the values too
 *   D   features        width of a row of H
 *   Tq  queries         query rows per item; the many-to-one layer has one, the last step h_t
 *   Dq  query features  width of a query; D when the query is h_t
 *   A   score width     width of the additive (Bahdanau) score; D in Keras's layer
 *   U   units           width of the layer's output
 *   score               e[s], how well time step s answers the query
 *   attention weights   softmax of the scores over the attended steps
 *   context             the sum of the rows of H by their attention weights
 *   lse                 natural logarithm of the sum of exp(score) over the attended steps
 *   gradient            of one number, the loss, by a tensor: incoming by the layer's results, outgoing by its inputs
 *   kept                what a forward pass in training leaves for the backward pass
 *   plan                one operation on one range of shapes, validated, its implementation chosen
 *
 * The way of one call:  context -> plan -> run.  A context names the device, the threads and the
 * allocator. A plan is made once for a descriptor. A run takes pointers, the caller's workspace and the
 * sizes of this call, up to the planned ones; it allocates nothing and reads no environment.
 *
 * Conventions
 *   Strides are counted in elements, never in bytes; the last dimension is contiguous. A stride of 0 in
 *   an arguments structure stands for "dense": this call's size of the next dimension times that one's stride.
 *   Rows may be further apart than they are long, not closer; items may lie anywhere, so that batch-major,
 *   time-major and slices of a larger buffer all work. Negative strides are refused.
 *   Structures begin with struct_size. Start from their initialiser, then set fields by name: a program
 *   built against an older header keeps working with a newer library.
 *   Alignment: a pointer must be aligned to its element; more is never needed, except for a workspace and
 *   prepared weights (ATTN_WORKSPACE_ALIGNMENT). Unaligned rows cost time, never correctness.
 *   Aliasing: inputs may overlap each other. Outputs may overlap nothing else; strided slices that
 *   interleave without touching are accepted.
 *
 * Errors
 *   Every function that can fail returns a status and leaves a message for the calling thread
 *   (attn_last_error_message). Validation comes before the first write: after an error no output was touched,
 *   save where a function says otherwise. The library never aborts, prints or exits, and never changes
 *   the locale, signal handlers, floating-point state or thread count of another library.
 *
 * Threads
 *   A context and a plan may be used by many threads at once; each concurrent run needs a workspace of its own.
 *   When the library's threads are busy with another run, a run proceeds in its caller's thread.
 *   A thread is not cancelled (pthread_cancel) inside the library: the request waits for the host's next cancellation point.
 *
 * Determinism
 *   Same call, same machine, same library: same bits, whatever the number of threads. For one fused plan an
 *   item's results do not depend on the other items, on its position or on the batch size.
 *   A composition on OpenBLAS promises only the first; ATTN_CONTEXT_BATCH_INVARIANT keeps to implementations that promise both.
 *   Different implementations, instruction sets and devices round differently.
 */
#ifndef ATTENTION_ATTENTION_H
#define ATTENTION_ATTENTION_H

#include <stddef.h>
#include <stdint.h>

#define ATTN_VERSION_MAJOR 0
#define ATTN_VERSION_MINOR 1
#define ATTN_VERSION_PATCH 0

#if defined(__GNUC__)
#define ATTN_API __attribute__((visibility("default")))
#else
#define ATTN_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Alignment in bytes that a workspace and prepared weights must have. Their sizes are multiples of it. */
#define ATTN_WORKSPACE_ALIGNMENT 64

/* What a call answers. Values are pinned: they never change, new ones are added at the end. */
typedef enum attn_status {
    ATTN_OK = 0,
    ATTN_ERROR_INVALID_ARGUMENT = 1, /* NULL where not allowed, nothing asked for, a value that makes no sense */
    ATTN_ERROR_SHAPE = 2,            /* a negative or mismatched size */
    ATTN_ERROR_OVERFLOW = 3,         /* a product of sizes or strides does not fit */
    ATTN_ERROR_ALIGNMENT = 4,        /* a pointer below the alignment it needs */
    ATTN_ERROR_OVERLAP = 5,          /* an output overlaps an input, another output or the workspace */
    ATTN_ERROR_WORKSPACE = 6,        /* the workspace is smaller than attn_plan_workspace_size */
    ATTN_ERROR_RANGE = 7,            /* lengths or ranges that leave [0, T], sizes past the planned ones */
    ATTN_ERROR_UNSUPPORTED = 8,      /* a dtype, value, flag or forced implementation that nothing here offers */
    ATTN_ERROR_OUT_OF_MEMORY = 9,
    ATTN_ERROR_IO = 10,             /* reading or writing a file failed */
    ATTN_ERROR_FORMAT = 11,         /* a file's content breaks its format */
    ATTN_ERROR_MISMATCH = 12,       /* a file is sound, but does not hold what was expected */
    ATTN_ERROR_NOT_FOUND = 13,      /* a name that the file does not have */
    ATTN_ERROR_FORKED = 14,         /* an object that can't be used in a forked child */
    ATTN_ERROR_INTERNAL = 15,       /* a library below this one answered with an error */
    ATTN_ERROR_NO_MODULE = 16,      /* the device's module of this library is not there, or can't be loaded */
    ATTN_ERROR_MODULE_VERSION = 17, /* the module belongs to another version of this library */
    ATTN_ERROR_NO_DRIVER = 18,      /* the machine has no driver for the device */
    ATTN_ERROR_OLD_DRIVER = 19,     /* the driver is older than the module needs */
    ATTN_ERROR_NO_DEVICE = 20,      /* the machine has no such device, or lets this process see none */
    ATTN_ERROR_ARCHITECTURE = 21,   /* the module was built without code for this device */
    ATTN_ERROR_PENDING = 22,        /* the caller left an error pending on the device's runtime; it still is */
    ATTN_ERROR_DEVICE_LOST = 23     /* the device failed; every later call of this process on it will */
} attn_status;

/* Types of 16 bits are for storage: arithmetic on them is float32's. An implementation that lacks a type refuses the plan; those of the CPU
 * have the first two. */
typedef enum attn_dtype {
    ATTN_FLOAT32 = 0,
    ATTN_FLOAT64 = 1,
    ATTN_FLOAT16 = 2, /* IEEE 754 binary16 */
    ATTN_BFLOAT16 = 3 /* the upper half of a float32 */
} attn_dtype;

typedef enum attn_score {
    ATTN_SCORE_LUONG = 0,    /* general: e[s] = H[s] . K . query, K of shape (D, Dq) */
    ATTN_SCORE_BAHDANAU = 1, /* additive: e[s] = v . tanh(query W1 + H[s] W2), W1 (Dq, A), W2 (D, A), v (A) */
    ATTN_SCORE_DOT = 2       /* e[s] = H[s] . query, Dq = D */
} attn_score;

/* Where a context computes. */
typedef enum attn_device_kind { ATTN_DEVICE_CPU = 0, ATTN_DEVICE_CUDA = 1 } attn_device_kind;

/* ---- Version, status, message ------------------------------------------------------------------ */

/* The version of the library that runs, as "major.minor.patch"; compare with ATTN_VERSION_*. Never NULL. */
ATTN_API const char *attn_version(void);

/* One line that explains a status; for a value that is none, "unknown status". Never NULL. */
ATTN_API const char *attn_status_string(attn_status status);

/* The message of the calling thread's last failed call: the argument's name, the value found, the value wanted.
 * "" when none failed yet. Valid until the thread's next call into the library. Never NULL. */
ATTN_API const char *attn_last_error_message(void);

/* ---- Context ----------------------------------------------------------------------------------- */

typedef struct attn_context attn_context;

/* Calls task(argument, i) once for each i in [0, count), in any order, on any threads, and returns when all have
 * returned. The tasks do not wait for each other, so a plain loop is a correct implementation. */
typedef void (*attn_parallel_for)(void *user, size_t count, void (*task)(void *argument, size_t index), void *argument);

/* Memory for the library's own objects (never for data): size bytes aligned as malloc does, or NULL. */
typedef void *(*attn_allocate)(void *user, size_t size);
typedef void (*attn_release)(void *user, void *memory);

/* Receives one line, without a newline, for each plan that is made. May be called from any thread that plans. */
typedef void (*attn_log)(void *user, const char *message);

/* Keep to implementations whose results for an item do not depend on the rest of the batch. */
#define ATTN_CONTEXT_BATCH_INVARIANT UINT64_C(1)

typedef struct attn_context_options {
    size_t struct_size;
    uint64_t flags; /* ATTN_CONTEXT_*; an unknown bit is refused */
    int threads;    /* how many tasks a run is split over, up to 4096; 0: the processors this process may use */
    attn_parallel_for parallel_for; /* the caller's threads; NULL: threads of the library's own */
    void *parallel_for_user;
    attn_allocate allocate; /* both or neither; NULL: malloc and free */
    attn_release release;
    void *memory_user;
    attn_log log;
    void *log_user;
    const char *
        implementation; /* force one: a name, or its leading fields such as "cpu:openblas"; NULL: ATTN_IMPL, else choose */
    const char *
        isa; /* the highest CPU instruction set to use: "scalar", "avx2", "avx512"; one that the CPU lacks is refused; NULL: ATTN_CPU_ISA, else the best */
    attn_device_kind device;
    const struct attn_cuda_options *cuda; /* with ATTN_DEVICE_CUDA, from attention_cuda.h; NULL: its defaults */
    const char *blas; /* "off": load none, implementations on one are refused; NULL: ATTN_BLAS, else load it when needed */
} attn_context_options;

#ifdef __cplusplus
#define ATTN_CONTEXT_OPTIONS_INIT attn_context_options_init()
#else
#define ATTN_CONTEXT_OPTIONS_INIT                                                                                      \
    { .struct_size = sizeof(attn_context_options) }
#endif

/* Makes a context. options may be NULL for the defaults.
 * The environment is read here and nowhere else: ATTN_IMPL, ATTN_CPU_ISA and ATTN_BLAS stand in for the options of the
 * same meaning where these are NULL (an empty string counts as unset, in both). An unknown value is an error, from either source.
 * No other thread may change the environment meanwhile.
 * Threads are started here. When the system refuses to start one, the context works with those it has (down to none:
 * runs are then serial); results are the same bits.
 * After fork() the child may use a context made before it: its runs proceed without the library's threads. It is no matter
 * how the child was made, nor which process id it has.
 * No BLAS is loaded here, but when a plan is made that is to run on one or is explained, or attn_context_blas is asked. It then
 * stays loaded. It is loaded so that it starts no threads; where that can't be done safely (a static program, no thread to be had
 * at the limit of threads, little address space), its implementations are refused with that reason.
 * ATTN_ERROR_INVALID_ARGUMENT, ATTN_ERROR_UNSUPPORTED, ATTN_ERROR_OUT_OF_MEMORY, and with ATTN_DEVICE_CUDA those that
 * attention_cuda.h lists. On error *context is NULL. */
ATTN_API attn_status attn_context_create(const attn_context_options *options, attn_context **context);

/* Gives the context back; NULL is a no-op. Plans made from it stay usable: the last of them frees what they share. */
ATTN_API void attn_context_destroy(attn_context *context);

/* How many tasks a run is split over, as asked for or found at creation. 0 for NULL. */
ATTN_API int attn_context_threads(const attn_context *context);

/* The instruction set in use: "scalar", "avx2" or "avx512"; on CUDA the device's architecture, such as "sm90". "" for NULL. */
ATTN_API const char *attn_context_isa(const attn_context *context);

/* What the machine's CPU offers to this library, such as "avx2 fma avx512f ...", whatever the context is restricted to; on
 * CUDA the device's name. */
ATTN_API const char *attn_context_cpu_features(const attn_context *context);

/* The BLAS that compositions run on, with version and core, such as "OpenBLAS 0.3.21 SkylakeX"; or why there is none. Loads it
 * where no plan did yet. */
ATTN_API const char *attn_context_blas(const attn_context *context);

/* Every implementation that this build of the library has, in order of preference; whether it can run here and for a
 * given problem is what the explain functions answer. Names read device:isa or library:score:direction:dtype, such as
 * "cpu:avx512:luong:forward:f32". NULL past the end. */
ATTN_API const char *attn_context_implementation_name(const attn_context *context, size_t index);

/* Receives one implementation of the operation asked about: refusal is NULL when it can run the problem, else why not; chosen is 1 for the
 * one that a plan would use. Called in order of preference. The strings are valid during the call. */
typedef void (*attn_explain)(void *user, const char *implementation, int chosen, const char *refusal);

/* ---- Plan ---------------------------------------------------------------------------------------- */

typedef struct attn_plan attn_plan; /* immutable; may be shared by threads; keeps its context alive */

/* Frees a plan; NULL is a no-op. No run of it may be in progress. */
ATTN_API void attn_plan_destroy(attn_plan *plan);

/* The name of the implementation that the plan runs; "" for NULL. Valid as long as the plan. */
ATTN_API const char *attn_plan_implementation(const attn_plan *plan);

/* Bytes of workspace that a run needs, for the planned sizes and any below them; a multiple of ATTN_WORKSPACE_ALIGNMENT, may be 0. */
ATTN_API size_t attn_plan_workspace_size(const attn_plan *plan);

/* Bytes that attn_layer_prepare writes; a multiple of ATTN_WORKSPACE_ALIGNMENT, 0 when there is nothing to prepare. */
ATTN_API size_t attn_plan_prepared_size(const attn_plan *plan);

/* Bytes of what a forward pass in training keeps for the backward pass (`kept` in the arguments of both), for the planned sizes and any
 * below them; a multiple of ATTN_WORKSPACE_ALIGNMENT. 0 for a forward plan without ATTN_LAYER_TRAINING. */
ATTN_API size_t attn_plan_kept_size(const attn_plan *plan);

/* ---- The attention layer, forward ---------------------------------------------------------------
 *
 * The many-to-one attention layer of the Python package `attention` 5.0.0 (Keras), and its generalisation to ranges,
 * masks and given queries. For each item and each of its queries x:
 *
 *     e[s]    = the score of H[s] and x, see attn_score         for s attended
 *     p       = softmax of e over the attended steps             attention weights, no scale
 *     c       = sum over s of p[s] H[s]                          context
 *     a       = tanh([c ; x] . w_c)                              output, w_c of shape (D + Dq, U), context rows first
 *     lse     = log of the sum over s of exp(e[s])
 *
 * Without a given query there is one per item: x = h_t, the last step of the item's valid range.
 *
 *     tensor              shape                     written when
 *     h                   (B, T, D)                 input
 *     query               (B, Tq, Dq)               input, only with queries >= 0 in the descriptor
 *     starts, lengths     (B)                       input, optional: valid range [start, start + length)
 *     mask                (B, Tq, T) or (B, T)      input, optional: non-zero = attend
 *     luong_w             (D, Dq)                   input, luong only
 *     bahdanau_w1         (Dq, A)                   input, bahdanau only
 *     bahdanau_w2         (D, A)                    input, bahdanau only
 *     bahdanau_v          (A)                       input, bahdanau only
 *     w_c                 (D + Dq, U)               input, units > 0 only
 *     output              (B, Tq, U)                units > 0: always
 *     context             (B, Tq, D)                pointer given
 *     attention_weights   (B, Tq, T)                pointer given; 0 outside range and mask
 *     lse                 (B, Tq)                   pointer given
 *
 * Weights are dense, row-major, in the layout that Keras stores. All tensors have the descriptor's dtype (H where h_dtype says otherwise), in which
 * sums are accumulated (in blocks; the error bounds stand in docs/numerics.md); lengths and starts are int32_t, masks uint8_t.
 *
 * Ranges and masks: a mask hides keys, never h_t. Steps outside the range, and steps that the mask hides from all
 * queries, are never read as keys. A query with one attended key has weight exactly 1. With nothing to attend the context
 * is 0, the weights are 0 and lse is -inf; with an empty range, or T = 0, h_t is 0 too (so output is 0); otherwise
 * output = tanh([0 ; x] . w_c). Scores up to 1e4 in magnitude are handled without overflow.
 * NaN in an attended row makes NaN of the item's results that depend on it; nothing is promised of infinities but non-finiteness.
 *
 * The additive score never builds an array of B Tq T A; Luong folds K into the query.
 */
#define ATTN_LAST_STEP (-1) /* attn_layer_desc.queries: the query is h_t */
#define ATTN_PLANNED (-1)   /* a size in the arguments of a run: as planned */

/* attn_layer_desc.flags */
#define ATTN_LAYER_TRAINING UINT64_C(1) /* the forward pass fills kept; a backward plan has it anyway */
#define ATTN_LAYER_RECOMPUTE                                                                                           \
    UINT64_C(2) /* kept holds nothing that grows with T: smaller, and slower for the additive score */

typedef struct attn_layer_desc {
    size_t struct_size;
    uint64_t flags; /* ATTN_LAYER_*; an unknown bit is refused */
    attn_score score;
    attn_dtype dtype;
    int64_t batch;          /* B >= 0, the largest of any run */
    int64_t timesteps;      /* T >= 0, the largest of any run */
    int64_t features;       /* D >= 1 */
    int64_t queries;        /* ATTN_LAST_STEP, or Tq >= 0 given queries per item, the largest of any run */
    int64_t query_features; /* Dq; 0: D. Must be D with ATTN_LAST_STEP and with dot */
    int64_t score_width;    /* A, bahdanau only; 0: D */
    int64_t units;          /* U >= 0; 0: no w_c and no output */
    /* How H is stored, and h_t as a row of it: ATTN_FLOAT16 or ATTN_BFLOAT16, widened as it is read, with ATTN_FLOAT32; 0: as dtype says. All other
     * tensors, grad_h among them, are as dtype says. */
    attn_dtype h_dtype;
} attn_layer_desc;

#ifdef __cplusplus
#define ATTN_LAYER_DESC_INIT attn_layer_desc_init()
#else
#define ATTN_LAYER_DESC_INIT                                                                                           \
    { .struct_size = sizeof(attn_layer_desc), .queries = ATTN_LAST_STEP }
#endif

typedef struct attn_layer_weights {
    size_t struct_size;
    const void *luong_w;
    const void *bahdanau_w1;
    const void *bahdanau_w2;
    const void *bahdanau_v;
    const void *w_c;
} attn_layer_weights;

#ifdef __cplusplus
#define ATTN_LAYER_WEIGHTS_INIT attn_layer_weights_init()
#else
#define ATTN_LAYER_WEIGHTS_INIT                                                                                        \
    { .struct_size = sizeof(attn_layer_weights) }
#endif

typedef struct attn_layer_forward_args {
    size_t struct_size;
    int64_t batch;     /* of this run; ATTN_PLANNED */
    int64_t timesteps; /* of this run; ATTN_PLANNED */
    int64_t queries;   /* of this run; ATTN_PLANNED */
    const void *h;
    int64_t h_batch_stride; /* dense: T rows */
    int64_t h_time_stride;  /* dense: D */
    const void *query;
    int64_t query_batch_stride; /* dense: Tq rows */
    int64_t query_row_stride;   /* dense: Dq */
    const int32_t *starts;      /* NULL: 0 */
    const int32_t *lengths;     /* NULL: T - start */
    const uint8_t *mask;        /* NULL: all attended */
    int64_t mask_batch_stride;  /* dense: one mask of T steps, or Tq of them when mask_query_stride is set */
    int64_t mask_query_stride;  /* 0: one mask (B, T) for all queries; else the mask is (B, Tq, T) */
    int64_t mask_time_stride;   /* dense: 1 */
    attn_layer_weights weights;
    const void *prepared; /* from attn_layer_prepare of this plan; weights are then not read and may be NULL */
    void *output;
    int64_t output_batch_stride; /* dense: Tq rows */
    int64_t output_row_stride;   /* dense: U */
    void *context;
    int64_t context_batch_stride; /* dense: Tq rows */
    int64_t context_row_stride;   /* dense: D */
    void *attention_weights;
    int64_t attention_weights_batch_stride; /* dense: Tq rows */
    int64_t attention_weights_row_stride;   /* dense: T */
    void *lse;
    int64_t lse_batch_stride; /* dense: Tq; rows are contiguous */
    void *workspace;
    size_t workspace_size;
    void *kept; /* written with ATTN_LAYER_TRAINING, else NULL; aligned to ATTN_WORKSPACE_ALIGNMENT */
    size_t kept_size;
} attn_layer_forward_args;

#ifdef __cplusplus
#define ATTN_LAYER_FORWARD_ARGS_INIT attn_layer_forward_args_init()
#else
#define ATTN_LAYER_FORWARD_ARGS_INIT                                                                                   \
    {                                                                                                                  \
        .struct_size = sizeof(attn_layer_forward_args), .batch = ATTN_PLANNED, .timesteps = ATTN_PLANNED,              \
        .queries = ATTN_PLANNED, .weights = ATTN_LAYER_WEIGHTS_INIT                                                    \
    }
#endif

/* Plans the forward pass of the layer: validates the descriptor and chooses the implementation.
 * ATTN_ERROR_INVALID_ARGUMENT, ATTN_ERROR_SHAPE, ATTN_ERROR_OVERFLOW, ATTN_ERROR_UNSUPPORTED (the message names the
 * refusals), ATTN_ERROR_OUT_OF_MEMORY. On error *plan is NULL. */
ATTN_API attn_status attn_layer_forward_plan(attn_context *context, const attn_layer_desc *desc, attn_plan **plan);

/* Calls explain once for each implementation of the operation, with what attn_layer_forward_plan would make of it.
 * Answers what planning would answer, ATTN_ERROR_UNSUPPORTED included. */
ATTN_API attn_status attn_layer_forward_explain(attn_context *context, const attn_layer_desc *desc,
                                                attn_explain explain, void *user);

/* Writes the weights in the layout that the plan's implementation reads fastest: worth it when they serve many runs.
 * prepared must hold attn_plan_prepared_size bytes and may be moved in memory (to the same alignment), or shared by threads; it serves
 * this plan and any with the same implementation and weight shapes, in this process. The results are the same bits.
 * Where that size is 0, nothing is written, and runs take the weights and a NULL prepared.
 * ATTN_ERROR_INVALID_ARGUMENT, ATTN_ERROR_ALIGNMENT, ATTN_ERROR_WORKSPACE (size too small), ATTN_ERROR_OVERLAP. */
ATTN_API attn_status attn_layer_prepare(const attn_plan *plan, const attn_layer_weights *weights, void *prepared,
                                        size_t size);

/* Computes. See the formula and the table above; a pointer to a tensor without elements may be NULL.
 * ATTN_ERROR_INVALID_ARGUMENT, ATTN_ERROR_SHAPE, ATTN_ERROR_OVERFLOW, ATTN_ERROR_ALIGNMENT, ATTN_ERROR_OVERLAP,
 * ATTN_ERROR_WORKSPACE, ATTN_ERROR_RANGE, ATTN_ERROR_UNSUPPORTED.
 * A run in training fills kept, of at least as many bytes as attn_plan_kept_size says for a plan of this run's sizes; nothing of
 * it may be asked for but by the backward pass. */
ATTN_API attn_status attn_layer_forward(const attn_plan *plan, const attn_layer_forward_args *args);

/* ---- The attention layer, backward --------------------------------------------------------------
 *
 * From the gradients of a loss by the layer's results to those by its inputs and weights. For each item and query, with
 * ga, gc, gp and gl the incoming gradients (zero where the pointer is NULL), and what the forward pass computed:
 *
 *     gz      = ga (1 - a^2)                                    gradient of [c ; x] . w_c
 *     [gc ; gx] += gz . w_c^T                                   w_c: += [c ; x]^T gz
 *     gp[s]  += gc . H[s]
 *     ge[s]   = p[s] (gp[s] - sum over r of p[r] gp[r] + gl)    gradient of the scores; sums to gl
 *     luong:    gq = sum of ge[s] H[s], q = K . x               H[s]: += ge[s] q; luong_w: += gq x^T; gx += K^T gq
 *     dot:      as luong with K the identity
 *     bahdanau: gt[s] = ge[s] v (1 - t[s]^2), t[s] = tanh(x W1 + H[s] W2)
 *               gu = sum of gt[s]                               H[s]: += gt[s] W2^T; v: += ge[s] t[s];
 *                                                               bahdanau_w2: += H[s]^T gt[s]; bahdanau_w1: += x^T gu; gx += gu W1^T
 *     H[s]   += p[s] gc
 *
 *     tensor                   shape                     written when
 *     h, query, starts, lengths, mask, weights           input, the same as in the forward pass
 *     kept                                               input, filled by that forward pass
 *     grad_output              (B, Tq, U)                input, optional
 *     grad_context             (B, Tq, D)                input, optional
 *     grad_attention_weights   (B, Tq, T)                input, optional; what lies outside range and mask is not read
 *     grad_lse                 (B, Tq)                   input, optional
 *     grad_h                   (B, T, D)                 pointer given
 *     grad_query               (B, Tq, Dq)               pointer given, only with queries >= 0 in the descriptor
 *     gradients.luong_w ...    as the weights            pointer given
 *
 * All gradients have the descriptor's dtype, grad_h too: the gradient of an H stored in 16 bits (h_dtype) is float32, for sums over queries
 * are accumulated in it, and small ones would vanish in 16.
 * Where the query is h_t its gradient is part of that row of grad_h. Rows of grad_h outside the range are 0, those that the mask
 * hides as well (save h_t's). A query with nothing to attend gives no gradient to H as keys, nor to the score's weights.
 * Without items or queries the weights' gradients are 0. What is accumulated (args.accumulate) is added to what stands there.
 * grad_lse of a query with nothing to attend is not read.
 *
 * Sums over items are split at places that depend on the sizes alone: the same bits, whatever the number of threads. Rows of
 * grad_h and grad_query do not depend on the other items where the forward pass promises it.
 */
#define ATTN_ACCUMULATE_H UINT64_C(1)       /* grad_h is added to */
#define ATTN_ACCUMULATE_QUERY UINT64_C(2)   /* grad_query is added to */
#define ATTN_ACCUMULATE_WEIGHTS UINT64_C(4) /* gradients are added to */

/* Where the gradients of the weights go; NULL: not wanted. Dense, row-major, shaped as the weights. */
typedef struct attn_layer_gradients {
    size_t struct_size;
    void *luong_w;
    void *bahdanau_w1;
    void *bahdanau_w2;
    void *bahdanau_v;
    void *w_c;
} attn_layer_gradients;

#ifdef __cplusplus
#define ATTN_LAYER_GRADIENTS_INIT attn_layer_gradients_init()
#else
#define ATTN_LAYER_GRADIENTS_INIT                                                                                      \
    { .struct_size = sizeof(attn_layer_gradients) }
#endif

typedef struct attn_layer_backward_args {
    size_t struct_size;
    uint64_t accumulate; /* ATTN_ACCUMULATE_*; an unknown bit is refused */
    int64_t batch;       /* of this run, as in the forward pass; ATTN_PLANNED */
    int64_t timesteps;   /* of this run, as in the forward pass; ATTN_PLANNED */
    int64_t queries;     /* of this run, as in the forward pass; ATTN_PLANNED */
    const void *h;
    int64_t h_batch_stride; /* dense: T rows */
    int64_t h_time_stride;  /* dense: D */
    const void *query;
    int64_t query_batch_stride; /* dense: Tq rows */
    int64_t query_row_stride;   /* dense: Dq */
    const int32_t *starts;      /* NULL: 0 */
    const int32_t *lengths;     /* NULL: T - start */
    const uint8_t *mask;        /* NULL: all attended */
    int64_t mask_batch_stride;  /* as in attn_layer_forward_args */
    int64_t mask_query_stride;
    int64_t mask_time_stride;
    attn_layer_weights weights;
    const void *kept; /* aligned to ATTN_WORKSPACE_ALIGNMENT */
    size_t kept_size;
    const void *grad_output;
    int64_t grad_output_batch_stride; /* dense: Tq rows */
    int64_t grad_output_row_stride;   /* dense: U */
    const void *grad_context;
    int64_t grad_context_batch_stride; /* dense: Tq rows */
    int64_t grad_context_row_stride;   /* dense: D */
    const void *grad_attention_weights;
    int64_t grad_attention_weights_batch_stride; /* dense: Tq rows */
    int64_t grad_attention_weights_row_stride;   /* dense: T */
    const void *grad_lse;
    int64_t grad_lse_batch_stride; /* dense: Tq; rows are contiguous */
    void *grad_h;
    int64_t grad_h_batch_stride; /* dense: T rows */
    int64_t grad_h_time_stride;  /* dense: D */
    void *grad_query;
    int64_t grad_query_batch_stride; /* dense: Tq rows */
    int64_t grad_query_row_stride;   /* dense: Dq */
    attn_layer_gradients gradients;
    void *workspace;
    size_t workspace_size;
} attn_layer_backward_args;

#ifdef __cplusplus
#define ATTN_LAYER_BACKWARD_ARGS_INIT attn_layer_backward_args_init()
#else
#define ATTN_LAYER_BACKWARD_ARGS_INIT                                                                                  \
    {                                                                                                                  \
        .struct_size = sizeof(attn_layer_backward_args), .batch = ATTN_PLANNED, .timesteps = ATTN_PLANNED,             \
        .queries = ATTN_PLANNED, .weights = ATTN_LAYER_WEIGHTS_INIT, .gradients = ATTN_LAYER_GRADIENTS_INIT            \
    }
#endif

/* Plans the backward pass of the layer that desc describes; the descriptor of the forward pass serves both. The two plans may have
 * different maxima, threads and implementations, as long as both come from this process and agree on ATTN_LAYER_RECOMPUTE.
 * Statuses as attn_layer_forward_plan. */
ATTN_API attn_status attn_layer_backward_plan(attn_context *context, const attn_layer_desc *desc, attn_plan **plan);

/* As attn_layer_forward_explain. */
ATTN_API attn_status attn_layer_backward_explain(attn_context *context, const attn_layer_desc *desc,
                                                 attn_explain explain, void *user);

/* Computes. See the formulas and the table above; a pointer to a tensor without elements may be NULL. At least one
 * incoming and one outgoing gradient must be given. kept must come from a forward pass of the same sizes (else
 * ATTN_ERROR_INVALID_ARGUMENT), on the same data (which nothing checks); it is not changed and may serve again.
 * Statuses as attn_layer_forward. */
ATTN_API attn_status attn_layer_backward(const attn_plan *plan, const attn_layer_backward_args *args);

/* The initialisers for C++, which has no designated ones before C++20. */
#ifdef __cplusplus
static inline attn_context_options attn_context_options_init() {
    attn_context_options options = attn_context_options();
    options.struct_size = sizeof options;
    return options;
}

static inline attn_layer_desc attn_layer_desc_init() {
    attn_layer_desc desc = attn_layer_desc();
    desc.struct_size = sizeof desc;
    desc.queries = ATTN_LAST_STEP;
    return desc;
}

static inline attn_layer_weights attn_layer_weights_init() {
    attn_layer_weights weights = attn_layer_weights();
    weights.struct_size = sizeof weights;
    return weights;
}

static inline attn_layer_forward_args attn_layer_forward_args_init() {
    attn_layer_forward_args args = attn_layer_forward_args();
    args.struct_size = sizeof args;
    args.batch = args.timesteps = args.queries = ATTN_PLANNED;
    args.weights = attn_layer_weights_init();
    return args;
}

static inline attn_layer_gradients attn_layer_gradients_init() {
    attn_layer_gradients gradients = attn_layer_gradients();
    gradients.struct_size = sizeof gradients;
    return gradients;
}

static inline attn_layer_backward_args attn_layer_backward_args_init() {
    attn_layer_backward_args args = attn_layer_backward_args();
    args.struct_size = sizeof args;
    args.batch = args.timesteps = args.queries = ATTN_PLANNED;
    args.weights = attn_layer_weights_init();
    args.gradients = attn_layer_gradients_init();
    return args;
}
#endif

#ifdef __cplusplus
}
#endif

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The test kit: cases declared once (cases.def), their inputs in guarded memory, a run on any implementation, and the
 * verdict by the gates. The suites, attention-check, the case walker and the benchmark all stand on it; it needs the
 * library's public interface and nothing else.
 *
 *     kit_case spec = *kit_find_case("luong_imdb_f32");
 *     kit_problem *problem = kit_problem_make(&spec, KIT_GUARD_BEHIND);
 *     attn_layer_forward_plan(context, &problem->desc, &plan);
 *     kit_problem_run(problem, plan, KIT_ALL_OUTPUTS);       owns the workspace; problem->args may be used directly too
 *     kit_verdict verdict = kit_problem_check(problem);      verdict.error <= 1 passes
 *
 * The kit ends the program when memory runs out: it is a test's. */
#ifndef ATTN_TESTS_KIT_H
#define ATTN_TESTS_KIT_H

#include "attention/attention.h"
#include "tests/gates.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- Guarded memory ----------------------------------------------------------------------------- */

typedef enum kit_guard {
    KIT_GUARD_BEHIND, /* the last byte lies before an unreadable page: pointers are aligned to little more than their element */
    KIT_GUARD_FRONT /* the first byte follows an unreadable page, at the start of its own */
} kit_guard;

/* size bytes, unreadable pages on both sides, filled with 0xff: NaN in every float. 0 bytes give a pointer that can't be read. */
void *kit_alloc(size_t size, kit_guard guard);

/* Ends the program when somebody wrote between the buffer and the end of its page. NULL is a no-op. */
void kit_free(void *memory);

/* ---- Cases --------------------------------------------------------------------------------------- */

typedef enum kit_fill {
    KIT_NORMAL,
    KIT_UNIFORM,
    KIT_LSTM,     /* tanh of a random walk over time: what an LSTM's hidden states look like */
    KIT_INTEGER,  /* small integers: every product and sum of them is exact in float32 */
    KIT_REPEATED, /* every row of an item's H its first one, of random numbers: errors of their sum have one sign */
    /* Hostile to sums; numbers of one sign stand in the weights and incoming gradients too. */
    KIT_EQUAL,       /* as KIT_REPEATED, of one sign */
    KIT_NEAR_ONE,    /* mean 1, a hundredth around it */
    KIT_ALTERNATING, /* each row of an item's H the one before with the other sign */
    KIT_GEOMETRIC,   /* rows shrink by one factor, to 2^-24 of the first */
    KIT_ONE_HUGE,    /* one row a hundred thousand times as large as the others */
    KIT_GROWING,     /* rows grow along the sequence, until the product of the last with itself is about 200 */
    KIT_CONSTANT, /* every row of H the same numbers, whose sums are exact */
    KIT_ONE_HOT,  /* row s of H is the unit vector s mod D */
    KIT_ZERO
} kit_fill;

enum { KIT_CHECK = 1, KIT_BENCH = 2, KIT_SLOW = 4 }; /* kit_case.flags */

enum {                       /* kit_case.options */
       KIT_STARTS = 1,       /* valid ranges: where they begin; among them ends and empties */
       KIT_LENGTHS = 2,      /* and how long they are */
       KIT_MASK = 4,         /* a mask over time */
       KIT_MASK_QUERIES = 8, /* one for each query */
       KIT_MASK_ALL = 16,    /* which hides everything from the last item */
       KIT_TIME_MAJOR = 32,  /* H is stored (T, B, D), the mask (T, B) or (Tq, T, B) */
       KIT_SLICES = 64       /* every strided tensor is a slice of a larger one; what lies between is NaN */
};

typedef struct kit_case {
    char name[96];   /* such as luong_imdb_f32 */
    const char *row; /* such as imdb */
    attn_score score;
    attn_dtype dtype;
    int64_t batch, timesteps, features, queries, query_features, score_width, units; /* as in attn_layer_desc */
    kit_fill fill;
    double scale, weight_scale; /* of the fill, and of the weights' glorot-uniform one; 0 stands for 1 */
    unsigned options, flags;
    int64_t
        distinct; /* item b has the content of item b % distinct, which keeps the reference of a large batch cheap; 0: all differ */
    uint64_t seed;
    attn_dtype h_dtype; /* how H is stored; 0: as dtype */
} kit_case;

const kit_case *kit_cases(size_t *count);
const kit_case *kit_find_case(const char *name); /* NULL: no such case */

/* ---- Problems ------------------------------------------------------------------------------------- */

/* Dense, widened content of a problem. Owned by whoever made it; arrays come from malloc and may be NULL where they do not apply. */
typedef struct kit_content {
    double *h, *query, *luong_w, *bahdanau_w1, *bahdanau_w2, *bahdanau_v, *w_c;
    int32_t *starts, *lengths;
    uint8_t *mask;
} kit_content;

/* Results widened, and shaped densely. */
typedef struct kit_results {
    long double *output, *context, *attention_weights, *lse;
} kit_results;

enum { KIT_OUTPUT = 1, KIT_CONTEXT = 2, KIT_WEIGHTS = 4, KIT_LSE = 8, KIT_ALL_OUTPUTS = 15 };

typedef struct kit_problem {
    kit_case spec;
    attn_layer_desc desc;
    attn_layer_forward_args args; /* complete but for the workspace */
    kit_content content;          /* of spec.distinct items */
    kit_guard guard;
    struct kit_buffers *buffers;
    kit_results expected; /* of spec.distinct items; made by kit_problem_expect */
    gates gates;          /* shaped as expected */
    unsigned given;       /* which outputs the last run was asked for */
    void *kept;           /* of the last run in training */
    size_t kept_size;
    struct kit_gradients *gradients; /* of the backward pass, once there was one */
    struct kit_problem *like;        /* NULL, or one of the same case, whose expected gradients are this one's too */
} kit_problem;

/* Content by the case's fill and seed, laid out by its options. Steps that no query may see are NaN. */
kit_problem *kit_problem_make(const kit_case *spec, kit_guard guard);

/* The same for content from elsewhere, which the problem takes over. */
kit_problem *kit_problem_from(const kit_case *spec, const kit_content *content, kit_guard guard);
void kit_problem_free(kit_problem *problem);

/* The content as the reference takes it. */
reference_input kit_problem_input(const kit_problem *problem);

/* Computes the expected results and gates, once; kit_problem_check does it when nobody did. float64 problems are computed in
 * quadruple precision up to a size; past it in float64, with gates for the rounding of both sides. */
void kit_problem_expect(kit_problem *problem);

/* Makes every element of every output NaN, and what lies between rows too. */
void kit_problem_poison(kit_problem *problem);

/* Poisons the outputs, makes a workspace of exactly the planned size full of NaN, runs, gives the workspace back. `outputs` says which optional
 * outputs to ask for (KIT_OUTPUT always counts when there is one). With prepare, the weights go through attn_layer_prepare and only that. */
attn_status kit_problem_run(kit_problem *problem, const attn_plan *plan, unsigned outputs);
attn_status kit_problem_run_prepared(kit_problem *problem, const attn_plan *plan, unsigned outputs);

typedef struct kit_verdict {
    double error;    /* the largest error over its gate; infinity where NaN or infinity do not match; <= 1 passes */
    char where[160]; /* the element, what it is and what was expected */
} kit_verdict;

/* Compares what the last run wrote, and that nothing between rows and no input changed. */
kit_verdict kit_problem_check(kit_problem *problem);

/* Copies an output of the last run, dense: bytes of the dtype, from malloc. NULL where the run gave none. */
void *kit_problem_output(const kit_problem *problem, unsigned which, size_t *bytes);

/* ---- Backward ------------------------------------------------------------------------------------- */

enum {
    KIT_GRAD_H = 1,
    KIT_GRAD_QUERY = 2,
    KIT_GRAD_LUONG_W = 4,
    KIT_GRAD_W1 = 8,
    KIT_GRAD_W2 = 16,
    KIT_GRAD_V = 32,
    KIT_GRAD_W_C = 64,
    KIT_ALL_GRADIENTS = 127
};

/* Arguments for what the last run in training kept: incoming gradients (KIT_OUTPUT and so on) from the case's seed, and where the gradients
 * that are wanted go; without a workspace. What the case does not have is left out. */
attn_layer_backward_args kit_problem_back_args(kit_problem *problem, unsigned incoming, unsigned gradients);

/* Other incoming gradients than the seed's: dense, of spec.distinct items. */
void kit_problem_set_incoming(kit_problem *problem, unsigned which, const double *values);

/* The same, with incoming gradients and prior ones in place: what kit_problem_check_back judges is what a run of these arguments leaves there. What is
 * written holds NaN before, what is accumulated numbers. */
attn_layer_backward_args kit_problem_back_ready(kit_problem *problem, unsigned incoming, unsigned gradients,
                                                uint64_t accumulate);

/* Such a run, with a workspace of exactly the planned size full of NaN. */
attn_status kit_problem_back(kit_problem *problem, const attn_plan *plan, unsigned incoming, unsigned gradients,
                             uint64_t accumulate);

/* Makes every element of every gradient NaN, once there was a backward run. */
void kit_problem_poison_back(kit_problem *problem);

/* Compares what the last backward run wrote, and that nothing else changed. */
kit_verdict kit_problem_check_back(kit_problem *problem);

/* Copies a gradient of the last run, dense, from malloc. NULL where it was not wanted. */
void *kit_problem_gradient(const kit_problem *problem, unsigned which, size_t *bytes);

/* What the reference makes of an incoming set: spec.distinct items, and `count` elements. Owned by the problem, until the next set;
 * what is written there counts. */
long double *kit_problem_expected_gradient(kit_problem *problem, unsigned incoming, unsigned which, size_t *count);
double *kit_problem_gradient_gates(kit_problem *problem, unsigned which); /* of the last set */

/* ---- Implementations ------------------------------------------------------------------------------ */

/* The names of the implementations that this build has for a pass ("forward", "backward"), a score and a dtype, in order of preference.
 * Returns how many. */
size_t kit_implementations(attn_context *context, const char *pass, attn_score score, attn_dtype dtype,
                           const char **names, size_t room);

/* A context for `threads` that forces an implementation (NULL: the choice is the library's); ends the program when it can't be
 * had. */
attn_context *kit_context(int threads, const char *implementation);

/* From here on kit_context makes contexts on CUDA, by this module, emulated or for the machine's first GPU. */
void kit_use_cuda(const char *module);

const char *kit_score_name(attn_score score); /* luong, bahdanau, dot */
const char *kit_dtype_name(attn_dtype dtype); /* f32, f64 */

#endif

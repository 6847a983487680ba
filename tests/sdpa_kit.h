/* SPDX-License-Identifier: Apache-2.0 */
/* The kit for scaled-dot-product attention: cases declared once (sdpa_cases.def), tensors in guarded memory, a run on any implementation,
 * the verdict by the gates. As kit.h does it for the layer. */
#ifndef ATTN_TESTS_SDPA_KIT_H
#define ATTN_TESTS_SDPA_KIT_H

#include "tests/kit.h"
#include "tests/sdpa_reference.h"

enum {                       /* sdpa_case.options */
       SDPA_TOKENS = 1,      /* stored (B, S, H, D) */
       SDPA_SLICES = 2,      /* every tensor is a slice of a larger one; what lies between is NaN */
       SDPA_MASK = 4,        /* (B, 1, Sq, Skv) */
       SDPA_MASK_KEYS = 8,   /* (B, 1, 1, Skv) */
       SDPA_MASK_HEADS = 16, /* (1, Hq, Sq, Skv) */
       SDPA_MASK_EMPTY = 32, /* with one of these: some queries see nothing */
       SDPA_BIAS = 64,       /* (B, Hq, Sq, Skv), -inf here and there */
       SDPA_BIAS_KEYS = 128, /* (1, Hq, 1, Skv) */
       SDPA_BIAS_ROWS = 256, /* (B, 1, Sq, 1): moves a row's scores alike */
       SDPA_LENGTHS = 512,   /* the first item's is Skv, the second's 0 */
       SDPA_ALIBI = 1024,
       SDPA_SINKS = 2048
};

typedef struct sdpa_case {
    char name[64];
    attn_dtype dtype;
    int64_t batch, query_heads, key_heads, queries, keys, head_dim,
        value_dim; /* as in attn_sdpa_desc, but value_dim 0: head_dim */
    attn_causal causal;
    int64_t left, right; /* windows, plus 1; 0: none */
    int64_t offset;
    double scale, softcap, spread; /* spread: of the queries; 0 stands for 1 */
    unsigned options;
    kit_fill fill; /* KIT_NORMAL, KIT_INTEGER, KIT_CONSTANT, KIT_REPEATED, KIT_ONE_HOT (the values), the hostile ones (keys and values) */
    uint64_t seed;
} sdpa_case;

const sdpa_case *sdpa_cases(size_t *count); /* each row in every dtype */
const sdpa_case *sdpa_find_case(const char *name);

/* One tensor in guarded memory; strides in elements. */
typedef struct sdpa_tensor {
    attn_dtype dtype;
    size_t element, count[4], stride[4], elements;
    char *memory;
} sdpa_tensor;

enum { SDPA_Q, SDPA_K, SDPA_V, SDPA_INPUT_BIAS, SDPA_INPUTS };
enum { SDPA_OUTPUT, SDPA_LSE, SDPA_WEIGHTS, SDPA_OUTPUTS };

typedef struct sdpa_problem {
    sdpa_case spec;
    attn_sdpa_desc desc;
    attn_sdpa_forward_args args; /* complete but for the workspace */
    sdpa_content content;
    sdpa_tensor inputs[SDPA_INPUTS], outputs[SDPA_OUTPUTS];
    uint8_t *mask; /* in guarded memory, as the small inputs are */
    int32_t *key_lengths;
    void *alibi_slopes, *sinks;
    sdpa_expected expected; /* made by the first check */
    uint64_t input_hash;
} sdpa_problem;

/* Content by the case's fill and seed. Keys that no query of an item may see are NaN. */
sdpa_problem *sdpa_problem_make(const sdpa_case *spec, kit_guard guard);
/* The same for content from elsewhere, which the problem takes over. */
sdpa_problem *sdpa_problem_from(const sdpa_case *spec, const sdpa_content *content, kit_guard guard);
void sdpa_problem_free(sdpa_problem *problem);

void sdpa_content_free(sdpa_content *content);

/* Writes content.q, k, v and bias to the tensors again, as they are. */
void sdpa_problem_store(sdpa_problem *problem);

/* Poisons the outputs and runs with a workspace of exactly the planned size, full of NaN. */
attn_status sdpa_problem_run(sdpa_problem *problem, const attn_plan *plan);

/* Compares what the last run wrote with `expected`; that nothing else changed. */
kit_verdict sdpa_problem_check(sdpa_problem *problem);
/* Makes `expected` where nobody did. */
void sdpa_problem_expect(sdpa_problem *problem);

double sdpa_get(const sdpa_tensor *t, size_t item, size_t head, size_t row, size_t element);

/* The outputs of the last run, dense and one after the other, from malloc. */
void *sdpa_problem_bits(const sdpa_problem *problem, size_t *bytes);

/* The implementations for a dtype; returns how many. */
size_t sdpa_implementations(attn_context *context, attn_dtype dtype, const char **names, size_t room);

#endif

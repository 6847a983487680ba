/* SPDX-License-Identifier: Apache-2.0
 * The command line. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include "attention/attention.h"

#include <stdbool.h>
#include <stdint.h>

enum { OPTION_ROOM = 16, NOT_GIVEN = -1 };

enum {
    SCORE_LUONG = 1 << ATTN_SCORE_LUONG,
    SCORE_BAHDANAU = 1 << ATTN_SCORE_BAHDANAU,
    SCORE_DOT = 1 << ATTN_SCORE_DOT
};

/* What is timed of a workload: DIRECTION_BOTH is a forward pass in training and the backward pass that follows it. */
typedef enum bench_direction { DIRECTION_FORWARD, DIRECTION_BACKWARD, DIRECTION_BOTH, DIRECTIONS } bench_direction;

static inline const char *bench_direction_name(bench_direction direction) {
    static const char *const names[DIRECTIONS] = {"forward", "backward", "both"};
    return names[direction];
}

/* A shape by options: a size is NOT_GIVEN where the workload's own counts. */
typedef struct shape_options {
    int64_t batch, timesteps, features, units, queries, query_features, score_width;
} shape_options;

typedef struct options {
    const char *workloads[OPTION_ROOM]; /* none: all */
    int workload_count;
    const char *implementations[OPTION_ROOM]; /* leading fields of names; none: the usual ones */
    int implementation_count;
    unsigned scores;     /* SCORE_ bits */
    unsigned directions; /* 1 << DIRECTION_ */
    attn_dtype dtype;
    shape_options shape;
    bool shaped; /* any of them given */
    bool prepared, attention_weights, cold, list, reviews_only;
    int threads; /* 0: all processors */
    const char *isa;
    double seconds; /* of timing for one workload and score */
    int rounds;     /* turns of each implementation in these; NOT_GIVEN: by the length of the calls */
    const char *json, *csv, *html, *data;
} options;

/* Ends the program after --help (status 0) and on anything it does not know (status 2, with the reason). */
options options_read(int argc, char **argv);

#endif

/* Sizes that implementations share. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ATTN_CPU_SIZES_H
#define ATTN_CPU_SIZES_H

#include "cpu/tuning.h"
#include "lib/backend.h"

static inline size_t least(size_t a, size_t b) { return a < b ? a : b; }

static inline size_t most(size_t a, size_t b) { return a > b ? a : b; }

static inline size_t divide_up(size_t a, size_t b) { return a / b + (a % b != 0); }

static inline size_t element_of(const attn_layer_problem *problem) {
    return problem->dtype == ATTN_FLOAT32 ? sizeof(float) : sizeof(double);
}

/* Elements rounded up to whole aligned vectors. */
static inline size_t padded(size_t count, size_t element) {
    size_t lanes = ATTN_WORKSPACE_ALIGNMENT / element;
    return (count + lanes - 1) / lanes * lanes;
}

/* Of the query as the scores take it. */
static inline size_t query_width(const attn_layer_problem *problem) {
    return problem->score == ATTN_SCORE_BAHDANAU ? problem->score_width : problem->features;
}

static inline size_t chunk_rows(const attn_layer_problem *problem) {
    return problem->score == ATTN_SCORE_BAHDANAU ? ATTN_CHUNK_ROWS_ADDITIVE : ATTN_CHUNK_ROWS;
}

/* Reads of H and of weights: too few, and waking a thread costs more than it brings. */
static inline bool worth_sharing(const attn_layer_problem *sizes) {
    size_t reads = sizes->queries * query_width(sizes) * (sizes->query_features + sizes->units) +
                   sizes->timesteps * sizes->features;
    if (sizes->score == ATTN_SCORE_BAHDANAU)
        reads += sizes->queries * sizes->timesteps * sizes->score_width * sizes->features / 16;
    return sizes->batch >= ATTN_SERIAL_WORK / (reads + 1);
}

#endif

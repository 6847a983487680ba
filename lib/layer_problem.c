/* SPDX-License-Identifier: Apache-2.0 */
/* From a descriptor to a problem. */
#include "lib/layer.h"
#include "lib/names.h"
#include "lib/sizes.h"
#include "lib/status.h"
#include "lib/structs.h"

static attn_status check_storage(const attn_layer_desc *desc) {
    const int stored = (int)desc->h_dtype, dtype = (int)desc->dtype;
    if (stored == 0 || stored == dtype) return ATTN_OK;
    if (stored != ATTN_FLOAT16 && stored != ATTN_BFLOAT16)
        return attn_fail(ATTN_ERROR_UNSUPPORTED, "desc.h_dtype: is %d, want 0, ATTN_FLOAT16 or ATTN_BFLOAT16", stored);
    if (dtype != ATTN_FLOAT32)
        return attn_fail(ATTN_ERROR_UNSUPPORTED, "desc.h_dtype: is %s, want 0 with desc.dtype %s",
                         attn_dtype_name(desc->h_dtype), attn_dtype_name(desc->dtype));
    return ATTN_OK;
}

static attn_status check_values(const attn_layer_desc *desc) {
    const uint64_t unknown = desc->flags & ~(ATTN_LAYER_TRAINING | ATTN_LAYER_RECOMPUTE);
    if (unknown)
        return attn_fail(ATTN_ERROR_UNSUPPORTED, "desc.flags: has unknown bits 0x%llx", (unsigned long long)unknown);
    const int score = (int)desc->score, dtype = (int)desc->dtype;
    if (score < ATTN_SCORE_LUONG || score > ATTN_SCORE_DOT)
        return attn_fail(ATTN_ERROR_UNSUPPORTED, "desc.score: is %d, want a value of attn_score", score);
    if (dtype < ATTN_FLOAT32 || dtype > ATTN_FLOAT64)
        return attn_fail(ATTN_ERROR_UNSUPPORTED, "desc.dtype: is %d, want ATTN_FLOAT32 or ATTN_FLOAT64", dtype);
    return check_storage(desc);
}

static attn_status check_sizes(const attn_layer_desc *desc) {
    const attn_size_rule sizes[] = {{"batch", desc->batch, 0},
                                    {"timesteps", desc->timesteps, 0},
                                    {"features", desc->features, 1},
                                    {"queries", desc->queries, ATTN_LAST_STEP},
                                    {"query_features", desc->query_features, 0},
                                    {"score_width", desc->score_width, 0},
                                    {"units", desc->units, 0}};
    return attn_check_sizes(sizes, sizeof sizes / sizeof *sizes);
}

/* What depends on more than one field. */
static attn_status check_relations(const attn_layer_desc *desc) {
    const bool equal_width = desc->queries == ATTN_LAST_STEP || desc->score == ATTN_SCORE_DOT;
    if (equal_width && desc->query_features != 0 && desc->query_features != desc->features)
        return attn_fail(ATTN_ERROR_SHAPE, "desc.query_features: is %lld, want %lld (features) %s",
                         (long long)desc->query_features, (long long)desc->features,
                         desc->score == ATTN_SCORE_DOT ? "with the dot score" : "when the query is h_t");
    if (desc->score != ATTN_SCORE_BAHDANAU && desc->score_width != 0)
        return attn_fail(ATTN_ERROR_SHAPE, "desc.score_width: is %lld, want 0 with the %s score",
                         (long long)desc->score_width, attn_score_name(desc->score));
    return ATTN_OK;
}

static attn_status check_products(const attn_layer_problem *p) {
    const size_t b = p->batch, t = p->timesteps, d = p->features, tq = p->queries, dq = p->query_features,
                 a = p->score_width, u = p->units;
    const attn_product_rule products[] = {
        {"batch * timesteps * features", {b, t, d, 1}},
        {"batch * queries * query_features", {b, tq, dq, 1}},
        {"batch * queries * score_width", {b, tq, a, 1}},
        {"batch * queries * units", {b, tq, u, 1}},
        {"features * query_features", {d, dq, 1, 1}},
        {"features * score_width", {d, a, 1, 1}},
        {"query_features * score_width", {dq, a, 1, 1}},
        {"(features + query_features) * units", {d + dq, u, 1, 1}},
        /* No tensor is that large; counts of the terms of a whole call are, and they bound the rest. */
        {"batch * queries * timesteps * (features + score_width)", {b, tq, t, d + a}},
    };
    return attn_check_products(p->dtype, products, sizeof products / sizeof *products);
}

attn_status attn_layer_resolve_problem(const attn_layer_desc *given, attn_operation operation,
                                       attn_layer_problem *problem) {
    if (!given) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "desc: is NULL, want a descriptor");
    attn_layer_desc desc = ATTN_LAYER_DESC_INIT;
    attn_status status = attn_read_struct("desc", &desc, sizeof desc, sizeof desc, given);
    if (!status) status = check_values(&desc);
    if (!status) status = check_sizes(&desc);
    if (!status) status = check_relations(&desc);
    if (status) return status;
    const bool given_query = desc.queries != ATTN_LAST_STEP;
    const bool training = operation == ATTN_OPERATION_LAYER_BACKWARD || desc.flags & ATTN_LAYER_TRAINING;
    const size_t features = (size_t)desc.features;
    *problem = (attn_layer_problem){
        .score = desc.score,
        .dtype = desc.dtype,
        .given_query = given_query,
        .training = training,
        .recompute = training && desc.flags & ATTN_LAYER_RECOMPUTE,
        .batch = (size_t)desc.batch,
        .timesteps = (size_t)desc.timesteps,
        .features = features,
        .queries = given_query ? (size_t)desc.queries : 1,
        .query_features = desc.query_features ? (size_t)desc.query_features : features,
        .score_width = desc.score != ATTN_SCORE_BAHDANAU ? 0
                       : desc.score_width                ? (size_t)desc.score_width
                                                         : features,
        .units = (size_t)desc.units,
        .h_dtype = desc.h_dtype ? desc.h_dtype : desc.dtype,
    };
    return check_products(problem);
}

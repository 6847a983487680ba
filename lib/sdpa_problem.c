/* SPDX-License-Identifier: Apache-2.0 */
/* From a descriptor to a problem. */
#include "lib/sdpa.h"
#include "lib/sizes.h"
#include "lib/status.h"
#include "lib/structs.h"

#include <math.h>

static const uint64_t known_flags =
    ATTN_SDPA_MASK | ATTN_SDPA_BIAS | ATTN_SDPA_KEY_LENGTHS | ATTN_SDPA_ALIBI | ATTN_SDPA_SINKS | ATTN_SDPA_WEIGHTS;

static attn_status check_values(const attn_sdpa_desc *desc) {
    if (desc->flags & ~known_flags)
        return attn_fail(ATTN_ERROR_UNSUPPORTED, "desc.flags: has unknown bits 0x%llx",
                         (unsigned long long)(desc->flags & ~known_flags));
    const attn_status status = attn_check_dtype(desc->dtype);
    if (status) return status;
    const int causal = (int)desc->causal;
    if (causal < ATTN_CAUSAL_NONE || causal > ATTN_CAUSAL_BOTTOM_RIGHT)
        return attn_fail(ATTN_ERROR_UNSUPPORTED, "desc.causal: is %d, want a value of attn_causal", causal);
    if (desc->softcap < 0)
        return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "desc.softcap: is %g, want a finite number above 0, or 0",
                         desc->softcap);
    const attn_status scale = attn_check_factor("desc.scale", desc->scale, desc->dtype);
    return scale ? scale : attn_check_factor("desc.softcap", desc->softcap, desc->dtype);
}

static attn_status check_sizes(const attn_sdpa_desc *desc) {
    const attn_size_rule rules[] = {{"batch", desc->batch, 0},
                                    {"query_heads", desc->query_heads, 0},
                                    {"key_heads", desc->key_heads, 0},
                                    {"queries", desc->queries, 0},
                                    {"keys", desc->keys, 0},
                                    {"head_dim", desc->head_dim, 1},
                                    {"value_dim", desc->value_dim, ATTN_HEAD_DIM},
                                    {"window_left", desc->window_left, ATTN_NO_WINDOW},
                                    {"window_right", desc->window_right, ATTN_NO_WINDOW}};
    const attn_status status = attn_check_sizes(rules, sizeof rules / sizeof *rules);
    if (status) return status;
    if (desc->key_heads > 0 && desc->query_heads % desc->key_heads != 0)
        return attn_fail(ATTN_ERROR_SHAPE, "desc.query_heads: is %lld, want a multiple of key_heads, %lld",
                         (long long)desc->query_heads, (long long)desc->key_heads);
    return ATTN_OK;
}

static attn_status check_products(const attn_sdpa_problem *p) {
    const size_t b = p->batch, h = p->query_heads, g = p->key_heads, s = p->queries, t = p->keys;
    const attn_product_rule rules[] = {
        {"batch * query_heads * queries * head_dim", {b, h, s, p->head_dim}},
        {"batch * query_heads * queries * value_dim", {b, h, s, p->value_dim}},
        {"batch * key_heads * keys * head_dim", {b, g, t, p->head_dim}},
        {"batch * key_heads * keys * value_dim", {b, g, t, p->value_dim}},
        {"batch * query_heads * queries * keys", {b, h, s, p->flags & ATTN_SDPA_WEIGHTS ? t : 1}},
    };
    return attn_check_products(p->dtype, rules, sizeof rules / sizeof *rules);
}

static ptrdiff_t window(int64_t given) { return given < ATTN_SDPA_FARTHEST ? (ptrdiff_t)given : ATTN_NO_WINDOW; }

attn_status attn_sdpa_resolve_problem(const attn_sdpa_desc *given, attn_sdpa_problem *problem) {
    if (!given) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "desc: is NULL, want a descriptor");
    attn_sdpa_desc desc = ATTN_SDPA_DESC_INIT;
    attn_status status = attn_read_struct("desc", &desc, sizeof desc, sizeof desc, given);
    if (!status) status = check_values(&desc);
    if (!status) status = check_sizes(&desc);
    if (status) return status;
    *problem = (attn_sdpa_problem){
        .dtype = desc.dtype,
        .causal = desc.causal,
        .flags = desc.flags,
        .batch = (size_t)desc.batch,
        .query_heads = (size_t)desc.query_heads,
        .key_heads = (size_t)(desc.key_heads ? desc.key_heads : desc.query_heads),
        .queries = (size_t)desc.queries,
        .keys = (size_t)desc.keys,
        .head_dim = (size_t)desc.head_dim,
        .value_dim = (size_t)(desc.value_dim == ATTN_HEAD_DIM ? desc.head_dim : desc.value_dim),
        .scale = desc.scale != 0 ? desc.scale : 1 / sqrt((double)desc.head_dim),
        .softcap = desc.softcap,
        .window_left = window(desc.window_left),
        .window_right = window(desc.window_right),
    };
    return check_products(problem);
}

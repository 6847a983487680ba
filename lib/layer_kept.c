/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/layer_kept.h"

#include "lib/layer_inputs.h"
#include "lib/status.h"

#include <string.h>

/* "attnkept" */
static const uint64_t kept_mark = UINT64_C(0x7470656b6e747461);

static const char *const field_names[ATTN_KEPT_FIELDS] = {
    "score",    "dtype",   "given query",    "recompute",   "batch", "timesteps",
    "features", "queries", "query features", "score width", "units",
};

static attn_kept_header header_for(const attn_plan *plan, const attn_layer_problem *p) {
    return (attn_kept_header){
        .mark = kept_mark,
        .backend = (uint64_t)(uintptr_t)plan->context->backend,
        .fields = {(uint64_t)p->score, (uint64_t)p->dtype, p->given_query, p->recompute, p->batch, p->timesteps,
                   p->features, p->queries, p->query_features, p->score_width, p->units},
    };
}

void *attn_layer_take_kept(attn_tensors *tensors, const attn_plan *plan, const attn_layer_problem *sizes,
                           const void *kept, size_t size, bool written) {
    static const attn_tensor_kind kinds[2] = {
        {.name = "kept", .alignment = ATTN_WORKSPACE_ALIGNMENT, .required = true},
        {.name = "kept", .alignment = ATTN_WORKSPACE_ALIGNMENT, .required = true, .written = true},
    };
    if (tensors->status) return NULL;
    if (!plan->problem.training) {
        if (kept)
            tensors->status = attn_fail(ATTN_ERROR_INVALID_ARGUMENT,
                                        "kept: is given, want NULL, for the plan was made without ATTN_LAYER_TRAINING");
        return NULL;
    }
    if (sizes->batch == 0 || sizes->queries == 0) return NULL;
    const size_t wanted = ATTN_KEPT_HEADER_SIZE + plan->context->backend->kept_size(sizes);
    if (kept && size < wanted) {
        tensors->status =
            attn_fail(ATTN_ERROR_WORKSPACE, "kept_size: is %zu, want at least %zu (attn_plan_kept_size)", size, wanted);
        return NULL;
    }
    if (!attn_layer_take_dense(tensors, &kinds[written], kept, 1, wanted)) return NULL;
    return (char *)(uintptr_t)kept + ATTN_KEPT_HEADER_SIZE;
}

void attn_layer_open_kept(void *kept) { memset(kept, 0, ATTN_KEPT_HEADER_SIZE); }

void attn_layer_seal_kept(const attn_plan *plan, const attn_layer_problem *sizes, void *kept) {
    const attn_kept_header header = header_for(plan, sizes);
    memcpy(kept, &header, sizeof header);
}

attn_status attn_layer_check_kept(const attn_plan *plan, const attn_layer_problem *sizes, const void *kept) {
    const attn_kept_header wanted = header_for(plan, sizes);
    attn_kept_header found;
    memcpy(&found, kept, sizeof found);
    if (found.mark != wanted.mark)
        return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "kept: was not filled by attn_layer_forward in training");
    if (found.backend != wanted.backend)
        return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "kept: was filled on another device or in another process");
    for (size_t i = 0; i < ATTN_KEPT_FIELDS; i++)
        if (found.fields[i] != wanted.fields[i])
            return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "kept: was filled for %s %llu, want %llu", field_names[i],
                             (unsigned long long)found.fields[i], (unsigned long long)wanted.fields[i]);
    return ATTN_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Scaled-dot-product attention's descriptors and arguments, checked and resolved. */
#ifndef ATTN_LIB_SDPA_H
#define ATTN_LIB_SDPA_H

#include "lib/plan.h"

/* The problem of a descriptor, its defaults filled in and every size known to fit. */
attn_status attn_sdpa_resolve_problem(const attn_sdpa_desc *given, attn_sdpa_problem *problem);

/* The call of a run's arguments: everything checked, nothing written. */
attn_status attn_sdpa_resolve_call(const attn_plan *plan, const attn_sdpa_forward_args *args, attn_sdpa_call *call);

/* The largest distance between a position and a key that is told from infinity: any three of them add up. */
#define ATTN_SDPA_FARTHEST (PTRDIFF_MAX / 8)

/* A run's query_offset: ATTN_ERROR_RANGE past that. */
attn_status attn_check_offset(int64_t given, ptrdiff_t *offset);

#endif

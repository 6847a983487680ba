/* SPDX-License-Identifier: Apache-2.0 */
/* The choice of an implementation: the only place where one is made. */
#ifndef ATTN_LIB_DISPATCH_H
#define ATTN_LIB_DISPATCH_H

#include "lib/context.h"

/* Whether the first length characters of wanted are name, or end at one of its colons. */
bool attn_name_matches(const char *name, const char *wanted, size_t length);

/* What is to be computed; the operation says which of the problems it is. */
typedef struct attn_question {
    attn_operation operation;
    const attn_layer_problem *layer;
    const attn_sdpa_problem *sdpa;
    const attn_matmul_problem *matmul;
    const attn_softmax_problem *softmax;
} attn_question;

/* Walks the implementations of the operation in order of preference and chooses the first that refuses nothing. When all refuse, the
 * reasons that only say "slower" are dropped and the walk repeated: thus a forced implementation runs where it can,
 * and a restriction never leaves a problem without the implementation that could compute it.
 * explain, where not NULL, hears of each of them. ATTN_ERROR_UNSUPPORTED, with the refusals in the message. */
attn_status attn_select(const attn_context *context, const attn_question *question, attn_explain explain, void *user,
                        const attn_implementation **chosen);

#endif

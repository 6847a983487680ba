/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/dispatch.h"

#include "lib/names.h"
#include "lib/status.h"

#include <stdio.h>
#include <string.h>

bool attn_name_matches(const char *name, const char *wanted, size_t length) {
    return length > 0 && strncmp(name, wanted, length) == 0 && (name[length] == '\0' || name[length] == ':');
}

typedef struct attn_question {
    const attn_context *context;
    attn_operation operation;
    const attn_layer_problem *problem;
    bool lenient; /* soft reasons are dropped */
} attn_question;

/* Room for a reason that is put together here; those of the implementations are constants. */
typedef char reason_text[160];

static bool for_problem(const attn_implementation *implementation, const attn_layer_problem *problem) {
    return implementation->score == problem->score && implementation->dtype == problem->dtype;
}

static const char *refusal(const attn_question *question, const attn_implementation *implementation, reason_text text) {
    const attn_context *context = question->context;
    if (!for_problem(implementation, question->problem)) {
        snprintf(text, sizeof(reason_text), "computes %s in %s", attn_score_name(implementation->score),
                 attn_dtype_name(implementation->dtype));
        return text;
    }
    if (context->forced_length > 0 &&
        !attn_name_matches(implementation->name, context->forced, context->forced_length)) {
        snprintf(text, sizeof(reason_text), "not the forced %.*s", (int)context->forced_length, context->forced);
        return text;
    }
    if ((context->options.flags & ATTN_CONTEXT_BATCH_INVARIANT) && !implementation->batch_invariant)
        return "not batch-invariant, as the context's flag demands";
    bool hard = true;
    const char *reason = implementation->refuse(implementation, context->device, question->problem, &hard);
    return reason && (hard || !question->lenient) ? reason : NULL;
}

static const attn_implementation *first_fitting(const attn_question *question) {
    reason_text text;
    const attn_implementation *implementation;
    for (size_t i = 0; (implementation = question->context->backend->implementation(i)); i++)
        if (implementation->operation == question->operation && !refusal(question, implementation, text))
            return implementation;
    return NULL;
}

static void explain_all(const attn_question *question, const attn_implementation *chosen, attn_explain explain,
                        void *user) {
    reason_text text;
    const attn_implementation *implementation;
    for (size_t i = 0; (implementation = question->context->backend->implementation(i)); i++)
        if (implementation->operation == question->operation)
            explain(user, implementation->name, implementation == chosen, refusal(question, implementation, text));
}

/* Fails with the reasons of those that compute this score in this dtype. */
static attn_status fail_with_refusals(const attn_question *question) {
    char list[896] = "";
    size_t used = 0;
    reason_text text;
    const attn_implementation *implementation;
    for (size_t i = 0; (implementation = question->context->backend->implementation(i)); i++) {
        if (implementation->operation != question->operation || !for_problem(implementation, question->problem))
            continue;
        const int written = snprintf(list + used, sizeof list - used, "%s%s: %s", used ? "; " : "",
                                     implementation->name, refusal(question, implementation, text));
        if (written < 0 || (size_t)written >= sizeof list - used) break;
        used += (size_t)written;
    }
    return attn_fail(ATTN_ERROR_UNSUPPORTED, "no implementation fits: %s",
                     used ? list : "none computes this score in this dtype");
}

attn_status attn_select(const attn_context *context, attn_operation operation, const attn_layer_problem *problem,
                        attn_explain explain, void *user, const attn_implementation **chosen) {
    attn_question question = {context, operation, problem, false};
    *chosen = first_fitting(&question);
    if (!*chosen) {
        question.lenient = true;
        *chosen = first_fitting(&question);
    }
    if (explain) explain_all(&question, *chosen, explain, user);
    return *chosen ? ATTN_OK : fail_with_refusals(&question);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/dispatch.h"

#include "lib/names.h"
#include "lib/process.h"
#include "lib/status.h"

#include <stdio.h>
#include <string.h>

bool attn_name_matches(const char *name, const char *wanted, size_t length) {
    return length > 0 && strncmp(name, wanted, length) == 0 && (name[length] == '\0' || name[length] == ':');
}

typedef struct attn_choice {
    const attn_context *context;
    const attn_question *question;
    bool lenient; /* soft reasons are dropped */
} attn_choice;

/* Room for a reason that is put together here; those of the implementations are constants. */
typedef char reason_text[160];

static attn_dtype asked_dtype(const attn_question *question) {
    return question->sdpa      ? question->sdpa->dtype
           : question->matmul  ? question->matmul->dtype
           : question->softmax ? question->softmax->dtype
                               : question->layer->dtype;
}

static bool for_question(const attn_implementation *implementation, const attn_question *question) {
    return implementation->dtype == asked_dtype(question) &&
           (!question->layer || implementation->score == question->layer->score);
}

static const char *what_it_computes(const attn_implementation *implementation, reason_text text) {
    const attn_operation operation = implementation->operation;
    const bool layer = operation == ATTN_OPERATION_LAYER_FORWARD || operation == ATTN_OPERATION_LAYER_BACKWARD;
    snprintf(text, sizeof(reason_text), "computes %s in %s",
             layer ? attn_score_name(implementation->score) : attn_operation_name(operation),
             attn_dtype_name(implementation->dtype));
    return text;
}

static const char *ask(const attn_choice *choice, const attn_implementation *implementation, bool *hard) {
    const attn_question *question = choice->question;
    const attn_device *device = choice->context->device;
    if (question->sdpa) return implementation->sdpa->refuse(implementation, device, question->sdpa, hard);
    if (question->matmul) return implementation->matmul->refuse(implementation, device, question->matmul, hard);
    if (question->softmax) return implementation->softmax->refuse(implementation, device, question->softmax, hard);
    return implementation->refuse(implementation, device, question->layer, hard);
}

static const char *refusal(const attn_choice *choice, const attn_implementation *implementation, reason_text text) {
    const attn_context *context = choice->context;
    if (!for_question(implementation, choice->question)) return what_it_computes(implementation, text);
    if (context->forced_length > 0 &&
        !attn_name_matches(implementation->name, context->forced, context->forced_length)) {
        snprintf(text, sizeof(reason_text), "not the forced %.*s", (int)context->forced_length, context->forced);
        return text;
    }
    if ((context->options.flags & ATTN_CONTEXT_BATCH_INVARIANT) && !implementation->batch_invariant)
        return "not batch-invariant, as the context's flag demands";
    if (choice->question->layer && choice->question->layer->h_dtype != implementation->dtype &&
        !implementation->short_h) {
        snprintf(text, sizeof(reason_text), "reads no H in %s", attn_dtype_name(choice->question->layer->h_dtype));
        return text;
    }
    bool hard = true;
    const char *reason = ask(choice, implementation, &hard);
    return reason && (hard || !choice->lenient) ? reason : NULL;
}

static const attn_implementation *first_fitting(const attn_choice *choice) {
    reason_text text;
    const attn_implementation *implementation;
    for (size_t i = 0; (implementation = choice->context->backend->implementation(i)); i++)
        if (implementation->operation == choice->question->operation && !refusal(choice, implementation, text))
            return implementation;
    return NULL;
}

static void explain_all(const attn_choice *choice, const attn_implementation *chosen, attn_explain explain,
                        void *user) {
    reason_text text;
    const attn_implementation *implementation;
    for (size_t i = 0; (implementation = choice->context->backend->implementation(i)); i++)
        if (implementation->operation == choice->question->operation)
            explain(user, implementation->name, implementation == chosen, refusal(choice, implementation, text));
}

/* Fails with the reasons of those that compute this score in this dtype. */
static attn_status fail_with_refusals(const attn_choice *choice) {
    const attn_question *question = choice->question;
    char list[896] = "";
    size_t used = 0;
    reason_text text;
    const attn_implementation *implementation;
    for (size_t i = 0; (implementation = choice->context->backend->implementation(i)); i++) {
        if (implementation->operation != choice->question->operation || !for_question(implementation, choice->question))
            continue;
        const int written = snprintf(list + used, sizeof list - used, "%s%s: %s", used ? "; " : "",
                                     implementation->name, refusal(choice, implementation, text));
        if (written < 0 || (size_t)written >= sizeof list - used) break;
        used += (size_t)written;
    }
    if (used == 0)
        snprintf(list, sizeof list, "the %s backend has none for the %s in %s%s%s", choice->context->backend->name,
                 attn_operation_name(question->operation), attn_dtype_name(asked_dtype(question)),
                 question->layer ? " with the score " : "",
                 question->layer ? attn_score_name(question->layer->score) : "");
    return attn_fail(ATTN_ERROR_UNSUPPORTED, "no implementation fits: %s", list);
}

attn_status attn_select(const attn_context *context, const attn_question *question, attn_explain explain, void *user,
                        const attn_implementation **chosen) {
    ATTN_WITHOUT_CANCELLATION;
    attn_choice choice = {context, question, false};
    *chosen = first_fitting(&choice);
    if (!*chosen) {
        choice.lenient = true;
        *chosen = first_fitting(&choice);
    }
    if (explain) explain_all(&choice, *chosen, explain, user);
    return *chosen ? ATTN_OK : fail_with_refusals(&choice);
}

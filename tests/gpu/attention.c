/* SPDX-License-Identifier: Apache-2.0 */
/* Attention by composition as a subject. */
#include "tests/gpu/subject.h"
#include "tests/sdpa_kit.h"

#include <stdio.h>
#include <string.h>

static bool run(const subject *s) {
    attn_sdpa_forward_args args = ((const sdpa_problem *)s->problem)->args;
    args.workspace = s->workspace, args.workspace_size = s->workspace_size;
    return attn_sdpa_forward(s->plan, &args) == ATTN_OK;
}

static bool right(subject *s) { return sdpa_problem_check(s->problem).error <= 1; }

static void poison(const subject *s) {
    const sdpa_problem *problem = s->problem;
    for (int i = 0; i < SDPA_OUTPUTS; i++)
        memset(problem->outputs[i].memory, 0xff, problem->outputs[i].elements * problem->outputs[i].element);
}

static void *bits(const subject *s, size_t *bytes) { return sdpa_problem_bits(s->problem, bytes); }

/* The sign is an element's highest bit. */
static void negate_values(const subject *s) {
    const sdpa_tensor *values = &((const sdpa_problem *)s->problem)->inputs[SDPA_V];
    for (size_t i = 1; i <= values->elements; i++) values->memory[i * values->element - 1] ^= (char)0x80;
}

static void forget(const subject *s) { sdpa_problem_free(s->problem); }

static const subject_kind attention = {run, right, poison, bits, negate_values, forget};

bool subject_attention(subject *s, const char *name, const char *module) {
    sdpa_problem *problem = sdpa_problem_make(sdpa_find_case(name), KIT_GUARD_BEHIND);
    const sdpa_tensor *output = &problem->outputs[SDPA_OUTPUT];
    *s = (subject){.kind = &attention, .problem = problem, .element = output->element};
    s->negated = output->count[0] * output->count[1] * output->count[2] * output->count[3] * output->element;
    snprintf(s->name, sizeof s->name, "attention %s", name);
    subject_open(s, module, NULL);
    if (attn_sdpa_forward_plan(s->context, &problem->desc, &s->plan)) return false;
    subject_get_workspace(s);
    return true;
}

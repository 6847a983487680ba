/* SPDX-License-Identifier: Apache-2.0 */
/* The layer's passes as subjects. */
#include "tests/gpu/subject.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OUTPUTS = 4, GRADIENTS = 7 };

typedef void *(*part_function)(const kit_problem *problem, unsigned which, size_t *bytes);

/* Parts 1, 2, 4 and so on, one after the other. */
static void *join(const kit_problem *problem, part_function part_of, int count, size_t *bytes) {
    unsigned char *joined = NULL;
    *bytes = 0;
    for (int i = 0; i < count; i++) {
        size_t more;
        void *part = part_of(problem, 1u << i, &more);
        joined = realloc(joined, *bytes + more + 1);
        if (more) memcpy(joined + *bytes, part, more);
        *bytes += more;
        free(part);
    }
    return joined;
}

static void negate_floats(void *data, int64_t count) {
    float *values = data;
    for (int64_t i = 0; i < count; i++) values[i] = -values[i];
}

static void forget(const subject *s) { kit_problem_free(s->problem); }

/* A problem; s->name is the case's, with the implementation's. */
static void make(subject *s, const kit_case *spec, const char *pass) {
    kit_problem *problem = kit_problem_make(spec, KIT_GUARD_BEHIND);
    problem->given = KIT_ALL_OUTPUTS;
    s->problem = problem, s->element = sizeof(float);
    snprintf(s->name, sizeof s->name, "%s %s", spec->name, pass);
}

static void name_implementation(subject *s) {
    const size_t length = strlen(s->name);
    snprintf(s->name + length, sizeof s->name - length, ", %s", attn_plan_implementation(s->plan));
}

/* ---- Forward --------------------------------------------------------------------------------------- */

static bool run_forward(const subject *s) {
    attn_layer_forward_args args = ((kit_problem *)s->problem)->args;
    args.workspace = s->workspace, args.workspace_size = s->workspace_size;
    return attn_layer_forward(s->plan, &args) == ATTN_OK;
}

static bool right_forward(subject *s) { return kit_problem_check(s->problem).error <= 1; }

static void poison_forward(const subject *s) { kit_problem_poison(s->problem); }

static void *bits_forward(const subject *s, size_t *bytes) {
    return join(s->problem, kit_problem_output, OUTPUTS, bytes);
}

static void negate_weights(const subject *s) {
    const kit_problem *problem = s->problem;
    const attn_layer_desc *d = &problem->desc;
    const int64_t query = d->query_features ? d->query_features : d->features;
    negate_floats((void *)(uintptr_t)problem->args.weights.w_c, (d->features + query) * d->units);
}

static const subject_kind forward = {run_forward, right_forward, poison_forward, bits_forward, negate_weights, forget};

bool subject_forward(subject *s, const kit_case *spec, attn_dtype stored, const char *module,
                     const char *implementation) {
    kit_case other = *spec;
    other.h_dtype = stored;
    *s = (subject){.kind = &forward};
    make(s, &other, "forward");
    subject_open(s, module, implementation);
    kit_problem *problem = s->problem;
    if (attn_layer_forward_plan(s->context, &problem->desc, &s->plan)) return false;
    subject_get_workspace(s);
    free(kit_problem_output(problem, KIT_OUTPUT, &s->negated));
    name_implementation(s);
    return true;
}

/* ---- Backward -------------------------------------------------------------------------------------- */

static bool run_backward(const subject *s) {
    attn_layer_backward_args args = kit_problem_back_args(s->problem, KIT_ALL_OUTPUTS, KIT_ALL_GRADIENTS);
    args.workspace = s->workspace, args.workspace_size = s->workspace_size;
    return attn_layer_backward(s->plan, &args) == ATTN_OK;
}

static bool right_backward(subject *s) { return kit_problem_check_back(s->problem).error <= 1; }

static void poison_backward(const subject *s) { kit_problem_poison_back(s->problem); }

static void *bits_backward(const subject *s, size_t *bytes) {
    return join(s->problem, kit_problem_gradient, GRADIENTS, bytes);
}

/* All incoming gradients; rows that are apart have no numbers between them. */
static void negate_incoming(const subject *s) {
    const kit_problem *problem = s->problem;
    const attn_layer_desc *d = &problem->desc;
    const attn_layer_backward_args args = kit_problem_back_args(s->problem, KIT_ALL_OUTPUTS, KIT_ALL_GRADIENTS);
    const int64_t rows = d->batch * (d->queries == ATTN_LAST_STEP ? 1 : d->queries);
    negate_floats((void *)(uintptr_t)args.grad_output, args.grad_output ? rows * d->units : 0);
    negate_floats((void *)(uintptr_t)args.grad_context, rows * d->features);
    negate_floats((void *)(uintptr_t)args.grad_attention_weights, rows * d->timesteps);
    negate_floats((void *)(uintptr_t)args.grad_lse, rows);
}

static const subject_kind backward = {run_backward,  right_backward,  poison_backward,
                                      bits_backward, negate_incoming, forget};

/* Fills what the forward pass keeps and lays the incoming gradients out: both by the kit's own way to run. */
static bool prepare_backward(subject *s, const char *module) {
    kit_problem *problem = s->problem;
    attn_layer_desc desc = problem->desc;
    desc.flags = ATTN_LAYER_TRAINING;
    subject trained = {.kind = &forward};
    subject_open(&trained, module, NULL);
    const bool ready = !attn_layer_forward_plan(trained.context, &desc, &trained.plan) &&
                       !kit_problem_run(problem, trained.plan, KIT_CONTEXT) &&
                       !kit_problem_back(problem, s->plan, KIT_ALL_OUTPUTS, KIT_ALL_GRADIENTS, 0);
    subject_close(&trained);
    return ready;
}

bool subject_backward(subject *s, const kit_case *spec, const char *module, const char *implementation) {
    *s = (subject){.kind = &backward};
    make(s, spec, "backward");
    subject_open(s, module, implementation);
    const kit_problem *problem = s->problem;
    if (attn_layer_backward_plan(s->context, &problem->desc, &s->plan) || !prepare_backward(s, module)) return false;
    subject_get_workspace(s);
    free(bits_backward(s, &s->negated));
    name_implementation(s);
    return true;
}

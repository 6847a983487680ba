/* SPDX-License-Identifier: Apache-2.0 */
/* Something of the library that is ready to run on a stream of its own, as often as it is asked to: a pass of the layer, attention, a block. */
#ifndef ATTN_TESTS_GPU_SUBJECT_H
#define ATTN_TESTS_GPU_SUBJECT_H

#include "attention/attention_cuda.h"
#include "tests/driver.h"
#include "tests/kit.h"

typedef struct subject subject;

typedef struct subject_kind {
    bool (*run)(const subject *s); /* puts a run on the stream */
    bool (*right)(subject *s);     /* whether the outputs of a run are, which has been waited for */
    void (*poison)(const subject *s);
    void *(*bits)(const subject *s, size_t *bytes); /* the outputs, from malloc */
    void (*negate)(
        const subject *s); /* an input, which negates the first outputs and leaves the others; NULL: there is none */
    void (*forget)(const subject *s);
} subject_kind;

struct subject {
    char name[128];
    const subject_kind *kind;
    driver_stream stream;
    attn_context *context;
    attn_plan *plan;
    void *problem; /* the kind's */
    void *workspace;
    size_t workspace_size;
    size_t element, negated; /* bytes of an element of the first outputs, of all of these */
};

/* The driver, which the program has opened. */
extern const driver *subject_driver;

/* A stream, and a context on it for an implementation; NULL: the library's choice. */
void subject_open(subject *s, const char *module, const char *implementation);
/* Once there is a plan. */
void subject_get_workspace(subject *s);
void subject_close(subject *s);

/* Everything that a run writes. */
void subject_poison(const subject *s);
void subject_wait(const subject *s);

/* False where the plan is refused. `stored`: how H is stored, 0: as the case has it. */
bool subject_forward(subject *s, const kit_case *spec, attn_dtype stored, const char *module,
                     const char *implementation);
bool subject_backward(subject *s, const kit_case *spec, const char *module, const char *implementation);
bool subject_attention(subject *s, const char *name, const char *module);
bool subject_matmul(subject *s, attn_dtype dtype, const char *module);
bool subject_softmax(subject *s, bool backward, attn_dtype dtype, const char *module);

#endif

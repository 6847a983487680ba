/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/gpu/subject.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const driver *subject_driver;

void subject_open(subject *s, const char *module, const char *implementation) {
    DRIVER_MUST(subject_driver->stream_create(&s->stream, DRIVER_STREAM_NON_BLOCKING));
    attn_cuda_options cuda = ATTN_CUDA_OPTIONS_INIT;
    cuda.module = module, cuda.stream = s->stream;
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.device = ATTN_DEVICE_CUDA, options.cuda = &cuda, options.implementation = implementation;
    if (!attn_context_create(&options, &s->context)) return;
    fprintf(stderr, "attention_gpu: %s\n", attn_last_error_message());
    exit(1);
}

void subject_get_workspace(subject *s) {
    s->workspace_size = attn_plan_workspace_size(s->plan);
    s->workspace = kit_alloc(s->workspace_size, KIT_GUARD_BEHIND);
}

void subject_close(subject *s) {
    if (s->problem) s->kind->forget(s);
    kit_free(s->workspace);
    attn_plan_destroy(s->plan);
    attn_context_destroy(s->context);
    DRIVER_MUST(subject_driver->stream_destroy(s->stream));
}

void subject_poison(const subject *s) {
    memset(s->workspace, 0xff, s->workspace_size);
    s->kind->poison(s);
}

void subject_wait(const subject *s) { DRIVER_MUST(subject_driver->stream_wait(s->stream)); }

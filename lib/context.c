/* SPDX-License-Identifier: Apache-2.0 */
/* The context: its options, the environment, its lifetime, and what it tells about itself. */
#include "lib/context.h"

#include "attention/attention_cuda.h"
#include "lib/dispatch.h"
#include "lib/module.h"
#include "lib/process.h"
#include "lib/status.h"
#include "lib/structs.h"

#include <stdlib.h>
#include <string.h>

/* More threads than any machine has; it bounds the workspace, which grows with them. */
enum { LARGEST_THREADS = 4096 };

static void *allocate_by_malloc(void *user, size_t size) {
    (void)user;
    return malloc(size);
}

static void release_by_free(void *user, void *memory) {
    (void)user;
    free(memory);
}

/* Where a text comes from: the option, else the environment variable, else nowhere. Messages name the source. */
typedef struct attn_setting {
    const char *source, *value;
} attn_setting;

static attn_setting read_setting(const char *option, const char *value, const char *variable) {
    if (value && *value) return (attn_setting){option, value};
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): safe while no thread changes the environment, as the header says. */
    const char *environment = getenv(variable);
    return (attn_setting){variable, environment && *environment ? environment : NULL};
}

static attn_status check_device(const attn_context_options *options) {
    if (options->device != ATTN_DEVICE_CPU && options->device != ATTN_DEVICE_CUDA)
        return attn_fail(ATTN_ERROR_UNSUPPORTED, "options.device: is %d, want ATTN_DEVICE_CPU or ATTN_DEVICE_CUDA",
                         (int)options->device);
    if (options->device == ATTN_DEVICE_CPU && options->cuda)
        return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "options.cuda: is given, want NULL without ATTN_DEVICE_CUDA");
    if (options->device == ATTN_DEVICE_CUDA && options->isa && *options->isa)
        return attn_fail(ATTN_ERROR_INVALID_ARGUMENT,
                         "options.isa: is \"%.64s\", want NULL with ATTN_DEVICE_CUDA (it is a CPU's)", options->isa);
    if (options->device == ATTN_DEVICE_CUDA && options->blas && *options->blas)
        return attn_fail(ATTN_ERROR_INVALID_ARGUMENT,
                         "options.blas: is \"%.64s\", want NULL with ATTN_DEVICE_CUDA (it is a CPU's)", options->blas);
    return ATTN_OK;
}

static attn_status check_options(const attn_context_options *options) {
    if (options->flags & ~ATTN_CONTEXT_BATCH_INVARIANT)
        return attn_fail(ATTN_ERROR_UNSUPPORTED, "options.flags: has unknown bits 0x%llx",
                         (unsigned long long)(options->flags & ~ATTN_CONTEXT_BATCH_INVARIANT));
    if (options->threads < 0 || options->threads > LARGEST_THREADS)
        return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "options.threads: is %d, want 0 to %d", options->threads,
                         LARGEST_THREADS);
    if (!options->allocate != !options->release)
        return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "options.%s: is NULL, want both allocate and release or neither",
                         options->allocate ? "release" : "allocate");
    return check_device(options);
}

/* The defaults, or what the caller chose among them. */
static attn_status read_cuda_options(const attn_context_options *options, attn_cuda_options *cuda) {
    *cuda = (attn_cuda_options)ATTN_CUDA_OPTIONS_INIT;
    if (!options->cuda) return ATTN_OK;
    const attn_status status = attn_read_struct("options.cuda", cuda, sizeof *cuda, sizeof *cuda, options->cuda);
    if (status) return status;
    if (cuda->flags)
        return attn_fail(ATTN_ERROR_UNSUPPORTED, "options.cuda.flags: has unknown bits 0x%llx",
                         (unsigned long long)cuda->flags);
    if (cuda->ordinal < 0)
        return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "options.cuda.ordinal: is %d, want 0 or more", cuda->ordinal);
    return ATTN_OK;
}

static attn_status open_cuda(attn_context *context, const attn_cuda_options *cuda) {
    const attn_context_options *options = &context->options;
    const attn_device_options device_options = {.allocate = options->allocate,
                                                .release = options->release,
                                                .memory_user = options->memory_user,
                                                .ordinal = cuda->ordinal,
                                                .stream = cuda->stream,
                                                .cublas = cuda->cublas};
    const char *message = "";
    const attn_status status = context->backend->open(&device_options, &context->device, &message);
    return status ? attn_fail(status, "options.cuda: device %d: %s", cuda->ordinal, message) : ATTN_OK;
}

static bool is_blas(const char *implementation) { return strncmp(implementation, "cpu:openblas:", 13) == 0; }

/* Where this is false a BLAS need not be loaded to find out whether it is the faster. */
static bool may_choose_blas(const attn_context *context) {
    if (context->options.flags & ATTN_CONTEXT_BATCH_INVARIANT) return false;
    return !context->forced || context->forced_length <= strlen("cpu") || is_blas(context->forced);
}

static attn_status open_cpu(attn_context *context) {
    const attn_context_options *options = &context->options;
    const attn_setting isa = read_setting("options.isa", options->isa, "ATTN_CPU_ISA");
    const attn_setting blas = read_setting("options.blas", options->blas, "ATTN_BLAS");
    if (blas.value && strcmp(blas.value, "off") != 0)
        return attn_fail(ATTN_ERROR_UNSUPPORTED, "%s: is \"%.64s\", want off", blas.source, blas.value);
    const attn_device_options device_options = {.threads = options->threads,
                                                .parallel_for = options->parallel_for,
                                                .parallel_for_user = options->parallel_for_user,
                                                .allocate = options->allocate,
                                                .release = options->release,
                                                .memory_user = options->memory_user,
                                                .isa = isa.value,
                                                .no_blas = blas.value ? blas.source : NULL,
                                                .blas_choice = may_choose_blas(context),
                                                .blas_forced = context->forced && is_blas(context->forced)};
    const char *message = "";
    const attn_status status = context->backend->open(&device_options, &context->device, &message);
    if (status == ATTN_ERROR_UNSUPPORTED)
        return attn_fail(status, "%s: is \"%.64s\", %s", isa.source, isa.value ? isa.value : "", message);
    return status ? attn_fail(status, "%s", message) : ATTN_OK;
}

static attn_status force_implementation(attn_context *context) {
    const attn_setting name = read_setting("options.implementation", context->options.implementation, "ATTN_IMPL");
    if (!name.value) return ATTN_OK;
    for (size_t i = 0; context->backend->implementation(i); i++) {
        const char *known = context->backend->implementation(i)->name;
        if (!attn_name_matches(known, name.value, strlen(name.value))) continue;
        context->forced = known;
        context->forced_length = strlen(name.value);
        return ATTN_OK;
    }
    return attn_fail(ATTN_ERROR_UNSUPPORTED,
                     "%s: is \"%.128s\", want an implementation's name or its leading fields, such as \"cpu:scalar\"",
                     name.source, name.value);
}

static attn_status open_device(attn_context *context) {
    attn_cuda_options cuda;
    const bool on_cpu = context->options.device == ATTN_DEVICE_CPU;
    attn_status status = ATTN_OK;
    if (on_cpu) {
        context->backend = attn_cpu_backend();
    } else {
        status = read_cuda_options(&context->options, &cuda);
        if (!status) status = attn_load_cuda(cuda.module, &context->backend);
    }
    if (!status) status = force_implementation(context);
    if (status) return status;
    return on_cpu ? open_cpu(context) : open_cuda(context, &cuda);
}

attn_status attn_context_create(const attn_context_options *given, attn_context **created) {
    ATTN_WITHOUT_CANCELLATION;
    if (!created) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "context: is NULL, want where to put the context");
    *created = NULL;
    const size_t oldest = offsetof(attn_context_options, blas);
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    attn_status status = given ? attn_read_struct("options", &options, sizeof options, oldest, given) : ATTN_OK;
    if (!status) status = check_options(&options);
    if (status) return status;
    if (!options.allocate) {
        options.allocate = allocate_by_malloc;
        options.release = release_by_free;
    }
    attn_context *context = options.allocate(options.memory_user, sizeof *context);
    if (!context) return attn_fail(ATTN_ERROR_OUT_OF_MEMORY, "context: no memory for %zu bytes", sizeof *context);
    *context = (attn_context){.options = options};
    atomic_init(&context->references, 1);
    status = open_device(context);
    if (status) {
        options.release(options.memory_user, context);
        return status;
    }
    /* These are the caller's and may go when this call returns. */
    context->options.implementation = context->options.isa = context->options.blas = NULL;
    context->options.cuda = NULL;
    *created = context;
    return ATTN_OK;
}

void attn_context_retain(attn_context *context) {
    atomic_fetch_add_explicit(&context->references, 1, memory_order_relaxed);
}

void attn_context_destroy(attn_context *context) {
    ATTN_WITHOUT_CANCELLATION;
    if (!context || atomic_fetch_sub_explicit(&context->references, 1, memory_order_acq_rel) != 1) return;
    context->backend->close(context->device);
    attn_context_release(context, context);
}

void *attn_context_allocate(const attn_context *context, size_t size) {
    return context->options.allocate(context->options.memory_user, size);
}

void attn_context_release(const attn_context *context, void *memory) {
    context->options.release(context->options.memory_user, memory);
}

int attn_context_threads(const attn_context *context) {
    return context ? context->backend->threads(context->device) : 0;
}

const char *attn_context_isa(const attn_context *context) {
    return context ? context->backend->isa(context->device) : "";
}

const char *attn_context_cpu_features(const attn_context *context) {
    return context ? context->backend->features(context->device) : "";
}

const char *attn_context_blas(const attn_context *context) {
    return context ? context->backend->blas(context->device) : "";
}

const char *attn_context_implementation_name(const attn_context *context, size_t index) {
    const attn_implementation *implementation = context ? context->backend->implementation(index) : NULL;
    return implementation ? implementation->name : NULL;
}

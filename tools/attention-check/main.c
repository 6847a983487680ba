/* SPDX-License-Identifier: Apache-2.0 */
/* attention-check: runs the cases of a file through every implementation of the library. */
#include "attention/attention_cuda.h"
#include "tests/kit_device.h"
#include "tools/attention-check/case_file.h"
#include "tools/attention-check/check.h"
#include "tools/streams.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: attention-check layer|sdpa FILE.safetensors [--device cpu|cuda] [--module FILE] [--impl NAME] [--isa ISA]\n"
    "                       [--threads N] [--verbose]\n"
    "\n"
    "Runs every case of the file through every implementation of the attention layer, or of scaled-dot-product\n"
    "attention, that this machine can run, each one forced, in float32 and float64, and compares the results with the\n"
    "file's by their error bounds; where it has gradients, those of the layer's backward pass too. Cases of the ONNX\n"
    "operator Attention are compared by its own tolerance.\n"
    "Prints a line for each failure and each implementation skipped, and ends with 'N passed, M failed', which counts\n"
    "passes times implementations. The exit status is 0 when something ran and all of it passed, 1 when not, 2 for a\n"
    "wrong command line.\n"
    "\n"
    "  --device DEVICE\n"
    "                cpu (the default) or cuda: the implementations of the CUDA module, on the first GPU; what the "
    "module has\n"
    "                for no problem of a case's type is skipped and named\n"
    "  --module FILE the CUDA module (default: libattention_cuda.so beside the library)\n"
    "  --impl NAME   only the implementations whose name is or begins with NAME's fields, such as cpu:avx2\n"
    "  --isa ISA     use no CPU instruction set above ISA: scalar, avx2, avx512\n"
    "  --threads N   threads of a run (default: those of the machine)\n"
    "  --verbose     a line for each comparison that passed, too\n"
    "  --version     the version of the library\n";

void check_fail(checker *check, const char *name, const char *reason) {
    printf("FAIL %s: %s\n", name, reason);
    check->failed++;
}

static attn_status make_context(const check_settings *s, const char *implementation, attn_context **context) {
    attn_cuda_options cuda = ATTN_CUDA_OPTIONS_INIT;
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    cuda.module = s->module;
    options.device = s->device;
    options.cuda = s->device == ATTN_DEVICE_CUDA ? &cuda : NULL;
    options.threads = s->threads;
    options.isa = s->isa;
    options.implementation = implementation;
    return attn_context_create(&options, context);
}

bool check_wanted(const check_settings *s, const char *name) {
    if (!s->implementation) return true;
    const size_t length = strlen(s->implementation);
    return !strncmp(name, s->implementation, length) && (!name[length] || name[length] == ':');
}

static check_forced *find_forced(checker *check, const char *name) {
    for (size_t i = 0; i < check->forced_count; i++)
        if (!strcmp(check->forced[i].name, name)) return &check->forced[i];
    if (check->forced_count == CHECK_IMPLEMENTATIONS) return NULL;
    check_forced *f = &check->forced[check->forced_count++];
    f->name = name;
    return f;
}

check_forced *check_force(checker *check, const char *name, const char *implementation) {
    check_forced *f = find_forced(check, implementation);
    if (f && (f->context || make_context(check->settings, implementation, &f->context) == ATTN_OK)) return f;
    check_fail(check, name, f ? attn_last_error_message() : "too many implementations");
    return NULL;
}

void check_refused(check_forced *f) {
    snprintf(f->refusal, sizeof f->refusal, "%s", attn_last_error_message());
    f->refused++;
}

void check_absent(checker *check, const char *name, const char *pass, attn_dtype dtype) {
    snprintf(check->last_absent, sizeof check->last_absent, "%.64s, %s pass in %s", name, pass, kit_dtype_name(dtype));
    check->absent++;
}

void check_judge(checker *check, const char *name, const char *implementation, double error, const char *where) {
    char line[512];
    snprintf(line, sizeof line, "%s: error/gate %.3g: %s", implementation, error, where);
    if (!(error <= 1))
        check_fail(check, name, line);
    else if (++check->passed, check->settings->verbose)
        printf("pass %s: %s\n", name, line);
}

/* One pass of a case: what to ask for, and whether a forward pass in training has to come first. */
typedef struct pass {
    const char *name;
    attn_status (*plan)(attn_context *, const attn_layer_desc *, attn_plan **);
    unsigned outputs, incoming, gradients;
} pass;

/* The forward pass that a backward pass needs, by whatever implementation the library chooses. */
static attn_status run_training(const checker *check, kit_problem *problem) {
    attn_layer_desc desc = problem->desc;
    desc.flags = ATTN_LAYER_TRAINING;
    attn_plan *plan;
    attn_status status = attn_layer_forward_plan(check->context, &desc, &plan);
    if (!status) status = kit_problem_run(problem, plan, KIT_CONTEXT);
    attn_plan_destroy(plan);
    return status;
}

static attn_status run_pass(const checker *check, const pass *p, const attn_plan *plan, kit_problem *problem) {
    if (!p->gradients) return kit_problem_run(problem, plan, p->outputs);
    const attn_status status = run_training(check, problem);
    return status ? status : kit_problem_back(problem, plan, p->incoming, p->gradients, 0);
}

static void run_forced(checker *check, const char *name, const char *implementation, kit_problem *problem,
                       const pass *p, size_t *usable) {
    check_forced *f = check_force(check, name, implementation);
    if (!f) return;
    attn_plan *plan;
    attn_status status = p->plan(f->context, &problem->desc, &plan);
    if (status == ATTN_ERROR_UNSUPPORTED) {
        check_refused(f);
        return;
    }
    ++*usable;
    char line[512];
    if (status == ATTN_OK && strcmp(attn_plan_implementation(plan), implementation)) {
        snprintf(line, sizeof line, "%s: the plan runs %s", implementation, attn_plan_implementation(plan));
        check_fail(check, name, line);
    } else if (status != ATTN_OK || (status = run_pass(check, p, plan, problem)) != ATTN_OK) {
        snprintf(line, sizeof line, "%s: %s: %s", implementation, attn_status_string(status),
                 attn_last_error_message());
        check_fail(check, name, line);
    } else {
        const kit_verdict verdict = p->gradients ? kit_problem_check_back(problem) : kit_problem_check(problem);
        check_judge(check, name, implementation, verdict.error, verdict.where);
    }
    if (plan) attn_plan_destroy(plan);
}

static void check_pass(checker *check, const file_case *c, const pass *p, kit_problem *problem) {
    const char *names[CHECK_IMPLEMENTATIONS];
    const size_t count =
        kit_implementations(check->context, p->name, c->spec.score, c->spec.dtype, names, CHECK_IMPLEMENTATIONS);
    size_t usable = 0, asked = 0;
    for (size_t i = 0; i < count; i++) {
        if (!check_wanted(check->settings, names[i])) continue;
        asked++;
        run_forced(check, c->name, names[i], problem, p, &usable);
    }
    if (!count) check_absent(check, c->name, p->name, c->spec.dtype);
    if (usable || !count || (!asked && check->settings->implementation)) return;
    char error[128];
    snprintf(error, sizeof error, "no implementation can run its %s pass in %s", p->name,
             kit_dtype_name(c->spec.dtype));
    check_fail(check, c->name, error);
}

/* Elements that a pass is judged by. */
static size_t elements(const attn_weights_tensor *const *tensors, size_t count) {
    size_t sum = 0;
    for (size_t i = 0; i < count; i++) sum += tensors[i] ? tensors[i]->elements : 0;
    return sum;
}

static void check_case(checker *check, const attn_weights_file *file, file_case *c) {
    const pass forward = {"forward", attn_layer_forward_plan,
                          KIT_CONTEXT | KIT_WEIGHTS | (c->tensors[TENSOR_LSE] ? KIT_LSE : 0u), 0, 0},
               backward = {"backward", attn_layer_backward_plan, 0, file_case_incoming(c), file_case_gradients(c)};
    const bool results = elements(c->tensors + TENSOR_OUTPUT, RESULTS) > 0,
               gradients = elements(c->gradients, GRADIENTS) > 0;
    if (!results && !gradients) printf("skip %s: it has no results to compare\n", c->name);
    for (int dtype = ATTN_FLOAT32; dtype <= ATTN_FLOAT64 && (results || gradients); dtype++) {
        char error[512];
        kit_problem *problem = file_case_problem(file, c, (attn_dtype)dtype, error, sizeof error);
        if (!problem) {
            check_fail(check, c->name, error);
            return;
        }
        if (dtype == ATTN_FLOAT32 && !c->fits_float32) {
            printf("skip %s: f32: its inputs are not exact in float32\n", c->name);
        } else {
            if (results) check_pass(check, c, &forward, problem);
            if (gradients) check_pass(check, c, &backward, problem);
        }
        kit_problem_free(problem);
    }
}

static void check_layer_file(checker *check, const attn_weights_file *file) {
    case_list list;
    if (!case_list_open(file, &list)) {
        check_fail(check, check->settings->path, "out of memory");
        return;
    }
    char error[512];
    file_case c;
    for (int found; (found = case_list_next(&list, &c, error, sizeof error)) != 0; free(c.name)) {
        if (found < 0)
            check_fail(check, c.name ? c.name : "?", error);
        else
            check_case(check, file, &c);
    }
    case_list_close(&list);
}

static int finish(checker *check) {
    if (!check->passed && !check->failed) check_fail(check, check->settings->path, "no case ran");
    for (size_t i = 0; i < check->forced_count; i++) {
        const check_forced *f = &check->forced[i];
        if (f->refused) printf("skip %s: %zu cases, the last: %s\n", f->name, f->refused, f->refusal);
        attn_context_destroy(f->context);
    }
    if (check->absent)
        printf("skip %zu passes that this device has no implementation for, the last: %s\n", check->absent,
               check->last_absent);
    printf("%zu passed, %zu failed\n", check->passed, check->failed);
    return check->failed ? 1 : 0;
}

static int check_cases(const check_settings *s, void (*check_all)(checker *, const attn_weights_file *)) {
    checker check = {.settings = s};
    attn_weights_file *file = NULL;
    if (make_context(s, NULL, &check.context) != ATTN_OK || attn_weights_open(s->path, 0, &file) != ATTN_OK) {
        check_fail(&check, s->path, attn_last_error_message());
    } else {
        if (s->device == ATTN_DEVICE_CUDA) kit_device_use(s->module);
        check_all(&check, file);
    }
    attn_weights_close(file);
    const int status = finish(&check);
    attn_context_destroy(check.context);
    return status;
}

static int wrong(const char *what, const char *which) {
    fprintf(stderr, "attention-check: %s%s%s\n%s", what, which ? " " : "", which ? which : "", usage);
    return 2;
}

static bool parse_threads(const char *text, int *threads) {
    char *end;
    errno = 0;
    const long value = strtol(text, &end, 10);
    if (errno || end == text || *end || value < 1 || value > 4096) return false;
    *threads = (int)value;
    return true;
}

static bool parse_device(const char *text, attn_device_kind *device) {
    if (strcmp(text, "cpu") != 0 && strcmp(text, "cuda") != 0) return false;
    *device = strcmp(text, "cpu") ? ATTN_DEVICE_CUDA : ATTN_DEVICE_CPU;
    return true;
}

int main(int argc, char **argv) {
    check_settings s = {.device = ATTN_DEVICE_CPU};
    streams_begin("attention-check", 1);
    const char *words[2] = {0};
    int count = 0;
    for (int i = 1; i < argc; i++) {
        const char *argument = argv[i], **value = NULL, *threads = NULL, *device = NULL;
        if (!strcmp(argument, "--help")) return fputs(usage, stdout), 0;
        if (!strcmp(argument, "--version")) return printf("attention-check %s\n", attn_version()), 0;
        if (!strcmp(argument, "--verbose")) {
            s.verbose = true;
            continue;
        }
        if (!strcmp(argument, "--impl")) value = &s.implementation;
        if (!strcmp(argument, "--isa")) value = &s.isa;
        if (!strcmp(argument, "--threads")) value = &threads;
        if (!strcmp(argument, "--device")) value = &device;
        if (!strcmp(argument, "--module")) value = &s.module;
        if (value) {
            if (++i == argc) return wrong("no value for", argument);
            *value = argv[i];
            if (threads && !parse_threads(threads, &s.threads))
                return wrong("--threads wants a number from 1 to 4096, not", threads);
            if (device && !parse_device(device, &s.device)) return wrong("--device wants cpu or cuda, not", device);
            continue;
        }
        if (argument[0] == '-' || count == 2)
            return wrong(argument[0] == '-' ? "unknown option" : "too many arguments:", argument);
        words[count++] = argument;
    }
    if (count < 2) return wrong("wanted an operation and a file", NULL);
    if (s.module && s.device != ATTN_DEVICE_CUDA) return wrong("--module wants --device cuda", NULL);
    s.path = words[1];
    if (!strcmp(words[0], "layer")) return check_cases(&s, check_layer_file);
    if (!strcmp(words[0], "sdpa")) return check_cases(&s, check_sdpa_file);
    return wrong("unknown operation", words[0]);
}

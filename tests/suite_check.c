/* SPDX-License-Identifier: Apache-2.0 */
/* attention-check against files that are sound, wrong in their numbers, or wrong in their form. */
#include "attention/weights.h"
#include "tests/sdpa_kit.h"
#include "tests/suite.h"

#include <math.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* A file in the making: one case, of which a test then spoils a piece. */
enum { MOST = 16, B = 2, T = 6, D = 3, TQ = 2, U = 4 };

typedef struct file {
    char path[64];
    attn_weights_entry entries[MOST];
    size_t count;
    char names[MOST][64];
    int64_t shapes[MOST][4];
    void *data[MOST];
} file;

static attn_weights_entry *add(file *f, const char *name, attn_weights_dtype dtype, int rank, int64_t a, int64_t b,
                               int64_t c) {
    const size_t i = f->count++;
    snprintf(f->names[i], sizeof f->names[i], "%s", name);
    const int64_t shape[3] = {a, b, c};
    memcpy(f->shapes[i], shape, sizeof shape);
    size_t elements = 1;
    for (int k = 0; k < rank; k++) elements *= (size_t)shape[k];
    f->data[i] = calloc(elements + 1, 8);
    f->entries[i] = (attn_weights_entry){f->names[i], dtype, rank, f->shapes[i], f->data[i]};
    return &f->entries[i];
}

static attn_weights_entry *find(file *f, const char *name) {
    for (size_t i = 0; i < f->count; i++)
        if (!strcmp(f->names[i], name)) return &f->entries[i];
    cr_assert(false, "no tensor %s", name);
    return NULL;
}

static void remove_entry(file *f, const char *name) {
    attn_weights_entry *entry = find(f, name);
    const size_t at = (size_t)(entry - f->entries);
    free(f->data[at]);
    for (size_t i = at; i + 1 < f->count; i++) {
        f->entries[i] = f->entries[i + 1];
        f->data[i] = f->data[i + 1];
        memcpy(f->names[i], f->names[i + 1], sizeof f->names[i]);
        memcpy(f->shapes[i], f->shapes[i + 1], sizeof f->shapes[i]);
    }
    f->count--;
}

static void put_floats(file *f, const char *name, const double *values, size_t count) {
    float *to = f->data[find(f, name) - f->entries];
    for (size_t i = 0; i < count; i++) to[i] = (float)values[i];
}

static void put_doubles(file *f, const char *name, const long double *values, size_t count) {
    double *to = f->data[find(f, name) - f->entries];
    for (size_t i = 0; i < count; i++) to[i] = (double)values[i];
}

/* luong_case: given queries, lengths, every result, some gradients. */
static file sound(void) {
    kit_case spec = {
        .row = "check", .dtype = ATTN_FLOAT32, .batch = B, .timesteps = T, .features = D, .queries = TQ, .units = U};
    spec.options = KIT_LENGTHS, spec.seed = 3;
    kit_problem *problem = kit_problem_make(&spec, KIT_GUARD_BEHIND);
    kit_problem_expect(problem);
    const kit_content *c = &problem->content;
    const kit_results *e = &problem->expected;
    file f = {.count = 0};
    add(&f, "luong_case/H", ATTN_WEIGHTS_F32, 3, B, T, D);
    add(&f, "luong_case/query", ATTN_WEIGHTS_F32, 3, B, TQ, D);
    add(&f, "luong_case/luong_w", ATTN_WEIGHTS_F32, 2, D, D, 0);
    add(&f, "luong_case/w_c", ATTN_WEIGHTS_F32, 2, 2 * D, U, 0);
    add(&f, "luong_case/option/lengths", ATTN_WEIGHTS_I32, 1, B, 0, 0);
    add(&f, "luong_case/output", ATTN_WEIGHTS_F64, 3, B, TQ, U);
    add(&f, "luong_case/context", ATTN_WEIGHTS_F64, 3, B, TQ, D);
    add(&f, "luong_case/attention_weights", ATTN_WEIGHTS_F64, 3, B, TQ, T);
    add(&f, "luong_case/lse", ATTN_WEIGHTS_F64, 2, B, TQ, 0);
    add(&f, "luong_case/grad_H", ATTN_WEIGHTS_F64, 3, B, T, D);
    add(&f, "luong_case/grad_luong_w", ATTN_WEIGHTS_F64, 2, D, D, 0);
    add(&f, "luong_case/grad_output", ATTN_WEIGHTS_F32, 3, B, TQ, U);
    put_floats(&f, "luong_case/H", c->h, B * T * D);
    put_floats(&f, "luong_case/query", c->query, B * TQ * D);
    put_floats(&f, "luong_case/luong_w", c->luong_w, D * D);
    put_floats(&f, "luong_case/w_c", c->w_c, 2 * D * U);
    memcpy(f.data[find(&f, "luong_case/option/lengths") - f.entries], c->lengths, B * sizeof(int32_t));
    put_doubles(&f, "luong_case/output", e->output, B * TQ * U);
    put_doubles(&f, "luong_case/context", e->context, B * TQ * D);
    put_doubles(&f, "luong_case/attention_weights", e->attention_weights, B * TQ * T);
    put_doubles(&f, "luong_case/lse", e->lse, B * TQ);
    double grad_output[B * TQ * U];
    for (int i = 0; i < B * TQ * U; i++) grad_output[i] = (i % 5 - 2) * 0.25;
    put_floats(&f, "luong_case/grad_output", grad_output, B * TQ * U);
    kit_problem_set_incoming(problem, KIT_OUTPUT, grad_output);
    size_t count;
    put_doubles(&f, "luong_case/grad_H", kit_problem_expected_gradient(problem, KIT_OUTPUT, KIT_GRAD_H, &count),
                B * T * D);
    put_doubles(&f, "luong_case/grad_luong_w",
                kit_problem_expected_gradient(problem, KIT_OUTPUT, KIT_GRAD_LUONG_W, &count), D * D);
    kit_problem_free(problem);
    return f;
}

/* Runs attention-check with the arguments; its exit status, and its output in `text`. */
static int run_check(const char *arguments, char *text, size_t room) {
    char command[2048];
    snprintf(command, sizeof command, "'%s' %s 2>&1", ATTENTION_CHECK, arguments);
    FILE *pipe = popen(command, "r");
    cr_assert(pipe, "no pipe");
    const size_t got = fread(text, 1, room - 1, pipe);
    text[got] = 0;
    const int status = pclose(pipe);
    cr_assert(WIFEXITED(status), "attention-check was killed: status 0x%x, %s", status, text);
    return WEXITSTATUS(status);
}

static const char *operation = "layer";

/* Checks a file: the exit status, and a piece of what is printed. Frees it. */
static void expect(file *f, int want, const char *part, const char *options) {
    char text[8192], arguments[1024];
    for (size_t i = 0; i < f->count; i++)
        f->entries[i].name = f->names[i], f->entries[i].shape = f->shapes[i]; /* f was copied */
    snprintf(f->path, sizeof f->path, "%s/attention-check-XXXXXX", P_tmpdir);
    const int descriptor = mkstemp(f->path);
    cr_assert(descriptor >= 0);
    close(descriptor);
    cr_assert(attn_weights_write(f->path, f->entries, f->count, NULL, 0) == ATTN_OK, "%s", attn_last_error_message());
    snprintf(arguments, sizeof arguments, "%s %s %s", operation, f->path, options);
    const int got = run_check(arguments, text, sizeof text);
    unlink(f->path);
    cr_assert(got == want, "exit status %d, wanted %d (%s): %s", got, want, part, text);
    cr_assert(strstr(text, part), "\"%s\" is not in: %s", part, text);
    for (size_t i = 0; i < f->count; i++) free(f->data[i]);
}

Test(check, sound_file) {
    file f = sound();
    expect(&f, 0, " passed, 0 failed", "--threads 3 --verbose");
    f = sound();
    expect(&f, 0, " passed, 0 failed", "--isa scalar");
    f = sound();
    expect(&f, 0, "4 passed, 0 failed", "--impl cpu:scalar");
}

static void spoil_with(const char *name, size_t at, double value, bool add_it, const char *part, const char *options) {
    file f = sound();
    double *values = f.data[find(&f, name) - f.entries];
    values[at] = add_it ? values[at] + value : value;
    expect(&f, 1, part, options);
}

static void spoil(const char *name, size_t at, double value, bool add_it, const char *part) {
    spoil_with(name, at, value, add_it, part, "");
}

Test(check, wrong_numbers) {
    spoil("luong_case/output", 5, 1e-4, true, "FAIL luong_case: cpu:scalar:luong:forward:f32: error/gate");
    spoil("luong_case/output", 0, 1e-9, true, "FAIL luong_case: cpu:scalar:luong:forward:f64: error/gate");
    spoil("luong_case/context", 3, 1e-4, true, "context[");
    spoil("luong_case/attention_weights", 2, 1e-4, true, "attention_weights[");
    spoil("luong_case/attention_weights", TQ * T, 1e-30, true, "attention_weights["); /* hidden, so 0 */
    spoil("luong_case/lse", 1, 1e-3, true, "lse[");
    spoil("luong_case/output", 1, NAN, false, "error/gate inf");
    spoil("luong_case/lse", 0, INFINITY, false, "error/gate inf");
    spoil("luong_case/grad_H", 4, 1e-4, true, "FAIL luong_case: cpu:scalar:luong:backward:f32: error/gate");
    spoil("luong_case/grad_H", 4, 1e-9, true, "FAIL luong_case: cpu:scalar:luong:backward:f64: error/gate");
    spoil("luong_case/grad_luong_w", D, 1e-4, true, "grad_luong_w[0][0][3]");
    spoil("luong_case/grad_luong_w", 0, NAN, false, "error/gate inf");
}

#ifdef CUDA_MODULE
#define ON_CUDA "--device cuda --module '" CUDA_MODULE "'"

Test(check, on_cuda) {
    file f = sound();
    expect(&f, 0, "pass luong_case: cuda:simt:luong:backward:f32: error/gate", ON_CUDA " --verbose");
    f = sound();
    expect(&f, 0,
           "\nskip 2 passes that this device has no implementation for, the last: luong_case, backward pass in f64\n"
           "2 passed, 0 failed",
           ON_CUDA " --impl cuda:simt --verbose");
    spoil_with("luong_case/output", 5, 1e-4, true, "FAIL luong_case: cuda:simt:luong:forward:f32: error/gate", ON_CUDA);
    spoil_with("luong_case/lse", 1, 1e-3, true, "lse[", ON_CUDA);
    spoil_with("luong_case/grad_H", 4, 1e-4, true, "FAIL luong_case: cuda:simt:luong:backward:f32: error/gate",
               ON_CUDA);
    f = sound();
    expect(&f, 1, "0 passed, 1 failed", ON_CUDA " --impl cpu:scalar");
    f = sound();
    expect(&f, 1, "options.isa", ON_CUDA " --isa scalar");
    f = sound();
    expect(&f, 1, "can't be loaded", "--device cuda --module /dev/null");
}
#endif

static void added(const char *name, attn_weights_dtype dtype, int rank, const char *part) {
    file f = sound();
    add(&f, name, dtype, rank, B, rank > 1 ? TQ : 0, rank > 2 ? U : 0);
    expect(&f, 1, part, "");
}

Test(check, unknown_tensors) {
    added("luong_case/bias", ATTN_WEIGHTS_F32, 1, "unknown tensor bias");
    added("luong_case/option/scale", ATTN_WEIGHTS_F32, 1, "unknown tensor option/scale");
    added("luong_case/option/lengths_f32", ATTN_WEIGHTS_F32, 1, "unknown tensor option/lengths_f32");
    added("luong_case/bahdanau_v", ATTN_WEIGHTS_F32, 1, "unknown tensor bahdanau_v");
    added("luong_case/grad_option/mask", ATTN_WEIGHTS_F32, 1, "unknown tensor grad_option/mask");
    added("luong_case/grad_grad_H", ATTN_WEIGHTS_F32, 1, "unknown tensor grad_grad_H");
    added("luong_case/grad_bahdanau_v", ATTN_WEIGHTS_F64, 1, "unknown tensor grad_bahdanau_v");
    added("luong_case/H_f32", ATTN_WEIGHTS_F32, 1, "unknown tensor H_f32");
    added("luong_case/H/x", ATTN_WEIGHTS_F32, 1, "unknown tensor H/x");
    added("softmax_case/H", ATTN_WEIGHTS_F32, 3, "FAIL softmax_case: the name begins with none of");
    added("lonely", ATTN_WEIGHTS_F32, 1, "FAIL lonely: a tensor that belongs to no case");
    added("luong_other/output", ATTN_WEIGHTS_F64, 3, "FAIL luong_other: H is missing");
}

static void without(const char *name, const char *part) {
    file f = sound();
    remove_entry(&f, name);
    expect(&f, 1, part, "");
}

Test(check, missing_tensors) {
    without("luong_case/H", "H is missing");
    without("luong_case/luong_w", "luong_w is missing");
    without("luong_case/w_c", "w_c is missing");
    without("luong_case/output", "output is missing");
    without("luong_case/context", "context is missing");
    without("luong_case/attention_weights", "attention_weights is missing");
    without("luong_case/option/lengths", "error/gate"); /* another problem then */
    without("luong_case/query", "has shape");
    without("luong_case/grad_output", "gradients of inputs alone");
}

static void reshaped(const char *name, int rank, int64_t first, const char *part) {
    file f = sound();
    attn_weights_entry *entry = find(&f, name);
    const size_t at = (size_t)(entry - f.entries);
    entry->rank = rank;
    f.shapes[at][0] = first;
    expect(&f, 1, part, "");
}

Test(check, wrong_shapes) {
    reshaped("luong_case/H", 2, B, "H has rank 2, wanted 3");
    reshaped("luong_case/H", 3, 1, "has shape");
    reshaped("luong_case/luong_w", 2, D - 1, "luong_w has shape (2, 3), wanted (3, 3)");
    reshaped("luong_case/w_c", 2, 2, "w_c has shape (2, 4), wanted (6, 4)");
    reshaped("luong_case/w_c", 0, 0, "w_c has shape ()");
    reshaped("luong_case/option/lengths", 1, 1, "option/lengths has shape (1), wanted (2)");
    reshaped("luong_case/output", 2, B, "output has shape");
    reshaped("luong_case/lse", 1, B, "lse has shape (2), wanted (2, 2)");
    reshaped("luong_case/grad_H", 3, 1, "grad_H has shape (1, 6, 3), wanted (2, 6, 3)");
    reshaped("luong_case/grad_output", 2, B, "grad_output has shape");
}

static void retyped(const char *name, attn_weights_dtype dtype, const char *part) {
    file f = sound();
    find(&f, name)->dtype = dtype;
    expect(&f, 1, part, "");
}

Test(check, wrong_dtypes) {
    retyped("luong_case/H", ATTN_WEIGHTS_I32, "H is I32, wanted a float");
    retyped("luong_case/option/lengths", ATTN_WEIGHTS_U32, "option/lengths is U32, wanted I32");
    retyped("luong_case/output", ATTN_WEIGHTS_F32, "output is F32, wanted F64");
    retyped("luong_case/grad_H", ATTN_WEIGHTS_F32, "grad_H is F32, wanted F64");
}

Test(check, wrong_lengths) {
    const int32_t bad[] = {T + 1, -1, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        file f = sound();
        ((int32_t *)f.data[find(&f, "luong_case/option/lengths") - f.entries])[1] = bad[i];
        expect(&f, 1, "item 1 has the range", "");
    }
}

/* Another float32 implementation's results are looked at, and must be those of the same layer. */
Test(check, single_precision_results) {
    for (int wrong = 0; wrong < 2; wrong++) {
        file f = sound();
        add(&f, "luong_case/output_f32", ATTN_WEIGHTS_F32, 3, B, TQ, U);
        float *single = f.data[f.count - 1];
        const double *exact = f.data[find(&f, "luong_case/output") - f.entries];
        for (int i = 0; i < B * TQ * U; i++) single[i] = (float)exact[i];
        if (wrong) single[3] += 0.5f;
        expect(&f, wrong, wrong ? "can't be the same layer's" : " passed, 0 failed", "");
    }
}

/* Sizes that no tensor backs take no time and no memory. */
Test(check, huge_shapes_without_elements) {
    file f = {.count = 0};
    add(&f, "dot_huge/H", ATTN_WEIGHTS_F32, 3, 0, 0, 0);
    const int64_t huge[3] = {INT64_C(1) << 40, 0, 1 << 20};
    memcpy(f.shapes[0], huge, sizeof huge);
    expect(&f, 1, "FAIL dot_huge: a size of 1099511627776", "");
}

/* A case without items has nothing that could be wrong. */
Test(check, no_results_to_compare) {
    file f = {.count = 0};
    add(&f, "dot_empty/H", ATTN_WEIGHTS_F32, 3, 0, T, D);
    add(&f, "dot_empty/context", ATTN_WEIGHTS_F64, 2, 0, D, 0);
    add(&f, "dot_empty/attention_weights", ATTN_WEIGHTS_F64, 2, 0, T, 0);
    expect(&f, 1, "skip dot_empty: it has no results to compare\nFAIL", "");
}

Test(check, nothing_to_check) {
    file f = {.count = 0};
    expect(&f, 1, "no case ran\n0 passed, 1 failed", "");
    char text[4096];
    cr_assert(run_check("layer /nonexistent.safetensors", text, sizeof text) == 1 && strstr(text, "0 passed, 1 failed"),
              "%s", text);
    cr_assert(run_check("layer " P_tmpdir, text, sizeof text) == 1 && strstr(text, "0 passed, 1 failed"), "%s", text);
    cr_assert(run_check("layer /dev/null", text, sizeof text) == 1 && strstr(text, "0 passed, 1 failed"), "%s", text);
    f = sound();
    expect(&f, 1, "0 passed, 1 failed", "--impl cpu:scalar:dot");
    f = sound();
    expect(&f, 1, "0 passed, 1 failed", "--impl cpu:abacus");
    f = sound();
    expect(&f, 1, "\"mmx\"", "--isa mmx");
}

/* A verdict that nobody could read is no success; attention-info answers as attention-check does. */
Test(check, lost_output) {
    static const char *const programs[] = {ATTENTION_CHECK, ATTENTION_INFO};
    static const char *const ways[][2] = {{">/dev/full", "standard output: No space left on device"},
                                          {"<&- >&-", "standard output: Bad file descriptor"}};
    static const char weights[] = BENCH_DATA "/imdb_luong.safetensors";
    char command[2048], text[1024];
    for (size_t program = 0; program < 2; program++)
        for (int argument = 0; argument < 3; argument++)
            for (size_t way = 0; way < 2; way++) {
                const char *const arguments[][3] = {{"--help", "--version", "layer /dev/null"},
                                                    {"--help", "", weights}};
                snprintf(command, sizeof command, "'%s' %s 2>&1 %s", programs[program], arguments[program][argument],
                         ways[way][0]);
                FILE *pipe = popen(command, "r");
                cr_assert(pipe, "no pipe");
                text[fread(text, 1, sizeof text - 1, pipe)] = 0;
                const int status = pclose(pipe);
                cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1 && strstr(text, ways[way][1]),
                          "%s: status 0x%x, %s", command, status, text);
            }
}

Test(check, command_lines) {
    static const char *const wrong[] = {"",
                                        "layer",
                                        "layer a b",
                                        "sdpa",
                                        "softmax a",
                                        "layer a --speed",
                                        "layer a --threads",
                                        "layer a --threads 0",
                                        "layer a --threads x",
                                        "layer a --device",
                                        "layer a --device gpu",
                                        "layer a --module b"};
    char text[8192];
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        cr_assert(run_check(wrong[i], text, sizeof text) == 2, "\"%s\": %s", wrong[i], text);
        cr_assert(strstr(text, "usage: attention-check"), "%s", text);
    }
    cr_assert(run_check("--help", text, sizeof text) == 0 && strstr(text, "usage: attention-check") == text, "%s",
              text);
}

/* ---- Scaled-dot-product attention ----------------------------------------------------------------------- */

enum { HEADS = 2, KEYS = 5 };

static void add_heads(file *f, const char *name, attn_weights_dtype dtype, int64_t rows, int64_t width) {
    add(f, name, dtype, 3, 1, HEADS, rows * width);
    f->entries[f->count - 1].rank = 4;
    f->shapes[f->count - 1][2] = rows, f->shapes[f->count - 1][3] = width;
}

static file sound_sdpa(void) {
    operation = "sdpa";
    const sdpa_case spec = {.dtype = ATTN_FLOAT32,
                            .batch = 1,
                            .query_heads = HEADS,
                            .queries = TQ,
                            .keys = KEYS,
                            .head_dim = D,
                            .causal = ATTN_CAUSAL_BOTTOM_RIGHT,
                            .seed = 5};
    sdpa_problem *problem = sdpa_problem_make(&spec, KIT_GUARD_BEHIND);
    sdpa_problem_expect(problem);
    file f = {.count = 0};
    add_heads(&f, "case/q", ATTN_WEIGHTS_F32, TQ, D);
    add_heads(&f, "case/k", ATTN_WEIGHTS_F32, KEYS, D);
    add_heads(&f, "case/v", ATTN_WEIGHTS_F32, KEYS, D);
    add(&f, "case/option/causal", ATTN_WEIGHTS_I64, 1, 1, 0, 0);
    add_heads(&f, "case/out", ATTN_WEIGHTS_F64, TQ, D);
    add(&f, "case/lse", ATTN_WEIGHTS_F64, 3, 1, HEADS, TQ);
    put_floats(&f, "case/q", problem->content.q, HEADS * TQ * D);
    put_floats(&f, "case/k", problem->content.k, HEADS * KEYS * D);
    put_floats(&f, "case/v", problem->content.v, HEADS * KEYS * D);
    *(int64_t *)f.data[find(&f, "case/option/causal") - f.entries] = 2;
    put_doubles(&f, "case/out", problem->expected.output, HEADS * TQ * D);
    put_doubles(&f, "case/lse", problem->expected.lse, HEADS * TQ);
    sdpa_problem_free(problem);
    return f;
}

static void spoil_sdpa(const char *name, size_t at, double value, const char *part) {
    file f = sound_sdpa();
    ((double *)f.data[find(&f, name) - f.entries])[at] += value;
    expect(&f, 1, part, "");
}

static void add_to_sdpa(const char *name, const char *part) {
    file f = sound_sdpa();
    add(&f, name, ATTN_WEIGHTS_F32, 1, 3, 0, 0);
    expect(&f, 1, part, "");
}

static void drop_from_sdpa(const char *name, const char *part) {
    file f = sound_sdpa();
    remove_entry(&f, name);
    expect(&f, 1, part, "");
}

/* Bytes do not bound the elements of an unknown dtype: 2^59 of them in one. */
Test(check, sdpa_file_of_an_unknown_dtype) {
    static const char *const names[] = {"q", "k", "v"};
    char path[256], header[1024] = "{", text[4096], arguments[300];
    for (int i = 0; i < 3; i++)
        snprintf(header + strlen(header), sizeof header - strlen(header),
                 "%s\"case/%s\":{\"dtype\":\"Q1\",\"shape\":[1,1,288230376151711744,2],\"data_offsets\":[%d,%d]}",
                 i ? "," : "", names[i], i, i + 1);
    strcat(header, "}");
    snprintf(path, sizeof path, "%s/attention-check-XXXXXX", P_tmpdir);
    const int descriptor = mkstemp(path);
    const uint64_t length = strlen(header);
    cr_assert(write(descriptor, &length, 8) == 8 && write(descriptor, header, length) == (ssize_t)length &&
              write(descriptor, "abc", 3) == 3);
    close(descriptor);
    snprintf(arguments, sizeof arguments, "sdpa %s", path);
    const int status = run_check(arguments, text, sizeof text);
    unlink(path);
    cr_assert(status == 1 && strstr(text, "FAIL case: ") && strstr(text, "0 passed, 1 failed"), "status %d: %s", status,
              text);
}

Test(check, sdpa_files) {
    file f = sound_sdpa();
    expect(&f, 0, " passed, 0 failed", "--threads 2 --verbose");
    spoil_sdpa("case/out", 3, 1e-4, "FAIL case: cpu:scalar:sdpa:forward:f32: error/gate");
    spoil_sdpa("case/out", 3, 1e-9, "FAIL case: cpu:scalar:sdpa:forward:f64: error/gate");
    spoil_sdpa("case/lse", 1, 1e-4, "lse[1]");
    spoil_sdpa("case/out", 0, NAN, "error/gate inf");
    add_to_sdpa("case/something", "unknown tensor something");
    add_to_sdpa("case/option/scale", "option/scale has 3 elements, wanted one");
    add_to_sdpa("case/option/sinks", "option/sinks has 3 elements, wanted 2");
    add_to_sdpa("case/option/key_lengths", "key_lengths is not one for each item");
    add_to_sdpa("case/option/mask", "option/mask does not fit the scores");
    add_to_sdpa("alone", "FAIL alone: a tensor that belongs to no case");
    drop_from_sdpa("case/v", "v with four dimensions is missing");
    drop_from_sdpa("case/out", "out is missing");
    drop_from_sdpa("case/option/causal", "error/gate");
}

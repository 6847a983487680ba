/* SPDX-License-Identifier: Apache-2.0 */
/* attention-info: what this machine and this library have, and which implementation a problem would get. */
#include "tools/attention-info/options.h"
#include "tools/streams.h"
#include "tools/table.h"

#include <stdio.h>
#include <string.h>

static int fail(void) {
    fprintf(stderr, "attention-info: %s\n", attn_last_error_message());
    return 1;
}

/* The leading field of a name. */
static size_t device_length(const char *name) { return strcspn(name, ":"); }

static void print_backends(const attn_context *context) {
    const char *name, *last = "";
    printf("%-16s", "backends");
    for (size_t i = 0; (name = attn_context_implementation_name(context, i)); i++) {
        const size_t length = device_length(name);
        if (device_length(last) == length && !strncmp(name, last, length)) continue;
        printf("%s%.*s", *last ? " " : "", (int)length, name);
        last = name;
    }
    putchar('\n');
}

static void print_context(const attn_context *context) {
    const char *features = attn_context_cpu_features(context);
    printf("%-16s%s\n", "libattention", attn_version());
    printf("%-16s%s\n", "cpu features", *features ? features : "none that this library looks at");
    printf("%-16s%s\n", "isa", attn_context_isa(context));
    printf("%-16s%s\n", "blas", attn_context_blas(context));
    printf("%-16s%d\n", "threads", attn_context_threads(context));
    print_backends(context);
}

static void print_implementations(const attn_context *context) {
    const char *name;
    for (size_t i = 0; (name = attn_context_implementation_name(context, i)); i++)
        printf("%-16s%s\n", i ? "" : "implementations", name);
}

static void print_answer(void *user, const char *implementation, int chosen, const char *refusal) {
    (void)user;
    printf("%s %-34s %s\n", chosen ? "*" : " ", implementation,
           refusal  ? refusal
           : chosen ? "chosen"
                    : "could run, but comes later");
}

static attn_status explain(attn_context *context, const info_options *options) {
    return options->has_sdpa ? attn_sdpa_forward_explain(context, &options->sdpa, print_answer, NULL)
                             : attn_layer_forward_explain(context, &options->problem, print_answer, NULL);
}

static attn_status make_plan(attn_context *context, const info_options *options, attn_plan **plan) {
    return options->has_sdpa ? attn_sdpa_forward_plan(context, &options->sdpa, plan)
                             : attn_layer_forward_plan(context, &options->problem, plan);
}

/* Ends with what the plan needs, which is the proof that it can be made. */
static int answer(attn_context *context, const info_options *options) {
    attn_plan *plan;
    putchar('\n');
    if (explain(context, options) || make_plan(context, options, &plan)) return fail();
    printf("\n%-16s%s\n", "plan", attn_plan_implementation(plan));
    printf("%-16s%zu bytes\n", "workspace", attn_plan_workspace_size(plan));
    if (!options->has_sdpa) printf("%-16s%zu bytes\n", "prepared", attn_plan_prepared_size(plan));
    attn_plan_destroy(plan);
    return 0;
}

/* A weights file as a table. */
static int show_file(const char *path) {
#ifdef ATTN_WEIGHTS
    attn_weights_file *file;
    if (attn_weights_open(path, 0, &file)) return fail();
    table_print(file);
    attn_weights_close(file);
    return 0;
#else
    fprintf(stderr, "attention-info: %s: this build reads no weights files\n", path);
    return 1;
#endif
}

int main(int count, char **words) {
    info_options options;
    streams_begin("attention-info", 1);
    if (!info_read_options(count, words, &options)) return 2;
    if (options.help) return fputs(info_usage, stdout) == EOF;
    if (options.version) return puts(attn_version()) == EOF;
    if (options.file) return show_file(options.file);
    attn_context *context;
    if (attn_context_create(&options.context, &context)) return fail();
    print_context(context);
    int failed = 0;
    if (options.has_problem || options.has_sdpa)
        failed = answer(context, &options);
    else
        print_implementations(context);
    attn_context_destroy(context);
    return failed;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static bool answered; /* the request that is being served */

static void print_string(const char *text) {
    putchar('"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') putchar('\\');
        putchar((unsigned char)*text < ' ' ? ' ' : *text);
    }
    putchar('"');
}

void worker_error(const char *message) {
    printf("{\"error\": ");
    print_string(message);
    puts("}");
    answered = true;
}

bool worker_succeeded(attn_status status) {
    if (status != ATTN_OK) worker_error(attn_last_error_message());
    return status == ATTN_OK;
}

void worker_variants(const char *const *names, int count) {
    printf("{\"variants\": [");
    for (int i = 0; i < count; i++) {
        if (i) printf(", ");
        print_string(names[i]);
    }
    puts("]}");
}

static void load(const worker *w, attn_context *context, const char *words) {
    worker_case c;
    if (sscanf(words, "%15s %31s %lld %lld %lld %lld %3999s", c.score, c.direction, &c.batch, &c.timesteps, &c.features,
               &c.units, c.directory) != 7)
        worker_error("not a case");
    else
        w->load(context, &c);
}

static void write_results(const worker *w, const char *words) {
    char path[4096];
    int variant;
    if (sscanf(words, "%d %4095s", &variant, path) != 2 || variant < 0 || variant >= w->variants) {
        worker_error("output: not a variant and a file");
        return;
    }
    FILE *file = fopen(path, "wb");
    bool complete = file && w->write(variant, file);
    if (file && fclose(file) != 0) complete = false;
    if (complete)
        puts("{}");
    else if (!answered)
        worker_error(strerror(errno));
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void time_calls(const worker *w, const char *words) {
    int variant;
    double warm;
    long count;
    if (sscanf(words, "%d %lf %ld", &variant, &warm, &count) != 3 || variant < 0 || variant >= w->variants) {
        worker_error("time: not a variant, seconds and a count");
        return;
    }
    double end = now() + warm;
    bool good = true;
    do good = w->run(variant);
    while (good && now() < end);
    double start = now();
    for (long i = 0; i < count && good; i++) good = w->run(variant);
    double seconds = now() - start;
    if (good) printf("{\"seconds\": %.9g}\n", seconds);
}

static void greet(const worker *w, const attn_context *context) {
    char version[512];
    snprintf(version, sizeof version, "%s, %s, %d threads, %s", attn_version(), attn_context_isa(context),
             attn_context_threads(context), attn_context_blas(context));
    printf("{\"software\": \"libattention\", \"version\": ");
    print_string(version);
    printf(", \"directions\": %s}\n", w->directions);
}

int worker_serve(const worker *w, int threads) {
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.threads = threads;
    attn_context *context;
    if (attn_context_create(&options, &context) != ATTN_OK) {
        fprintf(stderr, "%s\n", attn_last_error_message());
        return EXIT_FAILURE;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    greet(w, context);
    static char line[8192];
    while (fgets(line, sizeof line, stdin)) {
        answered = false;
        if (strncmp(line, "case ", 5) == 0)
            load(w, context, line + 5);
        else if (strncmp(line, "output ", 7) == 0)
            write_results(w, line + 7);
        else if (strncmp(line, "time ", 5) == 0)
            time_calls(w, line + 5);
        else
            worker_error("no such request");
    }
    w->unload();
    attn_context_destroy(context);
    return EXIT_SUCCESS;
}

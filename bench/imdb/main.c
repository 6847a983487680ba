/* SPDX-License-Identifier: Apache-2.0
 * attention-imdb: upstream's IMDB experiment, as many times as its table wants. */
#include "bench/imdb/attended.h"
#include "bench/imdb/options.h"
#include "bench/imdb/table.h"
#include "bench/machine.h"
#include "bench/program.h"
#include "lib/replace.h"
#include "tools/streams.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct session {
    const imdb_options *wanted;
    attn_context *context;
    machine machine;
    records keras;
    corpus reviews;
} session;

/* ---- Files ------------------------------------------------------------------------------------------- */

static char *place(const session *s, const char *name) { return text("%s/%s", s->wanted->out, name); }

static void make_folder(const char *path) {
    if (mkdir(path, 0777) && errno != EEXIST) fail("can't make the folder %s: %s", path, strerror(errno));
}

/* A report is of what is there. */
static void check_folder(const char *path) {
    struct stat about;
    if (stat(path, &about)) fail("can't report on the folder %s: %s", path, strerror(errno));
    if (!S_ISDIR(about.st_mode)) fail("can't report on %s: it is not a folder", path);
}

typedef void (*print_function)(FILE *file, const session *s, const records *all);

/* Puts a whole file in its place, or ends the program with the old one there. */
static void put_file(const session *s, const char *name, print_function print, const records *all) {
    char *const path = place(s, name), *content = NULL;
    size_t size = 0;
    FILE *const file = open_memstream(&content, &size);
    if (!file) fail("out of memory");
    print(file, s, all);
    if (fclose(file)) fail("out of memory");
    attn_replacement placed;
    const bool done = attn_replacement_open(&placed, path) && attn_replacement_write(&placed, content, size) &&
                      attn_replacement_commit(&placed);
    if (!done) attn_replacement_abandon(&placed);
    if (!done)
        fail("can't write %s: %s%s%s", path, placed.failed, placed.cause ? ": " : "",
             placed.cause ? strerror(placed.cause) : "");
    free(content);
    release(path);
}

/* ---- Reports ------------------------------------------------------------------------------------------ */

static void print_results(FILE *file, const session *s, const records *all) {
    (void)s;
    char *const lines = records_text(all);
    fputs(lines, file);
    free(lines);
}

/* The commits that the runs were trained by, each once. */
static void print_commits(FILE *file, const records *all) {
    for (size_t i = 0; i < all->count; i++) {
        size_t before = 0;
        while (before < i && strcmp(all->at[before].commit, all->at[i].commit) != 0) before++;
        if (before == i) fprintf(file, ", commit %s", all->at[i].commit[0] ? all->at[i].commit : "unknown");
    }
}

static void print_machine(FILE *file, const session *s, const records *all) {
    double seconds = 0;
    for (size_t i = 0; i < all->count; i++) seconds += all->at[i].train_seconds + all->at[i].test_seconds;
    fprintf(file, "libattention %s", attn_version());
    print_commits(file, all);
    fprintf(file, ", %s, %s\n", s->machine.compiler, s->machine.date);
    fprintf(file, "%s, %s, %s, %d threads\n", s->machine.cpu, attn_context_isa(s->context),
            attn_context_blas(s->context), attn_context_threads(s->context));
    fprintf(file, "%zu epochs in %.0f minutes of training and testing\n", all->count, seconds / 60);
}

static void print_table(FILE *file, const session *s, const records *all) {
    print_machine(file, s, all);
    fputc('\n', file);
    table_print(file, all, &s->keras, s->wanted->epochs);
}

static run run_of(const session *s, int row, size_t number) {
    return (run){row,
                 s->wanted->seed + number,
                 s->wanted->out,
                 s->wanted->threads,
                 attn_context_isa(s->context),
                 s->machine.commit};
}

static void print_attended(FILE *file, const session *s, const records *all) {
    (void)all;
    nn_model *models[ROWS] = {0};
    for (int row = 0; row < ROWS; row++) {
        const run first = run_of(s, row, 0);
        if (rows[row].attention) models[row] = run_model(&first);
    }
    attended_print(file, models, &s->reviews, s->wanted->reviews);
    for (int row = 0; row < ROWS; row++) nn_model_destroy(models[row]);
}

/* The records of all runs, as their state files hold them. */
static records gather(const session *s) {
    records all = {0};
    for (int row = 0; row < ROWS; row++)
        for (size_t i = 0; s->wanted->row[row] && i < s->wanted->runs; i++) {
            const run r = run_of(s, row, i);
            run_records(&r, &all);
        }
    return all;
}

static void report(const session *s) {
    records all = gather(s);
    if (s->wanted->report && all.count == 0)
        fail("%s holds no epoch of the rows, runs and seeds named: there is nothing to report", s->wanted->out);
    char *const curves = place(s, "curves.png");
    put_file(s, "results.jsonl", print_results, &all);
    put_file(s, "table.txt", print_table, &all);
    if (!table_curves(curves, &all, &s->keras)) fail("can't write %s: %s", curves, strerror(errno));
    if (s->reviews.words && s->wanted->reviews) put_file(s, "attended.txt", print_attended, &all);
    print_table(stdout, s, &all);
    release(curves);
    records_free(&all);
}

/* ---- Training ------------------------------------------------------------------------------------------ */

static void told(void *user, const records *so_far) {
    const session *const s = user;
    const record *const r = &so_far->at[so_far->count - 1];
    printf("%-8s seed %" PRIu64
           "  epoch %2zu of %zu  loss %.4f  test loss %.4f  test accuracy %.2f %%  %.1f + %.1f s\n",
           rows[r->row].name, r->seed, r->epoch, s->wanted->epochs, r->train_loss, r->test_loss, 100 * r->test_accuracy,
           r->train_seconds, r->test_seconds);
    fflush(stdout);
    records all = gather(s);
    put_file(s, "results.jsonl", print_results, &all);
    records_free(&all);
}

/* All rows under one seed, then under the next: a table that is not finished has the same runs of each row. */
static void train(session *s) {
    size_t left = s->wanted->stop_after;
    for (size_t i = 0; i < s->wanted->runs; i++)
        for (int row = 0; row < ROWS; row++) {
            if (!s->wanted->row[row] || left == 0) continue;
            const run r = run_of(s, row, i);
            if (!run_train(&r, &s->reviews, s->wanted->epochs, &left, told, s))
                printf("%-8s seed %" PRIu64 "  left to the process that trains it\n", rows[row].name, r.seed);
        }
}

static corpus read_reviews(const imdb_options *wanted) {
    progress("reading the reviews");
    review_set all = reviews_read(wanted->data, wanted->per_folder, wanted->faults);
    progress(NULL);
    for (size_t i = 0; i < all.faults; i++) fprintf(stderr, "left out: %s\n", all.fault[i]);
    corpus made = corpus_make(&all, CORPUS_TOKENS, CORPUS_STEPS);
    reviews_free(&all);
    return made;
}

int main(int argc, char **argv) {
    streams_begin("attention-imdb", 2);
    const imdb_options wanted = imdb_options_read(argc, argv);
    attn_context_options how = ATTN_CONTEXT_OPTIONS_INIT;
    session s = {.wanted = &wanted, .machine = machine_found()};
    how.threads = wanted.threads;
    if (attn_context_create(&how, &s.context)) fail("%s", attn_last_error_message());
    records_read(&s.keras, wanted.keras);
    if (wanted.report)
        check_folder(wanted.out);
    else
        make_folder(wanted.out);
    if (!wanted.report || wanted.data) s.reviews = read_reviews(&wanted);
    if (!wanted.report) train(&s);
    report(&s);
    corpus_free(&s.reviews);
    records_free(&s.keras);
    machine_free(&s.machine);
    attn_context_destroy(s.context);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/imdb/run.h"

#include "bench/program.h"
#include "examples/experiment/epoch.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char records_key[] = "imdb_records", reviews_key[] = "imdb_reviews", isa_key[] = "imdb_isa";

static char *path_of(const run *r) {
    return text("%s/%s-%" PRIu64 ".safetensors", r->folder, rows[r->row].name, r->seed);
}

/* ---- What was saved ---------------------------------------------------------------------------------- */

/* NULL where there is no such file. */
static attn_weights_file *open_saved(const char *path) {
    attn_weights_file *file;
    if (access(path, F_OK)) return NULL;
    if (attn_weights_open(path, 0, &file))
        fail("%s: %s\nWithout this file the run begins anew.", path, attn_last_error_message());
    return file;
}

static const char *metadata(const attn_weights_file *file, const char *key, const char *path) {
    const char *const value = attn_weights_metadata(file, key);
    if (!value) fail("%s is no state of a run: it lacks %s", path, key);
    return value;
}

static void check_origin(const attn_weights_file *file, const char *key, const char *wanted, const char *path) {
    const char *const found = metadata(file, key, path);
    if (strcmp(found, wanted) != 0)
        fail("%s: %s was %s and is %s now; go on in another folder (--out)", path, key, found, wanted);
}

void run_records(const run *r, records *all) {
    char *const path = path_of(r);
    attn_weights_file *const file = open_saved(path);
    if (file) records_parse(all, metadata(file, records_key, path), path);
    attn_weights_close(file);
    release(path);
}

nn_model *run_model(const run *r) {
    char *const path = path_of(r);
    nn_model *model = NULL;
    if (access(path, F_OK) == 0) {
        model = row_model(&rows[r->row], r->seed, r->threads);
        if (!nn_model_load(model, path, false)) fail("%s: %s", path, nn_model_error(model));
    }
    release(path);
    return model;
}

/* ---- Training ------------------------------------------------------------------------------------------ */

typedef struct training {
    const run *r;
    const corpus *c;
    nn_model *model;
    records history;
    char *path, *reviews; /* the checksum of the reviews */
    nn_data train, test;
    size_t *order;
    float *train_targets, *test_targets, *probability;
    double began; /* of the epoch */
} training;

static void resume(training *t) {
    attn_weights_file *const file = open_saved(t->path);
    if (!file) return;
    check_origin(file, reviews_key, t->reviews, t->path);
    check_origin(file, isa_key, t->r->isa, t->path);
    records_parse(&t->history, metadata(file, records_key, t->path), t->path);
    attn_weights_close(file);
    if (!nn_model_load(t->model, t->path, true)) fail("%s: %s", t->path, nn_model_error(t->model));
}

static training begin(const run *r, const corpus *c) {
    const corpus_part *const train = &c->part[SOURCE_TRAIN], *const test = &c->part[SOURCE_TEST];
    training t = {
        .r = r,
        .c = c,
        .model = row_model(&rows[r->row], r->seed, r->threads),
        .path = path_of(r),
        .reviews = text("%016" PRIx64, c->checksum),
        .order = allocate(train->count * sizeof *t.order),
        .train_targets = allocate(train->count * sizeof(float)),
        .test_targets = allocate(test->count * sizeof(float)),
        .probability = allocate(test->count * sizeof(float)),
    };
    t.train = row_data(&rows[r->row], train, t.train_targets);
    t.test = row_data(&rows[r->row], test, t.test_targets);
    resume(&t);
    return t;
}

static void end(training *t) {
    void *const memory[] = {t->path, t->reviews, t->order, t->train_targets, t->test_targets, t->probability};
    for (size_t i = 0; i < sizeof memory / sizeof memory[0]; i++) release(memory[i]);
    records_free(&t->history);
    nn_model_destroy(t->model);
}

static void show_step(void *user, size_t done, size_t of, double loss) {
    const training *const t = user;
    progress("%s, seed %" PRIu64 ", epoch %zu: %zu of %zu reviews, loss %.4f, %.0f s", rows[t->r->row].name, t->r->seed,
             t->history.count + 1, done, of, loss, seconds_now() - t->began);
}

/* Cross-entropy and accuracy over the test reviews; probabilities are kept off 0 and 1 as Keras keeps them. */
static void test(training *t, record *result) {
    const double least = 1e-7;
    double loss = 0;
    size_t right = 0;
    progress("%s, seed %" PRIu64 ", epoch %zu: testing", rows[t->r->row].name, t->r->seed, result->epoch);
    if (!nn_model_predict(t->model, &t->test, t->probability, NULL)) fail("%s", nn_model_error(t->model));
    for (size_t i = 0; i < t->test.items; i++) {
        const double p = fmin(1 - least, fmax(least, (double)t->probability[i]));
        const bool positive = t->test_targets[i] > 0.5F;
        loss -= log(positive ? p : 1 - p);
        right += (p > 0.5) == positive;
    }
    result->test_loss = loss / (double)t->test.items;
    result->test_accuracy = (double)right / (double)t->test.items;
}

static void save(training *t) {
    char *const lines = records_text(&t->history);
    const attn_weights_metadata_entry entries[] = {
        {records_key, lines}, {reviews_key, t->reviews}, {isa_key, t->r->isa}};
    if (!nn_model_save(t->model, t->path, true, entries, sizeof entries / sizeof entries[0]))
        fail("%s: %s", t->path, nn_model_error(t->model));
    free(lines);
}

static void train_epoch(training *t) {
    record result = {.row = t->r->row, .seed = t->r->seed, .epoch = t->history.count + 1};
    snprintf(result.commit, sizeof result.commit, "%s", t->r->commit);
    t->began = seconds_now();
    result.train_loss = epoch_train(t->model, &t->train, t->order, ROW_BATCH, t->r->seed, result.epoch, show_step, t);
    if (isnan(result.train_loss)) fail("%s: epoch %zu: %s", t->path, result.epoch, nn_model_error(t->model));
    const double trained = seconds_now();
    test(t, &result);
    result.train_seconds = trained - t->began, result.test_seconds = seconds_now() - trained;
    records_add(&t->history, result);
    save(t);
    progress(NULL);
}

/* Takes the run for this process, until the descriptor is closed; -1 when another process has it. Each run is a byte of a file. */
static int take_run(const run *r) {
    char *const path = text("%s/lock", r->folder);
    const int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (lock < 0) fail("can't open %s: %s", path, strerror(errno));
    struct flock byte = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    byte.l_start = (off_t)(r->seed * ROWS + (uint64_t)r->row);
    release(path);
    if (fcntl(lock, F_OFD_SETLK, &byte) == 0) return lock;
    close(lock);
    return -1;
}

bool run_train(const run *r, const corpus *c, size_t epochs, size_t *left, run_progress told, void *user) {
    const int lock = take_run(r);
    if (lock < 0) return false;
    training t = begin(r, c);
    for (; t.history.count<epochs && * left> 0; --*left) {
        train_epoch(&t);
        told(user, &t.history);
    }
    end(&t);
    close(lock);
    return true;
}

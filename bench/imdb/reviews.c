/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/imdb/reviews.h"

#include "bench/program.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistr.h>

typedef struct collection {
    review_set all;
    size_t per_folder, fault_room;
    bool *seen[SOURCE_SPLITS][SOURCE_LABELS]; /* by ID: there is such a file, sound or not */
} collection;

static void note(collection *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void note(collection *c, const char *format, ...) {
    if (c->all.faults == c->fault_room) {
        c->fault_room = 2 * c->fault_room + 16;
        c->all.fault = realloc(c->all.fault, c->fault_room * sizeof *c->all.fault);
        if (!c->all.fault) fail("out of memory");
    }
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    c->all.fault[c->all.faults++] = text("%s", line);
}

/* ID and rating of a review's file name; false for a file that is no review. */
static bool parse(const char *name, unsigned long *id, unsigned long *rating) {
    char *end;
    if (!isdigit((unsigned char)name[0])) return false;
    *id = strtoul(name, &end, 10);
    if (end[0] != '_' || !isdigit((unsigned char)end[1])) return false;
    *rating = strtoul(end + 1, &end, 10);
    return !strcmp(end, ".txt");
}

/* What is wrong with a review's bytes, in new memory; NULL when nothing is. */
static char *fault_of(const char *bytes, size_t size) {
    if (size == 0) return text("empty");
    if (size == SOURCE_LONGEST) return text("longer than %d bytes", SOURCE_LONGEST - 1);
    const char *const nul = memchr(bytes, 0, size);
    if (nul) return text("a zero byte at byte %td", nul - bytes);
    const uint8_t *const broken = u8_check((const uint8_t *)bytes, size);
    return broken ? text("not UTF-8 at byte %td", broken - (const uint8_t *)bytes) : NULL;
}

static void take(void *user, int split, int label, const char *name, const char *bytes, size_t size) {
    collection *const c = user;
    const char *const folder = source_folder[split][label];
    unsigned long id, rating;
    if (!parse(name, &id, &rating)) return;
    if (id >= c->per_folder) fail("%s/%s: more than %zu reviews in a folder", folder, name, c->per_folder);
    if (c->seen[split][label][id]) fail("%s/%s: a second review of that number", folder, name);
    c->seen[split][label][id] = true;
    char *fault = fault_of(bytes, size);
    if (!fault &&
        (rating < 1 || rating > 10 || (rating >= 7) != (label == SOURCE_POSITIVE) || rating == 5 || rating == 6))
        fault = text("rating %lu in this folder", rating);
    if (fault) {
        note(c, "%s/%s: %s", folder, name, fault);
        release(fault);
        return;
    }
    review_text *const r = &c->all.review[split][label][c->all.count[split][label]++];
    r->name = text("%s/%s", folder, name);
    r->text = allocate(size + 1);
    memcpy(r->text, bytes, size);
    r->length = size;
}

static int by_name(const void *a, const void *b) {
    const review_text *const x = a, *const y = b;
    return strcmp(x->name, y->name);
}

static void finish_folder(collection *c, int split, int label) {
    for (size_t id = 0; id < c->per_folder; id++)
        if (!c->seen[split][label][id]) note(c, "%s/%zu: missing", source_folder[split][label], id);
    release(c->seen[split][label]);
    qsort(c->all.review[split][label], c->all.count[split][label], sizeof(review_text), by_name);
}

static void refuse(const collection *c, const char *path, size_t faults_allowed) {
    enum { SHOWN = 20 };
    const size_t shown = c->all.faults < SHOWN ? c->all.faults : SHOWN;
    for (size_t i = 0; i < shown; i++) fprintf(stderr, "    %s\n", c->all.fault[i]);
    if (c->all.faults > shown) fprintf(stderr, "    and %zu more\n", c->all.faults - shown);
    fail("%s: %zu reviews of %zu are missing or damaged, and at most %zu may be", path, c->all.faults,
         SOURCE_SPLITS * (size_t)SOURCE_LABELS * c->per_folder, faults_allowed);
}

review_set reviews_read(const char *path, size_t per_folder, size_t faults_allowed) {
    collection c = {.per_folder = per_folder};
    for (int split = 0; split < SOURCE_SPLITS; split++)
        for (int label = 0; label < SOURCE_LABELS; label++) {
            c.seen[split][label] = allocate(per_folder * sizeof(bool));
            c.all.review[split][label] = allocate(per_folder * sizeof(review_text));
        }
    source_read(path, take, &c);
    for (int split = 0; split < SOURCE_SPLITS; split++)
        for (int label = 0; label < SOURCE_LABELS; label++) finish_folder(&c, split, label);
    if (c.all.faults > faults_allowed) refuse(&c, path, faults_allowed);
    return c.all;
}

void reviews_free(review_set *all) {
    for (int split = 0; split < SOURCE_SPLITS; split++)
        for (int label = 0; label < SOURCE_LABELS; label++) {
            for (size_t i = 0; i < all->count[split][label]; i++) {
                release(all->review[split][label][i].name);
                release(all->review[split][label][i].text);
            }
            release(all->review[split][label]);
        }
    for (size_t i = 0; i < all->faults; i++) release(all->fault[i]);
    free(all->fault);
    *all = (review_set){0};
}

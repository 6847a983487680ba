/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/imdb/records.h"

#include "bench/program.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

void records_add(records *all, record added) {
    if (all->count == all->room) {
        const size_t room = 2 * all->room + 64;
        record *const more = allocate(room * sizeof *more);
        if (all->count) memcpy(more, all->at, all->count * sizeof *more);
        release(all->at);
        all->at = more, all->room = room;
    }
    all->at[all->count++] = added;
}

void records_free(records *all) {
    release(all->at);
    *all = (records){0};
}

/* A number that may be absent: the seconds of a test, which Keras's runs do not tell. */
static double number(const json_t *object, const char *key) { return json_number_value(json_object_get(object, key)); }

static bool parse_line(const char *line, size_t length, record *parsed) {
    json_error_t error;
    json_t *const object = json_loadb(line, length, JSON_REJECT_DUPLICATES, &error);
    const char *const name = json_string_value(json_object_get(object, "model"));
    const json_int_t seed = json_integer_value(json_object_get(object, "seed"));
    const json_int_t epoch = json_integer_value(json_object_get(object, "epoch"));
    const char *const commit = json_string_value(json_object_get(object, "commit"));
    *parsed = (record){
        .row = name ? row_find(name) : ROWS,
        .seed = (uint64_t)seed,
        .epoch = (size_t)epoch,
        .train_loss = number(object, "train_loss"),
        .test_loss = number(object, "test_loss"),
        .test_accuracy = number(object, "test_accuracy"),
        .train_seconds = number(object, "train_s"),
        .test_seconds = number(object, "test_s"),
    };
    snprintf(parsed->commit, sizeof parsed->commit, "%s", commit ? commit : "");
    json_decref(object);
    return parsed->row < ROWS && epoch >= 1 && parsed->test_accuracy > 0 && parsed->test_accuracy <= 1;
}

void records_parse(records *all, const char *text, const char *from) {
    for (size_t line = 1; *text; line++) {
        const size_t length = strcspn(text, "\n");
        record parsed;
        if (!parse_line(text, length, &parsed)) fail("%s: line %zu is no record of an epoch", from, line);
        records_add(all, parsed);
        text += length + (text[length] == '\n');
    }
}

void records_read(records *all, const char *path) {
    enum { MOST = 1 << 20 };
    FILE *const file = fopen(path, "r");
    if (!file) fail("can't open %s: %s", path, strerror(errno));
    char *const content = allocate(MOST);
    const size_t size = fread(content, 1, MOST - 1, file);
    if (ferror(file) || size == MOST - 1) fail("can't read %s", path);
    fclose(file);
    records_parse(all, content, path);
    release(content);
}

static char *line_of(const record *r) {
    return text("{\"model\": \"%s\", \"seed\": %llu, \"epoch\": %zu, \"train_loss\": %.9g, \"test_loss\": %.9g, "
                "\"test_accuracy\": %.9g, \"train_s\": %.1f, \"test_s\": %.1f, \"commit\": \"%s\"}\n",
                rows[r->row].name, (unsigned long long)r->seed, r->epoch, r->train_loss, r->test_loss, r->test_accuracy,
                r->train_seconds, r->test_seconds, r->commit);
}

char *records_text(const records *all) {
    char *joined = NULL;
    size_t size = 0;
    FILE *const stream = open_memstream(&joined, &size);
    if (!stream) fail("out of memory");
    for (size_t i = 0; i < all->count; i++) {
        char *const line = line_of(&all->at[i]);
        fputs(line, stream);
        release(line);
    }
    if (fclose(stream)) fail("out of memory");
    return joined;
}

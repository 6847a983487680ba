/* SPDX-License-Identifier: Apache-2.0 */
#include "archive_file.h"

#include "bounds.h"
#include "pool.h"
#include "report.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zip.h>

static zip_t *archive;
static void *weights;

static void check_member(zip_uint64_t index) {
    zip_stat_t about;
    if (zip_stat_index(archive, index, 0, &about) != 0 || !(about.valid & ZIP_STAT_NAME) ||
        !(about.valid & ZIP_STAT_SIZE) || !(about.valid & ZIP_STAT_COMP_SIZE))
        refuse(EXIT_REFUSED, "archive: member %llu has no readable entry", (unsigned long long)index);
    const char *name = quoted(about.name);
    if (!*about.name || strpbrk(about.name, "/\\") || strcmp(about.name, "..") == 0)
        refuse(EXIT_REFUSED, "archive: member \"%s\" has a path", name);
    if (zip_name_locate(archive, about.name, 0) != (zip_int64_t)index)
        refuse(EXIT_REFUSED, "archive: two members named \"%s\"", name);
    if (about.valid & ZIP_STAT_ENCRYPTION_METHOD && about.encryption_method != ZIP_EM_NONE)
        refuse(EXIT_REFUSED, "archive: member \"%s\" is encrypted", name);
    if (about.size > LIMIT_MEMBER)
        refuse(EXIT_LIMIT, "archive: member \"%s\" has %llu bytes, at most %zu are read", name,
               (unsigned long long)about.size, LIMIT_MEMBER);
    if (about.size / LIMIT_RATIO > about.comp_size)
        refuse(EXIT_REFUSED, "archive: member \"%s\" has %llu bytes made of %llu: an absurd ratio", name,
               (unsigned long long)about.size, (unsigned long long)about.comp_size);
}

/* The bytes of a member and a NUL behind them, from malloc; NULL when there is none of that name. */
static void *read_member(const char *name, size_t limit, size_t *size) {
    zip_stat_t about;
    if (zip_stat(archive, name, 0, &about) != 0) return NULL;
    if (about.size > limit) refuse(EXIT_LIMIT, "archive: member \"%s\" has more than %zu bytes", name, limit);
    char *data = malloc((size_t)about.size + 1);
    if (!data) refuse(EXIT_LIMIT, "archive: out of memory for member \"%s\"", name);
    zip_file_t *member = zip_fopen_index(archive, about.index, 0);
    zip_uint64_t done = 0;
    for (zip_int64_t got = 1; member && got > 0; done += got > 0 ? (zip_uint64_t)got : 0)
        got = zip_fread(member, data + done, about.size + 1 - done);
    /* Closing checks the sum of the bytes; one byte more than announced is a lie too. */
    const int failed = !member || zip_fclose(member) != 0 || done != about.size;
    if (failed) {
        free(data);
        refuse(EXIT_REFUSED, "archive: member \"%s\" can't be read as its entry describes it", name);
    }
    data[done] = '\0';
    *size = (size_t)done;
    return data;
}

static const char *read_text_member(const char *name) {
    size_t size;
    char *data = read_member(name, LIMIT_CONFIG, &size);
    if (!data) return NULL;
    const bool has_nul = strlen(data) != size;
    const char *text = pool_copy(data);
    free(data);
    if (has_nul) refuse(EXIT_REFUSED, "archive: member \"%s\" is not text", name);
    return text;
}

void archive_open(const void *data, size_t size, archive_file *out) {
    zip_error_t error;
    zip_error_init(&error);
    zip_source_t *source = zip_source_buffer_create(data, size, 0, &error);
    archive = source ? zip_open_from_source(source, ZIP_RDONLY | ZIP_CHECKCONS, &error) : NULL;
    if (!archive) {
        if (source) zip_source_free(source);
        refuse(EXIT_REFUSED, "archive: %s", quoted(zip_error_strerror(&error)));
    }
    zip_error_fini(&error);
    const zip_int64_t members = zip_get_num_entries(archive, 0);
    if (members > LIMIT_MEMBERS)
        refuse(EXIT_REFUSED, "archive: %lld members, at most %d are read", (long long)members, LIMIT_MEMBERS);
    for (zip_int64_t i = 0; i < members; ++i) check_member((zip_uint64_t)i);
    out->config = read_text_member("config.json");
    if (!out->config) refuse(EXIT_REFUSED, "archive: no member config.json, as a .keras file has");
    out->metadata = read_text_member("metadata.json");
    out->weights = weights = read_member("model.weights.h5", LIMIT_MEMBER, &out->weights_size);
    if (!out->weights) refuse(EXIT_REFUSED, "archive: no member model.weights.h5 with the weights");
}

void archive_close(void) {
    if (archive) zip_discard(archive);
    free(weights);
    archive = NULL;
    weights = NULL;
}

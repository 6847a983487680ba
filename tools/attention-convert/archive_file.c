/* SPDX-License-Identifier: Apache-2.0 */
#include "archive_file.h"

#include "bounds.h"
#include "pool.h"
#include "report.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zip.h>

static zip_t *archive;
static void *weights;

/* What a layer keeps beside its weights, such as a vocabulary. It is never read, so that only its name matters. */
static bool is_asset(const char *name) {
    if (strncmp(name, "assets/", strlen("assets/")) != 0 || strchr(name, '\\')) return false;
    for (const char *at = name; at; at = strchr(at, '/')) {
        at += *at == '/';
        if (strncmp(at, "..", 2) == 0 && (!at[2] || at[2] == '/')) return false;
    }
    return true;
}

static void check_member(zip_uint64_t index) {
    zip_stat_t about;
    if (zip_stat_index(archive, index, 0, &about) != 0 || !(about.valid & ZIP_STAT_NAME) ||
        !(about.valid & ZIP_STAT_SIZE) || !(about.valid & ZIP_STAT_COMP_SIZE))
        refuse(EXIT_REFUSED, "archive: member %llu has no readable entry", (unsigned long long)index);
    const char *name = quoted(about.name);
    if (is_asset(about.name)) return;
    if (!*about.name || strpbrk(about.name, "/\\") || strcmp(about.name, "..") == 0)
        refuse(EXIT_REFUSED, "archive: member \"%s\" has a path", name);
    if (zip_name_locate(archive, about.name, 0) != (zip_int64_t)index)
        refuse(EXIT_REFUSED, "archive: two members named \"%s\"", name);
    if (about.valid & ZIP_STAT_ENCRYPTION_METHOD && about.encryption_method != ZIP_EM_NONE)
        refuse(EXIT_REFUSED, "archive: member \"%s\" is encrypted", name);
    if (about.valid & ZIP_STAT_COMP_METHOD && about.comp_method != ZIP_CM_STORE && about.comp_method != ZIP_CM_DEFLATE)
        refuse(
            EXIT_REFUSED,
            "archive: member \"%s\" is compressed by method %u%s; only stored and deflated members are read: unpack it "
            "and pack it again with zip",
            name, (unsigned)about.comp_method, about.comp_method == ZIP_CM_LZMA ? " (LZMA)" : "");
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

static uint32_t little_endian(const unsigned char *at) {
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

size_t archive_end(const void *data, size_t size) {
    const unsigned char *bytes = data;
    for (size_t back = ARCHIVE_END; back <= size && back <= ARCHIVE_TAIL; ++back) {
        const unsigned char *end = bytes + size - back;
        const size_t comment = end[20] | (size_t)end[21] << 8;
        if (memcmp(end, "PK\005\006", 4) == 0 && comment == back - ARCHIVE_END) return back;
    }
    return 0;
}

/* Bytes before the archive, which its offsets do not count: where its directory lies tells how many. */
static size_t bytes_before(const void *data, size_t size) {
    const size_t back = archive_end(data, size);
    if (back == 0) return 0;
    const unsigned char *end = (const unsigned char *)data + size - back;
    const size_t directory = (size_t)little_endian(end + 12) + little_endian(end + 16);
    return directory < size - back ? size - back - directory : 0;
}

void archive_open(const void *data, size_t size, archive_file *out) {
    const size_t before = bytes_before(data, size);
    data = (const char *)data + before;
    size -= before;
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

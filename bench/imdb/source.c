/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/imdb/source.h"

#include "bench/program.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

const char *const source_folder[SOURCE_SPLITS][SOURCE_LABELS] = {{"train/neg", "train/pos"}, {"test/neg", "test/pos"}};

static const char wanted[] =
    "It is the Large Movie Review Dataset of Maas et al., aclImdb_v1.tar.gz from\n"
    "    https://ai.stanford.edu/~amaas/data/sentiment/\n"
    "taken as it is, packed in another way (.tar.xz, .tar), or as the folder that it unpacks to.";

/* ---- An archive ------------------------------------------------------------------------------------ */

/* The name within one of the four folders, wherever these lie in the archive; NULL for other files. */
static const char *place_of(const char *path, int *split, int *label) {
    const char *const slash = strrchr(path, '/');
    if (!slash) return NULL;
    const size_t before = (size_t)(slash - path);
    for (*split = 0; *split < SOURCE_SPLITS; ++*split)
        for (*label = 0; *label < SOURCE_LABELS; ++*label) {
            const char *const folder = source_folder[*split][*label];
            const size_t length = strlen(folder);
            if (before < length || memcmp(slash - length, folder, length) != 0) continue;
            if (before == length || slash[-1 - (ptrdiff_t)length] == '/') return slash + 1;
        }
    return NULL;
}

/* The bytes of the entry that the archive stands at; false when the archive is damaged there. */
static bool read_entry(struct archive *archive, char *bytes, size_t *size) {
    *size = 0;
    while (*size < SOURCE_LONGEST) {
        const la_ssize_t got = archive_read_data(archive, bytes + *size, SOURCE_LONGEST - *size);
        if (got < 0) return false;
        if (got == 0) break;
        *size += (size_t)got;
    }
    return true;
}

static void read_archive(const char *path, source_take take, void *user) {
    struct archive *archive = archive_read_new();
    struct archive_entry *entry;
    char *const bytes = allocate(SOURCE_LONGEST), *last = text("its beginning");
    if (!archive || archive_read_support_filter_all(archive) < ARCHIVE_WARN || archive_read_support_format_tar(archive))
        fail("can't prepare to read archives");
    if (archive_read_open_filename(archive, path, 1 << 16))
        fail("%s can't be read as an archive: %s", path, archive_error_string(archive));
    int status;
    while ((status = archive_read_next_header(archive, &entry)) == ARCHIVE_OK || status == ARCHIVE_WARN) {
        int split, label;
        size_t size;
        const char *const inside = archive_entry_pathname(entry);
        const char *const name = inside ? place_of(inside, &split, &label) : NULL;
        if (!name || archive_entry_filetype(entry) != AE_IFREG) continue;
        release(last);
        last = text("%s", inside);
        if (!read_entry(archive, bytes, &size)) {
            status = ARCHIVE_FATAL;
            break;
        }
        take(user, split, label, name, bytes, size);
    }
    if (status != ARCHIVE_EOF) fail("%s is damaged at or after %s: %s", path, last, archive_error_string(archive));
    archive_read_free(archive);
    release(last);
    release(bytes);
}

/* ---- A folder --------------------------------------------------------------------------------------- */

static void read_file(const char *path, char *bytes, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file) fail("can't open %s: %s", path, strerror(errno));
    *size = fread(bytes, 1, SOURCE_LONGEST, file);
    if (ferror(file)) fail("can't read %s: %s", path, strerror(errno));
    fclose(file);
}

static bool is_folder(const char *path) {
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

static void read_folder(const char *root, int split, int label, char *bytes, source_take take, void *user) {
    char *const folder = text("%s/%s", root, source_folder[split][label]);
    DIR *stream = opendir(folder);
    if (!stream) fail("can't open %s: %s", folder, strerror(errno));
    for (struct dirent *entry; (errno = 0, entry = readdir(stream));) {
        char *const path = text("%s/%s", folder, entry->d_name);
        size_t size;
        if (!is_folder(path)) {
            read_file(path, bytes, &size);
            take(user, split, label, entry->d_name, bytes, size);
        }
        release(path);
    }
    if (errno) fail("can't read %s: %s", folder, strerror(errno));
    closedir(stream);
    release(folder);
}

static void read_folders(const char *path, source_take take, void *user) {
    char *const inner = text("%s/aclImdb", path), *const bytes = allocate(SOURCE_LONGEST);
    const char *const root = is_folder(inner) ? inner : path;
    for (int split = 0; split < SOURCE_SPLITS; split++)
        for (int label = 0; label < SOURCE_LABELS; label++) read_folder(root, split, label, bytes, take, user);
    release(bytes);
    release(inner);
}

void source_read(const char *path, source_take take, void *user) {
    struct stat s;
    if (!path)
        fail("no reviews: --data PATH or the environment variable " SOURCE_VARIABLE " must name them.\n%s", wanted);
    if (stat(path, &s)) fail("no reviews at %s: %s.\n%s", path, strerror(errno), wanted);
    (S_ISDIR(s.st_mode) ? read_folders : read_archive)(path, take, user);
}

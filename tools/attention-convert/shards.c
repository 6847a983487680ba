/* SPDX-License-Identifier: Apache-2.0 */
#include "shards.h"

#include "bounds.h"
#include "lib/quote.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char ending[] = ".weights.h5";

enum { DIGITS = 5, NAMED = 8 }; /* of a shard's number; groups that are named one by one */

/* The length of a shard's path before "_00000.weights.h5"; 0 when it is none. */
static size_t stem_length(const char *path) {
    const size_t length = strlen(path), tail = 1 + DIGITS + strlen(ending);
    if (length <= tail || strcmp(path + length - strlen(ending), ending) != 0) return 0;
    const char *number = path + length - tail;
    return *number == '_' && strspn(number + 1, "0123456789") == DIGITS ? length - tail : 0;
}

/* The list of shards, or NULL. A device or a pipe is not waited for. */
static json_t *read_list(const char *path) {
    struct stat about;
    json_t *list = NULL;
    const int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file < 0) return NULL;
    if (fstat(file, &about) == 0 && S_ISREG(about.st_mode) && about.st_size <= (off_t)LIMIT_CONFIG)
        list = json_loadfd(file, JSON_REJECT_DUPLICATES, NULL);
    close(file);
    return list;
}

static bool lists_shard(const json_t *shards, const char *name) {
    if (json_is_string(shards)) return strcmp(json_string_value(shards), name) == 0;
    for (size_t i = 0; i < json_array_size(shards); ++i)
        if (json_is_string(json_array_get(shards, i)) &&
            strcmp(json_string_value(json_array_get(shards, i)), name) == 0)
            return true;
    return false;
}

static void report_missing(json_t *map, const char *name) {
    size_t missing = 0;
    const char *group;
    json_t *shards;
    char quoted_group[ATTN_QUOTE_SIZE];
    json_object_foreach(map, group, shards) {
        if (lists_shard(shards, name)) continue;
        if (missing++ < NAMED)
            fprintf(stderr, "attention-convert: note: not in this shard: %s\n", attn_quote(quoted_group, group));
    }
    if (missing > NAMED) fprintf(stderr, "attention-convert: note: and %zu more groups\n", missing - NAMED);
}

void shards_report(const char *path) {
    const size_t stem = stem_length(path);
    char *list_path = stem > 0 ? malloc(stem + sizeof ".weights.json") : NULL;
    if (!list_path) return;
    fputs("attention-convert: note: a shard of a Keras 3 model: what lies in its other shards is not converted\n",
          stderr);
    memcpy(list_path, path, stem);
    strcpy(list_path + stem, ".weights.json");
    json_t *list = read_list(list_path);
    const char *slash = strrchr(path, '/');
    json_t *map = json_object_get(list, "weight_map");
    if (map) report_missing(map, slash ? slash + 1 : path);
    json_decref(list);
    free(list_path);
}

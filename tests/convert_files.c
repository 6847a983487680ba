/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/convert_files.h"

#include "tests/suite.h"

#include <dirent.h>
#include <ftw.h>
#include <spawn.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

answer got;

void convert(const char *const *arguments) {
    const char *line[16] = {ATTENTION_CONVERT};
    int ends[2], status;
    pid_t child;
    posix_spawn_file_actions_t actions;
    for (size_t i = 0; arguments[i] && i < 14; i++) line[i + 1] = arguments[i];
    got = (answer){.code = -1};
    if (pipe(ends) != 0) return;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 2);
    posix_spawn_file_actions_addclose(&actions, ends[0]);
    const int failed = posix_spawn(&child, ATTENTION_CONVERT, &actions, NULL, (char *const *)line, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    size_t used = 0;
    for (ssize_t more = 1; more > 0 && used<sizeof got.out - 1; used += more> 0 ? (size_t)more : 0)
        more = read(ends[0], got.out + used, sizeof got.out - 1 - used);
    close(ends[0]);
    if (!failed && waitpid(child, &status, 0) == child && WIFEXITED(status)) got.code = WEXITSTATUS(status);
}

/* ---- The scratch folder ---- */

static char scratch[512];

const char *in_scratch(const char *name) {
    static char paths[16][600];
    char path[600];
    if (!*scratch) {
        const char *folder = getenv("TMPDIR");
        snprintf(scratch, sizeof scratch, "%s/attention-convert-XXXXXX", folder && *folder ? folder : P_tmpdir);
        cr_assert(mkdtemp(scratch) != NULL, "%s", scratch);
    }
    snprintf(path, sizeof path, "%s/%s", scratch, name);
    size_t i = 0;
    while (*paths[i] && strcmp(paths[i], path) != 0) cr_assert(++i < 16);
    return strcpy(paths[i], path);
}

static int remove_one(const char *path, const struct stat *about, int kind, struct FTW *where) {
    (void)about;
    (void)kind;
    (void)where;
    return remove(path);
}

void clean_up(void) { cr_assert(!*scratch || nftw(scratch, remove_one, 8, FTW_DEPTH | FTW_PHYS) == 0, "%s", scratch); }

void expect_refusal(const char *path, int code, const char *message) {
    struct timespec from, to;
    unlink(in_scratch("refused.safetensors"));
    clock_gettime(CLOCK_MONOTONIC, &from);
    CONVERT(path, in_scratch("refused.safetensors"));
    clock_gettime(CLOCK_MONOTONIC, &to);
    cr_assert(got.code == code && strstr(got.out, message), "want %d and \"%s\", got %d: %s", code, message, got.code,
              got.out);
    cr_assert(access(in_scratch("refused.safetensors"), F_OK) != 0, "%s: something was written", message);
    cr_assert(to.tv_sec - from.tv_sec < 10, "%s: took %d s", message, (int)(to.tv_sec - from.tv_sec));
}

/* ---- Folders of models ---- */

static bool describe(const char *folder, const char *name, model_file *out) {
    const char *tf = strstr(name, "_tf");
    if (!tf || strlen(name) >= sizeof out->model || strncmp(name, "expected", 8) == 0) return false;
    const size_t length = strspn(tf + 3, "0123456789.") - 1; /* the last dot opens the kind */
    snprintf(out->path, sizeof out->path, "%s/%s", folder, name);
    snprintf(out->name, sizeof out->name, "%.127s", name);
    snprintf(out->model, sizeof out->model, "%.*s", (int)(tf - name), name);
    snprintf(out->version, sizeof out->version, "%.*s", (int)length, tf + 3);
    snprintf(out->kind, sizeof out->kind, "%.15s", tf + 4 + length);
    out->by_groups = strcmp(out->kind, "weights.h5") == 0 && strcmp(out->version, "2.8") != 0;
    return true;
}

size_t for_models(const char *folder, void (*visit)(const model_file *file)) {
    struct dirent **names;
    const int found = scandir(folder, &names, NULL, alphasort);
    size_t count = 0;
    for (int i = 0; i < found; i++) {
        model_file file;
        if (describe(folder, names[i]->d_name, &file)) {
            visit(&file);
            count++;
        }
        free(names[i]);
    }
    if (found >= 0) free(names);
    return count;
}

attn_weights_file *open_expected(const model_file *of) {
    static const char *const kinds[] = {"expected", "expected_more", "expected_other"};
    char folder[512], path[600], start[128];
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(of->path, '/') - of->path), of->path);
    snprintf(start, sizeof start, "%s/", of->model);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        attn_weights_file *file;
        snprintf(path, sizeof path, "%s/%s_tf%s.safetensors", folder, kinds[i], of->version);
        if (attn_weights_open(path, 0, &file) != ATTN_OK) continue;
        for (size_t k = 0; k < attn_weights_count(file); k++)
            if (strncmp(attn_weights_tensor_at(file, k)->name, start, strlen(start)) == 0) return file;
        attn_weights_close(file);
    }
    return NULL;
}

char *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    char *data = malloc(*size + 1);
    *size = fread(data, 1, *size, file);
    fclose(file);
    return data;
}

void write_file(const char *path, const char *data, size_t size) {
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, size, file) != size || fclose(file) != 0) abort();
}

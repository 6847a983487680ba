/* A file that takes the place of another, whole or not at all, and leaves nothing behind.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "lib/replace.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NAMES_TO_TRY 100
#define WRITE_CHUNK ((size_t)1 << 30) /* below what one call may transfer */
#define NAME_ROOM 64                  /* of a hidden name, or a descriptor's path */

static bool fail(attn_replacement *file, const char *what, int cause) {
    file->failed = what;
    file->cause = cause;
    return false;
}

/* Length of the folder's part of a path, its slash included. */
static size_t folder_length(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path + 1) : 0;
}

/* A hidden name beside the path that nobody can know beforehand, from malloc. */
static char *hidden_name(const char *path) {
    const size_t folder = folder_length(path), size = folder + NAME_ROOM;
    uint64_t random;
    char *name = malloc(size);
    if (!name) return NULL;
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) != (ssize_t)sizeof random) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        random = (uint64_t)now.tv_nsec * UINT64_C(0x9e3779b97f4a7c15) ^ (uint64_t)(uintptr_t)name;
    }
    snprintf(name, size, "%.*s.attention-%016llx.tmp", (int)folder, path, (unsigned long long)random);
    return name;
}

/* Every signal waits while names change, so that one that ends the process finds either state, not the one between. */
static void hold_signals(sigset_t *before) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, before);
}

static void let_signals(const sigset_t *before) { pthread_sigmask(SIG_SETMASK, before, NULL); }

/* Only a descriptor's path in /proc leads a file without a name to one, without the right to read anything. */
static void descriptor_path(char *path, int descriptor) { snprintf(path, NAME_ROOM, "/proc/self/fd/%d", descriptor); }

static int open_nameless(const char *path, mode_t mode) {
    const size_t length = folder_length(path);
    char *folder = length ? strndup(path, length) : strdup(".");
    char proc[NAME_ROOM];
    const int descriptor = folder ? open(folder, O_RDWR | O_TMPFILE | O_CLOEXEC, mode) : -1;
    free(folder);
    if (descriptor < 0) return -1;
    descriptor_path(proc, descriptor);
    if (access(proc, F_OK) == 0) return descriptor;
    close(descriptor);
    return -1;
}

static bool open_named(attn_replacement *file, mode_t mode) {
    for (int i = 0; i < NAMES_TO_TRY; ++i) {
        free(file->name);
        file->name = hidden_name(file->path);
        if (!file->name) return fail(file, "creating a file beside it", ENOMEM);
        file->descriptor = open(file->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, mode);
        if (file->descriptor >= 0) return true;
        if (errno != EEXIST && errno != EINTR) break;
    }
    const int cause = errno;
    free(file->name);
    file->name = NULL;
    return fail(file, "creating a file beside it", cause);
}

bool attn_replacement_open(attn_replacement *file, const char *path) {
    struct stat about;
    *file = (attn_replacement){.path = path, .descriptor = -1};
    if (lstat(path, &about) == 0 && !S_ISLNK(about.st_mode)) {
        if (!S_ISREG(about.st_mode)) return fail(file, "exists and is not a regular file", 0);
        /* For root, who may write to any, the mode tells what its owner wants. */
        if (!(about.st_mode & (S_IWUSR | S_IWGRP | S_IWOTH))) return fail(file, "is read-only", 0);
        if (faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) != 0) return fail(file, "can't be replaced", errno);
        file->replaces = true;
        file->mode = about.st_mode & 07777;
        file->owner = about.st_uid;
        file->group = about.st_gid;
    }
    /* What takes the place of a private file is never open to others, not even while it is written. */
    const mode_t mode = file->replaces ? S_IRUSR | S_IWUSR : 0666;
    file->descriptor = open_nameless(path, mode);
    return file->descriptor >= 0 || open_named(file, mode);
}

/* Between these two, a write past a limit on file sizes raises no signal in this thread. */
typedef struct limit_guard {
    sigset_t before;
    bool was_pending;
} limit_guard;

static void limit_signal(sigset_t *set) {
    sigemptyset(set);
    sigaddset(set, SIGXFSZ);
}

static void guard_begin(limit_guard *guard) {
    sigset_t limit, pending;
    limit_signal(&limit);
    sigpending(&pending);
    guard->was_pending = sigismember(&pending, SIGXFSZ) == 1;
    pthread_sigmask(SIG_BLOCK, &limit, &guard->before);
}

/* Takes the signal that a write raised, unless one was waiting before. */
static void guard_end(const limit_guard *guard) {
    static const struct timespec at_once = {0, 0};
    sigset_t limit, pending;
    limit_signal(&limit);
    sigpending(&pending);
    if (!guard->was_pending && sigismember(&pending, SIGXFSZ) == 1)
        while (sigtimedwait(&limit, NULL, &at_once) < 0 && errno == EINTR) continue;
    pthread_sigmask(SIG_SETMASK, &guard->before, NULL);
}

bool attn_replacement_write(attn_replacement *file, const void *data, size_t size) {
    limit_guard guard;
    int cause = 0;
    guard_begin(&guard);
    for (size_t done = 0; done < size && cause == 0;) {
        const size_t wanted = size - done < WRITE_CHUNK ? size - done : WRITE_CHUNK;
        const ssize_t wrote = write(file->descriptor, (const char *)data + done, wanted);
        if (wrote >= 0)
            done += (size_t)wrote;
        else if (errno != EINTR)
            cause = errno;
    }
    guard_end(&guard);
    return cause == 0 || fail(file, "writing", cause);
}

/* The owner goes first, for a change of it takes bits off the mode. */
static bool keep_mode_and_owner(attn_replacement *file) {
    struct stat about;
    if (!file->replaces) return true;
    if (fstat(file->descriptor, &about) != 0) return fail(file, "examining the new file", errno);
    if ((about.st_uid != file->owner || about.st_gid != file->group) &&
        fchown(file->descriptor, file->owner, file->group) != 0)
        return fail(file, "keeping the owner of the file that is there", errno);
    if (fchmod(file->descriptor, file->mode) != 0)
        return fail(file, "keeping the mode of the file that is there", errno);
    return true;
}

/* Gives a file without a name the path, or a hidden name where the path is taken. */
static bool link_nameless(attn_replacement *file) {
    char proc[NAME_ROOM];
    descriptor_path(proc, file->descriptor);
    if (linkat(AT_FDCWD, proc, AT_FDCWD, file->path, AT_SYMLINK_FOLLOW) == 0) return true;
    if (errno != EEXIST) return fail(file, "linking", errno);
    for (int i = 0; i < NAMES_TO_TRY; ++i) {
        char *name = hidden_name(file->path);
        if (!name) return fail(file, "linking", ENOMEM);
        if (linkat(AT_FDCWD, proc, AT_FDCWD, name, AT_SYMLINK_FOLLOW) == 0) {
            file->name = name;
            return true;
        }
        free(name);
        if (errno != EEXIST) break;
    }
    return fail(file, "linking", errno);
}

/* A signal's handler may look at the name: it is never one that is freed. */
static void forget_name(attn_replacement *file) {
    char *name = file->name;
    file->name = NULL;
    free(name);
}

static bool take_name(attn_replacement *file) {
    sigset_t before;
    hold_signals(&before);
    bool done = file->name || link_nameless(file);
    if (done && file->name && rename(file->name, file->path) != 0) done = fail(file, "renaming", errno);
    if (!done && file->name) unlink(file->name);
    forget_name(file);
    let_signals(&before);
    return done;
}

/* The name must reach the disk too. Not every file system can sync a folder: the file stands either way. */
static void sync_folder(const char *path) {
    const size_t length = folder_length(path);
    char *folder = length ? strndup(path, length) : strdup(".");
    const int descriptor = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (descriptor >= 0) {
        fsync(descriptor);
        close(descriptor);
    }
    free(folder);
}

bool attn_replacement_commit(attn_replacement *file) {
    bool done = keep_mode_and_owner(file);
    if (done && fsync(file->descriptor) != 0) done = fail(file, "syncing", errno);
    if (!done) {
        attn_replacement_abandon(file);
        return false;
    }
    done = take_name(file);
    close(file->descriptor);
    file->descriptor = -1;
    if (done) sync_folder(file->path);
    return done;
}

void attn_replacement_abandon(attn_replacement *file) {
    if (file->descriptor < 0) return;
    close(file->descriptor);
    file->descriptor = -1;
    if (file->name) unlink(file->name);
    forget_name(file);
}

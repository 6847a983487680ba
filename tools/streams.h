/* SPDX-License-Identifier: Apache-2.0 */
/* The standard streams of a program, for its main: none of its files takes the place of a closed one, a limit on file
 * sizes is an error of the write and no signal, and what standard output loses is told and makes the status. */
#ifndef ATTN_TOOLS_STREAMS_H
#define ATTN_TOOLS_STREAMS_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
    const char *program;
    int failure;
    bool closed;
} streams;

/* Runs at exit, however the program came there. */
static inline void streams_end(void) {
    const bool lost = ferror(stdout) != 0;
    errno = 0;
    const bool failed = fclose(stdout) != 0;
    const int cause = errno;
    if (!lost && !failed) return;
    fprintf(stderr, "%s: standard output: %s\n", streams.program,
            failed && cause ? strerrordesc_np(cause) : "writing failed");
    _exit(streams.failure);
}

/* To be called first. failure: the status of a program whose output was lost. */
static inline void streams_begin(const char *program, int failure) {
    streams.program = program;
    streams.failure = failure;
    /* A closed descriptor is taken by one that can't do what the stream is for, so that its use fails as it would have. */
    for (int descriptor = 0; descriptor < 3; ++descriptor) {
        if (fcntl(descriptor, F_GETFD) != -1) continue;
        if (open("/dev/null", descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY) != descriptor) _exit(failure);
        streams.closed |= descriptor == STDOUT_FILENO;
    }
    signal(SIGXFSZ, SIG_IGN);
    if (atexit(streams_end) != 0) _exit(failure);
}

/* False where standard output was closed by whoever started the program: a message that is not its product is left out. */
static inline bool streams_has_output(void) { return !streams.closed; }

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* How the reader answers: an exit code and a message, in memory that it shares with the process that started it. */
#ifndef ATTN_CONVERT_REPORT_H
#define ATTN_CONVERT_REPORT_H

#include <setjmp.h>

/* Exit codes of the program; documented in docs/weights.md. */
enum {
    EXIT_CONVERTED = 0,
    EXIT_USAGE = 1,    /* options or names that make no sense */
    EXIT_REFUSED = 2,  /* the file breaks its format, or uses what the converter does not read */
    EXIT_NO_LAYER = 3, /* a sound file without the attention layer, or without the one asked for */
    EXIT_IO = 4,       /* opening, reading or writing failed */
    EXIT_LIMIT = 5,    /* time or memory, or the reader died */
};

typedef struct report {
    int code;
    char message[1024];
    char notes[2048]; /* lines about what was converted how */
} report;

/* Where refuse() goes, and what it fills. Set before anything of the reader runs. */
typedef struct refuge {
    jmp_buf escape;
    report *report;
} refuge;

extern refuge *reader_refuge;

/* Ends the reading with a code and a message. Text of the file in it must have gone through quoted(). */
_Noreturn void refuse(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Adds a line to the notes; what no longer fits is cut. */
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Text of a file, fit for a terminal: cut to length, without control characters. Good for the four latest calls. */
const char *quoted(const char *text);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/gpu/table.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static FILE *copy;
static bool bad;

bool table_open(const char *file) {
    if (file && !(copy = fopen(file, "w"))) {
        fprintf(stderr, "attention-bench-gpu: %s: %s\n", file, strerror(errno));
        return false;
    }
    return true;
}

bool table_close(void) {
    bad = fflush(stdout) || bad;
    if (copy) bad = fclose(copy) || bad;
    copy = NULL;
    return !bad;
}

static void say(FILE *to, const char *format, va_list arguments) {
    bad = vfprintf(to, format, arguments) < 0 || fflush(to) || bad;
}

void table_say(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    say(stdout, format, arguments);
    va_end(arguments);
    if (!copy) return;
    va_start(arguments, format);
    say(copy, format, arguments);
    va_end(arguments);
}

void table_head(void) {
    table_say("%-34s %-34s %9s %9s %9s %9s %7s %7s  %s\n", "", "", "warm", "cold", "replay", "limit", "of it", "error",
              "wanted");
}

/* What the row reaches, and whether that is enough. */
static void describe_target(const row *r, char *text, size_t room) {
    const target *t = &r->wanted;
    const double percent = 100 * r->limit / r->found.cold, multiple = r->found.warm / r->limit;
    const bool reached = t->kind == TARGET_PERCENT  ? percent >= t->value
                         : t->kind == TARGET_REPLAY ? r->found.replay <= t->value
                                                    : multiple <= t->value;
    static const char *const formats[] = {[TARGET_PERCENT] = "%g %% of the limit, %s",
                                          [TARGET_REPLAY] = "%g us replayed, %s",
                                          [TARGET_TIMES] = "%g times the limit, %s"};
    text[0] = 0;
    if (t->kind != TARGET_NONE) snprintf(text, room, formats[t->kind], t->value, reached ? "reached" : "missed");
}

void table_row(const row *r) {
    char wanted[64];
    describe_target(r, wanted, sizeof wanted);
    table_say("%-34s %-34s %9.2f %9.2f %9.2f %9.2f %6.1f%% %7.3f  %s\n", r->what, r->implementation, r->found.warm,
              r->found.cold, r->found.replay, r->limit, 100 * r->limit / r->found.cold, r->error, wanted);
}

void table_wrong(const char *what, const char *implementation, double error) {
    bad = true;
    table_say("%-34s %-34s wrong: error over its bound %.3g\n", what, implementation, error);
}

void table_refused(const char *what, const char *why) { table_say("%-34s refused: %s\n", what, why); }

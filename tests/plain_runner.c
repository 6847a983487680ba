/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/plain_runner.h"

#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LONGEST = 900 }; /* seconds: a test that hangs fails */

static plain_test *first, **last = &first;

void plain_add(plain_test *test) {
    *last = test;
    last = &test->next;
}

void plain_fail(const char *file, int line, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s:%d:", file, line);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static int run_forked(const plain_test *test) {
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        alarm(LONGEST);
        test->run();
        exit(0);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || status) {
        fprintf(stderr, "[FAIL] %s::%s (status 0x%x)\n", test->suite, test->name, status);
        return 1;
    }
    return 0;
}

/* --filter PATTERN: the tests whose suite/name fits it, as Criterion's runner has it. */
int main(int argc, char **argv) {
    int tested = 0, failing = 0;
    const char *pattern = argc == 3 && !strcmp(argv[1], "--filter") ? argv[2] : "*";
    for (const plain_test *test = first; test; test = test->next) {
        char name[256];
        snprintf(name, sizeof name, "%s/%s", test->suite, test->name);
        if (fnmatch(pattern, name, FNM_EXTMATCH)) continue;
        tested++;
        failing += run_forked(test);
    }
    printf("[====] Synthesis: Tested: %d | Passing: %d | Failing: %d | Crashing: 0 \n", tested, tested - failing,
           failing);
    return failing || !tested ? 1 : 0;
}

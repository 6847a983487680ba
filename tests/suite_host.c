/* SPDX-License-Identifier: Apache-2.0 */
/* Hosts under conditions that a process can't take back: limits, namespaces, a library that is closed. Each is a program of its
 * own (tests/host), which says nothing and ends with 0 when the library did as promised. */
#include "tests/suite.h"

#include <sys/wait.h>
#include <unistd.h>

/* What it says, to standard output or to standard error, is a failure, but for lines that tell what the machine can't do. */
static void expect_silence(const char *const *arguments, const char *setting) {
    char output[2048];
    size_t used = 0;
    int ends[2], status;
    cr_assert(!pipe(ends));
    const pid_t child = fork();
    cr_assert(child >= 0);
    if (!child) {
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        if (setting) putenv((char *)setting);
        execv(arguments[0], (char *const *)arguments);
        _exit(127);
    }
    close(ends[1]);
    for (ssize_t got; used + 1 < sizeof output && (got = read(ends[0], output + used, sizeof output - 1 - used)) > 0;)
        used += (size_t)got;
    output[used] = '\0';
    close(ends[0]);
    cr_assert(waitpid(child, &status, 0) == child);
    const bool skipped = !strncmp(output, "skipped: ", 9);
    if (skipped) printf("%s", output);
    cr_assert(WIFEXITED(status) && !WEXITSTATUS(status) && (skipped || !*output), "%s %s %s: status 0x%x\n%s",
              arguments[1], arguments[2] ? arguments[2] : "", setting ? setting : "", (unsigned)status, output);
}

static void expect_condition(const char *condition, const char *argument, const char *setting) {
    const char *arguments[] = {HOST, condition, argument, NULL};
    expect_silence(arguments, setting);
}

Test(host, blas_is_loaded_for_what_runs_on_it) { expect_condition("lazy", NULL, NULL); }

Test(host, blas_starts_no_threads) {
    static const char *const settings[] = {NULL, "OPENBLAS_NUM_THREADS=8", "OMP_NUM_THREADS=8"};
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) expect_condition("threads", NULL, settings[i]);
}

Test(host, more_callers_than_buffers) { expect_condition("crowd", NULL, NULL); }

Test(host, blas_can_be_switched_off) { expect_condition("off", NULL, NULL); }

Test(host, thread_cancelled_in_a_run) { expect_condition("cancel", NULL, NULL); }

Test(host, first_process_of_a_namespace) { expect_condition("namespaces", NULL, NULL); }

#ifndef SANITIZED /* whose run times need address space and threads of their own */
Test(host, no_threads_to_be_had) { expect_condition("no-threads", NULL, NULL); }

/* In steps below what a buffer of OpenBLAS's takes, past what it takes with all of them on this machine. */
Test(host, little_address_space) {
    char megabytes[8];
    for (int amount = 40; amount <= 1200; amount += 40) {
        snprintf(megabytes, sizeof megabytes, "%d", amount);
        expect_condition("little-memory", megabytes, NULL);
    }
}
#endif

#ifdef LIBRARY
Test(host, library_closed_with_a_context_alive) {
    static const char *const arguments[] = {UNLOAD, LIBRARY, NULL};
    expect_silence(arguments, NULL);
}
#endif

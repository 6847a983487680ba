/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox.h"

#include "bounds.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__x86_64__)
#define AUDIT_ARCH_OURS AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define AUDIT_ARCH_OURS AUDIT_ARCH_AARCH64
#endif

/* A sanitizer takes memory and makes calls of its own, which neither the limit nor the filter knows. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* What the reader needs once it runs: memory, its clock, its memory file, its end. */
static const int allowed_calls[] = {
    SYS_brk,    SYS_mmap,          SYS_munmap,       SYS_mremap,       SYS_madvise,        SYS_ftruncate,
    SYS_futex,  SYS_exit,          SYS_exit_group,   SYS_rt_sigreturn, SYS_rt_sigprocmask, SYS_getpid,
    SYS_gettid, SYS_clock_gettime, SYS_gettimeofday, SYS_getrandom,    SYS_close,
};

/* Other calls fail with EPERM, so that a library that tries one carries on or reports. */
static void close_sandbox(void) {
#ifdef AUDIT_ARCH_OURS
    enum { CALLS = sizeof allowed_calls / sizeof *allowed_calls, HEAD = 4 };
    struct sock_filter program[HEAD + CALLS + 2] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_OURS, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    };
    for (int i = 0; i < CALLS; ++i)
        program[HEAD + i] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)allowed_calls[i],
                                                         (unsigned char)(CALLS - i), 0);
    program[HEAD + CALLS] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    program[HEAD + CALLS + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    const struct sock_fprog filter = {.len = sizeof program / sizeof *program, .filter = program};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0) prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
#endif
}

static void set_limit(__rlimit_resource_t resource, rlim_t value) {
    struct rlimit limit;
    if (getrlimit(resource, &limit) != 0) return;
    if (limit.rlim_max == RLIM_INFINITY || value < limit.rlim_max) limit.rlim_max = value;
    if (limit.rlim_cur == RLIM_INFINITY || value < limit.rlim_cur) limit.rlim_cur = value;
    setrlimit(resource, &limit);
}

/* Nothing that a library says on its way down reaches the user; a sanitizer's report does. */
static void silence(void) {
    const int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int descriptor = 0; descriptor < (SANITIZED ? 1 : 3) && nowhere >= 0; ++descriptor) dup2(nowhere, descriptor);
}

static _Noreturn void run_reader(int input, size_t size, const reader_options *options, report *shared, int output) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const void *data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, input, 0);
    if (data == MAP_FAILED) {
        shared->code = EXIT_IO;
        snprintf(shared->message, sizeof shared->message, "mapping %zu bytes: %s", size, strerrordesc_np(errno));
        _exit(EXIT_IO);
    }
    silence();
    reader_prepare();
    const struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    set_limit(RLIMIT_CPU, LIMIT_CPU_SECONDS);
    if (!SANITIZED) set_limit(RLIMIT_DATA, LIMIT_HEAP + ((rlim_t)16 << 20)); /* the libraries' own data too */
    set_limit(RLIMIT_FSIZE, LIMIT_TENSORS + 4 * LIMIT_CONFIG);
    if (!SANITIZED) close_sandbox();
    _exit(reader_run(data, size, options, output, shared));
}

/* Waits for the child's end, at most the limit; the pipe's other end closes when it is gone. */
static int wait_for(pid_t child, int alive) {
    struct pollfd watched = {.fd = alive, .events = POLLIN};
    int polled, status;
    do polled = poll(&watched, 1, LIMIT_WALL_MILLISECONDS);
    while (polled < 0 && errno == EINTR);
    if (polled == 0) kill(child, SIGKILL);
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR) return -1;
    return status;
}

/* What became of the reader, when it could not say so itself. */
static int judge(int status, report *result) {
    if (status >= 0 && WIFEXITED(status) && WEXITSTATUS(status) == result->code) return result->code;
    const int fatal = status >= 0 && WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    result->code = EXIT_LIMIT;
    snprintf(result->message, sizeof result->message, "%s",
             fatal == SIGKILL || fatal == SIGXCPU ? "reading it takes more time than is allowed"
             : fatal == SIGBUS                    ? "became shorter while it was read"
             : fatal ? "a library failed on it, in a process of its own that did no harm; the file is broken"
                     : "the process that reads it ended without an answer");
    return result->code;
}

int sandbox_run(int input, size_t size, const reader_options *options, report *result, int *output) {
    int alive[2] = {-1, -1};
    report *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    *output = memfd_create("weights", MFD_CLOEXEC);
    *result = (report){.code = EXIT_LIMIT};
    if (shared != MAP_FAILED && *output >= 0 && pipe(alive) == 0) {
        fflush(NULL);
        const pid_t child = fork();
        if (child == 0) {
            close(alive[0]);
            run_reader(input, size, options, shared, *output);
        }
        close(alive[1]);
        if (child > 0) {
            const int status = wait_for(child, alive[0]);
            *result = *shared;
            result->message[sizeof result->message - 1] = result->notes[sizeof result->notes - 1] = '\0';
            judge(status, result);
        }
        close(alive[0]);
    }
    if (result->code == EXIT_LIMIT && !*result->message)
        snprintf(result->message, sizeof result->message, "the process that reads it can't be started");
    if (shared != MAP_FAILED) munmap(shared, sizeof *shared);
    if (result->code != EXIT_CONVERTED && *output >= 0) {
        close(*output);
        *output = -1;
    }
    return result->code;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The two macros of Criterion that the suites use, where Criterion can't be had: on other architectures, and under
 * ThreadSanitizer, which its process isolation does not survive. Each test runs in a forked child. */
#ifndef ATTN_TESTS_PLAIN_RUNNER_H
#define ATTN_TESTS_PLAIN_RUNNER_H

typedef struct plain_test {
    const char *suite, *name;
    void (*run)(void);
    struct plain_test *next;
} plain_test;

void plain_add(plain_test *test);
void plain_fail(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4), noreturn));

#define Test(suite_, name_)                                                                                            \
    static void suite_##_##name_(void);                                                                                \
    __attribute__((constructor)) static void suite_##_##name_##_add(void) {                                            \
        static plain_test test = {#suite_, #name_, suite_##_##name_, 0};                                               \
        plain_add(&test);                                                                                              \
    }                                                                                                                  \
    static void suite_##_##name_(void)

#define cr_assert(condition, ...)                                                                                      \
    do {                                                                                                               \
        if (!(condition)) plain_fail(__FILE__, __LINE__, " " __VA_ARGS__);                                             \
    } while (0)

#endif

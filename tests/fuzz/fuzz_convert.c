/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a Keras file, through the sandbox as the program reads them: an answer within the limits, and a sound
 * weights file when it is yes. libhdf5 and libzip may fail on broken files: that must stay an answer. What a sanitizer
 * says of our own code in the reader's process is a finding, and the reader's coverage comes back to libFuzzer. */
#include "attention/weights.h"
#include "tools/attention-convert/sandbox.h"

#include <fcntl.h>
#include <pthread.h>
#include <sanitizer/common_interface_defs.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

int LLVMFuzzerInitialize(int *count, char ***values);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__asan_default_options(void);
_Noreturn void __real__exit(int status);
_Noreturn void __wrap__exit(int status);

const char *__asan_default_options(void) {
    return "symbolize=0:allocator_may_return_null=1:max_allocation_size_mb=1000";
}

/* ---- Coverage: libFuzzer reads counters in a section of this name too; these are shared with the reader's process, which
 * copies its own into them at its end. ---- */

enum { COUNTERS = 1 << 14 };

__attribute__((section("__libfuzzer_extra_counters"), aligned(4096),
               no_sanitize("address"))) static uint8_t shared_counters[COUNTERS];

extern uint8_t __start___sancov_cntrs[], __stop___sancov_cntrs[];

static void hand_counters_over(void) {
    const size_t count = (size_t)(__stop___sancov_cntrs - __start___sancov_cntrs);
    memcpy(shared_counters, __start___sancov_cntrs, count < COUNTERS ? count : COUNTERS);
}

void __wrap__exit(int status) {
    hand_counters_over();
    __real__exit(status);
}

/* ---- What the reader's process says on its way down ---- */

static int last_words;

/* A loop without end in a library shall not cost the seconds that the program allows. */
static void begin_reader(void) {
    const struct rlimit second = {1, 1};
    setrlimit(RLIMIT_CPU, &second);
    dup2(last_words, STDERR_FILENO);
    __sanitizer_set_death_callback(hand_counters_over);
}

int LLVMFuzzerInitialize(int *count, char ***values) {
    (void)count;
    (void)values;
    last_words = memfd_create("last-words", MFD_CLOEXEC);
    if (last_words < 0 || fcntl(last_words, F_SETFL, O_APPEND) != 0 || pthread_atfork(NULL, NULL, begin_reader) != 0 ||
        mmap(shared_counters, COUNTERS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
            shared_counters)
        abort();
    return 0;
}

static const char *line_behind(const char *line) {
    const char *end = strchr(line, '\n');
    return end ? end + 1 : line + strlen(line);
}

/* Whether the report's innermost frame (but for libc's), or the one that called a function the sanitizer watches, is a
 * library's. */
static bool is_of_a_library(const char *report) {
    const char *frames = strstr(report, "#0 ");
    if (!frames) return false;
    if (memmem(frames, (size_t)(line_behind(frames) - frames), "/libc.so", 8)) frames = line_behind(frames);
    const size_t length = (size_t)(line_behind(line_behind(frames)) - frames);
    return memmem(frames, length, "/libhdf5", 8) || memmem(frames, length, "/libz", 5);
}

/* Ends the run when a sanitizer complained of our own code. */
static void check_last_words(void) {
    char words[1 << 14];
    const ssize_t length = pread(last_words, words, sizeof words - 1, 0);
    if (length <= 0) return;
    words[length] = '\0';
    const char *report = strstr(words, "ERROR: AddressSanitizer");
    if (strstr(words, "runtime error:") || (report && !is_of_a_library(report))) {
        if (write(STDERR_FILENO, words, (size_t)length) < 0) abort();
        abort();
    }
    if (ftruncate(last_words, 0) != 0) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const reader_options options = {.layer = NULL};
    report result;
    int made = -1;
    const int input = memfd_create("input", MFD_CLOEXEC);
    if (input < 0 || write(input, data, size) != (ssize_t)size) abort();
    if (!reader_knows(input, size)) {
        close(input);
        return 0;
    }
    const int code = sandbox_run(input, size, &options, &result, &made);
    close(input);
    check_last_words();
    if (code != EXIT_CONVERTED) {
        if (code < EXIT_REFUSED || code > EXIT_LIMIT || !*result.message) abort();
        return 0;
    }
    attn_weights_file *file;
    if (attn_weights_open_fd(made, 0, &file) != ATTN_OK || attn_weights_count(file) == 0) abort();
    attn_weights_close(file);
    close(made);
    return 0;
}

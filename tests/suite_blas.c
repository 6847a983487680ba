/* SPDX-License-Identifier: Apache-2.0 */
/* OpenBLAS from outside: that its threads stay asleep, that no other BLAS is mistaken for it, what is said when there is
 * none. Each test runs a program whose environment decides which libopenblas.so.0 it finds and what core that takes. */
#include "tests/suite.h"

#include <sys/wait.h>
#include <unistd.h>

/* Runs a program in this environment and so many more settings; the start of its output goes to `output`. Returns the wait status. */
static int execute(const char *const *arguments, const char *const *settings, char *output, size_t room) {
    int ends[2];
    cr_assert(!pipe(ends));
    const pid_t child = fork();
    cr_assert(child >= 0);
    if (!child) {
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        for (; *settings; settings++) putenv((char *)*settings);
        execv(arguments[0], (char *const *)arguments);
        _exit(127);
    }
    close(ends[1]);
    size_t used = 0;
    char spill[512];
    for (;;) {
        const ssize_t got = read(ends[0], spill, sizeof spill);
        if (got <= 0) break;
        for (ssize_t i = 0; i < got && used + 1 < room; i++) output[used++] = spill[i];
    }
    output[used] = '\0';
    close(ends[0]);
    int status;
    cr_assert(waitpid(child, &status, 0) == child);
    return status;
}

/* Cases that reach every product: one query and many, rows gathered and in place, panels of W2, sums cut in parts. */
#define CASE(name) "--case", name
static const char *const walk[] = {ATTENTION_CASES,
                                   "--impl",
                                   "cpu:openblas",
                                   CASE("luong_imdb_one_f32"),
                                   CASE("bahdanau_imdb_one_f32"),
                                   CASE("luong_d300_f32"),
                                   CASE("bahdanau_d300_f32"),
                                   CASE("dot_d129_f64"),
                                   CASE("bahdanau_d129_f64"),
                                   CASE("luong_t4099_f32"),
                                   CASE("dot_u1000_f32"),
                                   CASE("luong_queries_d100_f32"),
                                   CASE("dot_queries_many_f64"),
                                   CASE("bahdanau_queries_many_f32"),
                                   CASE("luong_slices_all_f32"),
                                   CASE("bahdanau_score_wide_f64"),
                                   CASE("bahdanau_mask_d100_f32"),
                                   CASE("luong_query_wider_f64"),
                                   NULL};

static void expect_success(const char *const *arguments, const char *const *settings) {
    char output[4096];
    const int status = execute(arguments, settings, output, sizeof output);
    cr_assert(WIFEXITED(status) && !WEXITSTATUS(status), "%s %s: status %d\n%s", arguments[0],
              settings[0] ? settings[0] : "", status, output);
}

static void expect_healthy_walk(const char *program, const char *const *settings) {
    const char *arguments[sizeof walk / sizeof *walk];
    memcpy(arguments, walk, sizeof walk);
    arguments[0] = program;
    expect_success(arguments, settings);
}

static const char *const fake_cores[] = {"FAKE_OPENBLAS_CORE=Haswell",        "FAKE_OPENBLAS_CORE=Zen",
                                         "FAKE_OPENBLAS_CORE=SkylakeX",       "FAKE_OPENBLAS_CORE=Cooperlake",
                                         "FAKE_OPENBLAS_CORE=SapphireRapids", "FAKE_OPENBLAS_CORE=armv8"};
enum { FAKE_CORES = sizeof fake_cores / sizeof *fake_cores };

/* The fake aborts at a product that the real one would share among its threads. */
Test(blas, no_product_wakes_threads) {
    for (size_t i = 0; i < FAKE_CORES; i++) {
        const char *settings[] = {fake_cores[i], "LD_LIBRARY_PATH=" FAKE_FOLDER, NULL};
        expect_healthy_walk(ATTENTION_CASES, settings);
    }
}

Test(blas, products_of_every_size) {
    static const char *const products[] = {BLAS_PRODUCTS, NULL};
    const char *real[] = {NULL};
    expect_success(products, real);
    for (size_t i = 0; i < FAKE_CORES; i++) {
        const char *settings[] = {fake_cores[i], "LD_LIBRARY_PATH=" FAKE_FOLDER, NULL};
        expect_success(products, settings);
    }
}

/* The fake aborts at a product for which the real one would have to map a buffer. */
Test(blas, no_product_maps_a_buffer) {
    static const char *const crowd[] = {HOST, "crowd", NULL};
    const char *settings[] = {"FAKE_OPENBLAS_CORE=Zen", "LD_LIBRARY_PATH=" FAKE_FOLDER, NULL};
    expect_success(crowd, settings);
}

Test(blas, a_build_without_threads_needs_no_limit) {
    const char *settings[] = {"FAKE_OPENBLAS_PARALLEL=0", "LD_LIBRARY_PATH=" FAKE_FOLDER, NULL};
    expect_healthy_walk(ATTENTION_CASES, settings);
}

/* Cores that the machine lacks are not taken; OpenBLAS then keeps to what it has. */
Test(blas, every_core_computes_right) {
    static const char *const cores[] = {"OPENBLAS_CORETYPE=Prescott", "OPENBLAS_CORETYPE=Sandybridge",
                                        "OPENBLAS_CORETYPE=Haswell", "OPENBLAS_CORETYPE=Zen"};
    const size_t some = __builtin_cpu_supports("avx2") ? 4 : __builtin_cpu_supports("avx") ? 2 : 1;
    for (size_t i = 0; i < some; i++) {
        const char *settings[] = {cores[i], NULL};
        expect_healthy_walk(ATTENTION_CASES, settings);
    }
}

Test(blas, a_host_with_a_blas_of_its_own) {
    const char *settings[] = {NULL};
    expect_healthy_walk(FOREIGN_CASES, settings);
}

static void expect_text(const char *const *settings, const char *wanted) {
    const char *arguments[] = {BLAS_TEXT, NULL};
    char output[512];
    const int status = execute(arguments, settings, output, sizeof output);
    cr_assert(WIFEXITED(status) && !WEXITSTATUS(status), "status %d", status);
    cr_assert(strstr(output, wanted), "want %s, found %s", wanted, output);
}

Test(blas, the_text_names_version_and_core) {
    const char *settings[] = {"FAKE_OPENBLAS_CORE=Zen", "LD_LIBRARY_PATH=" FAKE_FOLDER, NULL};
    expect_text(settings, "OpenBLAS 0.3.21 Zen\n");
}

Test(blas, the_text_says_why_there_is_none) {
    const char *broken[] = {"LD_LIBRARY_PATH=" BROKEN_FOLDER, NULL};
    expect_text(broken, "no OpenBLAS: ");
    const char *wide[] = {"FAKE_OPENBLAS_CONFIG=OpenBLAS 0.3.21 USE64BITINT DYNAMIC_ARCH",
                          "LD_LIBRARY_PATH=" FAKE_FOLDER, NULL};
    expect_text(wide, "64-bit integers");
    const char *other[] = {"FAKE_OPENBLAS_CONFIG=Something 1.0", "LD_LIBRARY_PATH=" FAKE_FOLDER, NULL};
    expect_text(other, "its version is unknown");
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Weights files: every rule of the format, every fault of a file, conversions, layers, writing. */
#include "attention/weights.h"
#include "tests/suite.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

/* ---- The system's calls, made to misbehave on request ------------------------------------------------------------- */

static int reads_until_interrupt = -1; /* the read that ends with EINTR; -1: none */
static size_t most_per_read;           /* 0: no limit */

static int reads;

/* Takes the place of libc's for the library too, for which it must be visible. */
#define TAKES_PLACE __attribute__((visibility("default")))

TAKES_PLACE ssize_t pread(int descriptor, void *buffer, size_t size, off_t offset) {
    reads++;
    if (reads_until_interrupt >= 0 && reads_until_interrupt-- == 0) {
        errno = EINTR;
        return -1;
    }
    if (most_per_read && size > most_per_read) size = most_per_read;
    return (ssize_t)syscall(SYS_pread64, descriptor, buffer, size, offset);
}

static int writes_until_end = -1; /* the write that ends the process; -1: none */

TAKES_PLACE ssize_t write(int descriptor, const void *buffer, size_t size) {
    if (writes_until_end >= 0 && writes_until_end-- == 0) kill(getpid(), SIGKILL);
    return (ssize_t)syscall(SYS_write, descriptor, buffer, size);
}

static bool no_nameless_files; /* as on a file system without them */

TAKES_PLACE int open(const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    const unsigned mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(arguments, unsigned) : 0;
    va_end(arguments);
    if (no_nameless_files && (flags & O_TMPFILE) == O_TMPFILE) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

#ifndef SANITIZED
static long allocations_until_failure = -1;

static bool allocation_fails(void) { return allocations_until_failure >= 0 && allocations_until_failure-- == 0; }

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

TAKES_PLACE void *malloc(size_t size) { return allocation_fails() ? NULL : __libc_malloc(size); }
TAKES_PLACE void *calloc(size_t count, size_t size) { return allocation_fails() ? NULL : __libc_calloc(count, size); }
TAKES_PLACE void *realloc(void *memory, size_t size) {
    return allocation_fails() ? NULL : __libc_realloc(memory, size);
}
TAKES_PLACE void *aligned_alloc(size_t alignment, size_t size) {
    return allocation_fails() ? NULL : __libc_memalign(alignment, size);
}
#endif

/* ---- Files in memory ---------------------------------------------------------------------------------------------- */

typedef struct image {
    char *bytes; /* exactly size of them, so that a sanitizer sees a read past the end */
    size_t size;
} image;

static image image_of(const char *header, size_t header_length, size_t data) {
    image made = {malloc(8 + header_length + data), 8 + header_length + data};
    const uint64_t length = header_length;
    memcpy(made.bytes, &length, sizeof length);
    memcpy(made.bytes + 8, header, header_length);
    for (size_t i = 0; i < data; i++) made.bytes[8 + header_length + i] = (char)(i * 7 + 1);
    return made;
}

static attn_status open_header(const char *header, size_t data) {
    image made = image_of(header, strlen(header), data);
    attn_weights_file *file = (attn_weights_file *)&made;
    const attn_status status = attn_weights_open_memory(made.bytes, made.size, &file);
    cr_assert((status == ATTN_OK) == (file != NULL), "status %d and file %p", (int)status, (void *)file);
    attn_weights_close(file);
    free(made.bytes);
    return status;
}

#define ENTRY(name, dtype, shape, begin, end)                                                                          \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end "]}"

static const char sound_header[] =
    "{\"__metadata__\":{\"made\":\"by hand\",\"b\":\"\"}," ENTRY("x/w", "F32", "[2,3]", 0, 24) "," ENTRY(
        "é", "U8", "[]", 24, 25) "," ENTRY("empty", "F64", "[0,5]", 25, 25) "," ENTRY("b", "BOOL", "[3]", 25,
                                                                                      28) "}   ";

Test(weights, sound_file) {
    image made = image_of(sound_header, strlen(sound_header), 28);
    attn_weights_file *file;
    cr_assert(attn_weights_open_memory(made.bytes, made.size, &file) == ATTN_OK, "%s", attn_last_error_message());
    cr_assert(attn_weights_count(file) == 4 && attn_weights_metadata_count(file) == 2);
    const attn_weights_tensor *w = attn_weights_find(file, "x/w"), *e = attn_weights_find(file, "é");
    cr_assert(w && w->dtype == ATTN_WEIGHTS_F32 && w->rank == 2 && w->shape[0] == 2 && w->shape[1] == 3 &&
              w->bytes == 24);
    cr_assert(e && e->rank == 0 && e->elements == 1 && e->bytes == 1);
    cr_assert(attn_weights_find(file, "empty")->elements == 0 && !attn_weights_find(file, "x") &&
              !attn_weights_find(file, ""));
    cr_assert(attn_weights_tensor_at(file, 0) == w && !attn_weights_tensor_at(file, 4));
    cr_assert(!strcmp(attn_weights_metadata(file, "made"), "by hand") && !attn_weights_metadata(file, "missing"));
    char bytes[24];
    const void *view;
    cr_assert(attn_weights_read(file, w, ATTN_WEIGHTS_F32, bytes, sizeof bytes) == ATTN_OK);
    cr_assert(attn_weights_view(file, w, &view) == ATTN_OK && memcmp(view, bytes, sizeof bytes) == 0);
    cr_assert(bytes[0] == 1 && bytes[1] == 8 && memcmp(view, made.bytes + made.size - 28, 24) == 0);
    attn_weights_close(file);
    free(made.bytes);
}

/* What is listed alone: name, dtype, shape and bytes are told, the data is refused. Bits of an element; 0: not known. */
static const struct {
    const char *name;
    attn_weights_dtype dtype;
    size_t bits, size;
} listed[] = {{"C64", ATTN_WEIGHTS_C64, 64, 8},
              {"F8_E4M3", ATTN_WEIGHTS_F8_E4M3, 8, 1},
              {"F8_E5M2", ATTN_WEIGHTS_F8_E5M2, 8, 1},
              {"F8_E8M0", ATTN_WEIGHTS_F8_E8M0, 8, 1},
              {"F8_E4M3FNUZ", ATTN_WEIGHTS_F8_E4M3FNUZ, 8, 1},
              {"F8_E5M2FNUZ", ATTN_WEIGHTS_F8_E5M2FNUZ, 8, 1},
              {"F6_E2M3", ATTN_WEIGHTS_F6_E2M3, 6, 0},
              {"F6_E3M2", ATTN_WEIGHTS_F6_E3M2, 6, 0},
              {"F4", ATTN_WEIGHTS_F4, 4, 0},
              {"f32", ATTN_WEIGHTS_UNKNOWN, 0, 0},
              {"", ATTN_WEIGHTS_UNKNOWN, 0, 0},
              {"I3\\u001b", ATTN_WEIGHTS_UNKNOWN, 0, 0}};

/* The tensor and the layer beside it are as usable as in any file. */
static void check_listed(const attn_weights_file *file, const char *name, attn_weights_dtype dtype, size_t bytes) {
    const attn_weights_tensor *tensor = attn_weights_find(file, name);
    char buffer[128];
    const void *view = file;
    cr_assert(tensor && tensor->dtype == dtype && tensor->bytes == bytes, "%s: dtype %d, %zu bytes", name,
              (int)tensor->dtype, tensor->bytes);
    cr_assert(attn_weights_read(file, tensor, dtype, buffer, sizeof buffer) == ATTN_ERROR_UNSUPPORTED, "%s", name);
    cr_assert(strstr(attn_last_error_message(), "is listed, its data is not read"), "%s", attn_last_error_message());
    cr_assert(attn_weights_read(file, tensor, ATTN_WEIGHTS_F32, buffer, sizeof buffer) == ATTN_ERROR_UNSUPPORTED);
    cr_assert(attn_weights_view(file, tensor, &view) == ATTN_ERROR_UNSUPPORTED && !view, "%s", name);
}

Test(weights, listed_dtypes) {
    for (size_t i = 0; i < sizeof listed / sizeof *listed; i++) {
        char header[512];
        const size_t bytes = listed[i].bits ? 12 * listed[i].bits / 8 : 7;
        snprintf(header, sizeof header,
                 "{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                 "\"x\":{\"dtype\":\"%s\",\"shape\":[4,3],\"data_offsets\":[8,%zu]}}",
                 listed[i].name, 8 + bytes);
        image made = image_of(header, strlen(header), 8 + bytes);
        attn_weights_file *file;
        float w[2];
        cr_assert(attn_weights_open_memory(made.bytes, made.size, &file) == ATTN_OK, "%s: %s", listed[i].name,
                  attn_last_error_message());
        check_listed(file, "x", listed[i].dtype, bytes);
        const attn_weights_tensor *x = attn_weights_find(file, "x");
        cr_assert(x->rank == 2 && x->shape[0] == 4 && x->shape[1] == 3 && x->elements == 12);
        cr_assert(!strcmp(x->dtype_name, strchr(listed[i].name, '\\') ? "I3\x1b" : listed[i].name), "%s",
                  x->dtype_name);
        cr_assert(!strcmp(attn_weights_dtype_name(listed[i].dtype), listed[i].bits ? listed[i].name : ""));
        cr_assert(attn_weights_dtype_size(listed[i].dtype) == listed[i].size, "%s", listed[i].name);
        cr_assert(attn_weights_read(file, attn_weights_find(file, "w"), ATTN_WEIGHTS_F32, w, sizeof w) == ATTN_OK);
        attn_weights_close(file);
        free(made.bytes);
    }
}

/* Header, bytes of data, what the message must name. All answer ATTN_ERROR_FORMAT. */
static const struct {
    const char *header;
    size_t data;
    const char *message;
} broken[] = {
    {"", 0, "'{'"},
    {" {}", 0, "'{'"},
    {"[]", 0, "'{'"},
    {"{", 0, "header"},
    {"{}x", 0, "header"},
    {"{} {}", 0, "header"},
    {"{\"a\":1}", 0, "exactly"},
    {"{\"a\":[]}", 0, "exactly"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "exactly"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"more\":1}}", 4, "exactly"},
    {"{" ENTRY("a", "F32", "[1]", 0, 4) "," ENTRY("a", "F32", "[1]", 4, 8) "}", 8, "duplicate"},
    {"{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}", 0, "duplicate"},
    {"{\"__metadata__\":{\"k\":1}}", 0, "\"k\""},
    {"{\"__metadata__\":[]}", 0, "not an object"},
    {"{" ENTRY("", "F32", "[1]", 0, 4) "}", 4, "without a name"},
    {"{" ENTRY("a\\u0000b", "F32", "[1]", 0, 4) "}", 4, "NUL in a name or metadata, which the format allows"},
    {"{\"__metadata__\":{\"k\":\"\\\\\\u0000\"}}", 0, "NUL in a name or metadata"},
    {"{" ENTRY("a", "F32", "[-0]", 0, 0) "}", 0, "-0 is not a count"},
    {"{" ENTRY("a", "F32", "[2,-0 ]", 0, 0) "}", 0, "-0 is not a count"},
    {"{" ENTRY("a", "F32", "[-0.0]", 0, 0) "}", 0, "not a count"},
    {"{" ENTRY("a", "F32", "[-0e1]", 0, 0) "}", 0, "not a count"},
    {"{" ENTRY("a", "F32", "[1]", -0, 4) "}", 4, "-0 is not a count"},
    {"{" ENTRY("a\xff", "F32", "[1]", 0, 4) "}", 4, "not UTF-8"},
    {"{" ENTRY("\xed\xa0\x80", "F32", "[1]", 0, 4) "}", 4, "not UTF-8"},
    {"{" ENTRY("\xc0\xaf", "F32", "[1]", 0, 4) "}", 4, "not UTF-8"},
    {"{" ENTRY("a\n", "F32", "[1]", 0, 4) "}", 4, "newline"},
    {"{" ENTRY("a", "F31", "[1]", 0, 0) "}", 0, "span 0 bytes, its shape has 1 elements"},
    {"{" ENTRY("a", "f32", "[0]", 0, 4) "}", 4, "span 4 bytes, its shape has 0 elements"},
    {"{" ENTRY("a", "F31", "[1]", 0, 5) "}", 4, "leave"},
    {"{" ENTRY("a", "F31", "[4294967296,4294967296]", 0, 4) "}", 4, "does not fit"},
    {"{" ENTRY("a", "F31", "[-1]", 0, 4) "}", 4, "not a count"},
    {"{" ENTRY("a", "F4", "[3]", 0, 2) "}", 2, "3 elements of F4 do not end where a byte does"},
    {"{" ENTRY("a", "F4", "[1]", 0, 1) "}", 1, "do not end where a byte does"},
    {"{" ENTRY("a", "F4", "[2,3]", 0, 4) "}", 4, "needs 3"},
    {"{" ENTRY("a", "F6_E2M3", "[2]", 0, 2) "}", 2, "do not end where a byte does"},
    {"{" ENTRY("a", "F6_E3M2", "[3,3]", 0, 7) "}", 7, "do not end where a byte does"},
    {"{" ENTRY("a", "F6_E3M2", "[4]", 0, 4) "}", 4, "needs 3"},
    {"{" ENTRY("a", "F8_E8M0", "[4]", 0, 3) "}", 3, "needs 4"},
    {"{" ENTRY("a", "C64", "[4]", 0, 16) "}", 16, "needs 32"},
    {"{\"a\":{\"dtype\":5,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "not a string"},
    {"{" ENTRY("a", "F32", "1", 0, 4) "}", 4, "not an array"},
    {"{" ENTRY("a", "F32", "[-1]", 0, 4) "}", 4, "not a count"},
    {"{" ENTRY("a", "F32", "[1.0]", 0, 4) "}", 4, "not a count"},
    {"{" ENTRY("a", "F32", "[\"1\"]", 0, 4) "}", 4, "not a count"},
    {"{" ENTRY("a", "F32", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", 0, 4) "}", 4, "17 dimensions"},
    {"{" ENTRY("a", "F32", "[4294967296,4294967296]", 0, 0) "}", 0, "does not fit"},
    {"{" ENTRY("a", "F32", "[4611686018427387904]", 0, 0) "}", 0, "does not fit"},
    {"{" ENTRY("a", "F32", "[0,4294967296,4294967296]", 0, 0) "}", 0, "does not fit"},
    {"{" ENTRY("a", "F32", "[4294967296,4294967296,0]", 0, 0) "}", 0, "does not fit"},
    {"{" ENTRY("a", "F32", "[99999999999999999999]", 0, 0) "}", 0, "header"},
    {"{" ENTRY("a", "F32", "[1]", 0, 3) "}", 3, "needs 4"},
    {"{" ENTRY("a", "F32", "[1]", 0, 5) "}", 5, "needs 4"},
    {"{" ENTRY("a", "F32", "[1]", 4, 0) "}", 4, "leave"},
    {"{" ENTRY("a", "F32", "[1]", -4, 0) "}", 4, "leave"},
    {"{" ENTRY("a", "F32", "[1]", 0, 4) "}", 3, "leave"},
    {"{" ENTRY("a", "F32", "[1]", 0, 4) "}", 5, "the file at 5"},
    {"{" ENTRY("a", "F32", "[1]", 1, 5) "}", 5, "after a hole"},
    {"{" ENTRY("a", "F32", "[1]", 0, 4) "," ENTRY("b", "F32", "[1]", 0, 4) "}", 4, "inside"},
    {"{" ENTRY("a", "F32", "[1]", 0, 4) "," ENTRY("b", "F32", "[1]", 2, 6) "}", 6, "inside"},
    {"{" ENTRY("a", "F32", "[1]", 0, 4) "," ENTRY("b", "F32", "[1]", 5, 9) "}", 9, "after a hole"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "pair"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,4]}}", 4, "pair"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4e0]}}", 4, "pair"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[[1]],\"data_offsets\":[0,4]}}", 4, "deeper"},
    {"{\"a\":{\"b\":{\"c\":{}}}}", 0, "deeper"},
    {"{}", 1, "the file at 1"},
};

Test(weights, broken_headers) {
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        const attn_status status = open_header(broken[i].header, broken[i].data);
        cr_assert(status == ATTN_ERROR_FORMAT, "%s: status %d", broken[i].header, (int)status);
        cr_assert(strstr(attn_last_error_message(), broken[i].message), "%s: \"%s\" does not name %s", broken[i].header,
                  attn_last_error_message(), broken[i].message);
    }
    cr_assert(open_header("{}", 0) == ATTN_OK && open_header(sound_header, 28) == ATTN_OK);
}

Test(weights, header_length) {
    const uint64_t lengths[] = {3, 11, 100000000, 100000001, UINT64_MAX, UINT64_MAX - 7, (uint64_t)1 << 63};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        char bytes[10] = "........{}";
        memcpy(bytes, &lengths[i], sizeof lengths[i]);
        attn_weights_file *file;
        cr_assert(attn_weights_open_memory(bytes, sizeof bytes, &file) == ATTN_ERROR_FORMAT, "length %zu", i);
    }
}

/* A header of many values is refused before the parser allocates for them. */
Test(weights, header_bounds) {
    const size_t size = (size_t)9 << 20;
    char *header = malloc(size + 1);
    memset(header, ',', size);
    memcpy(header, "{\"a\":[1", 7);
    for (size_t i = 8; i < size; i += 2) header[i] = '1';
    header[size] = '\0';
    cr_assert(open_header(header, 0) == ATTN_ERROR_FORMAT && strstr(attn_last_error_message(), "JSON values"));
    memset(header, '[', size);
    header[0] = '{';
    cr_assert(open_header(header, 0) == ATTN_ERROR_FORMAT && strstr(attn_last_error_message(), "deeper"));
    free(header);
}

Test(weights, every_truncation) {
    image made = image_of(sound_header, strlen(sound_header), 28);
    for (size_t size = 0; size < made.size; size++) {
        char *cut = malloc(size ? size : 1);
        memcpy(cut, made.bytes, size);
        attn_weights_file *file;
        const attn_status status = attn_weights_open_memory(cut, size, &file);
        cr_assert(status == ATTN_ERROR_FORMAT && !file, "%zu bytes: status %d", size, (int)status);
        free(cut);
    }
    free(made.bytes);
}

/* A flipped bit is an error, or touched nothing but the text of a name or of metadata. */
Test(weights, every_bit_flip) {
    image made = image_of(sound_header, strlen(sound_header), 28);
    attn_weights_file *sound, *flipped;
    cr_assert(attn_weights_open_memory(made.bytes, made.size, &sound) == ATTN_OK);
    char *copy = malloc(made.size);
    size_t accepted = 0;
    for (size_t bit = 0; bit < (8 + strlen(sound_header)) * 8; bit++) {
        memcpy(copy, made.bytes, made.size);
        copy[bit / 8] = (char)(copy[bit / 8] ^ 1 << bit % 8);
        const attn_status status = attn_weights_open_memory(copy, made.size, &flipped);
        cr_assert(status == ATTN_OK || status == ATTN_ERROR_FORMAT, "bit %zu: status %d", bit, (int)status);
        accepted += status == ATTN_OK;
        if (status != ATTN_OK) continue;
        cr_assert(attn_weights_count(flipped) == 4, "bit %zu: %zu tensors", bit, attn_weights_count(flipped));
        for (size_t i = 0; i < 4; i++) {
            const attn_weights_tensor *a = attn_weights_tensor_at(sound, i), *b = attn_weights_tensor_at(flipped, i);
            cr_assert((a->dtype == b->dtype || b->dtype == ATTN_WEIGHTS_UNKNOWN) && a->bytes == b->bytes &&
                          a->elements == b->elements,
                      "bit %zu: tensor %zu", bit, i);
        }
        attn_weights_close(flipped);
    }
    cr_assert(accepted > 0 && accepted < strlen(sound_header) * 4, "%zu flips accepted", accepted);
    attn_weights_close(sound);
    free(copy);
    free(made.bytes);
}

/* ---- Conversions ----------------------------------------------------------------------------------------------------- */

/* The value that the bits of a small float stand for, by its definition. */
static double small_float(unsigned pattern, int exponent_bits, int fraction_bits) {
    const int bias = (1 << (exponent_bits - 1)) - 1,
              exponent = (int)(pattern >> fraction_bits) & ((1 << exponent_bits) - 1);
    const double fraction = (double)(pattern & ((1u << fraction_bits) - 1)) / (double)(1u << fraction_bits);
    const double sign = pattern >> 15 ? -1 : 1;
    if (exponent == (1 << exponent_bits) - 1) return fraction != 0 ? (double)NAN : sign * (double)INFINITY;
    return sign * (exponent == 0 ? ldexp(fraction, 1 - bias) : ldexp(1 + fraction, exponent - bias));
}

static void check_all_small_floats(const char *dtype, int exponent_bits, int fraction_bits) {
    char header[128];
    snprintf(header, sizeof header, "{\"a\":{\"dtype\":\"%s\",\"shape\":[65536],\"data_offsets\":[0,131072]}}", dtype);
    image made = image_of(header, strlen(header), 131072);
    for (unsigned i = 0; i < 65536; i++) {
        const uint16_t pattern = (uint16_t)i;
        memcpy(made.bytes + made.size - 131072 + 2 * i, &pattern, 2);
    }
    attn_weights_file *file;
    cr_assert(attn_weights_open_memory(made.bytes, made.size, &file) == ATTN_OK);
    const attn_weights_tensor *a = attn_weights_find(file, "a");
    float *singles = malloc(65536 * sizeof *singles);
    double *doubles = malloc(65536 * sizeof *doubles);
    cr_assert(attn_weights_read(file, a, ATTN_WEIGHTS_F32, singles, 65536 * sizeof *singles) == ATTN_OK);
    cr_assert(attn_weights_read(file, a, ATTN_WEIGHTS_F64, doubles, 65536 * sizeof *doubles) == ATTN_OK);
    for (unsigned i = 0; i < 65536; i++) {
        const double want = small_float(i, exponent_bits, fraction_bits);
        const bool same =
            isnan(want) ? isnan(singles[i]) && isnan(doubles[i])
                        : (double)singles[i] == want && doubles[i] == want && !signbit(singles[i]) == !signbit(want);
        cr_assert(same, "%s 0x%04x: %a and %a, want %a", dtype, i, (double)singles[i], doubles[i], want);
    }
    cr_assert(attn_weights_read(file, a, ATTN_WEIGHTS_F32, singles, 65536 * sizeof *singles - 1) == ATTN_ERROR_RANGE);
    cr_assert(attn_weights_read(file, a, ATTN_WEIGHTS_I16, singles, 262144) == ATTN_ERROR_UNSUPPORTED);
    cr_assert(attn_weights_read(file, a, (attn_weights_dtype)99, singles, 262144) == ATTN_ERROR_UNSUPPORTED);
    free(singles);
    free(doubles);
    attn_weights_close(file);
    free(made.bytes);
}

Test(weights, float16_all_values) { check_all_small_floats("F16", 5, 10); }
Test(weights, bfloat16_all_values) { check_all_small_floats("BF16", 8, 7); }

/* ---- Faults of files ----------------------------------------------------------------------------------------------- */

typedef struct folder {
    char path[512];
    char file[600];
} folder;

static folder make_folder(void) {
    folder made;
    const char *above = getenv("TMPDIR");
    snprintf(made.path, sizeof made.path, "%s/attention-weights-XXXXXX", above && *above ? above : P_tmpdir);
    cr_assert(mkdtemp(made.path) != NULL);
    snprintf(made.file, sizeof made.file, "%s/file.safetensors", made.path);
    return made;
}

static void remove_folder(const folder *made) {
    unlink(made->file);
    cr_assert(rmdir(made->path) == 0, "%s is not empty: a temporary file was left", made->path);
}

static void store(const char *path, const image *made) {
    FILE *file = fopen(path, "wb");
    cr_assert(file && fwrite(made->bytes, 1, made->size, file) == made->size && fclose(file) == 0);
}

Test(weights, not_regular_files) {
    folder at = make_folder();
    attn_weights_file *file;
    cr_assert(mkfifo(at.file, 0600) == 0);
    const char *paths[] = {at.file, at.path, "/dev/null", "/dev/zero", "/dev/tty", "/nowhere/at all"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        cr_assert(attn_weights_open(paths[i], i % 2, &file) == ATTN_ERROR_IO && !file, "%s", paths[i]);
    cr_assert(attn_weights_open_fd(-1, 0, &file) == ATTN_ERROR_IO &&
              attn_weights_open_fd(99999, 0, &file) == ATTN_ERROR_IO);
    remove_folder(&at);
}

Test(weights, short_and_interrupted_reads) {
    folder at = make_folder();
    image made = image_of(sound_header, strlen(sound_header), 28);
    store(at.file, &made);
    for (int interrupted = 0; interrupted < 40; interrupted++) {
        attn_weights_file *file;
        char bytes[24];
        most_per_read = (size_t)(interrupted % 5) + 1;
        reads_until_interrupt = interrupted;
        cr_assert(attn_weights_open(at.file, 0, &file) == ATTN_OK, "%s", attn_last_error_message());
        cr_assert(attn_weights_read(file, attn_weights_find(file, "x/w"), ATTN_WEIGHTS_F32, bytes, sizeof bytes) ==
                  ATTN_OK);
        cr_assert(memcmp(bytes, made.bytes + made.size - 28, sizeof bytes) == 0);
        attn_weights_close(file);
    }
    most_per_read = 0;
    reads_until_interrupt = -1;
    cr_assert(reads > 40 * 50, "only %d reads: the library reads past this test", reads);
    free(made.bytes);
    remove_folder(&at);
}

Test(weights, shrinking_file) {
    folder at = make_folder();
    image made = image_of(sound_header, strlen(sound_header), 28);
    store(at.file, &made);
    attn_weights_file *file;
    char bytes[24];
    const void *view;
    cr_assert(attn_weights_open(at.file, 0, &file) == ATTN_OK);
    cr_assert(attn_weights_view(file, attn_weights_find(file, "x/w"), &view) == ATTN_ERROR_UNSUPPORTED && !view);
    cr_assert(truncate(at.file, (off_t)made.size - 10) == 0);
    cr_assert(attn_weights_read(file, attn_weights_find(file, "x/w"), ATTN_WEIGHTS_F32, bytes, 24) == ATTN_ERROR_IO);
    cr_assert(strstr(attn_last_error_message(), "ends at byte"), "%s", attn_last_error_message());
    attn_weights_close(file);
    free(made.bytes);
    remove_folder(&at);
}

Test(weights, descriptor_is_left_alone) {
    folder at = make_folder();
    image made = image_of(sound_header, strlen(sound_header), 28);
    store(at.file, &made);
    const int descriptor = open(at.file, O_RDONLY);
    attn_weights_file *file;
    cr_assert(lseek(descriptor, 5, SEEK_SET) == 5);
    cr_assert(attn_weights_open_fd(descriptor, ATTN_WEIGHTS_MAP, &file) == ATTN_OK);
    cr_assert(lseek(descriptor, 0, SEEK_CUR) == 5);
    close(descriptor);
    const void *view;
    cr_assert(attn_weights_view(file, attn_weights_find(file, "x/w"), &view) == ATTN_OK);
    cr_assert(memcmp(view, made.bytes + made.size - 28, 24) == 0);
    attn_weights_close(file);
    free(made.bytes);
    remove_folder(&at);
}

Test(weights, arguments) {
    attn_weights_file *file;
    cr_assert(attn_weights_open(NULL, 0, &file) == ATTN_ERROR_INVALID_ARGUMENT && !file);
    cr_assert(attn_weights_open("x", 0, NULL) == ATTN_ERROR_INVALID_ARGUMENT);
    cr_assert(attn_weights_open("x", 2, &file) == ATTN_ERROR_UNSUPPORTED);
    cr_assert(attn_weights_open_memory(NULL, 8, &file) == ATTN_ERROR_INVALID_ARGUMENT);
    cr_assert(attn_weights_count(NULL) == 0 && !attn_weights_tensor_at(NULL, 0) && !attn_weights_find(NULL, "a"));
    cr_assert(attn_weights_read(NULL, NULL, ATTN_WEIGHTS_F32, NULL, 0) == ATTN_ERROR_INVALID_ARGUMENT);
    cr_assert(!*attn_weights_dtype_name((attn_weights_dtype)99) &&
              attn_weights_dtype_size((attn_weights_dtype)-1) == 0);
    attn_weights_close(NULL);
    attn_weights_layer_free(NULL);
    image made = image_of(sound_header, strlen(sound_header), 28);
    cr_assert(attn_weights_open_memory(made.bytes, made.size, &file) == ATTN_OK);
    attn_weights_tensor copy = *attn_weights_tensor_at(file, 0);
    char bytes[24];
    cr_assert(attn_weights_read(file, &copy, ATTN_WEIGHTS_F32, bytes, 24) == ATTN_ERROR_INVALID_ARGUMENT);
    cr_assert(attn_weights_read(file, attn_weights_find(file, "empty"), ATTN_WEIGHTS_F64, NULL, 0) == ATTN_OK);
    attn_weights_close(file);
    free(made.bytes);
}

/* ---- Writing --------------------------------------------------------------------------------------------------------- */

static const int64_t two_by_three[] = {2, 3};
static const float six[6] = {1, -2, 3, -4, 5, -6};

static attn_weights_entry entry_named(const char *name) {
    return (attn_weights_entry){name, ATTN_WEIGHTS_F32, 2, two_by_three, six};
}

static image load(const char *path) {
    FILE *file = fopen(path, "rb");
    cr_assert(file != NULL, "%s", path);
    fseek(file, 0, SEEK_END);
    image made = {malloc(4096), (size_t)ftell(file)};
    rewind(file);
    cr_assert(made.size <= 4096 && fread(made.bytes, 1, made.size, file) == made.size);
    fclose(file);
    return made;
}

#define REFERENCE TEST_DATA "/safetensors/" /* what the format's reference implementation wrote, by make_files.py */

/* Every dtype that is written, names and metadata with what JSON escapes: the reference's own bytes. */
Test(weights, reference_bytes) {
    folder at = make_folder();
    attn_weights_file *file;
    cr_assert(attn_weights_open(REFERENCE "mixture.safetensors", ATTN_WEIGHTS_MAP, &file) == ATTN_OK, "%s",
              attn_last_error_message());
    const size_t count = attn_weights_count(file);
    attn_weights_entry entries[64];
    size_t dtypes = 0;
    for (size_t i = 0; i < count; i++) {
        const attn_weights_tensor *t = attn_weights_tensor_at(file, i);
        attn_weights_entry *entry = &entries[i * 7 % count]; /* 29 tensors: in an order of its own */
        *entry = (attn_weights_entry){t->name, t->dtype, t->rank, t->shape, NULL};
        cr_assert(attn_weights_view(file, t, &entry->data) == ATTN_OK);
        dtypes |= (size_t)1 << t->dtype;
    }
    cr_assert(count == 29 && dtypes == ((size_t)2 << ATTN_WEIGHTS_F64) - 1, "%zu tensors, dtypes 0x%zx", count, dtypes);
    attn_weights_metadata_entry metadata;
    metadata.key = attn_weights_metadata_at(file, 0, &metadata.value);
    cr_assert(attn_weights_write(at.file, entries, count, &metadata, 1) == ATTN_OK, "%s", attn_last_error_message());
    image want = load(REFERENCE "mixture.safetensors"), made = load(at.file);
    cr_assert(want.size == made.size && memcmp(want.bytes, made.bytes, want.size) == 0, "%.*s", (int)made.size - 8,
              made.bytes + 8);
    attn_weights_close(file);
    free(made.bytes);
    free(want.bytes);
    cr_assert(attn_weights_write(at.file, NULL, 0, NULL, 0) == ATTN_OK);
    want = load(REFERENCE "nothing.safetensors"), made = load(at.file);
    cr_assert(want.size == made.size && memcmp(want.bytes, made.bytes, want.size) == 0);
    free(made.bytes);
    free(want.bytes);
    remove_folder(&at);
}

/* Real files of what is listed alone, with a layer that loads; names and metadata that are not read. */
Test(weights, reference_files) {
    static const struct {
        const char *name;
        attn_weights_dtype dtype;
        size_t bytes;
    } tensors[] = {{"complex64", ATTN_WEIGHTS_C64, 96},
                   {"float8_e4m3fn", ATTN_WEIGHTS_F8_E4M3, 12},
                   {"float8_e5m2", ATTN_WEIGHTS_F8_E5M2, 12},
                   {"float8_e8m0fnu", ATTN_WEIGHTS_F8_E8M0, 12},
                   {"float8_e4m3fnuz", ATTN_WEIGHTS_F8_E4M3FNUZ, 12},
                   {"float8_e5m2fnuz", ATTN_WEIGHTS_F8_E5M2FNUZ, 12},
                   {"float4_e2m1fn_x2", ATTN_WEIGHTS_F4, 12}};
    attn_weights_file *file;
    attn_weights_layer layer = ATTN_WEIGHTS_LAYER_INIT;
    cr_assert(attn_weights_open(REFERENCE "listed.safetensors", ATTN_WEIGHTS_MAP, &file) == ATTN_OK, "%s",
              attn_last_error_message());
    cr_assert(attn_weights_count(file) == 1 + sizeof tensors / sizeof *tensors);
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
        check_listed(file, tensors[i].name, tensors[i].dtype, tensors[i].bytes);
    cr_assert(attn_weights_find(file, "float4_e2m1fn_x2")->shape[1] == 6);
    cr_assert(attn_weights_load_layer(file, NULL, NULL, &layer) == ATTN_OK && layer.features == 2);
    attn_weights_layer_free(&layer);
    attn_weights_close(file);
    cr_assert(attn_weights_open(REFERENCE "empty_name.safetensors", 0, &file) == ATTN_ERROR_FORMAT);
    cr_assert(strstr(attn_last_error_message(), "a tensor without a name"), "%s", attn_last_error_message());
    const char *const with_nul[] = {REFERENCE "nul_in_name.safetensors", REFERENCE "nul_in_metadata.safetensors"};
    for (size_t i = 0; i < 2; i++) {
        cr_assert(attn_weights_open(with_nul[i], 0, &file) == ATTN_ERROR_FORMAT);
        cr_assert(strstr(attn_last_error_message(), "NUL in a name or metadata"), "%s", attn_last_error_message());
    }
}

/* A file's layer of a dtype that is listed alone. */
Test(weights, listed_layer) {
    static const char header[] = "{" ENTRY("a/luong_w", "F8_E4M3", "[2,2]", 0, 4) "}";
    image made = image_of(header, strlen(header), 4);
    attn_weights_file *file;
    attn_weights_layer layer = ATTN_WEIGHTS_LAYER_INIT;
    cr_assert(attn_weights_open_memory(made.bytes, made.size, &file) == ATTN_OK);
    cr_assert(attn_weights_load_layer(file, NULL, NULL, &layer) == ATTN_ERROR_MISMATCH);
    cr_assert(strstr(attn_last_error_message(), "luong_w is F8_E4M3, which is not given as F32"), "%s",
              attn_last_error_message());
    attn_weights_close(file);
    free(made.bytes);
}

/* The text and the layout, spelled out. */
Test(weights, written_bytes) {
    static const char want[] =
        "{\"__metadata__\":{\"k\":\"v\\n\"},\"d\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[0,8]},"
        "\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[8,32]},"
        "\"b\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[32,56]},"
        "\"é\":{\"dtype\":\"U8\",\"shape\":[1,2],\"data_offsets\":[56,58]}}";
    folder at = make_folder();
    const double d = 2.5;
    const int64_t one_by_two[] = {1, 2};
    const attn_weights_entry entries[] = {{"é", ATTN_WEIGHTS_U8, 2, one_by_two, "xy"},
                                          entry_named("b"),
                                          entry_named("a"),
                                          {"d", ATTN_WEIGHTS_F64, 0, NULL, &d}};
    const attn_weights_metadata_entry metadata = {"k", "v\n"};
    cr_assert(attn_weights_write(at.file, entries, 4, &metadata, 1) == ATTN_OK, "%s", attn_last_error_message());
    image made = load(at.file);
    const size_t padded = (strlen(want) + 7) / 8 * 8;
    cr_assert(made.size == 8 + padded + 58 && memcmp(made.bytes + 8, want, strlen(want)) == 0, "%.*s", (int)made.size,
              made.bytes + 8);
    for (size_t i = strlen(want); i < padded; i++) cr_assert(made.bytes[8 + i] == ' ');
    cr_assert(memcmp(made.bytes + 8 + padded, &d, 8) == 0 && memcmp(made.bytes + 8 + padded + 32, six, 24) == 0);
    free(made.bytes);
    remove_folder(&at);
}

Test(weights, refused_writes) {
    folder at = make_folder();
    attn_weights_entry entry = entry_named("a");
    cr_assert(attn_weights_write(at.file, &entry, 1, NULL, 0) == ATTN_OK);
    image before = load(at.file);
    const struct {
        attn_weights_entry first, second;
        attn_status want;
    } rows[] = {
        {entry_named(""), entry, ATTN_ERROR_INVALID_ARGUMENT},
        {entry_named(NULL), entry, ATTN_ERROR_INVALID_ARGUMENT},
        {entry_named("a"), entry, ATTN_ERROR_INVALID_ARGUMENT},
        {entry_named("__metadata__"), entry, ATTN_ERROR_INVALID_ARGUMENT},
        {entry_named("\xff"), entry, ATTN_ERROR_INVALID_ARGUMENT},
        {{"b", (attn_weights_dtype)77, 2, two_by_three, six}, entry, ATTN_ERROR_UNSUPPORTED},
        {{"b", ATTN_WEIGHTS_UNKNOWN, 2, two_by_three, six}, entry, ATTN_ERROR_UNSUPPORTED},
        {{"b", ATTN_WEIGHTS_F8_E4M3, 2, two_by_three, six}, entry, ATTN_ERROR_UNSUPPORTED},
        {{"b", ATTN_WEIGHTS_F4, 2, two_by_three, six}, entry, ATTN_ERROR_UNSUPPORTED},
        {{"b", ATTN_WEIGHTS_F32, 17, two_by_three, six}, entry, ATTN_ERROR_SHAPE},
        {{"b", ATTN_WEIGHTS_F32, -1, two_by_three, six}, entry, ATTN_ERROR_SHAPE},
        {{"b", ATTN_WEIGHTS_F32, 1, (const int64_t[]){-3}, six}, entry, ATTN_ERROR_SHAPE},
        {{"b", ATTN_WEIGHTS_F32, 2, (const int64_t[]){INT64_MAX, 4}, six}, entry, ATTN_ERROR_OVERFLOW},
        {{"b", ATTN_WEIGHTS_F32, 3, (const int64_t[]){0, INT64_MAX, INT64_MAX}, six}, entry, ATTN_ERROR_OVERFLOW},
        {{"b", ATTN_WEIGHTS_F32, 2, NULL, six}, entry, ATTN_ERROR_INVALID_ARGUMENT},
        {{"b", ATTN_WEIGHTS_F32, 2, two_by_three, NULL}, entry, ATTN_ERROR_INVALID_ARGUMENT},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const attn_weights_entry both[] = {rows[i].second, rows[i].first};
        const attn_status status = attn_weights_write(at.file, both, 2, NULL, 0);
        cr_assert(status == rows[i].want, "row %zu: status %d, %s", i, (int)status, attn_last_error_message());
        image after = load(at.file);
        cr_assert(after.size == before.size && memcmp(after.bytes, before.bytes, after.size) == 0, "row %zu wrote", i);
        free(after.bytes);
    }
    const attn_weights_metadata_entry twice[] = {{"k", "1"}, {"k", "2"}}, bad = {"k", "\xc3"};
    cr_assert(attn_weights_write(at.file, &entry, 1, twice, 2) == ATTN_ERROR_INVALID_ARGUMENT);
    cr_assert(attn_weights_write(at.file, &entry, 1, &bad, 1) == ATTN_ERROR_INVALID_ARGUMENT);
    cr_assert(attn_weights_write("/dev/null", &entry, 1, NULL, 0) == ATTN_ERROR_IO);
    cr_assert(attn_weights_write(at.path, &entry, 1, NULL, 0) == ATTN_ERROR_IO);
    cr_assert(attn_weights_write("/nowhere/at/all", &entry, 1, NULL, 0) == ATTN_ERROR_IO);
    cr_assert(attn_weights_write("", &entry, 1, NULL, 0) == ATTN_ERROR_INVALID_ARGUMENT);
    free(before.bytes);
    remove_folder(&at);
}

/* A new file has the mode that the umask leaves; one that replaces another has that one's mode and owner. */
Test(weights, mode_and_owner_are_kept) {
    folder at = make_folder();
    struct stat about;
    const attn_weights_entry entry = entry_named("a");
    const mode_t modes[] = {0600, 0640, 0666, 0400 | S_IWOTH, 0755, 04711};
    umask(027);
    cr_assert(attn_weights_write(at.file, &entry, 1, NULL, 0) == ATTN_OK);
    cr_assert(stat(at.file, &about) == 0 && (about.st_mode & 07777) == 0640, "mode %o", about.st_mode);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        const uid_t owner = geteuid() == 0 ? 4242 + (uid_t)i : geteuid(); /* only root gives files away */
        if (geteuid() != 0 && !(modes[i] & S_IWUSR)) continue;
        cr_assert(chown(at.file, owner, (gid_t)-1) == 0 && chmod(at.file, modes[i]) == 0);
        cr_assert(stat(at.file, &about) == 0);
        const ino_t before = about.st_ino;
        cr_assert(attn_weights_write(at.file, &entry, 1, NULL, 0) == ATTN_OK, "%s", attn_last_error_message());
        cr_assert(stat(at.file, &about) == 0 && about.st_ino != before && about.st_uid == owner);
        cr_assert((about.st_mode & 07777) == modes[i], "mode %o, want %o", about.st_mode & 07777, modes[i]);
    }
    remove_folder(&at);
}

Test(weights, read_only_target_stays) {
    folder at = make_folder();
    const attn_weights_entry entry = entry_named("a"), other = entry_named("b");
    cr_assert(attn_weights_write(at.file, &entry, 1, NULL, 0) == ATTN_OK && chmod(at.file, 0444) == 0);
    image before = load(at.file);
    cr_assert(attn_weights_write(at.file, &other, 1, NULL, 0) == ATTN_ERROR_IO);
    cr_assert(strstr(attn_last_error_message(), "is read-only"), "%s", attn_last_error_message());
    image after = load(at.file);
    cr_assert(after.size == before.size && memcmp(after.bytes, before.bytes, after.size) == 0);
    free(after.bytes);
    free(before.bytes);
    remove_folder(&at);
}

/* A link to nothing, or to a file, becomes a file; what it led to stays. */
Test(weights, links_are_replaced) {
    folder at = make_folder();
    char led_to[620];
    struct stat about;
    const attn_weights_entry entry = entry_named("a");
    snprintf(led_to, sizeof led_to, "%s.other", at.file);
    for (int there = 0; there < 2; there++) {
        const image empty = {"", 0};
        if (there) store(led_to, &empty);
        cr_assert(symlink(led_to, at.file) == 0);
        cr_assert(attn_weights_write(at.file, &entry, 1, NULL, 0) == ATTN_OK, "%s", attn_last_error_message());
        cr_assert(lstat(at.file, &about) == 0 && S_ISREG(about.st_mode) && about.st_size > 0);
        cr_assert(there ? stat(led_to, &about) == 0 && about.st_size == 0 : stat(led_to, &about) != 0);
        unlink(at.file);
    }
    unlink(led_to);
    remove_folder(&at);
}

/* A file system without such files: the same bytes, mode and refusals, by a hidden file that goes with a failure. */
Test(weights, without_nameless_files) {
    folder at = make_folder();
    struct stat about;
    const attn_weights_entry entry = entry_named("a"), other = entry_named("b");
    no_nameless_files = true;
    umask(022);
    cr_assert(attn_weights_write(at.file, &entry, 1, NULL, 0) == ATTN_OK, "%s", attn_last_error_message());
    cr_assert(stat(at.file, &about) == 0 && (about.st_mode & 07777) == 0644);
    image before = load(at.file);
    cr_assert(chmod(at.file, 0600) == 0);
    cr_assert(attn_weights_write(at.file, &entry, 1, NULL, 0) == ATTN_OK, "%s", attn_last_error_message());
    cr_assert(stat(at.file, &about) == 0 && (about.st_mode & 07777) == 0600);
    struct rlimit limit;
    getrlimit(RLIMIT_FSIZE, &limit);
    const rlim_t old = limit.rlim_cur;
    limit.rlim_cur = 9;
    cr_assert(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    const attn_status status = attn_weights_write(at.file, &other, 1, NULL, 0);
    limit.rlim_cur = old;
    setrlimit(RLIMIT_FSIZE, &limit);
    cr_assert(status == ATTN_ERROR_IO && strstr(attn_last_error_message(), "File too large"), "%s",
              attn_last_error_message());
    image after = load(at.file);
    cr_assert(after.size == before.size && memcmp(after.bytes, before.bytes, after.size) == 0);
    free(after.bytes);
    free(before.bytes);
    remove_folder(&at);
}

/* A process that ends in the middle of a write leaves no file, whatever ended it. */
Test(weights, ended_process_leaves_nothing) {
    folder at = make_folder();
    for (int writes = 0; writes < 2; writes++) {
        const pid_t child = fork();
        if (child == 0) {
            const attn_weights_entry entry = entry_named("a");
            writes_until_end = writes;
            attn_weights_write(at.file, &entry, 1, NULL, 0);
            _exit(9);
        }
        int status;
        cr_assert(waitpid(child, &status, 0) == child && WIFSIGNALED(status), "status 0x%x", status);
        cr_assert(access(at.file, F_OK) != 0);
    }
    remove_folder(&at);
}

/* The disk fills up in the middle: the old file stays, nothing else does. */
Test(weights, failed_write_leaves_the_old_file) {
    folder at = make_folder();
    attn_weights_entry entry = entry_named("a");
    cr_assert(attn_weights_write(at.file, &entry, 1, NULL, 0) == ATTN_OK);
    image before = load(at.file);
    struct rlimit limit;
    getrlimit(RLIMIT_FSIZE, &limit);
    const rlim_t old = limit.rlim_cur;
    for (rlim_t size = 0; size < before.size; size += 9) {
        limit.rlim_cur = size;
        cr_assert(setrlimit(RLIMIT_FSIZE, &limit) == 0);
        const attn_status status = attn_weights_write(at.file, &entry, 1, NULL, 0);
        limit.rlim_cur = old;
        setrlimit(RLIMIT_FSIZE, &limit);
        cr_assert(status == ATTN_ERROR_IO, "limit %zu: status %d", (size_t)size, (int)status);
        image after = load(at.file);
        cr_assert(after.size == before.size && memcmp(after.bytes, before.bytes, after.size) == 0);
        free(after.bytes);
    }
    free(before.bytes);
    remove_folder(&at);
}

/* ---- Layers ----------------------------------------------------------------------------------------------------------- */

enum { D = 3, DQ = 2, A = 4, U = 5 };

static float values[64]; /* of every tensor */

typedef struct layer_file {
    attn_weights_entry entries[8];
    size_t count;
} layer_file;

static void add(layer_file *to, const char *name, int rank, const int64_t *shape) {
    to->entries[to->count++] = (attn_weights_entry){name, ATTN_WEIGHTS_F32, rank, shape, values};
}

static layer_file sound_layers(void) {
    static const int64_t k[] = {D, DQ}, v[] = {A, 1}, w1[] = {DQ, A}, w2[] = {D, A}, w_c[] = {D + DQ, U},
                         square[] = {2 * D, U};
    layer_file made = {.count = 0};
    for (int i = 0; i < 64; i++) values[i] = (float)i / 8;
    add(&made, "l/luong_w", 2, k);
    add(&made, "l/w_c", 2, w_c);
    add(&made, "deep/b/bahdanau_v", 2, v);
    add(&made, "deep/b/bahdanau_w1", 2, w1);
    add(&made, "deep/b/bahdanau_w2", 2, w2);
    add(&made, "deep/b/w_c", 2, w_c);
    add(&made, "dot/w_c", 2, square);
    return made;
}

static attn_weights_file *written(const folder *at, const layer_file *layers, uint64_t flags) {
    attn_weights_file *file;
    cr_assert(attn_weights_write(at->file, layers->entries, layers->count, NULL, 0) == ATTN_OK, "%s",
              attn_last_error_message());
    cr_assert(attn_weights_open(at->file, flags, &file) == ATTN_OK, "%s", attn_last_error_message());
    return file;
}

Test(weights, layers_are_found) {
    folder at = make_folder();
    const layer_file made = sound_layers();
    for (uint64_t flags = 0; flags < 2; flags++) {
        attn_weights_file *file = written(&at, &made, flags);
        attn_weights_layer l = ATTN_WEIGHTS_LAYER_INIT, b = ATTN_WEIGHTS_LAYER_INIT, dot = ATTN_WEIGHTS_LAYER_INIT;
        cr_assert(attn_weights_load_layer(file, "l", NULL, &l) == ATTN_OK, "%s", attn_last_error_message());
        cr_assert(l.score == ATTN_SCORE_LUONG && l.features == D && l.query_features == DQ && l.units == U &&
                  l.score_width == 0);
        cr_assert(memcmp(l.weights.luong_w, values, D * DQ * 4) == 0 &&
                  memcmp(l.weights.w_c, values, (D + DQ) * U * 4) == 0);
        cr_assert(!l.weights.bahdanau_v && l.nan_count == 0 && (flags ? !l.storage : l.storage != NULL));
        cr_assert(attn_weights_load_layer(file, "deep/b", NULL, &b) == ATTN_OK, "%s", attn_last_error_message());
        cr_assert(b.score == ATTN_SCORE_BAHDANAU && b.features == D && b.query_features == DQ && b.score_width == A &&
                  b.units == U);
        attn_weights_layer_options options = ATTN_WEIGHTS_LAYER_OPTIONS_INIT;
        cr_assert(attn_weights_load_layer(file, "dot", &options, &dot) == ATTN_ERROR_NOT_FOUND);
        options.score = ATTN_SCORE_DOT;
        options.dtype = ATTN_FLOAT64;
        cr_assert(attn_weights_load_layer(file, "dot", &options, &dot) == ATTN_OK, "%s", attn_last_error_message());
        cr_assert(dot.features == D && dot.units == U && dot.dtype == ATTN_FLOAT64 &&
                  ((const double *)dot.weights.w_c)[9] == 9.0 / 8);
        cr_assert(attn_weights_load_layer(file, NULL, NULL, &dot) == ATTN_ERROR_MISMATCH);
        cr_assert(attn_weights_load_layer(file, "deep", NULL, &dot) == ATTN_ERROR_NOT_FOUND);
        cr_assert(attn_weights_load_layer(file, "", NULL, &dot) == ATTN_ERROR_NOT_FOUND);
        attn_weights_layer_free(&l);
        attn_weights_layer_free(&b);
        attn_weights_layer_free(&dot);
        attn_weights_close(file);
    }
    remove_folder(&at);
}

Test(weights, layers_that_do_not_fit) {
    static const int64_t wrong[] = {D + DQ + 1, U}, flat[] = {D * DQ}, none[] = {0, DQ};
    const struct {
        size_t entry;
        int rank;
        const int64_t *shape;
        const char *prefix, *message;
    } rows[] = {{1, 2, wrong, "l", "w_c has shape (6, 5), want (5, 5)"},
                {0, 1, flat, "l", "luong_w has 1 dimensions"},
                {0, 2, none, "l", "holds nothing"},
                {3, 2, wrong, "deep/b", "bahdanau_w1 has shape (6, 5), want (6, 4)"}};
    folder at = make_folder();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        layer_file made = sound_layers();
        made.entries[rows[i].entry].rank = rows[i].rank;
        made.entries[rows[i].entry].shape = rows[i].shape;
        attn_weights_file *file = written(&at, &made, 0);
        attn_weights_layer layer = ATTN_WEIGHTS_LAYER_INIT;
        cr_assert(attn_weights_load_layer(file, rows[i].prefix, NULL, &layer) == ATTN_ERROR_MISMATCH, "row %zu", i);
        cr_assert(strstr(attn_last_error_message(), rows[i].message), "row %zu: %s", i, attn_last_error_message());
        cr_assert(!layer.storage && !layer.weights.luong_w);
        attn_weights_close(file);
    }
    remove_folder(&at);
}

Test(weights, expectations) {
    folder at = make_folder();
    const layer_file made = sound_layers();
    attn_weights_file *file = written(&at, &made, 0);
    attn_weights_layer layer = ATTN_WEIGHTS_LAYER_INIT;
    const struct {
        size_t field;
        int64_t right;
        const char *name;
    } rows[] = {{offsetof(attn_weights_layer_options, features), D, "features"},
                {offsetof(attn_weights_layer_options, query_features), DQ, "query_features"},
                {offsetof(attn_weights_layer_options, score_width), A, "score_width"},
                {offsetof(attn_weights_layer_options, units), U, "units"}};
    for (size_t i = 0; i < 4; i++)
        for (int64_t off = 0; off < 2; off++) {
            attn_weights_layer_options options = ATTN_WEIGHTS_LAYER_OPTIONS_INIT;
            *(int64_t *)(void *)((char *)&options + rows[i].field) = rows[i].right + off;
            const attn_status status = attn_weights_load_layer(file, "deep/b", &options, &layer);
            cr_assert(status == (off ? ATTN_ERROR_MISMATCH : ATTN_OK), "%s: status %d", rows[i].name, (int)status);
            cr_assert(!off || strstr(attn_last_error_message(), rows[i].name), "%s", attn_last_error_message());
            attn_weights_layer_free(&layer);
        }
    attn_weights_layer_options options = ATTN_WEIGHTS_LAYER_OPTIONS_INIT;
    options.score = ATTN_SCORE_LUONG;
    cr_assert(attn_weights_load_layer(file, "deep/b", &options, &layer) == ATTN_ERROR_MISMATCH);
    options.flags = 4;
    cr_assert(attn_weights_load_layer(file, "deep/b", &options, &layer) == ATTN_ERROR_UNSUPPORTED);
    attn_weights_close(file);
    remove_folder(&at);
}

Test(weights, nan_is_counted_or_refused) {
    folder at = make_folder();
    layer_file made = sound_layers();
    values[4] = NAN; /* within luong_w and w_c */
    attn_weights_file *file = written(&at, &made, 0);
    attn_weights_layer layer = ATTN_WEIGHTS_LAYER_INIT;
    attn_weights_layer_options options = ATTN_WEIGHTS_LAYER_OPTIONS_INIT;
    cr_assert(attn_weights_load_layer(file, "l", &options, &layer) == ATTN_OK && layer.nan_count == 2);
    attn_weights_layer_free(&layer);
    options.flags = ATTN_WEIGHTS_REFUSE_NAN;
    cr_assert(attn_weights_load_layer(file, "l", &options, &layer) == ATTN_ERROR_MISMATCH);
    cr_assert(strstr(attn_last_error_message(), "luong_w holds 1 NaN"), "%s", attn_last_error_message());
    attn_weights_close(file);
    remove_folder(&at);
}

/* Saved, loaded and saved again: the same bytes. A plan takes the loaded weights as they are. */
Test(weights, saved_layers) {
    folder at = make_folder();
    const layer_file made = sound_layers();
    attn_weights_file *file = written(&at, &made, 0);
    attn_weights_layer layer = ATTN_WEIGHTS_LAYER_INIT, again = ATTN_WEIGHTS_LAYER_INIT;
    const attn_weights_metadata_entry metadata[] = {{"b", "2"}, {"a", "1"}};
    cr_assert(attn_weights_load_layer(file, "deep/b", NULL, &layer) == ATTN_OK);
    attn_weights_close(file);
    cr_assert(attn_weights_save_layer(at.file, "other", &layer, metadata, 2) == ATTN_OK, "%s",
              attn_last_error_message());
    image first = load(at.file);
    cr_assert(attn_weights_open(at.file, 0, &file) == ATTN_OK && attn_weights_count(file) == 4);
    cr_assert(attn_weights_load_layer(file, NULL, NULL, &again) == ATTN_OK, "%s", attn_last_error_message());
    attn_weights_close(file);
    cr_assert(attn_weights_save_layer(at.file, "other", &again, metadata, 2) == ATTN_OK);
    image second = load(at.file);
    cr_assert(first.size == second.size && memcmp(first.bytes, second.bytes, first.size) == 0);
    free(first.bytes);
    free(second.bytes);
    attn_weights_layer_free(&layer);
    attn_weights_layer_free(&again);
    remove_folder(&at);
}

/* ---- Every allocation fails in turn ----------------------------------------------------------------------------------- */

#ifndef SANITIZED
static attn_status whole_way(const folder *at, const layer_file *made, attn_weights_layer *layer) {
    attn_weights_file *file = NULL;
    attn_status status = attn_weights_write(at->file, made->entries, made->count, NULL, 0);
    if (status == ATTN_OK) status = attn_weights_open(at->file, 0, &file);
    if (status == ATTN_OK) status = attn_weights_load_layer(file, "deep/b", NULL, layer);
    if (status == ATTN_OK)
        status = attn_weights_save_layer(at->file, "a name that takes more than a few bytes", layer, NULL, 0);
    attn_weights_close(file);
    return status;
}

Test(weights, every_allocation_fails) {
    folder at = make_folder();
    const layer_file made = sound_layers();
    attn_status status = ATTN_ERROR_OUT_OF_MEMORY;
    long failing = 0;
    for (; status != ATTN_OK; failing++) {
        attn_weights_layer layer = ATTN_WEIGHTS_LAYER_INIT;
        allocations_until_failure = failing;
        status = whole_way(&at, &made, &layer);
        const bool reached = allocations_until_failure < 0;
        allocations_until_failure = -1;
        cr_assert(status == ATTN_OK || (reached && status == ATTN_ERROR_OUT_OF_MEMORY), "allocation %ld: status %d, %s",
                  failing, (int)status, attn_last_error_message());
        attn_weights_layer_free(&layer);
        if (reached && status == ATTN_OK) status = ATTN_ERROR_OUT_OF_MEMORY; /* one that is done without; go on */
    }
    cr_assert(failing > 100, "only %ld allocations", failing);
    remove_folder(&at);
}
#endif

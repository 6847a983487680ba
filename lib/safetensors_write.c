/* Writing safetensors files: laid out in a fixed order, put in place whole.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "lib/process.h"
#include "lib/quote.h"
#include "lib/replace.h"
#include "lib/safetensors.h"
#include "lib/status.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_ALIGNMENT 8 /* of the data in the file; the widest dtype's */

/* One tensor on its way out. */
typedef struct piece {
    const attn_weights_entry *entry;
    size_t bytes;
} piece;

static int by_dtype_and_name(const void *left, const void *right) {
    const attn_weights_entry *a = ((const piece *)left)->entry, *b = ((const piece *)right)->entry;
    const int difference = attn_weights_dtype_rank(a->dtype) - attn_weights_dtype_rank(b->dtype);
    return difference ? difference : strcmp(a->name, b->name);
}

static int by_key(const void *left, const void *right) {
    return strcmp(((const attn_weights_metadata_entry *)left)->key, ((const attn_weights_metadata_entry *)right)->key);
}

static attn_status check_entry(const attn_weights_entry *entry, size_t index, piece *out) {
    char name[ATTN_QUOTE_SIZE];
    size_t elements;
    if (!entry->name || !*entry->name)
        return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "tensors[%zu].name: is empty", index);
    attn_quote(name, entry->name);
    if (strcmp(entry->name, ATTN_SAFETENSORS_METADATA) == 0)
        return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "tensors[%zu].name: \"%s\" is the format's own", index, name);
    if (!attn_weights_dtype_is_read(entry->dtype))
        return attn_fail(ATTN_ERROR_UNSUPPORTED, "tensor \"%s\": dtype %d (%s) is not written", name, (int)entry->dtype,
                         *attn_weights_dtype_name(entry->dtype) ? attn_weights_dtype_name(entry->dtype) : "unknown");
    if (entry->rank < 0 || entry->rank > ATTN_WEIGHTS_MAX_RANK)
        return attn_fail(ATTN_ERROR_SHAPE, "tensor \"%s\": rank is %d, want 0 to %d", name, entry->rank,
                         ATTN_WEIGHTS_MAX_RANK);
    if (entry->rank > 0 && !entry->shape)
        return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "tensor \"%s\": shape is NULL", name);
    for (int i = 0; i < entry->rank; ++i)
        if (entry->shape[i] < 0)
            return attn_fail(ATTN_ERROR_SHAPE, "tensor \"%s\": shape[%d] is %lld", name, i, (long long)entry->shape[i]);
    if (!attn_weights_shape_size(entry->dtype, entry->rank, entry->shape, &elements, &out->bytes))
        return attn_fail(ATTN_ERROR_OVERFLOW, "tensor \"%s\": the product of its shape does not fit", name);
    if (out->bytes > 0 && !entry->data)
        return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "tensor \"%s\": data is NULL", name);
    out->entry = entry;
    return ATTN_OK;
}

/* Sets key, which is UTF-8, in object and takes value over, whatever happens. */
static attn_status set(json_t *object, const char *key, json_t *value, const char *what) {
    char quoted[ATTN_QUOTE_SIZE];
    if (json_object_get(object, key)) {
        json_decref(value);
        return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "%s \"%s\": named twice", what, attn_quote(quoted, key));
    }
    if (value && json_object_set_new(object, key, value) == 0) return ATTN_OK;
    return attn_fail(ATTN_ERROR_OUT_OF_MEMORY, "out of memory for the header");
}

/* Bytes of the UTF-8 sequence that text begins with; 0 when it is none: cut, overlong, a surrogate or past U+10FFFF. */
static size_t utf8_sequence(const unsigned char *text) {
    const unsigned first = text[0], second = text[1];
    if (first < 0x80) return 1;
    const size_t length = first >= 0xc2 && first < 0xe0   ? 2
                          : first >= 0xe0 && first < 0xf0 ? 3
                          : first >= 0xf0 && first < 0xf5 ? 4
                                                          : 0;
    for (size_t i = 1; i < length; ++i)
        if ((text[i] & 0xc0) != 0x80) return 0; /* a NUL is no continuation, so nothing behind it is read */
    if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second >= 0xa0)) return 0;
    if ((first == 0xf0 && second < 0x90) || (first == 0xf4 && second >= 0x90)) return 0;
    return length;
}

/* jansson checks too, but can't tell text that is not UTF-8 from want of memory. */
static attn_status check_text(const char *text, const char *what) {
    char quoted[ATTN_QUOTE_SIZE];
    for (const unsigned char *at = (const unsigned char *)text; *at;) {
        const size_t length = utf8_sequence(at);
        if (length == 0)
            return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "%s \"%s\": not UTF-8", what, attn_quote(quoted, text));
        at += length;
    }
    return ATTN_OK;
}

static attn_status add_metadata(json_t *root, const attn_weights_metadata_entry *metadata, size_t count) {
    if (count == 0) return ATTN_OK;
    attn_weights_metadata_entry *sorted = malloc(count * sizeof *sorted);
    json_t *object = json_object();
    attn_status status =
        sorted && object ? ATTN_OK : attn_fail(ATTN_ERROR_OUT_OF_MEMORY, "out of memory for the metadata");
    for (size_t i = 0; i < count && status == ATTN_OK; ++i) {
        sorted[i] = metadata[i];
        if (!metadata[i].key || !metadata[i].value)
            status = attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "metadata[%zu]: key or value is NULL", i);
        if (status == ATTN_OK) status = check_text(metadata[i].key, "metadata key");
        if (status == ATTN_OK) status = check_text(metadata[i].value, "metadata value");
    }
    if (status == ATTN_OK) qsort(sorted, count, sizeof *sorted, by_key);
    for (size_t i = 0; i < count && status == ATTN_OK; ++i)
        status = set(object, sorted[i].key, json_string(sorted[i].value), "metadata key");
    if (status == ATTN_OK) status = set(root, ATTN_SAFETENSORS_METADATA, json_incref(object), "key");
    json_decref(object);
    free(sorted);
    return status;
}

static attn_status add_tensor(json_t *root, const piece *out, uint64_t begin) {
    const attn_weights_entry *entry = out->entry;
    const json_int_t first = (json_int_t)begin, last = (json_int_t)(begin + out->bytes);
    attn_status status = check_text(entry->name, "tensor");
    if (status != ATTN_OK) return status;
    json_t *shape = json_array();
    for (int i = 0; i < entry->rank && shape; ++i)
        if (json_array_append_new(shape, json_integer(entry->shape[i])) != 0) {
            json_decref(shape);
            shape = NULL;
        }
    if (!shape) return attn_fail(ATTN_ERROR_OUT_OF_MEMORY, "out of memory for the header");
    return set(root, entry->name,
               json_pack("{s:s, s:o, s:[I, I]}", "dtype", attn_weights_dtype_name(entry->dtype), "shape", shape,
                         "data_offsets", first, last),
               "tensor");
}

static attn_status build_header(const piece *pieces, size_t count, const attn_weights_metadata_entry *metadata,
                                size_t metadata_count, json_t *root) {
    uint64_t begin = 0;
    size_t values = 2 + 3 * metadata_count;
    attn_status status = add_metadata(root, metadata, metadata_count);
    for (size_t i = 0; i < count && status == ATTN_OK; ++i) {
        if (pieces[i].bytes > (uint64_t)INT64_MAX - ATTN_WEIGHTS_HEADER_LIMIT - begin)
            return attn_fail(ATTN_ERROR_OVERFLOW, "the tensors together do not fit a file");
        status = add_tensor(root, &pieces[i], begin);
        begin += pieces[i].bytes;
        values += 10 + (size_t)pieces[i].entry->rank;
    }
    if (status == ATTN_OK && values > ATTN_WEIGHTS_VALUE_LIMIT)
        return attn_fail(ATTN_ERROR_RANGE, "%zu tensors and %zu metadata entries are too many for a header", count,
                         metadata_count);
    return status;
}

/* The reference implementation writes control characters as \u001f, jansson as \u001F. */
static void lower_escapes(char *text, size_t length) {
    for (size_t i = 0; i + 5 < length; ++i) {
        if (text[i] != '\\') continue;
        if (text[i + 1] == 'u')
            for (size_t k = i + 2; k < i + 6; ++k) text[k] = (char)(text[k] >= 'A' ? text[k] | 0x20 : text[k]);
        ++i; /* an escaped backslash begins no escape */
    }
}

/* The length and the text, padded by spaces so that the data is aligned. */
static attn_status render_header(json_t *root, char **bytes, size_t *size) {
    const size_t length = json_dumpb(root, NULL, 0, JSON_COMPACT);
    const size_t padded = (length + HEADER_ALIGNMENT - 1) / HEADER_ALIGNMENT * HEADER_ALIGNMENT;
    if (length == 0) return attn_fail(ATTN_ERROR_OUT_OF_MEMORY, "out of memory for the header");
    if (padded > ATTN_WEIGHTS_HEADER_LIMIT)
        return attn_fail(ATTN_ERROR_RANGE, "the header would have %zu bytes, at most %d are allowed", padded,
                         ATTN_WEIGHTS_HEADER_LIMIT);
    *size = ATTN_SAFETENSORS_PREFIX + padded;
    *bytes = malloc(*size);
    if (!*bytes) return attn_fail(ATTN_ERROR_OUT_OF_MEMORY, "out of memory for a header of %zu bytes", padded);
    const uint64_t stored = padded;
    memcpy(*bytes, &stored, sizeof stored);
    memset(*bytes + ATTN_SAFETENSORS_PREFIX, ' ', padded);
    if (json_dumpb(root, *bytes + ATTN_SAFETENSORS_PREFIX, length, JSON_COMPACT) != length)
        return attn_fail(ATTN_ERROR_OUT_OF_MEMORY, "out of memory for the header");
    lower_escapes(*bytes + ATTN_SAFETENSORS_PREFIX, length);
    return ATTN_OK;
}

static attn_status refuse_replacement(const attn_replacement *file) {
    char quoted[ATTN_QUOTE_SIZE];
    return attn_fail(file->cause == ENOMEM ? ATTN_ERROR_OUT_OF_MEMORY : ATTN_ERROR_IO, "\"%s\": %s%s%s",
                     attn_quote(quoted, file->path), file->failed, file->cause ? ": " : "",
                     file->cause ? strerrordesc_np(file->cause) : "");
}

static attn_status put_in_place(const char *path, const char *header, size_t header_size, const piece *pieces,
                                size_t count) {
    attn_replacement file;
    bool done = attn_replacement_open(&file, path) && attn_replacement_write(&file, header, header_size);
    for (size_t i = 0; i < count && done; ++i)
        done = attn_replacement_write(&file, pieces[i].entry->data, pieces[i].bytes);
    if (done && attn_replacement_commit(&file)) return ATTN_OK;
    attn_replacement_abandon(&file);
    return refuse_replacement(&file);
}

attn_status attn_weights_write(const char *path, const attn_weights_entry *tensors, size_t count,
                               const attn_weights_metadata_entry *metadata, size_t metadata_count) {
    ATTN_WITHOUT_CANCELLATION;
    if (!path) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "path: is NULL");
    if (!tensors && count > 0) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "tensors: is NULL");
    if (!metadata && metadata_count > 0) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "metadata: is NULL");
    if (count > ATTN_WEIGHTS_VALUE_LIMIT || metadata_count > ATTN_WEIGHTS_VALUE_LIMIT)
        return attn_fail(ATTN_ERROR_RANGE, "%zu tensors and %zu metadata entries are too many for a header", count,
                         metadata_count);
    if (!*path) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "path: is empty");

    attn_status status = ATTN_OK;
    piece *pieces = calloc(count + 1, sizeof *pieces);
    json_t *root = json_object();
    char *header = NULL;
    size_t header_size = 0;
    if (!pieces || !root) status = attn_fail(ATTN_ERROR_OUT_OF_MEMORY, "out of memory for %zu tensors", count);
    for (size_t i = 0; i < count && status == ATTN_OK; ++i) status = check_entry(&tensors[i], i, &pieces[i]);
    if (status == ATTN_OK) {
        qsort(pieces, count, sizeof *pieces, by_dtype_and_name);
        status = build_header(pieces, count, metadata, metadata_count, root);
    }
    if (status == ATTN_OK) status = render_header(root, &header, &header_size);
    if (status == ATTN_OK) status = put_in_place(path, header, header_size, pieces, count);
    free(header);
    json_decref(root);
    free(pieces);
    return status;
}

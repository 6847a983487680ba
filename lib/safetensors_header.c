/* The header of a safetensors file: parsed by jansson, then held against every rule of the format.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * jansson (MIT) was picked over cJSON and jsmn: it validates UTF-8, rejects duplicate keys and NUL, keeps 64-bit
 * integers exact, never writes past what it allocated and reports a failed allocation. cJSON keeps numbers as
 * doubles, passes duplicate keys, broken UTF-8 and control characters, and cuts strings at \u0000; jsmn only splits
 * tokens, so escapes, UTF-8 and grammar would be ours to check by hand. */
#include "lib/json_fault.h"
#include "lib/quote.h"
#include "lib/safetensors.h"
#include "lib/status.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_LIMIT 3 /* { tensor: { shape: [ ] } } */

static int hex_value(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : 0;
}

/* Bytes of UTF-8 that \uXXXX stands for, given its four digits; a surrogate pair counts 4 and 0. */
static size_t escaped_bytes(const char *digits) {
    unsigned code = 0;
    for (int i = 0; i < 4; ++i) code = code << 4 | (unsigned)hex_value(digits[i]);
    if (code >= 0xd800 && code < 0xdc00) return 4;
    if (code >= 0xdc00 && code < 0xe000) return 0;
    return code < 0x80 ? 1 : code < 0x800 ? 2 : 3;
}

/* Whether text, which begins with '-', is the integer -0, which the parser can't tell from 0. */
static bool is_negative_zero(const char *text, size_t length) {
    return length > 1 && text[1] == '0' && (length == 2 || !strchr(".eE0123456789", text[2]) || !text[2]);
}

/* Looks the text over before it is parsed: bounds what the parser may allocate and how deep it may recurse, counts the
 * bytes that its strings must come to, and finds what the parser would not tell, or not in words that help. */
static attn_status survey(const char *text, size_t length, size_t *string_bytes) {
    size_t values = 1, depth = 0;
    bool in_string = false;
    *string_bytes = 0;
    for (size_t i = 0; i < length; ++i) {
        const char c = text[i];
        if (in_string) {
            if (c == '"')
                in_string = false;
            else if (c != '\\')
                ++*string_bytes;
            else if (length - i > 5 && memcmp(text + i + 1, "u0000", 5) == 0)
                return attn_fail(ATTN_ERROR_FORMAT,
                                 "header: byte %zu: NUL in a name or metadata, which the format allows but this "
                                 "library does not read",
                                 i);
            else if (length - i > 5 && text[i + 1] == 'u') {
                *string_bytes += escaped_bytes(text + i + 2);
                i += 5;
            } else {
                ++*string_bytes;
                ++i;
            }
            continue;
        }
        if (c == '-' && is_negative_zero(text + i, length - i))
            return attn_fail(ATTN_ERROR_FORMAT, "header: byte %zu: -0 is not a count", i);
        in_string = c == '"';
        values += c == ',' || c == ':' || c == '[' || c == '{';
        depth += c == '{' || c == '[';
        if (depth > DEPTH_LIMIT) return attn_fail(ATTN_ERROR_FORMAT, "header: nested deeper than a header can be");
        if (depth > 0) depth -= c == '}' || c == ']';
    }
    if (values > ATTN_WEIGHTS_VALUE_LIMIT)
        return attn_fail(ATTN_ERROR_FORMAT, "header: more than %d JSON values", ATTN_WEIGHTS_VALUE_LIMIT);
    return ATTN_OK;
}

/* Bytes of all strings and keys below a value. */
static size_t count_string_bytes(json_t *value) {
    size_t bytes = 0, index;
    const char *key;
    json_t *child;
    if (json_is_string(value)) return json_string_length(value);
    json_object_foreach(value, key, child) bytes += strlen(key) + count_string_bytes(child);
    json_array_foreach(value, index, child) bytes += count_string_bytes(child);
    return bytes;
}

/* Parses once. NULL with an error that may lie: the parser's text buffer drops a byte when it can't grow, and carries on,
 * so that want of memory looks like broken JSON, or like a name that is a byte shorter. */
static json_t *parse_once(const char *text, size_t length, size_t string_bytes, json_error_t *error) {
    json_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES, error);
    if (!root || count_string_bytes(root) == string_bytes) return root;
    json_decref(root);
    error->text[0] = '\0';
    return NULL;
}

static attn_status parse_json(const char *text, size_t length, json_t **root) {
    size_t string_bytes;
    json_error_t error;
    attn_status status = survey(text, length, &string_bytes);
    if (status != ATTN_OK) return status;
    if (length == 0 || text[0] != '{') return attn_fail(ATTN_ERROR_FORMAT, "header: does not begin with '{'");
    *root = parse_once(text, length, string_bytes, &error);
    if (*root) return ATTN_OK;
    /* JSON is only called broken when memory is there and it fails again. */
    void *probe = malloc(length);
    if (probe) *root = parse_once(text, length, string_bytes, &error);
    free(probe);
    if (*root) return ATTN_OK;
    if (!probe || !error.text[0] || json_error_code(&error) == json_error_out_of_memory)
        return attn_fail(ATTN_ERROR_OUT_OF_MEMORY, "header: out of memory for %zu bytes of JSON", length);
    return attn_fail(ATTN_ERROR_FORMAT, "header: byte %d: %s", error.position, attn_json_fault(&error));
}

/* Hands out copies of strings from one block that is as long as the header's text, which held each of them in quotes. */
static const char *keep(char **cursor, const char *string) {
    const size_t size = strlen(string) + 1;
    char *copy = memcpy(*cursor, string, size);
    *cursor += size;
    return copy;
}

static attn_status parse_metadata(json_t *object, attn_safetensors_header *header, char **cursor) {
    const char *key;
    json_t *value;
    char quoted[ATTN_QUOTE_SIZE];
    if (!json_is_object(object)) return attn_fail(ATTN_ERROR_FORMAT, "__metadata__: not an object");
    header->metadata = malloc((json_object_size(object) + 1) * sizeof *header->metadata);
    if (!header->metadata) return attn_fail(ATTN_ERROR_OUT_OF_MEMORY, "header: out of memory for metadata");
    json_object_foreach(object, key, value) {
        if (!json_is_string(value))
            return attn_fail(ATTN_ERROR_FORMAT, "__metadata__: the value of \"%s\" is not a string",
                             attn_quote(quoted, key));
        attn_weights_metadata_entry *entry = &header->metadata[header->metadata_count++];
        entry->key = keep(cursor, key);
        entry->value = keep(cursor, json_string_value(value));
    }
    return ATTN_OK;
}

static attn_status parse_shape(json_t *shape, const char *name, attn_weights_tensor *tensor) {
    size_t index;
    json_t *value;
    if (!json_is_array(shape)) return attn_fail(ATTN_ERROR_FORMAT, "tensor \"%s\": shape is not an array", name);
    if (json_array_size(shape) > ATTN_WEIGHTS_MAX_RANK)
        return attn_fail(ATTN_ERROR_FORMAT, "tensor \"%s\": %zu dimensions, at most %d are read", name,
                         json_array_size(shape), ATTN_WEIGHTS_MAX_RANK);
    tensor->rank = (int)json_array_size(shape);
    json_array_foreach(shape, index, value) {
        if (!json_is_integer(value) || json_integer_value(value) < 0)
            return attn_fail(ATTN_ERROR_FORMAT, "tensor \"%s\": dimension %zu is not a count", name, index);
        tensor->shape[index] = json_integer_value(value);
    }
    return ATTN_OK;
}

static attn_status parse_offsets(json_t *offsets, const char *name, uint64_t data_bytes,
                                 attn_safetensors_entry *entry) {
    json_t *first = json_array_get(offsets, 0), *second = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(second))
        return attn_fail(ATTN_ERROR_FORMAT, "tensor \"%s\": data_offsets is not a pair of integers", name);
    const json_int_t begin = json_integer_value(first), end = json_integer_value(second);
    if (begin < 0 || end < begin || (uint64_t)end > data_bytes)
        return attn_fail(ATTN_ERROR_FORMAT, "tensor \"%s\": data_offsets [%lld, %lld] leave the %llu bytes of data",
                         name, (long long)begin, (long long)end, (unsigned long long)data_bytes);
    const uint64_t span = (uint64_t)(end - begin);
    /* What an element of an unknown dtype takes is not known, only that it takes something. */
    const bool unknown = entry->tensor.dtype == ATTN_WEIGHTS_UNKNOWN;
    if (unknown && (span == 0) != (entry->tensor.elements == 0))
        return attn_fail(ATTN_ERROR_FORMAT, "tensor \"%s\": data_offsets span %llu bytes, its shape has %zu elements",
                         name, (unsigned long long)span, entry->tensor.elements);
    if (unknown) entry->tensor.bytes = (size_t)span;
    if (span != entry->tensor.bytes)
        return attn_fail(ATTN_ERROR_FORMAT, "tensor \"%s\": data_offsets span %llu bytes, its shape needs %zu", name,
                         (unsigned long long)span, entry->tensor.bytes);
    entry->begin = (uint64_t)begin;
    return ATTN_OK;
}

static attn_status parse_tensor(json_t *object, const char *key, uint64_t data_bytes, attn_safetensors_entry *entry) {
    attn_weights_tensor *tensor = &entry->tensor;
    char name[ATTN_QUOTE_SIZE];
    attn_quote(name, key);
    if (!*key)
        return attn_fail(ATTN_ERROR_FORMAT, "header: a tensor without a name (\"\"), which the format allows but this "
                                            "library does not read");
    json_t *dtype = json_object_get(object, "dtype"), *shape = json_object_get(object, "shape");
    json_t *offsets = json_object_get(object, "data_offsets");
    if (!dtype || !shape || !offsets || json_object_size(object) != 3)
        return attn_fail(ATTN_ERROR_FORMAT, "tensor \"%s\": not exactly dtype, shape and data_offsets", name);
    if (!json_is_string(dtype)) return attn_fail(ATTN_ERROR_FORMAT, "tensor \"%s\": dtype is not a string", name);
    tensor->dtype = attn_weights_dtype_of(json_string_value(dtype));
    const attn_status status = parse_shape(shape, name, tensor);
    if (status != ATTN_OK) return status;
    if (!attn_weights_shape_size(tensor->dtype, tensor->rank, tensor->shape, &tensor->elements, &tensor->bytes))
        return attn_fail(ATTN_ERROR_FORMAT, "tensor \"%s\": the product of its shape does not fit", name);
    if (!attn_weights_whole_bytes(tensor->dtype, tensor->elements))
        return attn_fail(ATTN_ERROR_FORMAT, "tensor \"%s\": %zu elements of %s do not end where a byte does", name,
                         tensor->elements, attn_weights_dtype_name(tensor->dtype));
    return parse_offsets(offsets, name, data_bytes, entry);
}

static int by_position(const void *left, const void *right) {
    const attn_safetensors_entry *a = left, *b = right;
    if (a->begin != b->begin) return a->begin < b->begin ? -1 : 1;
    if (a->tensor.bytes != b->tensor.bytes) return a->tensor.bytes < b->tensor.bytes ? -1 : 1;
    return strcmp(a->tensor.name, b->tensor.name);
}

static attn_status check_cover(const attn_safetensors_header *header, uint64_t data_bytes) {
    uint64_t end = 0;
    char name[ATTN_QUOTE_SIZE];
    for (size_t i = 0; i < header->count; ++i) {
        const attn_safetensors_entry *entry = &header->entries[i];
        if (entry->begin != end)
            return attn_fail(ATTN_ERROR_FORMAT, "tensor \"%s\": begins at byte %llu of the data, %s",
                             attn_quote(name, entry->tensor.name), (unsigned long long)entry->begin,
                             entry->begin < end ? "inside the tensor before it" : "after a hole");
        end += entry->tensor.bytes;
    }
    if (end != data_bytes)
        return attn_fail(ATTN_ERROR_FORMAT, "header: its tensors end at byte %llu of the data, the file at %llu",
                         (unsigned long long)end, (unsigned long long)data_bytes);
    return ATTN_OK;
}

static int by_name(const void *left, const void *right, void *entries) {
    const attn_safetensors_entry *all = entries;
    return strcmp(all[*(const size_t *)left].tensor.name, all[*(const size_t *)right].tensor.name);
}

static attn_status parse_root(json_t *root, size_t length, uint64_t data_bytes, attn_safetensors_header *header) {
    const size_t slots = json_object_size(root) + 1;
    const char *key;
    json_t *value;
    attn_status status = ATTN_OK;
    header->entries = calloc(slots, sizeof *header->entries);
    header->by_name = malloc(slots * sizeof *header->by_name);
    header->strings = malloc(length);
    if (!header->entries || !header->by_name || !header->strings)
        return attn_fail(ATTN_ERROR_OUT_OF_MEMORY, "header: out of memory for %zu tensors", slots - 1);
    char *cursor = header->strings;
    json_object_foreach(root, key, value) {
        if (strcmp(key, ATTN_SAFETENSORS_METADATA) == 0) {
            status = parse_metadata(value, header, &cursor);
        } else {
            attn_safetensors_entry *entry = &header->entries[header->count];
            status = parse_tensor(value, key, data_bytes, entry);
            if (status == ATTN_OK) {
                entry->tensor.name = keep(&cursor, key);
                entry->tensor.dtype_name = keep(&cursor, json_string_value(json_object_get(value, "dtype")));
                header->by_name[header->count] = header->count;
                ++header->count;
            }
        }
        if (status != ATTN_OK) return status;
    }
    qsort(header->entries, header->count, sizeof *header->entries, by_position);
    qsort_r(header->by_name, header->count, sizeof *header->by_name, by_name, header->entries);
    return check_cover(header, data_bytes);
}

attn_status attn_safetensors_parse(const char *text, size_t length, uint64_t data_bytes,
                                   attn_safetensors_header *header) {
    json_t *root = NULL;
    *header = (attn_safetensors_header){0};
    attn_status status = parse_json(text, length, &root);
    if (status == ATTN_OK) status = parse_root(root, length, data_bytes, header);
    json_decref(root);
    if (status != ATTN_OK) attn_safetensors_release(header);
    return status;
}

void attn_safetensors_release(attn_safetensors_header *header) {
    free(header->entries);
    free(header->by_name);
    free(header->metadata);
    free(header->strings);
    *header = (attn_safetensors_header){0};
}

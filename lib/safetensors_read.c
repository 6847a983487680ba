/* Reading safetensors files: opening from a path, a descriptor or memory; tensors by name; bounded reads and views.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "lib/process.h"
#include "lib/quote.h"
#include "lib/safetensors.h"
#include "lib/status.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct attn_weights_file {
    attn_safetensors_header header;
    const char *memory; /* the whole file, mapped or the caller's; NULL: through the descriptor */
    size_t size;
    size_t data; /* where the tensors' bytes begin */
    int descriptor;
    bool mapped;
};

#define READ_CHUNK ((size_t)1 << 30) /* below what one read call may transfer */

/* Reads exactly size bytes at offset, retrying short and interrupted reads. */
static attn_status read_exactly(const attn_weights_file *file, void *buffer, size_t size, size_t offset) {
    if (file->memory && !file->mapped) {
        memcpy(buffer, file->memory + offset, size);
        return ATTN_OK;
    }
    for (size_t done = 0; done < size;) {
        const size_t wanted = size - done < READ_CHUNK ? size - done : READ_CHUNK;
        const ssize_t got = pread(file->descriptor, (char *)buffer + done, wanted, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return attn_fail(ATTN_ERROR_IO, "reading at byte %zu: %s", offset + done, strerrordesc_np(errno));
        if (got == 0)
            return attn_fail(ATTN_ERROR_IO, "the file ends at byte %zu, it was %zu bytes long when opened",
                             offset + done, file->size);
        done += (size_t)got;
    }
    return ATTN_OK;
}

static attn_status read_header(attn_weights_file *file) {
    uint64_t length;
    if (file->size < ATTN_SAFETENSORS_PREFIX)
        return attn_fail(ATTN_ERROR_FORMAT, "the file has %zu bytes, its header's length alone takes 8", file->size);
    attn_status status = read_exactly(file, &length, sizeof length, 0);
    if (status != ATTN_OK) return status;
    if (length > ATTN_WEIGHTS_HEADER_LIMIT)
        return attn_fail(ATTN_ERROR_FORMAT, "the header's length is %llu, at most %d is allowed",
                         (unsigned long long)length, ATTN_WEIGHTS_HEADER_LIMIT);
    if (length > file->size - ATTN_SAFETENSORS_PREFIX)
        return attn_fail(ATTN_ERROR_FORMAT, "the header's length is %llu, the file has %zu bytes",
                         (unsigned long long)length, file->size);
    file->data = ATTN_SAFETENSORS_PREFIX + (size_t)length;
    const size_t data_bytes = file->size - file->data;
    if (file->memory)
        return attn_safetensors_parse(file->memory + ATTN_SAFETENSORS_PREFIX, (size_t)length, data_bytes,
                                      &file->header);
    char *text = malloc((size_t)length + 1);
    if (!text)
        return attn_fail(ATTN_ERROR_OUT_OF_MEMORY, "out of memory for a header of %llu bytes",
                         (unsigned long long)length);
    status = read_exactly(file, text, (size_t)length, ATTN_SAFETENSORS_PREFIX);
    if (status == ATTN_OK) status = attn_safetensors_parse(text, (size_t)length, data_bytes, &file->header);
    free(text);
    return status;
}

static attn_status map(attn_weights_file *file) {
    if (file->size == 0) return ATTN_OK; /* nothing to map; the header's check refuses it */
    void *memory = mmap(NULL, file->size, PROT_READ, MAP_SHARED, file->descriptor, 0);
    if (memory == MAP_FAILED)
        return attn_fail(ATTN_ERROR_IO, "mapping %zu bytes: %s", file->size, strerrordesc_np(errno));
    file->memory = memory;
    file->mapped = true;
    return ATTN_OK;
}

/* Takes the descriptor over, also on error. */
static attn_status open_descriptor(int descriptor, uint64_t flags, attn_weights_file **file) {
    struct stat about;
    attn_status status = ATTN_OK;
    if (fstat(descriptor, &about) != 0)
        status = attn_fail(ATTN_ERROR_IO, "examining the file: %s", strerrordesc_np(errno));
    else if (!S_ISREG(about.st_mode))
        status = attn_fail(ATTN_ERROR_IO, "not a regular file, but a %s",
                           S_ISDIR(about.st_mode)    ? "directory"
                           : S_ISFIFO(about.st_mode) ? "pipe"
                           : S_ISSOCK(about.st_mode) ? "socket"
                                                     : "device");
    else if ((uintmax_t)about.st_size > SIZE_MAX)
        status = attn_fail(ATTN_ERROR_IO, "the file is larger than this machine's memory can be");
    if (status != ATTN_OK) {
        close(descriptor);
        return status;
    }
    attn_weights_file *opened = calloc(1, sizeof *opened);
    if (!opened) {
        close(descriptor);
        return attn_fail(ATTN_ERROR_OUT_OF_MEMORY, "out of memory for an open file");
    }
    opened->descriptor = descriptor;
    opened->size = (size_t)about.st_size;
    status = read_header(opened); /* by read calls, even of a file to be mapped: a header never raises SIGBUS */
    if (status == ATTN_OK && flags & ATTN_WEIGHTS_MAP) status = map(opened);
    if (status != ATTN_OK) {
        attn_weights_close(opened);
        return status;
    }
    *file = opened;
    return ATTN_OK;
}

static attn_status check_opening(const void *source, const char *argument, uint64_t flags, attn_weights_file **file) {
    if (!file) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "file: is NULL");
    *file = NULL;
    if (!source) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "%s: is NULL", argument);
    if (flags & ~ATTN_WEIGHTS_MAP)
        return attn_fail(ATTN_ERROR_UNSUPPORTED, "flags: has unknown bits 0x%llx",
                         (unsigned long long)(flags & ~ATTN_WEIGHTS_MAP));
    return ATTN_OK;
}

attn_status attn_weights_open(const char *path, uint64_t flags, attn_weights_file **file) {
    ATTN_WITHOUT_CANCELLATION;
    const attn_status status = check_opening(path, "path", flags, file);
    char quoted[ATTN_QUOTE_SIZE];
    int descriptor;
    if (status != ATTN_OK) return status;
    do /* O_NONBLOCK: a FIFO without a writer must not hold us */
        descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    while (descriptor < 0 && errno == EINTR);
    if (descriptor < 0)
        return attn_fail(ATTN_ERROR_IO, "opening \"%s\": %s", attn_quote(quoted, path), strerrordesc_np(errno));
    return open_descriptor(descriptor, flags, file);
}

attn_status attn_weights_open_fd(int descriptor, uint64_t flags, attn_weights_file **file) {
    ATTN_WITHOUT_CANCELLATION;
    const attn_status status = check_opening("", "descriptor", flags, file);
    if (status != ATTN_OK) return status;
    const int duplicate = fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
    if (duplicate < 0) return attn_fail(ATTN_ERROR_IO, "descriptor %d: %s", descriptor, strerrordesc_np(errno));
    return open_descriptor(duplicate, flags, file);
}

attn_status attn_weights_open_memory(const void *data, size_t size, attn_weights_file **file) {
    ATTN_WITHOUT_CANCELLATION;
    attn_status status = check_opening(data, "data", 0, file);
    if (status != ATTN_OK) return status;
    attn_weights_file *opened = calloc(1, sizeof *opened);
    if (!opened) return attn_fail(ATTN_ERROR_OUT_OF_MEMORY, "out of memory for an open file");
    opened->descriptor = -1;
    opened->memory = data;
    opened->size = size;
    status = read_header(opened);
    if (status != ATTN_OK) {
        attn_weights_close(opened);
        return status;
    }
    *file = opened;
    return ATTN_OK;
}

void attn_weights_close(attn_weights_file *file) {
    ATTN_WITHOUT_CANCELLATION;
    if (!file) return;
    attn_safetensors_release(&file->header);
    if (file->mapped) munmap((void *)file->memory, file->size);
    if (file->descriptor >= 0) close(file->descriptor);
    free(file);
}

size_t attn_weights_count(const attn_weights_file *file) { return file ? file->header.count : 0; }

const attn_weights_tensor *attn_weights_tensor_at(const attn_weights_file *file, size_t index) {
    return index < attn_weights_count(file) ? &file->header.entries[index].tensor : NULL;
}

const attn_weights_tensor *attn_weights_find(const attn_weights_file *file, const char *name) {
    if (!file || !name) return NULL;
    size_t low = 0, high = file->header.count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const attn_weights_tensor *tensor = &file->header.entries[file->header.by_name[middle]].tensor;
        const int order = strcmp(name, tensor->name);
        if (order == 0) return tensor;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

size_t attn_weights_metadata_count(const attn_weights_file *file) { return file ? file->header.metadata_count : 0; }

const char *attn_weights_metadata_at(const attn_weights_file *file, size_t index, const char **value) {
    if (index >= attn_weights_metadata_count(file)) return NULL;
    if (value) *value = file->header.metadata[index].value;
    return file->header.metadata[index].key;
}

const char *attn_weights_metadata(const attn_weights_file *file, const char *key) {
    if (!key) return NULL;
    for (size_t i = 0; i < attn_weights_metadata_count(file); ++i)
        if (strcmp(file->header.metadata[i].key, key) == 0) return file->header.metadata[i].value;
    return NULL;
}

/* The refusal of a tensor whose dtype is listed alone. */
static attn_status refuse_listed(const attn_weights_tensor *tensor) {
    char name[ATTN_QUOTE_SIZE], dtype[ATTN_QUOTE_SIZE];
    return attn_fail(ATTN_ERROR_UNSUPPORTED, "tensor \"%s\": %s is listed, its data is not read",
                     attn_quote(name, tensor->name), attn_quote(dtype, tensor->dtype_name));
}

/* The entry behind a tensor that this file gave out; NULL for any other pointer. */
static const attn_safetensors_entry *entry_of(const attn_weights_file *file, const attn_weights_tensor *tensor) {
    const uintptr_t first = (uintptr_t)file->header.entries, at = (uintptr_t)tensor;
    const size_t size = sizeof(attn_safetensors_entry);
    if (at < first || (at - first) / size >= file->header.count || (at - first) % size) return NULL;
    return (const attn_safetensors_entry *)(const void *)tensor;
}

attn_status attn_weights_read(const attn_weights_file *file, const attn_weights_tensor *tensor,
                              attn_weights_dtype dtype, void *buffer, size_t size) {
    ATTN_WITHOUT_CANCELLATION;
    char name[ATTN_QUOTE_SIZE];
    size_t bytes;
    if (!file) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "file: is NULL");
    if (!tensor) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "tensor: is NULL");
    const attn_safetensors_entry *entry = entry_of(file, tensor);
    if (!entry) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "tensor: is not one of this file");
    attn_quote(name, tensor->name);
    if (!attn_weights_dtype_is_read(tensor->dtype)) return refuse_listed(tensor);
    if (!attn_weights_converts(tensor->dtype, dtype))
        return attn_fail(ATTN_ERROR_UNSUPPORTED, "tensor \"%s\": %s is not given as %s (dtype %d)", name,
                         attn_weights_dtype_name(tensor->dtype), attn_weights_dtype_name(dtype), (int)dtype);
    if (__builtin_mul_overflow(tensor->elements, attn_weights_dtype_size(dtype), &bytes))
        return attn_fail(ATTN_ERROR_OVERFLOW, "tensor \"%s\": %zu elements as %s do not fit", name, tensor->elements,
                         attn_weights_dtype_name(dtype));
    if (size < bytes)
        return attn_fail(ATTN_ERROR_RANGE, "size: is %zu, tensor \"%s\" needs %zu bytes", size, name, bytes);
    if (bytes == 0) return ATTN_OK;
    if (!buffer) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "buffer: is NULL");
    const attn_status status =
        read_exactly(file, (char *)buffer + (bytes - tensor->bytes), tensor->bytes, file->data + (size_t)entry->begin);
    if (status == ATTN_OK) attn_weights_widen(tensor->dtype, dtype, buffer, tensor->elements);
    return status;
}

const void *attn_weights_bytes(const attn_weights_file *file, const attn_weights_tensor *tensor) {
    return file->memory ? file->memory + file->data + entry_of(file, tensor)->begin : NULL;
}

attn_status attn_weights_view(const attn_weights_file *file, const attn_weights_tensor *tensor, const void **data) {
    if (!data) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "data: is NULL");
    *data = NULL;
    if (!file) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "file: is NULL");
    if (!entry_of(file, tensor)) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "tensor: is not one of this file");
    if (!attn_weights_dtype_is_read(tensor->dtype)) return refuse_listed(tensor);
    *data = attn_weights_bytes(file, tensor);
    if (!*data)
        return attn_fail(ATTN_ERROR_UNSUPPORTED, "file: was opened without ATTN_WEIGHTS_MAP, there is nothing to view");
    return ATTN_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/structs.h"

#include "lib/status.h"

#include <string.h>

/* No structure of the API will ever be this large: a greater struct_size was not set by an initialiser. */
enum { LARGEST_STRUCT = 4096 };

/* Copies what both sides know of a run of fields, and checks that the caller set nothing beyond. */
static attn_status copy_known(const char *name, void *to, size_t known, const void *from, size_t given) {
    const unsigned char *bytes = from;
    for (size_t i = known; i < given; i++)
        if (bytes[i] != 0)
            return attn_fail(
                ATTN_ERROR_UNSUPPORTED,
                "%s: has a field that libattention %s does not know (byte %zu of it is set), want zeros there", name,
                attn_version(), i);
    memcpy(to, from, given < known ? given : known);
    return ATTN_OK;
}

static attn_status read_size(const char *name, const void *from, size_t oldest, size_t *size) {
    memcpy(size, from, sizeof *size);
    if (*size < oldest || *size > LARGEST_STRUCT)
        return attn_fail(ATTN_ERROR_INVALID_ARGUMENT,
                         "%s.struct_size: is %zu, want at least %zu (start from the structure's initialiser)", name,
                         *size, oldest);
    return ATTN_OK;
}

attn_status attn_read_struct(const char *name, void *to, size_t known, size_t oldest, const void *from) {
    size_t size;
    const attn_status status = read_size(name, from, oldest, &size);
    return status ? status : copy_known(name, to, known, from, size);
}

attn_status attn_read_args(void *to, size_t known, const attn_embedded *embedded, size_t count, const void *from) {
    const char *source = from;
    size_t size, taken = 0, done = 0; /* bytes of the caller's structure, and of ours */
    attn_status status = read_size("args", from, known, &size);
    for (size_t i = 0; i < count && !status; i++) {
        const size_t head = embedded[i].offset - done;
        size_t inner = 0;
        if (size - taken >= head + embedded[i].size) memcpy(&inner, source + taken + head, sizeof inner);
        if (inner < embedded[i].size || inner > size - taken - head || inner % sizeof(void *) != 0)
            return attn_fail(ATTN_ERROR_INVALID_ARGUMENT,
                             "%s.struct_size: is %zu, want %zu (start from the structure's initialiser)",
                             embedded[i].name, inner, embedded[i].size);
        memcpy((char *)to + done, source + taken, head);
        taken += head, done += head;
        status = copy_known(embedded[i].name, (char *)to + done, embedded[i].size, source + taken, inner);
        taken += inner, done += embedded[i].size;
    }
    return status ? status : copy_known("args", (char *)to + done, known - done, source + taken, size - taken);
}

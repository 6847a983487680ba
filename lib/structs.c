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

attn_status attn_read_forward_args(attn_layer_forward_args *to, const attn_layer_forward_args *from) {
    const size_t head = offsetof(attn_layer_forward_args, weights);
    const size_t tail = head + sizeof(attn_layer_weights);
    const char *bytes = (const char *)from;
    size_t size, weights_size;
    attn_status status = read_size("args", from, sizeof(attn_layer_forward_args), &size);
    if (!status) status = read_size("args.weights", bytes + head, sizeof(attn_layer_weights), &weights_size);
    if (status) return status;
    if (weights_size > size - head || weights_size % sizeof(void *) != 0)
        return attn_fail(ATTN_ERROR_INVALID_ARGUMENT,
                         "args.weights.struct_size: is %zu, want %zu (start from the structure's initialiser)",
                         weights_size, sizeof(attn_layer_weights));
    memcpy(to, from, head);
    status = copy_known("args.weights", &to->weights, sizeof to->weights, bytes + head, weights_size);
    if (status) return status;
    return copy_known("args", (char *)to + tail, sizeof *to - tail, bytes + head + weights_size,
                      size - head - weights_size);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a weights file: opened or refused; what is opened can be read, viewed, loaded, and written to the same. */
#include "attention/weights.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition) {
    if (!condition) abort();
}

static void read_all(const attn_weights_file *file) {
    for (size_t i = 0; i < attn_weights_count(file); i++) {
        const attn_weights_tensor *tensor = attn_weights_tensor_at(file, i);
        const void *view;
        if (tensor->dtype >= ATTN_WEIGHTS_C64) { /* listed alone: the elements of an unknown one may be any number */
            require(attn_weights_read(file, tensor, tensor->dtype, NULL, SIZE_MAX) == ATTN_ERROR_UNSUPPORTED);
            require(attn_weights_view(file, tensor, &view) == ATTN_ERROR_UNSUPPORTED);
            continue;
        }
        const size_t wide = tensor->elements * 8;
        char *buffer = malloc(wide + 1);
        require(attn_weights_find(file, tensor->name) == tensor);
        require(attn_weights_read(file, tensor, tensor->dtype, buffer, tensor->bytes) == ATTN_OK);
        require(attn_weights_view(file, tensor, &view) == ATTN_OK && memcmp(view, buffer, tensor->bytes) == 0);
        attn_weights_read(file, tensor, ATTN_WEIGHTS_F64, buffer, wide);
        free(buffer);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    attn_weights_file *file;
    const attn_status status = attn_weights_open_memory(data, size, &file);
    require(status == ATTN_OK || status == ATTN_ERROR_FORMAT);
    require((status == ATTN_OK) == (file != NULL));
    if (status != ATTN_OK) return 0;
    read_all(file);
    attn_weights_layer layer = ATTN_WEIGHTS_LAYER_INIT;
    attn_weights_layer_options options = ATTN_WEIGHTS_LAYER_OPTIONS_INIT;
    options.dtype = ATTN_FLOAT64;
    attn_weights_load_layer(file, NULL, &options, &layer);
    attn_weights_layer_free(&layer);
    attn_weights_close(file);
    return 0;
}

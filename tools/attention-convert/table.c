/* SPDX-License-Identifier: Apache-2.0 */
#include "table.h"

#include "lib/quote.h"

#include <stdio.h>
#include <string.h>

static int column_width(const attn_weights_file *file) {
    size_t width = 6;
    for (size_t i = 0; i < attn_weights_count(file); ++i) {
        const size_t length = strlen(attn_weights_tensor_at(file, i)->name);
        if (length > width) width = length;
    }
    return width < ATTN_QUOTE_SIZE ? (int)width : ATTN_QUOTE_SIZE - 1;
}

static void print_tensor(const attn_weights_tensor *tensor, int width) {
    char name[ATTN_QUOTE_SIZE], shape[ATTN_WEIGHTS_MAX_RANK * 22 + 3] = "";
    size_t used = 0;
    for (int i = 0; i < tensor->rank; ++i)
        used +=
            (size_t)snprintf(shape + used, sizeof shape - used, "%s%lld", i ? ", " : "", (long long)tensor->shape[i]);
    printf("%-*s  %-5s  (%s)  %zu bytes\n", width, attn_quote(name, tensor->name),
           attn_weights_dtype_name(tensor->dtype), shape, tensor->bytes);
}

void table_print(const attn_weights_file *file) {
    const int width = column_width(file);
    size_t bytes = 0;
    for (size_t i = 0; i < attn_weights_metadata_count(file); ++i) {
        char quoted_key[ATTN_QUOTE_SIZE], quoted_value[ATTN_QUOTE_SIZE];
        const char *value, *key = attn_weights_metadata_at(file, i, &value);
        printf("# %s: %s\n", attn_quote(quoted_key, key), attn_quote(quoted_value, value));
    }
    for (size_t i = 0; i < attn_weights_count(file); ++i) {
        const attn_weights_tensor *tensor = attn_weights_tensor_at(file, i);
        print_tensor(tensor, width);
        bytes += tensor->bytes;
    }
    printf("%zu tensors, %zu bytes\n", attn_weights_count(file), bytes);
}

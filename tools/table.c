/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/table.h"

#include "lib/quote.h"

#include <stdio.h>
#include <stdlib.h>
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
    char name[ATTN_QUOTE_SIZE], dtype[ATTN_QUOTE_SIZE], shape[ATTN_WEIGHTS_MAX_RANK * 22 + 3] = "";
    size_t used = 0;
    for (int i = 0; i < tensor->rank; ++i)
        used +=
            (size_t)snprintf(shape + used, sizeof shape - used, "%s%lld", i ? ", " : "", (long long)tensor->shape[i]);
    printf("%-*s  %-5s  (%s)  %zu bytes\n", width, attn_quote(name, tensor->name),
           attn_quote(dtype, tensor->dtype_name), shape, tensor->bytes);
}

/* The layer that a tensor is the first of, by its name: its prefix, from malloc; NULL for any other tensor. */
static char *layer_of(const attn_weights_tensor *tensor) {
    static const char *const firsts[] = {"luong_w", "bahdanau_v"};
    const char *slash = strrchr(tensor->name, '/');
    for (size_t i = 0; i < sizeof firsts / sizeof *firsts; ++i)
        if (strcmp(slash ? slash + 1 : tensor->name, firsts[i]) == 0)
            return strndup(tensor->name, slash ? (size_t)(slash - tensor->name) : 0);
    return NULL;
}

/* Float64 holds what any of the float dtypes holds. */
static void print_layer(const attn_weights_file *file, const char *prefix) {
    attn_weights_layer_options options = ATTN_WEIGHTS_LAYER_OPTIONS_INIT;
    attn_weights_layer layer = ATTN_WEIGHTS_LAYER_INIT;
    char name[ATTN_QUOTE_SIZE];
    options.dtype = ATTN_FLOAT64;
    printf("attention layer \"%s\": ", attn_quote(name, prefix));
    if (attn_weights_load_layer(file, prefix, &options, &layer) != ATTN_OK) {
        printf("%s\n", attn_last_error_message());
        return;
    }
    printf("%s, D %lld, Dq %lld", layer.score == ATTN_SCORE_LUONG ? "luong" : "bahdanau", (long long)layer.features,
           (long long)layer.query_features);
    if (layer.score_width > 0) printf(", A %lld", (long long)layer.score_width);
    printf(", U %lld, %llu NaN\n", (long long)layer.units, (unsigned long long)layer.nan_count);
    attn_weights_layer_free(&layer);
}

static void print_layers(const attn_weights_file *file) {
    for (size_t i = 0; i < attn_weights_count(file); ++i) {
        char *prefix = layer_of(attn_weights_tensor_at(file, i));
        if (prefix) print_layer(file, prefix);
        free(prefix);
    }
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
    print_layers(file);
}

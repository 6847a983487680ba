/* From a weights file to a layer and back.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "lib/carve.h"
#include "lib/process.h"
#include "lib/quote.h"
#include "lib/safetensors.h"
#include "lib/status.h"
#include "lib/structs.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The tensors of a layer, in the order of Keras's layer.weights. */
enum { LUONG_W, BAHDANAU_V, BAHDANAU_W1, BAHDANAU_W2, W_C, PARTS };

static const struct {
    const char *name;
    size_t pointer; /* where attn_layer_weights holds it */
} parts[PARTS] = {
    [LUONG_W] = {"luong_w", offsetof(attn_layer_weights, luong_w)},
    [BAHDANAU_V] = {"bahdanau_v", offsetof(attn_layer_weights, bahdanau_v)},
    [BAHDANAU_W1] = {"bahdanau_w1", offsetof(attn_layer_weights, bahdanau_w1)},
    [BAHDANAU_W2] = {"bahdanau_w2", offsetof(attn_layer_weights, bahdanau_w2)},
    [W_C] = {"w_c", offsetof(attn_layer_weights, w_c)},
};

static const void **part_of(attn_layer_weights *weights, int part) {
    return (const void **)((char *)weights + parts[part].pointer);
}

/* A layer as it is being found. */
typedef struct search {
    const attn_weights_file *file;
    const char *prefix; /* not terminated */
    size_t prefix_length;
    char quoted[ATTN_QUOTE_SIZE]; /* the prefix, for messages */
    const attn_weights_tensor *found[PARTS];
} search;

/* Which part of a layer a tensor's name ends in, PARTS for none; its prefix ends before the last '/'. */
static int part_of_name(const char *name, size_t *prefix_length) {
    const char *slash = strrchr(name, '/');
    const char *last = slash ? slash + 1 : name;
    *prefix_length = slash ? (size_t)(slash - name) : 0;
    for (int part = 0; part < PARTS; ++part)
        if (strcmp(last, parts[part].name) == 0) return part;
    return PARTS;
}

/* prefix NULL: the only one that any part of a layer carries. */
static attn_status find_prefix(search *layer) {
    char other[ATTN_QUOTE_SIZE];
    const char *only = NULL;
    size_t only_length = 0;
    for (size_t i = 0; i < attn_weights_count(layer->file); ++i) {
        const char *name = attn_weights_tensor_at(layer->file, i)->name;
        size_t length;
        if (part_of_name(name, &length) == PARTS) continue;
        if (only && (length != only_length || memcmp(name, only, length) != 0))
            return attn_fail(ATTN_ERROR_MISMATCH,
                             "prefix: is NULL, but the file holds several layers, such as those of \"%s\" and \"%s\"",
                             attn_quote(layer->quoted, only), attn_quote(other, name));
        only = name;
        only_length = length;
    }
    if (!only) return attn_fail(ATTN_ERROR_NOT_FOUND, "the file holds no attention layer");
    layer->prefix = only;
    layer->prefix_length = only_length;
    return ATTN_OK;
}

static void find_parts(search *layer) {
    for (size_t i = 0; i < attn_weights_count(layer->file); ++i) {
        const attn_weights_tensor *tensor = attn_weights_tensor_at(layer->file, i);
        size_t length;
        const int part = part_of_name(tensor->name, &length);
        /* "/w_c" has an empty prefix too, but it is not a name without one */
        const bool same = length == layer->prefix_length && memcmp(tensor->name, layer->prefix, length) == 0 &&
                          (length > 0 || tensor->name[0] != '/');
        if (part != PARTS && same) layer->found[part] = tensor;
    }
    attn_quote_part(layer->quoted, layer->prefix, layer->prefix_length);
}

static attn_status infer_score(const search *layer, const attn_weights_layer_options *options, attn_score *score) {
    const bool luong = layer->found[LUONG_W];
    const bool bahdanau = layer->found[BAHDANAU_V] || layer->found[BAHDANAU_W1] || layer->found[BAHDANAU_W2];
    static const char *const names[] = {"luong", "bahdanau", "dot"};
    if (!luong && !bahdanau && !layer->found[W_C])
        return attn_fail(ATTN_ERROR_NOT_FOUND, "the file holds no attention layer under \"%s\"", layer->quoted);
    if (luong && bahdanau)
        return attn_fail(ATTN_ERROR_MISMATCH, "layer \"%s\": holds weights of both scores", layer->quoted);
    if (!luong && !bahdanau && options->score != ATTN_SCORE_DOT)
        return attn_fail(ATTN_ERROR_NOT_FOUND,
                         "layer \"%s\": neither luong_w nor bahdanau_v, w_c alone (a dot score must be asked for)",
                         layer->quoted);
    *score = luong ? ATTN_SCORE_LUONG : bahdanau ? ATTN_SCORE_BAHDANAU : ATTN_SCORE_DOT;
    if (options->score != ATTN_ANY && options->score != (int)*score)
        return attn_fail(ATTN_ERROR_MISMATCH, "layer \"%s\": its score is %s, want %s", layer->quoted, names[*score],
                         names[options->score]);
    for (int part = BAHDANAU_V; part <= BAHDANAU_W2; ++part)
        if (bahdanau && !layer->found[part])
            return attn_fail(ATTN_ERROR_NOT_FOUND, "layer \"%s\": %s is missing", layer->quoted, parts[part].name);
    return ATTN_OK;
}

/* A part must have this shape, where a negative dimension takes what the file has. */
static attn_status check_shape(const search *layer, int part, int64_t *rows, int64_t *columns) {
    const attn_weights_tensor *tensor = layer->found[part];
    const int64_t found_columns = tensor->rank == 2 ? tensor->shape[1] : 1;
    if (tensor->rank != 2 && !(part == BAHDANAU_V && tensor->rank == 1))
        return attn_fail(ATTN_ERROR_MISMATCH, "layer \"%s\": %s has %d dimensions, want 2", layer->quoted,
                         parts[part].name, tensor->rank);
    if (tensor->elements == 0)
        return attn_fail(ATTN_ERROR_MISMATCH, "layer \"%s\": %s of shape (%lld, %lld) holds nothing", layer->quoted,
                         parts[part].name, (long long)tensor->shape[0], (long long)found_columns);
    if (*rows < 0) *rows = tensor->shape[0];
    if (*columns < 0) *columns = found_columns;
    if (*rows != tensor->shape[0] || *columns != found_columns)
        return attn_fail(ATTN_ERROR_MISMATCH, "layer \"%s\": %s has shape (%lld, %lld), want (%lld, %lld)",
                         layer->quoted, parts[part].name, (long long)tensor->shape[0], (long long)found_columns,
                         (long long)*rows, (long long)*columns);
    return ATTN_OK;
}

/* D, Dq and A from the score's own weights. */
static attn_status infer_score_sizes(const search *layer, attn_weights_layer *sizes) {
    sizes->features = sizes->query_features = -1;
    sizes->score_width = 0;
    if (sizes->score == ATTN_SCORE_LUONG) return check_shape(layer, LUONG_W, &sizes->features, &sizes->query_features);
    if (sizes->score == ATTN_SCORE_DOT) {
        const attn_weights_tensor *w_c = layer->found[W_C];
        if (w_c->rank != 2 || w_c->shape[0] % 2 != 0)
            return attn_fail(ATTN_ERROR_MISMATCH, "layer \"%s\": w_c has %lld rows, want an even count for a dot score",
                             layer->quoted, (long long)w_c->shape[0]);
        sizes->features = sizes->query_features = w_c->shape[0] / 2;
        return ATTN_OK;
    }
    int64_t one = 1;
    sizes->score_width = -1;
    attn_status status = check_shape(layer, BAHDANAU_V, &sizes->score_width, &one);
    if (status == ATTN_OK) status = check_shape(layer, BAHDANAU_W1, &sizes->query_features, &sizes->score_width);
    if (status == ATTN_OK) status = check_shape(layer, BAHDANAU_W2, &sizes->features, &sizes->score_width);
    return status;
}

static attn_status infer_sizes(const search *layer, attn_weights_layer *sizes) {
    int64_t rows;
    const attn_status status = infer_score_sizes(layer, sizes);
    sizes->units = 0;
    if (status != ATTN_OK || !layer->found[W_C]) return status;
    if (__builtin_add_overflow(sizes->features, sizes->query_features, &rows))
        return attn_fail(ATTN_ERROR_MISMATCH, "layer \"%s\": D + Dq does not fit", layer->quoted);
    sizes->units = -1;
    return check_shape(layer, W_C, &rows, &sizes->units);
}

static attn_status check_expected(const search *layer, const attn_weights_layer_options *options,
                                  const attn_weights_layer *sizes) {
    const struct {
        const char *name;
        int64_t found, wanted;
    } fields[] = {{"features", sizes->features, options->features},
                  {"query_features", sizes->query_features, options->query_features},
                  {"score_width", sizes->score_width, options->score_width},
                  {"units", sizes->units, options->units}};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; ++i)
        if (fields[i].wanted != ATTN_ANY && fields[i].wanted != fields[i].found)
            return attn_fail(ATTN_ERROR_MISMATCH, "layer \"%s\": %s is %lld, want %lld", layer->quoted, fields[i].name,
                             (long long)fields[i].found, (long long)fields[i].wanted);
    return ATTN_OK;
}

static attn_status check_dtypes(const search *layer, attn_weights_dtype dtype) {
    char found[ATTN_QUOTE_SIZE];
    for (int part = 0; part < PARTS; ++part)
        if (layer->found[part] && !attn_weights_converts(layer->found[part]->dtype, dtype))
            return attn_fail(ATTN_ERROR_MISMATCH, "layer \"%s\": %s is %s, which is not given as %s", layer->quoted,
                             parts[part].name, attn_quote(found, layer->found[part]->dtype_name),
                             attn_weights_dtype_name(dtype));
    return ATTN_OK;
}

/* The tensor's bytes in place, when they can serve as they are; else NULL. */
static const void *view_of(const search *layer, int part, attn_weights_dtype dtype) {
    const attn_weights_tensor *tensor = layer->found[part];
    const void *data = tensor->dtype == dtype ? attn_weights_bytes(layer->file, tensor) : NULL;
    return (uintptr_t)data % attn_weights_dtype_size(dtype) == 0 ? data : NULL;
}

/* Places the parts: views where possible, else a place in storage (NULL: only counts). */
static size_t place(const search *layer, attn_weights_dtype dtype, char *storage, attn_layer_weights *weights) {
    attn_carver carver = {.base = storage};
    for (int part = 0; part < PARTS; ++part) {
        if (!layer->found[part]) continue;
        const void *view = view_of(layer, part, dtype);
        *part_of(weights, part) =
            view ? view : attn_carve(&carver, layer->found[part]->elements, attn_weights_dtype_size(dtype));
    }
    return attn_carved_size(&carver);
}

static uint64_t count_nan(const void *data, size_t count, attn_dtype dtype) {
    uint64_t nans = 0;
    if (dtype == ATTN_FLOAT32)
        for (size_t i = 0; i < count; ++i) nans += isnan(((const float *)data)[i]) != 0;
    else
        for (size_t i = 0; i < count; ++i) nans += isnan(((const double *)data)[i]) != 0;
    return nans;
}

static attn_status fill(const search *layer, attn_weights_dtype dtype, uint64_t flags, attn_weights_layer *out) {
    out->nan_count = 0;
    for (int part = 0; part < PARTS; ++part) {
        const attn_weights_tensor *tensor = layer->found[part];
        if (!tensor) continue;
        const void *data = *part_of(&out->weights, part);
        if (!view_of(layer, part, dtype)) {
            /* The place lies in our storage, see place(). */
            const attn_status status = attn_weights_read(layer->file, tensor, dtype, (void *)data,
                                                         tensor->elements * attn_weights_dtype_size(dtype));
            if (status != ATTN_OK) return status;
        }
        const uint64_t nans = count_nan(data, tensor->elements, out->dtype);
        if (nans > 0 && flags & ATTN_WEIGHTS_REFUSE_NAN)
            return attn_fail(ATTN_ERROR_MISMATCH, "layer \"%s\": %s holds %llu NaN", layer->quoted, parts[part].name,
                             (unsigned long long)nans);
        out->nan_count += nans;
    }
    return ATTN_OK;
}

static attn_status check_options(const attn_weights_layer_options *options) {
    if (options->flags & ~ATTN_WEIGHTS_REFUSE_NAN)
        return attn_fail(ATTN_ERROR_UNSUPPORTED, "options.flags: has unknown bits 0x%llx",
                         (unsigned long long)(options->flags & ~ATTN_WEIGHTS_REFUSE_NAN));
    if (options->dtype != ATTN_FLOAT32 && options->dtype != ATTN_FLOAT64)
        return attn_fail(ATTN_ERROR_UNSUPPORTED, "options.dtype: is %d, want an attn_dtype", (int)options->dtype);
    if (options->score < ATTN_ANY || options->score > ATTN_SCORE_DOT)
        return attn_fail(ATTN_ERROR_UNSUPPORTED, "options.score: is %d, want an attn_score or ATTN_ANY",
                         options->score);
    return ATTN_OK;
}

attn_status attn_weights_load_layer(const attn_weights_file *file, const char *prefix,
                                    const attn_weights_layer_options *options, attn_weights_layer *layer) {
    ATTN_WITHOUT_CANCELLATION;
    attn_weights_layer_options known = ATTN_WEIGHTS_LAYER_OPTIONS_INIT;
    attn_weights_layer loaded = ATTN_WEIGHTS_LAYER_INIT;
    attn_status status = ATTN_OK;
    if (!file) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "file: is NULL");
    if (!layer) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "layer: is NULL");
    if (layer->struct_size < sizeof loaded)
        return attn_fail(ATTN_ERROR_INVALID_ARGUMENT,
                         "layer.struct_size: is %zu, want at least %zu (start from ATTN_WEIGHTS_LAYER_INIT)",
                         layer->struct_size, sizeof loaded);
    if (options) status = attn_read_struct("options", &known, sizeof known, sizeof known, options);
    if (status == ATTN_OK) status = check_options(&known);
    search found = {.file = file, .prefix = prefix, .prefix_length = prefix ? strlen(prefix) : 0};
    if (status == ATTN_OK && !prefix) status = find_prefix(&found);
    if (status != ATTN_OK) return status;
    find_parts(&found);

    const attn_weights_dtype dtype = known.dtype == ATTN_FLOAT32 ? ATTN_WEIGHTS_F32 : ATTN_WEIGHTS_F64;
    loaded.dtype = known.dtype;
    status = infer_score(&found, &known, &loaded.score);
    if (status == ATTN_OK) status = infer_sizes(&found, &loaded);
    if (status == ATTN_OK) status = check_expected(&found, &known, &loaded);
    if (status == ATTN_OK) status = check_dtypes(&found, dtype);
    if (status != ATTN_OK) return status;

    const size_t size = place(&found, dtype, NULL, &loaded.weights);
    if (size > SIZE_MAX / 2 || (size > 0 && !(loaded.storage = aligned_alloc(ATTN_WORKSPACE_ALIGNMENT, size))))
        return attn_fail(ATTN_ERROR_OUT_OF_MEMORY, "layer \"%s\": out of memory for %zu bytes of weights", found.quoted,
                         size);
    place(&found, dtype, loaded.storage, &loaded.weights);
    status = fill(&found, dtype, known.flags, &loaded);
    if (status != ATTN_OK) {
        free(loaded.storage);
        return status;
    }
    loaded.struct_size = layer->struct_size;
    memcpy(layer, &loaded, sizeof loaded);
    return ATTN_OK;
}

void attn_weights_layer_free(attn_weights_layer *layer) {
    if (!layer) return;
    free(layer->storage);
    layer->storage = NULL;
    layer->weights = (attn_layer_weights)ATTN_LAYER_WEIGHTS_INIT;
}

/* Shapes as Keras stores them: bahdanau_v is a column. */
static attn_status shapes_of(const attn_weights_layer *layer, int64_t shapes[PARTS][2]) {
    int64_t rows;
    if (layer->features < 0 || layer->query_features < 0 || layer->score_width < 0 || layer->units < 0 ||
        __builtin_add_overflow(layer->features, layer->query_features, &rows))
        return attn_fail(ATTN_ERROR_SHAPE,
                         "layer: features %lld, query_features %lld, score_width %lld, units %lld are no sizes",
                         (long long)layer->features, (long long)layer->query_features, (long long)layer->score_width,
                         (long long)layer->units);
    const int64_t all[PARTS][2] = {[LUONG_W] = {layer->features, layer->query_features},
                                   [BAHDANAU_V] = {layer->score_width, 1},
                                   [BAHDANAU_W1] = {layer->query_features, layer->score_width},
                                   [BAHDANAU_W2] = {layer->features, layer->score_width},
                                   [W_C] = {rows, layer->units}};
    memcpy(shapes, all, sizeof all);
    return ATTN_OK;
}

static bool has_part(const attn_weights_layer *layer, int part) {
    if (part == W_C) return layer->units > 0;
    return part == LUONG_W ? layer->score == ATTN_SCORE_LUONG : layer->score == ATTN_SCORE_BAHDANAU;
}

attn_status attn_weights_save_layer(const char *path, const char *prefix, const attn_weights_layer *layer,
                                    const attn_weights_metadata_entry *metadata, size_t metadata_count) {
    ATTN_WITHOUT_CANCELLATION;
    if (!layer) return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "layer: is NULL");
    if (layer->struct_size < sizeof *layer)
        return attn_fail(ATTN_ERROR_INVALID_ARGUMENT,
                         "layer.struct_size: is %zu, want at least %zu (start from ATTN_WEIGHTS_LAYER_INIT)",
                         layer->struct_size, sizeof *layer);
    if (layer->score < ATTN_SCORE_LUONG || layer->score > ATTN_SCORE_DOT)
        return attn_fail(ATTN_ERROR_UNSUPPORTED, "layer.score: is %d, want an attn_score", (int)layer->score);
    if (layer->dtype != ATTN_FLOAT32 && layer->dtype != ATTN_FLOAT64)
        return attn_fail(ATTN_ERROR_UNSUPPORTED, "layer.dtype: is %d, want an attn_dtype", (int)layer->dtype);
    int64_t shapes[PARTS][2];
    attn_status status = shapes_of(layer, shapes);
    if (status != ATTN_OK) return status;
    const size_t prefix_length = prefix ? strlen(prefix) : 0, name_size = prefix_length + 16;
    char *names = malloc(PARTS * name_size);
    if (!names) return attn_fail(ATTN_ERROR_OUT_OF_MEMORY, "out of memory for the tensors' names");
    attn_layer_weights weights = layer->weights;
    attn_weights_entry entries[PARTS];
    size_t count = 0;
    for (int part = 0; part < PARTS; ++part) {
        if (!has_part(layer, part)) continue;
        char *name = names + count * name_size;
        snprintf(name, name_size, "%s%s%s", prefix_length ? prefix : "", prefix_length ? "/" : "", parts[part].name);
        entries[count++] =
            (attn_weights_entry){.name = name,
                                 .dtype = layer->dtype == ATTN_FLOAT32 ? ATTN_WEIGHTS_F32 : ATTN_WEIGHTS_F64,
                                 .rank = 2,
                                 .shape = shapes[part],
                                 .data = *part_of(&weights, part)};
    }
    status = count > 0
                 ? attn_weights_write(path, entries, count, metadata, metadata_count)
                 : attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "layer: a dot score with units 0 has no weights to write");
    free(names);
    return status;
}

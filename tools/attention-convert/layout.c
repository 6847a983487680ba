/* SPDX-License-Identifier: Apache-2.0 */
#include "layout.h"

#include "pool.h"
#include "report.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static json_t *header;
static char *mapped;
static size_t mapped_size;
static char *order_text; /* Keras's order, as describe_order put it */

void layout_release(void) {
    json_decref(header);
    header = NULL;
    free(order_text);
    order_text = NULL;
    if (mapped) munmap(mapped, mapped_size);
    mapped = NULL;
}

static void set(json_t *into, const char *key, json_t *value) {
    if (json_object_set_new(into, key, value) != 0)
        refuse(EXIT_REFUSED, "a name or text that is not UTF-8, or too large: \"%s\"", quoted(key));
}

static const char *tensor_name(const layer *of, size_t index) {
    return pool_text("%s/%s", of->name, of->weights[index].name);
}

/* ---- Keras's order, for the way back: [[group, [tensor, ...]], ...]. Nested models and debug layouts share groups. ---- */

typedef struct ordered {
    const weight *of;
    const char *name;
    size_t rank; /* of its group */
} ordered;

static int by_place(const void *left, const void *right) {
    const ordered *a = left, *b = right;
    if (a->rank != b->rank) return a->rank < b->rank ? -1 : 1;
    if (a->of->late != b->of->late) return a->of->late ? 1 : -1;
    return a->of->place < b->of->place ? -1 : a->of->place > b->of->place;
}

/* All weights in order. Those of a layer without a known order are left out: there is no way back for them. */
static ordered *list_in_order(const model *in, size_t *count) {
    ordered *list = NULL;
    *count = 0;
    for (size_t i = 0; i < in->count; ++i)
        for (size_t k = 0; k < in->layers[i].count && !in->layers[i].unordered; ++k) {
            const weight *of = &in->layers[i].weights[k];
            const ordered *last = *count ? &list[*count - 1] : NULL;
            const size_t rank = last ? last->rank + (strcmp(last->of->group, of->group) != 0) : 0;
            list = pool_grow(list, *count, sizeof *list);
            list[(*count)++] = (ordered){of, tensor_name(&in->layers[i], k), rank};
        }
    if (*count) qsort(list, *count, sizeof *list, by_place);
    return list;
}

static const char *describe_order(const model *in) {
    size_t count;
    const ordered *list = list_in_order(in, &count);
    json_t *groups = json_array(), *names = NULL;
    for (size_t i = 0; i < count; ++i) {
        if (i == 0 || list[i].rank != list[i - 1].rank) {
            names = json_array();
            json_array_append_new(groups, json_pack("[s, o]", list[i].of->group, names));
        }
        json_array_append_new(names, json_string(list[i].name));
    }
    order_text = json_dumps(groups, JSON_COMPACT);
    json_decref(groups);
    if (!order_text) refuse(EXIT_LIMIT, "out of memory for the order of layers");
    return order_text;
}

static void describe_attention(const layer *of, json_t *metadata, bool alone) {
    const char *score = of->score == ATTN_SCORE_LUONG ? "luong" : "bahdanau";
    const char *units = pool_text("%lld", (long long)of->units);
    set(metadata, pool_text("%s/score", of->name), json_string(score));
    set(metadata, pool_text("%s/units", of->name), json_string(units));
    if (!alone) return;
    set(metadata, "score", json_string(score));
    set(metadata, "units", json_string(units));
}

/* The metadata belongs to the header from the start, and goes with it at a refusal. */
static void describe(const model *in, bool part) {
    json_t *metadata = json_object();
    size_t attention = 0;
    set(header, "__metadata__", metadata);
    set(metadata, "converted_from", json_string(in->format));
    set(metadata, "keras_version", json_string(in->keras_version ? in->keras_version : "unknown"));
    if (in->model_config && !part) set(metadata, "model_config", json_string(in->model_config));
    if (in->named_by_groups)
        set(metadata, "layer_names", json_string(in->named_by_attributes ? "attributes" : "groups"));
    else if (!part)
        set(metadata, "keras_layers", json_string(describe_order(in)));
    for (size_t i = 0; i < in->count; ++i) attention += in->layers[i].attention;
    for (size_t i = 0; i < in->count; ++i)
        if (in->layers[i].attention) describe_attention(&in->layers[i], metadata, attention == 1);
}

static size_t describe_tensors(const model *in, size_t file_size) {
    size_t end = 0;
    for (size_t i = 0; i < in->count; ++i)
        for (size_t k = 0; k < in->layers[i].count; ++k) {
            const object *data = in->layers[i].weights[k].data;
            const char *name = tensor_name(&in->layers[i], k);
            const size_t begin = end;
            end += data->bytes;
            if (end > file_size) refuse(EXIT_REFUSED, "the weights together are larger than the file");
            if (end > LIMIT_TENSORS) refuse(EXIT_LIMIT, "more than %zu bytes of weights", LIMIT_TENSORS);
            json_t *shape = json_array();
            for (int d = 0; d < data->rank; ++d) json_array_append_new(shape, json_integer(data->shape[d]));
            set(header, name,
                json_pack("{s:s, s:o, s:[I, I]}", "dtype", attn_weights_dtype_name(data->dtype), "shape", shape,
                          "data_offsets", (json_int_t)begin, (json_int_t)end));
        }
    return end;
}

void layout_write(const model *in, bool part, size_t file_size, int descriptor) {
    header = json_object();
    describe(in, part);
    const size_t data_size = describe_tensors(in, file_size);
    if (json_object_size(header) < 2) refuse(EXIT_NO_LAYER, "holds no weights at all");
    const size_t length = json_dumpb(header, NULL, 0, JSON_COMPACT);
    mapped_size = sizeof(uint64_t) + length + data_size;
    const bool sized = length > 0 && ftruncate(descriptor, (off_t)mapped_size) == 0;
    if (!sized && length > 0 && errno == EFBIG)
        refuse(EXIT_IO, "%zu bytes of weights are past the limit on file sizes of this process", mapped_size);
    if (!sized) refuse(EXIT_LIMIT, "out of memory for %zu bytes of weights", mapped_size);
    mapped = mmap(NULL, mapped_size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (mapped == MAP_FAILED) {
        mapped = NULL;
        refuse(EXIT_LIMIT, "out of memory for %zu bytes of weights", mapped_size);
    }
    const uint64_t stored = length;
    memcpy(mapped, &stored, sizeof stored);
    json_dumpb(header, mapped + sizeof stored, length, JSON_COMPACT);
    char *at = mapped + sizeof stored + length;
    for (size_t i = 0; i < in->count; ++i)
        for (size_t k = 0; k < in->layers[i].count; ++k) {
            const object *data = in->layers[i].weights[k].data;
            tree_read(data, at);
            at += data->bytes;
        }
}

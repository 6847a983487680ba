/* SPDX-License-Identifier: Apache-2.0 */
#include "order.h"

#include "pool.h"
#include "report.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static json_t *said_list; /* of the parse under way; names that are kept are copied */

void order_release(void) {
    json_decref(said_list);
    said_list = NULL;
}

const char *order_weight_name(const attn_weights_tensor *tensor) {
    const char *slash = strrchr(tensor->name, '/');
    return slash ? slash + 1 : tensor->name;
}

static ordered_layer *add_layer(order *to, const char *group) {
    to->layers = pool_grow(to->layers, to->count, sizeof *to->layers);
    to->layers[to->count] = (ordered_layer){.group = group};
    return &to->layers[to->count++];
}

static void add_tensor(ordered_layer *to, const attn_weights_tensor *tensor) {
    to->tensors = pool_grow(to->tensors, to->count, sizeof(const attn_weights_tensor *));
    to->tensors[to->count++] = tensor;
}

/* ---- As it was said ---- */

static void add_said(const attn_weights_file *file, const json_t *entry, order *out) {
    const char *group = json_string_value(json_array_get(entry, 0));
    const json_t *names = json_array_get(entry, 1);
    if (!group || !*group || !json_is_array(names))
        refuse(EXIT_REFUSED, "metadata keras_layers: is not a list of layers with their tensors");
    ordered_layer *added = add_layer(out, pool_copy(group));
    for (size_t i = 0; i < json_array_size(names); ++i) {
        const char *name = json_string_value(json_array_get(names, i));
        const attn_weights_tensor *tensor = attn_weights_find(file, name);
        if (!tensor)
            refuse(EXIT_REFUSED, "metadata keras_layers: lists the tensor \"%s\", which the file does not have",
                   quoted(name ? name : "?"));
        add_tensor(added, tensor);
    }
}

/* ---- As it is guessed ---- */

/* Where data flows through a typical model: what comes first has the lower rank. */
static const struct {
    const char *weight;
    int rank;
} ranks[] = {{"embeddings", 0},
             {"gamma", 1},
             {"forward_recurrent_kernel", 2},
             {"recurrent_kernel", 2},
             {"luong_w", 3},
             {"bahdanau_v", 3},
             {"w_c", 3},
             {"kernel", 4}};

static int rank_of(const ordered_layer *layer) {
    int rank = 5;
    for (size_t i = 0; i < layer->count; ++i)
        for (size_t k = 0; k < sizeof ranks / sizeof *ranks; ++k)
            if (strcmp(order_weight_name(layer->tensors[i]), ranks[k].weight) == 0 && ranks[k].rank < rank)
                rank = ranks[k].rank;
    return rank;
}

/* Keras's order of weights within a layer. */
static int weight_rank(const char *name) {
    static const char *const known[] = {"embeddings",
                                        "forward_kernel",
                                        "forward_recurrent_kernel",
                                        "forward_bias",
                                        "backward_kernel",
                                        "backward_recurrent_kernel",
                                        "backward_bias",
                                        "kernel",
                                        "recurrent_kernel",
                                        "bias",
                                        "gamma",
                                        "beta",
                                        "moving_mean",
                                        "moving_variance",
                                        "luong_w",
                                        "bahdanau_v",
                                        "bahdanau_w1",
                                        "bahdanau_w2",
                                        "w_c"};
    const int count = sizeof known / sizeof *known;
    for (int i = 0; i < count; ++i)
        if (strcmp(name, known[i]) == 0) return i;
    return count;
}

static int by_weight_rank(const void *left, const void *right) {
    const attn_weights_tensor *const *a = left, *const *b = right;
    const int difference = weight_rank(order_weight_name(*a)) - weight_rank(order_weight_name(*b));
    return difference ? difference : strcmp((*a)->name, (*b)->name);
}

/* "dense_10" comes behind "dense_9". */
static int by_rank_and_name(const void *left, const void *right) {
    const ordered_layer *a = left, *b = right;
    const int difference = rank_of(a) - rank_of(b);
    return difference ? difference : strverscmp(a->group, b->group);
}

static void guess(const attn_weights_file *file, order *out) {
    for (size_t i = 0; i < attn_weights_count(file); ++i) {
        const attn_weights_tensor *tensor = attn_weights_tensor_at(file, i);
        const size_t length = (size_t)(order_weight_name(tensor) - tensor->name);
        if (length < 2) refuse(EXIT_REFUSED, "tensor \"%s\": has no layer before its name", quoted(tensor->name));
        const char *group = pool_copy_part(tensor->name, length - 1);
        ordered_layer *of = NULL;
        for (size_t k = 0; k < out->count && !of; ++k)
            if (strcmp(out->layers[k].group, group) == 0) of = &out->layers[k];
        add_tensor(of ? of : add_layer(out, group), tensor);
    }
    for (size_t k = 0; k < out->count; ++k)
        qsort(out->layers[k].tensors, out->layers[k].count, sizeof(const attn_weights_tensor *), by_weight_rank);
    if (out->count > 0) qsort(out->layers, out->count, sizeof *out->layers, by_rank_and_name);
    note("the file does not say the order of its layers: embedding, recurrent, attention, dense is assumed");
}

/* ---- Either ---- */

static void check_complete(const attn_weights_file *file, const order *found) {
    const size_t count = attn_weights_count(file);
    bool *seen = pool_take(count + 1, sizeof *seen);
    for (size_t i = 0; i < found->count; ++i)
        for (size_t k = 0; k < found->layers[i].count; ++k)
            for (size_t t = 0; t < count; ++t)
                if (attn_weights_tensor_at(file, t) == found->layers[i].tensors[k]) {
                    if (seen[t])
                        refuse(EXIT_REFUSED, "metadata keras_layers: lists the tensor \"%s\" twice",
                               quoted(attn_weights_tensor_at(file, t)->name));
                    seen[t] = true;
                }
    for (size_t t = 0; t < count; ++t)
        if (!seen[t])
            refuse(EXIT_REFUSED,
                   "metadata keras_layers: does not list the tensor \"%s\", so its place in Keras's order is not known",
                   quoted(attn_weights_tensor_at(file, t)->name));
}

void order_find(const attn_weights_file *file, order *out) {
    const char *said = attn_weights_metadata(file, "keras_layers");
    *out = (order){0};
    if (attn_weights_count(file) == 0) refuse(EXIT_NO_LAYER, "there is no tensor to write");
    if (!said) {
        guess(file, out);
        return;
    }
    order_release();
    said_list = json_loads(said, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_array(said_list)) refuse(EXIT_REFUSED, "metadata keras_layers: is not a list");
    for (size_t i = 0; i < json_array_size(said_list); ++i) add_said(file, json_array_get(said_list, i), out);
    order_release();
    check_complete(file, out);
}

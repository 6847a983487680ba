/* SPDX-License-Identifier: Apache-2.0 */
/* The layout of model.save("x.h5") under /model_weights, and of save_weights("x.h5") at the root (up to Keras 2.11 under
 * any name): layer_names lists the groups, weight_names of each its datasets, in Keras's order. */
#include "model.h"

#include "pool.h"
#include "report.h"

#include <string.h>

typedef struct listed {
    const char *path; /* as weight_names has it, without ":0" */
    const object *data;
    size_t place; /* in that list */
} listed;

bool is_legacy(const object *group) { return group && group->has_layer_names; }

static const char *without_output_number(const char *path) {
    const char *colon = strrchr(path, ':');
    return colon && strspn(colon + 1, "0123456789") == strlen(colon + 1) ? pool_copy_part(path, (size_t)(colon - path))
                                                                         : path;
}

static listed *list_weights(const object *group, size_t *count) {
    if (!group->has_weight_names) refuse(EXIT_REFUSED, "%s: has no weight_names", quoted(tree_path(group)));
    listed *weights = pool_take(group->weight_names.count + 1, sizeof *weights);
    *count = group->weight_names.count;
    for (size_t i = 0; i < *count; ++i) {
        const char *name = group->weight_names.items[i];
        weights[i].data = tree_find(group, name);
        if (!weights[i].data || !weights[i].data->is_dataset)
            refuse(EXIT_REFUSED, "%s: weight_names lists \"%s\", which is not there", quoted(tree_path(group)),
                   quoted(name));
        weights[i].path = without_output_number(name);
        weights[i].place = i;
    }
    return weights;
}

static const char *last_component(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* The component before the last: the sublayer that owns the weight. "" when there is none. */
static const char *owner(const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash) return "";
    const char *parent = pool_copy_part(path, (size_t)(slash - path));
    return last_component(parent);
}

/* Names by the sublayers' names; false when they do not tell each weight's role apart. */
static bool name_by_role(layer *attention, const listed *weights) {
    for (size_t i = 0; i < attention->count; ++i) {
        attention->weights[i].name = attention_role(owner(weights[i].path));
        if (!attention->weights[i].name) return false;
        for (size_t k = 0; k < i; ++k)
            if (strcmp(attention->weights[k].name, attention->weights[i].name) == 0) return false;
    }
    return true;
}

/* Whether these are all the weights of one attention layer, each with a role of its own. */
static bool are_attention(const listed *weights, size_t count) {
    layer all = {0};
    for (size_t i = 0; i < count; ++i) {
        const char *role = attention_role(owner(weights[i].path));
        if (!role || strcmp(last_component(weights[i].path), "kernel") != 0) return false;
        layer_add_weight(&all, (weight){.name = role, .data = weights[i].data});
    }
    return is_complete(&all);
}

static bool has_component(const char *path, const char *prefix) {
    for (const char *at = path; at; at = strchr(at, '/')) {
        at += *at == '/';
        if (strncmp(at, prefix, strlen(prefix)) == 0) return true;
    }
    return false;
}

/* Forward and backward weights follow each other in halves. Without a configuration, the renamed inner layers tell. */
static bool is_bidirectional(const config_layer *config, const listed *weights, size_t count) {
    if (count == 0 || count % 2 != 0) return false;
    if (config) return strcmp(config->class_name, "Bidirectional") == 0;
    for (size_t i = 0; i < count; ++i) {
        const char *inner = strchr(weights[i].path, '/');
        if (!inner || !has_component(inner + 1, i < count / 2 ? "forward_" : "backward_")) return false;
    }
    return true;
}

static bool last_components_differ(const listed *weights, size_t count) {
    for (size_t i = 0; i < count; ++i)
        for (size_t k = 0; k < i; ++k)
            if (strcmp(last_component(weights[i].path), last_component(weights[k].path)) == 0) return false;
    return true;
}

/* The path behind the layer's own name, wherever that stands. */
static const char *path_within(const char *path, const char *layer_name) {
    const size_t length = strlen(layer_name);
    for (const char *at = path; at; at = strchr(at, '/')) {
        at += *at == '/';
        if (strncmp(at, layer_name, length) == 0 && at[length] == '/') return at + length + 1;
    }
    return path;
}

/* A weight's name within a layer that holds several objects, without the recurrent cells' own level. */
static const char *long_name(const char *path, const char *layer_name) {
    const char *rest = path_within(path, layer_name);
    const char *cell = owner(rest);
    const char *numbered = strstr(cell, "_cell");
    if (!numbered || strspn(numbered + 5, "_0123456789") != strlen(numbered + 5)) return rest;
    const size_t kept = strlen(rest) - strlen(last_component(rest)) - strlen(cell) - 1;
    return kept > 0 ? pool_text("%s%s", pool_copy_part(rest, kept), last_component(rest)) : rest;
}

/* How the weights of a layer of count are named: by the last components of their paths where these differ, else by more. */
static void name_weights(const listed *weights, size_t count, const char *own_name, bool plain, const char **names) {
    bool distinct = true;
    for (size_t i = 0; i < count; ++i) {
        names[i] = plain ? last_component(weights[i].path) : long_name(weights[i].path, own_name);
        for (size_t k = 0; k < i; ++k) distinct &= strcmp(names[k], names[i]) != 0;
    }
    for (size_t i = 0; i < count && !distinct; ++i) names[i] = path_within(weights[i].path, own_name);
}

/* whole: the weights are all those of the group. */
static void add_leaf(const char *name, const char *own_name, const char *group, const config_layer *config,
                     const listed *weights, size_t count, bool whole, model *out) {
    const bool bidirectional = is_bidirectional(config, weights, count);
    const size_t half = bidirectional ? count / 2 : count;
    const bool plain =
        whole && last_components_differ(weights, half) && last_components_differ(weights + half, count - half);
    const char **names = pool_take(count + 1, sizeof *names);
    name_weights(weights, half, own_name, plain, names);
    name_weights(weights + half, count - half, own_name, plain, names + half);
    layer *added = model_add_layer(out, name, config ? config->class_name : "", config);
    for (size_t i = 0; i < count; ++i) {
        const char *direction = bidirectional && plain ? i < half ? "forward_" : "backward_" : "";
        layer_add_weight(added, (weight){.name = pool_text("%s%s", direction, names[i]),
                                         .data = weights[i].data,
                                         .group = group,
                                         .place = weights[i].place});
    }
    added->attention = (config && config->attention) || are_attention(weights, count);
    if (added->attention && !name_by_role(added, weights)) name_by_order(added);
}

static bool is_or_holds(const config_layer *config, const char *name) {
    if (strcmp(config->name, name) == 0) return true;
    for (size_t i = 0; config->nested && i < config->nested->count; ++i)
        if (is_or_holds(&config->nested->layers[i], name)) return true;
    return false;
}

/* The layer of a nested model that a weight belongs to: the first component of its path that is the name of one, or of one
 * in a model nested further. */
static const config_layer *nested_owner(const config_model *nested, const char *path) {
    for (const char *at = path; at; at = strchr(at, '/')) {
        at += *at == '/';
        const char *component = pool_copy_part(at, strcspn(at, "/"));
        for (size_t i = 0; i < nested->count; ++i)
            if (is_or_holds(&nested->layers[i], component)) return &nested->layers[i];
    }
    return NULL;
}

/* Without a configuration, an attention layer in a nested model shows by its sublayers: those under one path make a layer.
 * Takes their weights out of the list. */
static void add_nested_attention(const char *name, const char *own_name, const char *group, listed *weights,
                                 size_t *count, model *out) {
    for (size_t i = 0; i < *count;) {
        const char *path = weights[i].path;
        const size_t tail = strlen(owner(path)) + 1 + strlen(last_component(path)); /* "luong_w/kernel" */
        const size_t head = strlen(path) > tail ? strlen(path) - tail : 0;          /* "attention/" */
        listed *own = pool_take(*count + 1, sizeof *own), *rest = pool_take(*count + 1, sizeof *rest);
        size_t owned = 0, left = 0;
        for (size_t k = 0; k < *count; ++k) {
            const bool together = strncmp(weights[k].path, path, head) == 0 && attention_role(owner(weights[k].path));
            *(together ? &own[owned++] : &rest[left++]) = weights[k];
        }
        if (head > 1 && left > 0 && are_attention(own, owned)) {
            const char *inner = pool_copy_part(path, head - 1);
            add_leaf(pool_text("%s/%s", name, path_within(inner, own_name)), inner, group, NULL, own, owned, true, out);
            memcpy(weights, rest, left * sizeof *rest);
            *count = left;
            i = 0;
        } else
            ++i;
    }
}

static void add_layer(const char *name, const char *own_name, const char *group, const config_layer *config,
                      listed *weights, size_t count, model *out);

/* A nested model's weights lie flat in its group; each of its layers takes its own, in order. */
static void add_nested(const char *name, const char *group, const config_layer *config, listed *weights, size_t count,
                       model *out) {
    for (size_t i = 0; i < count; ++i)
        if (!nested_owner(config->nested, weights[i].path))
            refuse(EXIT_REFUSED, "layer \"%s\": no layer of this nested model owns the weight \"%s\"", quoted(name),
                   quoted(weights[i].path));
    for (size_t k = 0; k < config->nested->count; ++k) {
        const config_layer *inner = &config->nested->layers[k];
        listed *own = pool_take(count + 1, sizeof *own);
        size_t owned = 0;
        for (size_t i = 0; i < count; ++i)
            if (nested_owner(config->nested, weights[i].path) == inner) own[owned++] = weights[i];
        if (owned > 0) add_layer(pool_text("%s/%s", name, inner->name), inner->name, group, inner, own, owned, out);
    }
}

static void add_layer(const char *name, const char *own_name, const char *group, const config_layer *config,
                      listed *weights, size_t count, model *out) {
    if (config && config->nested) {
        add_nested(name, group, config, weights, count, out);
        return;
    }
    /* TimeDistributed and its like hold what they wrap. */
    if (config && config->wrapped && !config->backward && strcmp(config->class_name, "Bidirectional") != 0) {
        add_layer(name, own_name, group, config->wrapped, weights, count, out);
        return;
    }
    const size_t all = count;
    if (!(config && config->attention) && !are_attention(weights, count))
        add_nested_attention(name, own_name, group, weights, &count, out);
    add_leaf(name, own_name, group, config, weights, count, count == all, out);
}

void read_legacy(const object *group, model *out) {
    for (size_t i = 0; i < group->layer_names.count; ++i) {
        const char *name = group->layer_names.items[i];
        const object *at = tree_find(group, name);
        if (!at || at->is_dataset)
            refuse(EXIT_REFUSED, "%s: layer_names lists \"%s\", which is not there", quoted(tree_path(group)),
                   quoted(name));
        size_t count;
        listed *weights = list_weights(at, &count);
        const config_layer *config = config_find(out->config, name);
        if (out->config && !config && count > 0)
            refuse(EXIT_REFUSED, "layer \"%s\": has weights, but the configuration has no layer of that name",
                   quoted(name));
        if (config && config->attention && count == 0)
            refuse(EXIT_REFUSED, "layer \"%s\": an attention layer without weights", quoted(name));
        if (count > 0) add_layer(name, name, name, config, weights, count, out);
    }
}

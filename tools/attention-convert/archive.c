/* SPDX-License-Identifier: Apache-2.0 */
/* The layout of .keras and .weights.h5 from Keras 2.12 on: a group for each layer under "layers" (2.15) or
 * "_layer_checkpoint_dependencies" (2.12 to 2.14), named by its class and a counter; "vars/0", "vars/1", ... are the weights
 * of each object, objects within it lie under the names of their attributes. */
#include "model.h"

#include "pool.h"
#include "report.h"

#include <stdlib.h>
#include <string.h>

/* The group that holds a model's layers, or NULL. */
static const object *layers_group(const object *group) {
    const object *layers = tree_child(group, "layers");
    if (!layers) layers = tree_child(group, "_layer_checkpoint_dependencies");
    return layers && !layers->is_dataset ? layers : NULL;
}

static bool holds_attention(const object *group);

/* A model of the user's own class may have its layers at the root, under the names of its attributes. */
bool is_archive_layout(const object *root) { return layers_group(root) || holds_attention(root); }

static const object *variable(const object *group, size_t index) {
    const object *vars = tree_child(group, "vars");
    const object *found = vars ? tree_child(vars, pool_text("%zu", index)) : NULL;
    return found && found->is_dataset ? found : NULL;
}

static size_t variable_count(const object *group) {
    size_t count = 0;
    while (variable(group, count)) ++count;
    return count;
}

static bool has_weights(const object *group) {
    for (const object *child = group->first_child; child; child = child->next)
        if (child->is_dataset || has_weights(child)) return true;
    return false;
}

/* ---- Groups and their order ---- */

/* Splits "lstm_2" into "lstm" and 2; a name without a number counts 0. */
static const char *split_counter(const char *name, unsigned long *counter) {
    const char *underscore = strrchr(name, '_');
    *counter = 0;
    if (!underscore || underscore == name || !underscore[1] || strlen(underscore + 1) > 9 ||
        strspn(underscore + 1, "0123456789") != strlen(underscore + 1))
        return name;
    *counter = strtoul(underscore + 1, NULL, 10);
    return pool_copy_part(name, (size_t)(underscore - name));
}

typedef struct numbered {
    const object *group;
    const char *class_name; /* in snake case */
    unsigned long counter;
} numbered;

static int by_class_and_counter(const void *left, const void *right) {
    const numbered *a = left, *b = right;
    const int order = strcmp(a->class_name, b->class_name);
    if (order != 0) return order;
    return a->counter < b->counter ? -1 : a->counter > b->counter;
}

/* The layers' groups, by class and counter: within a class, the order of the model. */
static numbered *list_groups(const object *layers, size_t *count) {
    size_t found = 0;
    for (const object *child = layers->first_child; child; child = child->next) found += !child->is_dataset;
    numbered *groups = pool_take(found + 1, sizeof *groups);
    *count = 0;
    for (const object *child = layers->first_child; child; child = child->next) {
        if (child->is_dataset) continue;
        numbered *next = &groups[(*count)++];
        next->group = child;
        next->class_name = split_counter(child->name, &next->counter);
    }
    qsort(groups, *count, sizeof *groups, by_class_and_counter);
    return groups;
}

/* ---- Weights of one layer ---- */

/* group and late are the layer's own affair, see read_layer. */
static void add_weight(layer *to, const char *name, const object *data) {
    layer_add_weight(to, (weight){.name = name, .data = data, .place = to->count});
}

static void add_named(layer *to, const char *prefix, const char *const *names, const object *group) {
    for (size_t i = 0; i < variable_count(group); ++i)
        add_weight(to, pool_text("%s%s", prefix, names[i]), variable(group, i));
}

/* The objects below, in Keras's order where that is known: of the class with more than one, MultiHeadAttention. */
static const numbered *list_sublayers(const object *group, size_t *count, bool *ordered) {
    static const char *const known[] = {"_query_dense", "_key_dense", "_value_dense", "_output_dense"};
    size_t found, first = 0;
    numbered *below = list_groups(group, &found);
    *count = 0;
    for (size_t i = 0; i < found; ++i)
        if (strcmp(below[i].group->name, "vars") != 0 && has_weights(below[i].group)) below[(*count)++] = below[i];
    for (size_t k = 0; k < sizeof known / sizeof *known; ++k)
        for (size_t i = first; i < *count; ++i)
            if (strcmp(below[i].group->name, known[k]) == 0) {
                const numbered next = below[i];
                below[i] = below[first];
                below[first++] = next;
            }
    *ordered = first > 0 ? first == *count : *count < 2;
    return below;
}

static bool add_attention(layer *to, const object *group);

/* Whether a group holds the matrices of an attention layer, all of one score. */
static bool is_attention_group(const object *group) {
    layer all = {0};
    return add_attention(&all, group) && is_complete(&all);
}

static bool holds_attention(const object *group) {
    if (is_attention_group(group)) return true;
    for (const object *child = group->first_child; child; child = child->next)
        if (!child->is_dataset && holds_attention(child)) return true;
    return false;
}

/* Whatever lies below, under the file's own names. */
static void add_unnamed(layer *to, const char *prefix, const object *group) {
    size_t count;
    bool ordered;
    const numbered *below = list_sublayers(group, &count, &ordered);
    if (!ordered) to->unordered = true;
    for (size_t i = 0; i < variable_count(group); ++i)
        add_weight(to, pool_text("%s%zu", prefix, i), variable(group, i));
    for (size_t i = 0; i < count; ++i)
        if (!is_attention_group(below[i].group))
            add_unnamed(to, pool_text("%s%s/", prefix, below[i].group->name), below[i].group);
}

static bool add_attention(layer *to, const object *group) {
    size_t found = 0;
    for (const object *child = group->first_child; child; child = child->next) {
        const char *role = child->is_dataset ? NULL : attention_role(child->name);
        if (!role || !variable(child, 0)) continue;
        add_weight(to, role, variable(child, 0));
        ++found;
    }
    return found > 0;
}

/* Names of the variables of classes that keep them in themselves; as many as the layer has. */
static const struct {
    const char *class_name;
    const char *names[4];
} known_classes[] = {
    {"dense", {"kernel", "bias"}},
    {"embedding", {"embeddings"}},
    {"conv1d", {"kernel", "bias"}},
    {"conv2d", {"kernel", "bias"}},
    {"conv1d_transpose", {"kernel", "bias"}},
    {"separable_conv1d", {"depthwise_kernel", "pointwise_kernel", "bias"}},
};

static const char *const *names_of_class(const char *class_name, const config_layer *config, size_t count) {
    static const char *const scale[] = {"scale", "concat_score_weight", NULL};
    static const char *const normalized[] = {"gamma", "beta", "moving_mean", "moving_variance"};
    for (size_t i = 0; i < sizeof known_classes / sizeof *known_classes; ++i)
        if (strcmp(class_name, known_classes[i].class_name) == 0) return known_classes[i].names;
    if (strcmp(class_name, "attention") == 0 || strcmp(class_name, "additive_attention") == 0)
        return config && config->concat_score && !config->use_scale ? scale + 1 : scale;
    if ((strcmp(class_name, "layer_normalization") == 0 && count == 2) ||
        (strcmp(class_name, "batch_normalization") == 0 && count == 4))
        return normalized;
    return NULL;
}

/* Of a class that is not known: a matrix, or more, and perhaps a vector behind it. */
static const char *const *names_of_shapes(const object *group, size_t count) {
    static const char *const names[] = {"kernel", "bias", NULL};
    if (count < 1 || count > 2 || variable(group, 0)->rank < 2) return NULL;
    return count == 1 || variable(group, 1)->rank == 1 ? names : NULL;
}

static size_t names_known(const char *const *names) {
    size_t count = 0;
    while (count < 4 && names[count]) ++count; /* shorter lists end in NULL */
    return count;
}

/* The recurrent classes keep their weights in a cell. */
static const char *const recurrent_names[] = {"kernel", "recurrent_kernel", "bias"};

static void add_weights(layer *to, const char *prefix, const char *class_name, const config_layer *config,
                        const object *group) {
    const object *forward = tree_child(group, "forward_layer"), *backward = tree_child(group, "backward_layer");
    const object *cell = tree_child(group, "cell");
    const size_t count = variable_count(group);
    if (forward && backward && !*prefix) {
        add_weights(to, "forward_", "", config ? config->wrapped : NULL, forward);
        add_weights(to, "backward_", "", config ? config->wrapped : NULL, backward);
        return;
    }
    if (cell && count == 0 && variable_count(cell) > 0 && variable_count(cell) <= 3) {
        add_named(to, prefix, recurrent_names, cell);
        return;
    }
    const char *const *names = names_of_class(class_name, config, count);
    if (!names && !config) names = names_of_shapes(group, count);
    if (names && count > 0 && count <= names_known(names) && !cell)
        add_named(to, prefix, names, group);
    else
        add_unnamed(to, prefix, group);
}

/* ---- Layers ---- */

/* Where in the model a layer stands. */
typedef struct position {
    const char *prefix; /* of its name */
    const char *top;    /* the model's own layer that holds it; NULL: itself */
} position;

static void read_layers(const object *layers, const config_model *config, position at, model *out);

/* What TimeDistributed and its like hold, or NULL. */
static const object *wrapped_group(const object *group) {
    const object *wrapped = tree_child(group, "layer");
    const bool alone = wrapped && variable_count(group) == 0 && !tree_child(group, "forward_layer");
    return alone && has_weights(wrapped) ? wrapped : NULL;
}

static bool is_untrained(const layer *of, const weight *at) {
    if (strcmp(of->class_name, "Normalization") == 0) return true;
    return strcmp(at->name, "moving_mean") == 0 || strcmp(at->name, "moving_variance") == 0;
}

/* index: the layer's in the model. */
static void place_weights(layer *of, size_t index, const char *top) {
    for (size_t i = 0; i < of->count; ++i) {
        weight *at = &of->weights[i];
        at->group = top;
        at->place += index * LIMIT_OBJECTS;
        at->late = (of->config && of->config->frozen) || is_untrained(of, at);
    }
}

/* The layer makes its matrices in the model's first call, under Keras 3 at least. */
static _Noreturn void refuse_unbuilt(const char *name) {
    refuse(EXIT_NO_LAYER,
           "layer \"%s\": an attention layer, but the file holds no matrices of it, as Keras 3 saves a model before "
           "its first "
           "call; attention 5.0.0 runs under tf_keras (TF_USE_LEGACY_KERAS=1): call the model there, then train and "
           "save it",
           quoted(name));
}

/* Attention layers that a class of the user's own holds, at any depth: layers of their own, named by their groups. */
static void add_inner_attention(const object *group, const char *name, size_t index, const char *top, model *out) {
    for (const object *child = group->first_child; child; child = child->next) {
        if (child->is_dataset) continue;
        const char *inner = pool_text("%s/%s", name, child->name);
        if (is_attention_group(child)) {
            layer *added = model_add_layer(out, inner, "Attention", NULL);
            add_attention(added, child);
            added->attention = true;
            place_weights(added, index, top);
        } else
            add_inner_attention(child, inner, index, top, out);
    }
}

static void read_layer(const object *group, const char *name, const char *class_name, const config_layer *config,
                       const char *top, model *out) {
    const object *inner = layers_group(group), *wrapped = wrapped_group(group);
    if (wrapped && (!config || config->wrapped)) {
        const config_layer *own = config ? config->wrapped : NULL;
        read_layer(wrapped, name, own ? snake_case(own->class_name) : "", own, top, out);
        return;
    }
    if ((config && config->nested) || (!config && inner && has_weights(inner))) {
        if (!inner) refuse(EXIT_REFUSED, "%s: a nested model without layers", quoted(tree_path(group)));
        read_layers(inner, config ? config->nested : NULL, (position){pool_text("%s/", name), top}, out);
        return;
    }
    if (!(config && config->attention) && !is_attention_group(group))
        add_inner_attention(group, name, out->count, top, out);
    layer *added = model_add_layer(out, name, config ? config->class_name : class_name, config);
    const bool attention = config ? config->attention : true;
    if (attention && add_attention(added, group))
        added->attention = true;
    else if (config && config->attention)
        refuse_unbuilt(name);
    else
        add_weights(added, "", class_name, config, group);
    place_weights(added, out->count - 1, top);
}

static size_t class_end(const numbered *groups, size_t count, size_t first) {
    size_t end = first;
    while (end < count && strcmp(groups[end].class_name, groups[first].class_name) == 0) ++end;
    return end;
}

/* The layers of the configuration whose class has this name in the file, in order. */
static const config_layer **of_class(const config_model *config, const char *class_name, size_t *count) {
    const config_layer **found = pool_take(config->count + 1, sizeof *found);
    *count = 0;
    for (size_t i = 0; i < config->count; ++i)
        if (strcmp(snake_case(config->layers[i].class_name), class_name) == 0) found[(*count)++] = &config->layers[i];
    return found;
}

/* With a configuration, layers are added in its order: the n-th of a class is the class's n-th group, whatever the counter
 * says (2.12 and 2.13 skip numbers). */
static void read_layers(const object *layers, const config_model *config, position at, model *out) {
    size_t count;
    const numbered *groups = list_groups(layers, &count);
    if (!config) {
        for (size_t i = 0; i < count; ++i) {
            /* At the root of a model of the user's own class the optimizer lies beside the layers. */
            if (!layers->parent && strcmp(groups[i].group->name, "optimizer") == 0) continue;
            const object *vars = tree_child(groups[i].group, "vars");
            const char *name = vars && vars->layer_name && *vars->layer_name ? vars->layer_name : groups[i].group->name;
            read_layer(groups[i].group, pool_text("%s%s", at.prefix, name), groups[i].class_name, NULL,
                       at.top ? at.top : name, out);
        }
        return;
    }
    const object **group_of = pool_take(config->count + 1, sizeof *group_of);
    for (size_t first = 0, end; first < count; first = end) {
        size_t named;
        const config_layer **named_layers = of_class(config, groups[first].class_name, &named);
        end = class_end(groups, count, first);
        if (named != end - first) {
            bool any = false;
            for (size_t i = first; i < end; ++i) any |= has_weights(groups[i].group);
            if (!any) continue;
            refuse(EXIT_REFUSED, "%s: %zu groups of class %s, the configuration has %zu such layers",
                   quoted(tree_path(layers)), end - first, quoted(groups[first].class_name), named);
        }
        for (size_t i = 0; i < named; ++i) group_of[named_layers[i] - config->layers] = groups[first + i].group;
    }
    for (size_t i = 0; i < config->count; ++i) {
        const config_layer *named = &config->layers[i];
        if (!group_of[i] && named->attention) refuse_unbuilt(named->name);
        if (group_of[i])
            read_layer(group_of[i], pool_text("%s%s", at.prefix, named->name), snake_case(named->class_name), named,
                       at.top ? at.top : named->name, out);
    }
}

void read_archive_layout(const tree *file, model *out) {
    out->named_by_groups = out->config == NULL;
    const object *layers = layers_group(file->root);
    if (!layers) layers = file->root;
    read_layers(layers, out->config, (position){.prefix = ""}, out);
    const object *first = layers->first_child;
    const object *vars = first ? tree_child(first, "vars") : NULL;
    out->named_by_attributes = out->named_by_groups && vars && vars->layer_name;
    if (out->named_by_attributes)
        note("the file has no configuration: weights are named by class and shape");
    else if (out->named_by_groups)
        note("the file has no layer names: layers are named by their groups, weights by class and shape");
}

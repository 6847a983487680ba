/* SPDX-License-Identifier: Apache-2.0 */
/* A Keras model as the converter sees it: layers in Keras's order, each with its weights in Keras's order. */
#ifndef ATTN_CONVERT_MODEL_H
#define ATTN_CONVERT_MODEL_H

#include "config.h"
#include "tree.h"

typedef struct weight {
    const char *name; /* within the layer, such as "forward_kernel" */
    const object *data;
    const char *group; /* the model's own layer that holds it: a nested model for all of its layers */
    size_t place;      /* in the group, in Keras's order */
    bool late;         /* behind all of the group that are not: Keras puts what is not trained last */
} weight;

typedef struct layer {
    const char *name;           /* as tensors are named: the layer's, behind those of the models it is nested in */
    const char *class_name;     /* or what the file calls it */
    const config_layer *config; /* NULL without a configuration */
    weight *weights;
    size_t count;
    bool unordered; /* the file does not tell Keras's order of its weights */
    bool attention; /* this package's layer */
    attn_score score;
    int64_t features, units; /* of an attention layer */
} layer;

typedef struct model {
    const char *format;         /* "keras-h5", "keras-weights-h5", "keras" */
    const char *keras_version;  /* NULL: the file does not say */
    const char *model_config;   /* NULL: the file has none */
    const config_model *config; /* parsed from model_config */
    bool named_by_groups;       /* the file has no configuration, so no order and, before Keras 3, no layer names */
    bool named_by_attributes;   /* its groups bear the names of their layers all the same */
    layer *layers;
    size_t count;
} model;

layer *model_add_layer(model *to, const char *name, const char *class_name, const config_layer *config);
void layer_add_weight(layer *to, weight added);

/* The weights of an attention layer by role, from the name of a sublayer (of any layer version, with or without the
 * suffix that makes names unique); NULL when it is none. */
const char *attention_role(const char *sublayer);

/* Whether the layer's weights are, by their names, all those of one score. */
bool is_complete(const layer *attention);

/* Names the weights of an attention layer in Keras's order: 2 are Luong's, 4 are Bahdanau's. */
void name_by_order(layer *attention);

/* Checks each layer's weights against its configuration, and attention layers in themselves. */
void model_check(model *checked);

/* Layers that debug mode laid out flat become one attention layer. */
void model_fold_debug(model *folded);

/* Readers of the two layouts. */
void read_legacy(const object *group, model *out);
bool is_legacy(const object *group);
void read_archive_layout(const tree *file, model *out);
bool is_archive_layout(const object *root);

#endif

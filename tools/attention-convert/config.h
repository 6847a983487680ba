/* SPDX-License-Identifier: Apache-2.0 */
/* A model's configuration: its layers, nested models and wrappers included. */
#ifndef ATTN_CONVERT_CONFIG_H
#define ATTN_CONVERT_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct config_layer config_layer;

typedef struct config_model {
    config_layer *layers;
    size_t count;
} config_model;

struct config_layer {
    const char *name;
    const char *class_name;               /* without the package it was registered under */
    bool attention;                       /* this package's layer, not Keras's own of the same name */
    const char *score;                    /* of an attention layer; version 4.1 has Luong's alone */
    int64_t units, input_dim, output_dim; /* -1: not given */
    bool use_bias, use_scale, concat_score, frozen;
    const config_model *nested;   /* a model within the model */
    const config_layer *wrapped;  /* what Bidirectional or TimeDistributed wraps */
    const config_layer *backward; /* Bidirectional's second layer, when it is not a copy of the first */
};

/* Parses the JSON of model_config or config.json; refuses what is not a model. NULL for one whose layers are made in
 * code and not listed, a class of the user's own. */
const config_model *config_parse(const char *text);

/* The version in metadata.json, or NULL. */
const char *config_keras_version(const char *metadata);

/* The layer of that name at the top level, or NULL. */
const config_layer *config_find(const config_model *model, const char *name);

/* Keras's name for a class in .keras files: MultiHeadAttention is multi_head_attention. */
const char *snake_case(const char *class_name);

/* Gives the parser's memory back. */
void config_release(void);

#endif

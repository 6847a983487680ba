/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "bounds.h"
#include "lib/json_fault.h"
#include "pool.h"
#include "report.h"

#include <ctype.h>
#include <jansson.h>
#include <string.h>

static json_t *parsed; /* of the parse under way; values that are kept are copied */

static json_t *parse(const char *text, const char *what) {
    json_error_t error;
    const size_t length = strlen(text);
    if (length > LIMIT_CONFIG) refuse(EXIT_REFUSED, "%s: more than %zu bytes", what, LIMIT_CONFIG);
    config_release();
    parsed = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
    if (!parsed) refuse(EXIT_REFUSED, "%s: byte %d: %s", what, error.position, attn_json_fault(&error));
    return parsed;
}

void config_release(void) {
    json_decref(parsed);
    parsed = NULL;
}

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text && *text ? pool_copy(text) : NULL;
}

static int64_t integer_of(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_integer(value) && json_integer_value(value) >= 0 ? json_integer_value(value) : -1;
}

static void parse_layer(const json_t *entry, int depth, config_layer *out);

/* The layers of a model's configuration: an object with "layers", or (Sequential of long ago) the list itself. */
static const config_model *parse_layers(const json_t *config, int depth) {
    const json_t *list = json_is_array(config) ? config : json_object_get(config, "layers");
    config_model *model = pool_take(1, sizeof *model);
    size_t index;
    json_t *entry;
    if (!json_is_array(list)) refuse(EXIT_REFUSED, "model_config: a model without a list of layers");
    if (depth > LIMIT_DEPTH) refuse(EXIT_REFUSED, "model_config: models are nested more than %d deep", LIMIT_DEPTH);
    model->layers = pool_take(json_array_size(list) + 1, sizeof *model->layers);
    json_array_foreach((json_t *)list, index, entry) parse_layer(entry, depth, &model->layers[model->count++]);
    return model;
}

static const config_layer *parse_wrapped(const json_t *config, const char *key, int depth) {
    const json_t *inner = json_object_get(config, key);
    if (!json_is_object(inner) || !json_object_get(inner, "class_name")) return NULL;
    config_layer *wrapped = pool_take(1, sizeof *wrapped);
    parse_layer(inner, depth + 1, wrapped);
    return wrapped;
}

/* Both are called Attention: ours has units and score (version 4.1 units alone), Keras's use_scale and score_mode. A class
 * derived from ours has its configuration under another name. */
static bool is_attention(const json_t *config, const config_layer *of) {
    if (of->units < 1 || json_object_get(config, "use_scale") || json_object_get(config, "score_mode")) return false;
    if (of->score) return strcmp(of->score, "luong") == 0 || strcmp(of->score, "bahdanau") == 0;
    return strcmp(of->class_name, "Attention") == 0;
}

static void parse_layer(const json_t *entry, int depth, config_layer *out) {
    const json_t *config = json_object_get(entry, "config");
    const char *class_name = text_of(entry, "class_name");
    if (depth > LIMIT_DEPTH) refuse(EXIT_REFUSED, "model_config: layers are nested more than %d deep", LIMIT_DEPTH);
    if (!class_name || !config) refuse(EXIT_REFUSED, "model_config: a layer without class_name or config");
    const char *package = strrchr(class_name, '>');
    out->class_name = package && package[1] ? package + 1 : class_name;
    out->name = text_of(config, "name");
    if (!out->name) out->name = text_of(entry, "name");
    if (!out->name) out->name = snake_case(out->class_name);
    out->units = integer_of(config, "units");
    out->input_dim = integer_of(config, "input_dim");
    out->output_dim = integer_of(config, "output_dim");
    out->score = text_of(config, "score");
    out->use_bias = !json_is_false(json_object_get(config, "use_bias"));
    out->frozen = json_is_false(json_object_get(config, "trainable"));
    out->use_scale = json_is_true(json_object_get(config, "use_scale"));
    const char *score_mode = text_of(config, "score_mode");
    out->concat_score = score_mode && strcmp(score_mode, "concat") == 0;
    out->attention = is_attention(config, out);
    if (out->attention && !out->score) out->score = "luong";
    if (json_is_array(config) || json_is_array(json_object_get(config, "layers"))) {
        out->nested = parse_layers(config, depth + 1);
        return;
    }
    out->wrapped = parse_wrapped(config, "layer", depth);
    out->backward = parse_wrapped(config, "backward_layer", depth);
}

const config_model *config_parse(const char *text) {
    const json_t *root = parse(text, "model_config");
    const json_t *config = json_object_get(root, "config");
    if (!config) refuse(EXIT_REFUSED, "model_config: is not that of a model");
    const bool listed = json_is_array(config) || json_is_array(json_object_get(config, "layers"));
    const config_model *model = listed ? parse_layers(config, 0) : NULL;
    config_release();
    return model;
}

const char *config_keras_version(const char *metadata) {
    const char *version = text_of(parse(metadata, "metadata.json"), "keras_version");
    config_release();
    return version;
}

const config_layer *config_find(const config_model *model, const char *name) {
    for (size_t i = 0; model && i < model->count; ++i)
        if (strcmp(model->layers[i].name, name) == 0) return &model->layers[i];
    return NULL;
}

/* "_" goes before a capital that follows a lower-case letter, and before one that opens a word within a run of others;
 * digits count as neither. */
const char *snake_case(const char *class_name) {
    char *snake = pool_take(strlen(class_name) * 2 + 16, 1), *to = snake;
    if (*class_name == '_') to = stpcpy(to, "private");
    for (const char *from = class_name; *from; ++from) {
        const unsigned char here = (unsigned char)*from, next = (unsigned char)from[1];
        const unsigned char before = from > class_name ? (unsigned char)from[-1] : 0;
        const bool word = before && (isupper(here) && islower(next));
        if (word || (isupper(here) && islower(before))) *to++ = '_';
        *to++ = (char)tolower(here);
    }
    return snake;
}

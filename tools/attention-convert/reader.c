/* SPDX-License-Identifier: Apache-2.0 */
#include "reader.h"

#include "archive_file.h"
#include "bounds.h"
#include "layout.h"
#include "model.h"
#include "pool.h"

#include <hdf5.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char hdf5_magic[] = "\211HDF\r\n\032\n", zip_magic[] = "PK\003\004";

static bool begins_with(const void *data, size_t size, const char *magic) {
    return size >= strlen(magic) && memcmp(data, magic, strlen(magic)) == 0;
}

static bool has_at(int descriptor, size_t at, const char *magic) {
    char found[8] = {0};
    return pread(descriptor, found, strlen(magic), (off_t)at) == (ssize_t)strlen(magic) &&
           memcmp(found, magic, strlen(magic)) == 0;
}

bool reader_knows(int descriptor, size_t size) {
    if (has_at(descriptor, 0, hdf5_magic) || has_at(descriptor, 0, zip_magic)) return true;
    if (has_at(descriptor, 8, "{")) return false; /* safetensors, whose data may hold anything */
    /* A user block is of 512 bytes, or that doubled any number of times. */
    for (size_t at = 512; at < size && at < LIMIT_FILE; at *= 2)
        if (has_at(descriptor, at, hdf5_magic)) return true;
    static char tail[ARCHIVE_TAIL];
    const size_t length = size < sizeof tail ? size : sizeof tail;
    return pread(descriptor, tail, length, (off_t)(size - length)) == (ssize_t)length && archive_end(tail, length) > 0;
}

static bool is_hdf5(const char *data, size_t size) {
    if (begins_with(data, size, hdf5_magic)) return true;
    for (size_t at = 512; at < size; at *= 2)
        if (begins_with(data + at, size - at, hdf5_magic)) return true;
    return false;
}

void reader_prepare(void) {
    setenv("HDF5_PLUGIN_PRELOAD", "::", 1); /* no plug-ins, whatever filter a file names */
    H5open();
    json_object_seed(0);
}

static size_t count_attention(const model *in) {
    size_t count = 0;
    for (size_t i = 0; i < in->count; ++i) count += in->layers[i].attention;
    return count;
}

static bool names_attention(const config_model *config);

static bool is_or_holds_attention(const config_layer *at) {
    return at->attention || attention_role(at->name) || (at->wrapped && is_or_holds_attention(at->wrapped)) ||
           (at->nested && names_attention(at->nested));
}

/* Whether a configuration names an attention layer, or a sublayer of one in debug mode. */
static bool names_attention(const config_model *config) {
    for (size_t i = 0; i < config->count; ++i)
        if (is_or_holds_attention(&config->layers[i])) return true;
    return false;
}

static void name_others(const config_model *config, char *list, size_t size);

static void name_other(const config_layer *at, char *list, size_t size) {
    if (strcasestr(at->class_name, "attention")) {
        const char *entry = pool_text("%s\"%s\" (%s)", *list ? ", " : "", quoted(at->name), quoted(at->class_name));
        if (strlen(list) + strlen(entry) < size) strcat(list, entry);
    }
    if (at->wrapped) name_other(at->wrapped, list, size);
    if (at->nested) name_others(at->nested, list, size);
}

/* Lists the layers that are attention by their class: Keras's own, and those of other packages; as many as there is room
 * for. */
static void name_others(const config_model *config, char *list, size_t size) {
    for (size_t i = 0; i < config->count; ++i) name_other(&config->layers[i], list, size);
}

static _Noreturn void refuse_without_attention(const model *in) {
    char others[512] = "";
    if (in->config) name_others(in->config, others, sizeof others);
    const char *version = in->keras_version ? quoted(in->keras_version) : NULL;
    if (in->config && names_attention(in->config))
        refuse(EXIT_NO_LAYER,
               "its configuration has the attention layer, but the file holds no matrices of it%s%s: it was saved "
               "before the model's first call; call the model once, load its weights or train it, and save it again",
               version ? ", written by Keras " : "", version ? version : "");
    refuse(EXIT_NO_LAYER, "holds no attention layer of the package (its configuration has units and score)%s%s%s%s",
           *others ? "; the attention layers in it are of other kinds: " : "", others,
           version ? "; written by Keras " : "", version ? version : "");
}

/* Whether a model may hold the layer though its configuration does not list it: within a class of the user's own. Those of
 * Keras that are named here hold no other layer. */
static bool may_hold_attention(const config_model *config) {
    static const char *const plain[] = {
        "InputLayer", "LSTM",    "GRU",         "SimpleRNN",  "Dense",     "Embedding",          "Conv1D",
        "Dropout",    "Flatten", "Concatenate", "Activation", "Attention", "LayerNormalization", "BatchNormalization",
        "Add",        "Masking"};
    for (size_t i = 0; i < config->count; ++i) {
        bool known = config->layers[i].wrapped &&
                     !may_hold_attention(&(config_model){(config_layer *)config->layers[i].wrapped, 1});
        known |= config->layers[i].nested && !may_hold_attention(config->layers[i].nested);
        for (size_t k = 0; k < sizeof plain / sizeof *plain; ++k)
            known |= strcmp(config->layers[i].class_name, plain[k]) == 0;
        if (!known) return true;
    }
    return false;
}

/* Takes a configuration over. A model without the layer is told before its weights are looked at. */
static void take_config(const char *text, const reader_options *options, model *out) {
    out->model_config = text;
    out->config = config_parse(text);
    if (!options->list && out->config && !names_attention(out->config) && !may_hold_attention(out->config))
        refuse_without_attention(out);
}

static void read_hdf5(const void *data, size_t size, const reader_options *options, tree *file, model *out) {
    tree_open(data, size, file);
    out->keras_version = out->keras_version ? out->keras_version : file->keras_version;
    if (!out->config && file->model_config) take_config(file->model_config, options, out);
    const object *saved_model = tree_child(file->root, "model_weights");
    if (is_legacy(saved_model)) {
        out->format = "keras-h5";
        read_legacy(saved_model, out);
    } else if (is_legacy(file->root)) {
        out->format = "keras-h5";
        read_legacy(file->root, out);
    } else if (is_archive_layout(file->root)) {
        out->format = out->format ? out->format : "keras-weights-h5";
        read_archive_layout(file, out);
    } else
        refuse(EXIT_REFUSED, "an HDF5 file, but without the groups that Keras writes (layer_names, layers)");
}

static void read_archive(const void *data, size_t size, const reader_options *options, tree *file, model *out) {
    archive_file archive;
    archive_open(data, size, &archive);
    out->format = "keras";
    if (archive.metadata) out->keras_version = config_keras_version(archive.metadata);
    take_config(archive.config, options, out);
    if (!begins_with(archive.weights, archive.weights_size, hdf5_magic))
        refuse(EXIT_REFUSED, "archive: model.weights.h5 is not an HDF5 file");
    read_hdf5(archive.weights, archive.weights_size, options, file, out);
}

/* Leaves the layer of that name alone, or those of the nested model of that name. */
static void keep_only(model *in, const char *name) {
    size_t kept = 0;
    const size_t length = strlen(name);
    for (size_t i = 0; i < in->count; ++i) {
        const char *own = in->layers[i].name;
        const bool same = strncmp(own, name, length) == 0 && (!own[length] || own[length] == '/');
        if (same && in->layers[i].count > 0) in->layers[kept++] = in->layers[i];
    }
    if (kept == 0)
        refuse(EXIT_NO_LAYER, "holds no layer \"%s\" with weights (--list shows those it has)", quoted(name));
    in->count = kept;
}

static void convert(const void *data, size_t size, const reader_options *options, int descriptor) {
    tree file;
    model found = {0};
    if (begins_with(data, size, zip_magic) || !is_hdf5(data, size))
        read_archive(data, size, options, &file, &found);
    else
        read_hdf5(data, size, options, &file, &found);
    model_fold_debug(&found);
    if (!options->list && count_attention(&found) == 0) refuse_without_attention(&found);
    if (options->layer) keep_only(&found, options->layer);
    model_check(&found);
    layout_write(&found, options->layer != NULL, file.file_size, descriptor);
}

int reader_run(const void *data, size_t size, const reader_options *options, int descriptor, report *result) {
    refuge here = {.report = result};
    *result = (report){0};
    reader_refuge = &here;
    if (setjmp(here.escape) == 0) convert(data, size, options, descriptor);
    tree_close();
    archive_close();
    layout_release();
    config_release();
    pool_release();
    reader_refuge = NULL;
    return result->code;
}

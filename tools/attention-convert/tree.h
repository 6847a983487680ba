/* SPDX-License-Identifier: Apache-2.0 */
/* An HDF5 file as a tree of plain structures. libhdf5 is asked for objects one by one, by hard links alone; every look-up
 * by a name that the file gives is made in this tree, never by libhdf5. */
#ifndef ATTN_CONVERT_TREE_H
#define ATTN_CONVERT_TREE_H

#include "attention/weights.h"
#include "bounds.h"

#include <stdbool.h>

typedef struct strings {
    size_t count;
    const char **items;
} strings;

typedef struct object object;
struct object {
    const char *name;                    /* "" for the root */
    object *parent, *first_child, *next; /* siblings by name in byte order */
    const char *stored;                  /* its path in the file; "" for the root */
    bool is_dataset;
    /* a dataset */
    const char *unfit; /* why its data is not read, or NULL */
    attn_weights_dtype dtype;
    int rank;
    int64_t shape[LIMIT_RANK];
    size_t bytes;
    /* a group */
    bool has_layer_names, has_weight_names;
    strings layer_names, weight_names;
    const char *layer_name; /* of a group "vars", from Keras 3 on: the name of the layer it belongs to; or NULL */
};

typedef struct tree {
    object *root;
    size_t objects, file_size;
    const char *keras_version, *backend, *model_config; /* attributes of the root; NULL without */
} tree;

/* Opens an image of an HDF5 file, which must stay in memory, and walks all of it. */
void tree_open(const void *image, size_t size, tree *out);

/* Reads the data of a dataset that is fit, object->bytes of it. */
void tree_read(const object *dataset, void *data);

void tree_close(void);

/* The child of that name, or NULL. */
const object *tree_child(const object *group, const char *name);

/* The object under a path of names divided by '/', or NULL. */
const object *tree_find(const object *group, const char *path);

/* The path from the root, for messages. */
const char *tree_path(const object *of);

#endif

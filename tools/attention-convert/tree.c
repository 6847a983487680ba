/* SPDX-License-Identifier: Apache-2.0 */
#include "tree.h"

#include "pool.h"
#include "report.h"

#include <hdf5.h>
#include <stdlib.h>
#include <string.h>

static hid_t file = -1;

/* ---- Opening without a copy: libhdf5's core driver is handed our image and told that it was allocated ---- */

static const void *image_data;
static size_t image_size;

static void *image_allocate(size_t size, H5FD_file_image_op_t operation, void *user) {
    (void)user;
    (void)operation;
    return size == image_size ? (void *)image_data : NULL;
}

static void *image_copy(void *to, const void *from, size_t size, H5FD_file_image_op_t operation, void *user) {
    (void)operation;
    (void)user;
    return to == from && size == image_size ? to : NULL;
}

static void *image_resize(void *image, size_t size, H5FD_file_image_op_t operation, void *user) {
    (void)operation;
    (void)user;
    return size == image_size ? image : NULL; /* a file that is only read never grows */
}

static herr_t image_free(void *image, H5FD_file_image_op_t operation, void *user) {
    (void)image;
    (void)operation;
    (void)user;
    return 0;
}

static hid_t open_image(const void *image, size_t size) {
    H5FD_file_image_callbacks_t callbacks = {.image_malloc = image_allocate,
                                             .image_memcpy = image_copy,
                                             .image_realloc = image_resize,
                                             .image_free = image_free};
    image_data = image;
    image_size = size;
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    hid_t opened = -1;
    if (access >= 0 && H5Pset_fapl_core(access, 1 << 16, 0) >= 0 &&
        H5Pset_file_image_callbacks(access, &callbacks) >= 0 && H5Pset_file_image(access, (void *)image, size) >= 0)
        opened = H5Fopen("image", H5F_ACC_RDONLY, access);
    H5Pclose(access);
    return opened;
}

/* ---- Attributes ---- */

/* Strings of fixed length: each ends at its first NUL or at its size. */
static void read_fixed(hid_t attribute, hid_t type, const char *name, strings *out) {
    const size_t size = H5Tget_size(type);
    if (size == 0 || size > LIMIT_ATTRIBUTE / (out->count ? out->count : 1))
        refuse(EXIT_REFUSED, "attribute \"%s\": strings of %zu bytes", name, size);
    char *data = pool_take(out->count ? out->count : 1, size);
    if (H5Aread(attribute, type, data) < 0) refuse(EXIT_REFUSED, "attribute \"%s\": can't be read", name);
    for (size_t i = 0; i < out->count; ++i)
        out->items[i] = pool_copy_part(data + i * size, strnlen(data + i * size, size));
}

static void read_variable(hid_t attribute, hid_t type, hid_t space, const char *name, strings *out) {
    char **data = pool_take(out->count ? out->count : 1, sizeof *data);
    size_t total = 0;
    if (H5Aread(attribute, type, data) < 0) refuse(EXIT_REFUSED, "attribute \"%s\": can't be read", name);
    for (size_t i = 0; i < out->count; ++i) {
        const char *text = data[i] ? data[i] : "";
        total += strlen(text);
        if (total > LIMIT_ATTRIBUTE)
            refuse(EXIT_REFUSED, "attribute \"%s\": more than %zu bytes", name, LIMIT_ATTRIBUTE);
        out->items[i] = pool_copy(text);
    }
    H5Dvlen_reclaim(type, space, H5P_DEFAULT, data);
}

/* The strings of an attribute, a scalar as one. false when the object has none of that name. An empty list may be of any
 * type: Keras writes float64. */
static bool read_strings(hid_t object_id, const char *name, strings *out) {
    *out = (strings){0};
    if (H5Aexists(object_id, name) <= 0) return false;
    const hid_t attribute = H5Aopen(object_id, name, H5P_DEFAULT);
    const hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
    const hssize_t points = H5Sget_simple_extent_npoints(space);
    if (attribute < 0 || type < 0 || space < 0 || points < 0)
        refuse(EXIT_REFUSED, "attribute \"%s\": can't be read", name);
    if (points > LIMIT_OBJECTS) refuse(EXIT_REFUSED, "attribute \"%s\": more than %d strings", name, LIMIT_OBJECTS);
    if (points > 0) {
        if (H5Tget_class(type) != H5T_STRING) refuse(EXIT_REFUSED, "attribute \"%s\": is not of strings", name);
        out->count = (size_t)points;
        out->items = pool_take(out->count, sizeof *out->items);
        if (H5Tis_variable_str(type) > 0)
            read_variable(attribute, type, space, name, out);
        else
            read_fixed(attribute, type, name, out);
    }
    H5Sclose(space);
    H5Tclose(type);
    H5Aclose(attribute);
    return true;
}

/* A list that Keras may have split into name0, name1, ... */
static bool read_list(hid_t object_id, const char *name, strings *out) {
    if (read_strings(object_id, name, out)) return true;
    bool found = false;
    for (int part = 0;; ++part) {
        strings more;
        if (!read_strings(object_id, pool_text("%s%d", name, part), &more)) return found;
        found = true;
        for (size_t i = 0; i < more.count; ++i) {
            if (out->count == LIMIT_OBJECTS)
                refuse(EXIT_REFUSED, "attribute \"%s\": more than %d strings", name, LIMIT_OBJECTS);
            out->items = pool_grow(out->items, out->count, sizeof *out->items);
            out->items[out->count++] = more.items[i];
        }
    }
}

static const char *read_text(hid_t object_id, const char *name) {
    strings found;
    if (!read_strings(object_id, name, &found) || found.count == 0) return NULL;
    return found.items[0];
}

/* ---- Datasets ---- */

static bool find_dtype(hid_t type, attn_weights_dtype *dtype) {
    const struct {
        hid_t type;
        attn_weights_dtype dtype;
    } known[] = {{H5T_IEEE_F32LE, ATTN_WEIGHTS_F32}, {H5T_IEEE_F64LE, ATTN_WEIGHTS_F64},
                 {H5T_STD_I8LE, ATTN_WEIGHTS_I8},    {H5T_STD_U8LE, ATTN_WEIGHTS_U8},
                 {H5T_STD_I16LE, ATTN_WEIGHTS_I16},  {H5T_STD_U16LE, ATTN_WEIGHTS_U16},
                 {H5T_STD_I32LE, ATTN_WEIGHTS_I32},  {H5T_STD_U32LE, ATTN_WEIGHTS_U32},
                 {H5T_STD_I64LE, ATTN_WEIGHTS_I64},  {H5T_STD_U64LE, ATTN_WEIGHTS_U64}};
    for (size_t i = 0; i < sizeof known / sizeof *known; ++i)
        if (H5Tequal(type, known[i].type) > 0) {
            *dtype = known[i].dtype;
            return true;
        }
    /* h5py knows no bfloat16: it writes NumPy's two bytes without a meaning, and Keras has no other type of that kind. */
    if (H5Tget_class(type) == H5T_OPAQUE && H5Tget_size(type) == 2) {
        *dtype = ATTN_WEIGHTS_BF16;
        return true;
    }
    if (H5Tget_class(type) != H5T_FLOAT || H5Tget_size(type) != 2 || H5Tget_order(type) != H5T_ORDER_LE) return false;
    size_t sign, exponent, exponent_bits, fraction, fraction_bits;
    if (H5Tget_fields(type, &sign, &exponent, &exponent_bits, &fraction, &fraction_bits) < 0 || sign != 15)
        return false;
    *dtype = exponent_bits == 5 ? ATTN_WEIGHTS_F16 : ATTN_WEIGHTS_BF16;
    return exponent_bits + fraction_bits == 15 && fraction == 0 && exponent == fraction_bits &&
           (exponent_bits == 5 || exponent_bits == 8) && H5Tget_ebias(type) == (exponent_bits == 5 ? 15 : 127) &&
           H5Tget_norm(type) == H5T_NORM_IMPLIED;
}

/* How the data lies in the file; NULL when it is one plain piece. */
static const char *unfit_storage(hid_t dataset) {
    const hid_t plan = H5Dget_create_plist(dataset);
    const char *why = NULL;
    const H5D_layout_t layout = plan < 0 ? H5D_LAYOUT_ERROR : H5Pget_layout(plan);
    if (layout == H5D_VIRTUAL)
        why = "has virtual storage";
    else if (layout != H5D_CONTIGUOUS && layout != H5D_COMPACT && layout != H5D_CHUNKED)
        why = "has storage that is not known";
    else if (H5Pget_external_count(plan) != 0)
        why = "has external storage";
    else if (H5Pget_nfilters(plan) != 0)
        why = "has filters";
    else if (layout == H5D_CHUNKED)
        why = "has chunked storage";
    if (plan >= 0) H5Pclose(plan);
    return why;
}

/* Fills in a dataset; returns why it can't be read, or NULL. */
static const char *examine(hid_t dataset, size_t file_size, object *out) {
    const hid_t type = H5Dget_type(dataset), space = H5Dget_space(dataset);
    const char *why = type < 0 || space < 0 ? "has no readable header" : unfit_storage(dataset);
    hsize_t shape[H5S_MAX_RANK];
    if (!why && !find_dtype(type, &out->dtype)) why = "is not of little-endian numbers";
    if (!why && H5Sget_simple_extent_type(space) == H5S_NULL) why = "has no data";
    const int rank = why ? 0 : H5Sget_simple_extent_ndims(space);
    if (!why && (rank < 0 || rank > LIMIT_RANK)) why = "has more dimensions than a weight";
    if (!why && rank > 0 && H5Sget_simple_extent_dims(space, shape, NULL) < 0) why = "has no readable shape";
    size_t bytes = why ? 0 : attn_weights_dtype_size(out->dtype);
    for (int i = 0; i < rank && !why; ++i) {
        out->shape[i] = (int64_t)shape[i];
        if (shape[i] > INT32_MAX || __builtin_mul_overflow(bytes, (size_t)shape[i], &bytes))
            why = "has a size that does not fit";
    }
    if (!why && bytes > file_size) why = "is larger than its file";
    if (!why && bytes > 0 && H5Dget_storage_size(dataset) != bytes)
        why = "has no data, or not as much as its shape needs";
    const hid_t plan = why ? -1 : H5Dget_create_plist(dataset);
    if (!why && bytes > 0 && H5Pget_layout(plan) == H5D_CONTIGUOUS) {
        const haddr_t at = H5Dget_offset(dataset);
        if (at == HADDR_UNDEF || at > file_size || bytes > file_size - at) why = "has data past the end of the file";
    }
    if (plan >= 0) H5Pclose(plan);
    if (type >= 0) H5Tclose(type);
    if (space >= 0) H5Sclose(space);
    out->rank = rank;
    out->bytes = why ? 0 : bytes;
    return why;
}

/* ---- The walk ---- */

/* What is collected in a callback of libhdf5, which must return rather than refuse. */
typedef struct listing {
    tree *out;
    const object *group;
    object *first, *last;
    const char *failure;
    const char *culprit;
} listing;

static herr_t fail_listing(listing *list, const char *name, const char *why) {
    list->culprit = strndup(name, LIMIT_NAME);
    list->failure = why;
    return -1;
}

static herr_t list_link(hid_t group, const char *name, const H5L_info_t *info, void *user) {
    listing *list = user;
    (void)group;
    if (++list->out->objects > LIMIT_OBJECTS) return fail_listing(list, name, "more objects than are read");
    if (info->type == H5L_TYPE_SOFT) return fail_listing(list, name, "is a soft link");
    if (info->type == H5L_TYPE_EXTERNAL) return fail_listing(list, name, "is an external link");
    if (info->type != H5L_TYPE_HARD) return fail_listing(list, name, "is a link of an unknown kind");
    if (!*name || strchr(name, '/') || strcmp(name, ".") == 0 || strnlen(name, LIMIT_NAME) == LIMIT_NAME)
        return fail_listing(list, name, "has a name that no Keras file has");
    object *found = calloc(1, sizeof *found + strlen(name) + 1);
    if (!found) return fail_listing(list, name, "out of memory");
    found->name = strcpy((char *)(found + 1), name);
    *(list->last ? &list->last->next : &list->first) = found;
    list->last = found;
    return 0;
}

/* Moves what the callback allocated into the pool, whatever happens later. */
static object *adopt(listing *list, object *parent) {
    object *head = NULL, **tail = &head;
    for (object *from = list->first, *next; from; from = next) {
        next = from->next;
        object *kept = pool_take(1, sizeof *kept);
        kept->name = pool_copy(from->name);
        kept->parent = parent;
        kept->stored = pool_text("%s/%s", parent->stored, from->name);
        *tail = kept;
        tail = &kept->next;
        free(from);
    }
    return head;
}

static void walk(hid_t group, object *at, tree *out, int depth);

static void visit(hid_t group, object *found, tree *out, int depth) {
    const hid_t opened = H5Oopen(group, found->name, H5P_DEFAULT);
    const H5I_type_t kind = opened < 0 ? H5I_BADID : H5Iget_type(opened);
    if (kind == H5I_GROUP) {
        walk(opened, found, out, depth + 1);
    } else if (kind == H5I_DATASET) {
        found->is_dataset = true;
        found->unfit = examine(opened, out->file_size, found);
    } else {
        refuse(EXIT_REFUSED, "%s: is neither a group nor a dataset that can be opened", quoted(tree_path(found)));
    }
    H5Oclose(opened);
}

static void walk(hid_t group, object *at, tree *out, int depth) {
    if (depth > LIMIT_DEPTH)
        refuse(EXIT_REFUSED, "%s: groups are nested more than %d deep", quoted(tree_path(at)), LIMIT_DEPTH);
    at->has_layer_names = read_list(group, "layer_names", &at->layer_names);
    at->has_weight_names = read_list(group, "weight_names", &at->weight_names);
    if (strcmp(at->name, "vars") == 0) at->layer_name = read_text(group, "name");
    listing list = {.out = out, .group = at};
    hsize_t from = 0;
    const herr_t listed = H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, &from, list_link, &list);
    at->first_child = adopt(&list, at);
    if (list.failure) {
        const char *culprit = list.culprit ? pool_copy(list.culprit) : "?";
        free((void *)list.culprit);
        refuse(EXIT_REFUSED, "%s/%s: %s", at->parent ? quoted(tree_path(at)) : "", quoted(culprit), list.failure);
    }
    if (listed < 0) refuse(EXIT_REFUSED, "%s: the group can't be listed", quoted(tree_path(at)));
    for (object *child = at->first_child; child; child = child->next) visit(group, child, out, depth);
}

/* ---- Names that Keras 2 joined on Windows: "layers\\lstm\\cell" at the root is a path of groups ---- */

static void insert(object *parent, object *added) {
    object **at = &parent->first_child;
    while (*at && strcmp((*at)->name, added->name) < 0) at = &(*at)->next;
    added->parent = parent;
    added->next = *at;
    *at = added;
}

/* Puts an object under a name that may be taken: two groups become one. */
static void merge(object *parent, object *added) {
    object *taken = (object *)tree_child(parent, added->name);
    if (!taken) {
        insert(parent, added);
        return;
    }
    if (taken->is_dataset || added->is_dataset)
        refuse(EXIT_REFUSED, "%s: two objects of this name, one of them joined by backslashes",
               quoted(tree_path(taken)));
    for (object *child = added->first_child, *next; child; child = next) {
        next = child->next;
        merge(taken, child);
    }
}

static void place(object *root, object *added) {
    object *parent = root;
    int depth = 0;
    for (size_t length; added->name[length = strcspn(added->name, "\\")]; added->name += length + 1) {
        if (++depth > LIMIT_DEPTH) refuse(EXIT_REFUSED, "groups are nested more than %d deep", LIMIT_DEPTH);
        if (length == 0) continue;
        object *between = pool_take(1, sizeof *between);
        between->name = pool_copy_part(added->name, length);
        between->stored = ""; /* no object of the file; it has no data to read */
        merge(parent, between);
        parent = (object *)tree_child(parent, between->name);
    }
    if (*added->name) merge(parent, added);
}

static void split_names(object *root) {
    bool joined = false;
    for (const object *child = root->first_child; child; child = child->next)
        joined |= strchr(child->name, '\\') != NULL;
    if (!joined) return;
    object *child = root->first_child;
    root->first_child = NULL;
    for (object *next; child; child = next) {
        next = child->next;
        place(root, child);
    }
}

void tree_open(const void *image, size_t size, tree *out) {
    *out = (tree){.file_size = size};
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    file = open_image(image, size);
    if (file < 0) refuse(EXIT_REFUSED, "is not a readable HDF5 file");
    out->root = pool_take(1, sizeof *out->root);
    out->root->name = out->root->stored = "";
    const hid_t root = H5Gopen2(file, "/", H5P_DEFAULT);
    if (root < 0) refuse(EXIT_REFUSED, "/: the root group can't be opened");
    out->keras_version = read_text(root, "keras_version");
    out->backend = read_text(root, "backend");
    out->model_config = read_text(root, "model_config");
    walk(root, out->root, out, 0);
    if (!out->root->has_layer_names) split_names(out->root);
    H5Gclose(root);
}

void tree_read(const object *dataset, void *data) {
    if (dataset->bytes == 0) return;
    const hid_t opened = H5Dopen2(file, dataset->stored, H5P_DEFAULT);
    const hid_t type = opened < 0 ? -1 : H5Dget_type(opened);
    if (type < 0 || H5Dread(opened, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0)
        refuse(EXIT_REFUSED, "%s: its data can't be read", quoted(tree_path(dataset)));
    H5Tclose(type);
    H5Dclose(opened);
}

void tree_close(void) {
    if (file >= 0) H5Fclose(file);
    file = -1;
    H5close();
}

const object *tree_child(const object *group, const char *name) {
    for (const object *child = group ? group->first_child : NULL; child; child = child->next)
        if (strcmp(child->name, name) == 0) return child;
    return NULL;
}

const object *tree_find(const object *group, const char *path) {
    while (group && *path) {
        const size_t length = strcspn(path, "/");
        if (length > 0) group = tree_child(group, pool_copy_part(path, length));
        path += length + (path[length] == '/');
    }
    return group;
}

const char *tree_path(const object *of) {
    if (!of->parent) return "/";
    return pool_text("%s/%s", of->parent->parent ? tree_path(of->parent) : "", of->name);
}

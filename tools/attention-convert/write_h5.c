/* SPDX-License-Identifier: Apache-2.0 */
#include "write_h5.h"

#include "order.h"
#include "pool.h"

#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ATTRIBUTE_BYTES 64000 /* of one attribute, below the 64 KiB that an object's header holds */

static const char *temporary; /* the file that is being written; NULL: none */
static void *buffer;          /* one tensor's data */

static void check(bool good, const char *what) {
    if (!good) refuse(EXIT_IO, "writing %s failed", quoted(what));
}

/* Where a weight lies below its layer's group, as Keras names it. Only the order counts for load_weights; the names let
 * the file be read again. */
static const char *path_of(const ordered_layer *layer, const attn_weights_tensor *tensor) {
    static const char *const sublayers[][2] = {{"luong_w", "luong_w"},
                                               {"bahdanau_v", "bahdanau_v"},
                                               {"bahdanau_w1", "bahdanau_w1"},
                                               {"bahdanau_w2", "bahdanau_w2"},
                                               {"w_c", "attention_vector"}};
    const size_t group_length = strlen(layer->group);
    const bool within = strncmp(tensor->name, layer->group, group_length) == 0 && tensor->name[group_length] == '/';
    if (!within) return pool_text("%s/kernel:0", layer->group); /* a sublayer that debug mode laid out flat */
    const char *rest = tensor->name + group_length + 1;
    const char *owner = strchr(rest, '/') ? "" : pool_text("%s/", layer->group);
    for (size_t i = 0; i < sizeof sublayers / sizeof *sublayers; ++i)
        if (strcmp(order_weight_name(tensor), sublayers[i][0]) == 0)
            return pool_text("%s%s%s/kernel:0", owner, pool_copy_part(rest, (size_t)(order_weight_name(tensor) - rest)),
                             sublayers[i][1]);
    if (strncmp(rest, "forward_", 8) == 0) return pool_text("%sforward_layer/%s:0", owner, rest + 8);
    if (strncmp(rest, "backward_", 9) == 0) return pool_text("%sbackward_layer/%s:0", owner, rest + 9);
    return pool_text("%s%s:0", owner, rest);
}

static void write_strings(hid_t object, const char *name, const char *const *items, size_t count, size_t size) {
    char *data = pool_take(count, size);
    for (size_t i = 0; i < count; ++i) memcpy(data + i * size, items[i], strlen(items[i]));
    const hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate_simple(1, &(hsize_t){count}, NULL);
    check(H5Tset_size(type, size) >= 0 && H5Tset_strpad(type, H5T_STR_NULLPAD) >= 0, name);
    const hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    check(attribute >= 0 && H5Awrite(attribute, type, data) >= 0, name);
    H5Aclose(attribute);
    H5Sclose(space);
    H5Tclose(type);
}

/* In one attribute, or as many numbered ones as it takes. */
static void write_list(hid_t object, const char *name, const char *const *items, size_t count) {
    size_t size = 1;
    for (size_t i = 0; i < count; ++i)
        if (strlen(items[i]) > size) size = strlen(items[i]);
    const size_t room = ATTRIBUTE_BYTES / size;
    check(room > 0, name);
    if (count <= room) {
        write_strings(object, name, items, count, size);
        return;
    }
    for (size_t first = 0, part = 0; first < count; first += room, ++part)
        write_strings(object, pool_text("%s%zu", name, part), items + first,
                      count - first < room ? count - first : room, size);
}

static void write_text(hid_t object, const char *name, const char *text) {
    const hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
    check(H5Tset_size(type, strlen(text) + 1) >= 0, name);
    const hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    check(attribute >= 0 && H5Awrite(attribute, type, text) >= 0, name);
    H5Aclose(attribute);
    H5Sclose(space);
    H5Tclose(type);
}

/* A type of our own; the caller closes it. */
static hid_t type_of(const attn_weights_tensor *tensor) {
    hid_t type;
    switch (tensor->dtype) {
    case ATTN_WEIGHTS_F16:
        type = H5Tcopy(H5T_IEEE_F32LE);
        H5Tset_fields(type, 15, 10, 5, 0, 10);
        H5Tset_size(type, 2);
        H5Tset_ebias(type, 15);
        return type;
    case ATTN_WEIGHTS_F32:
        return H5Tcopy(H5T_IEEE_F32LE);
    case ATTN_WEIGHTS_F64:
        return H5Tcopy(H5T_IEEE_F64LE);
    case ATTN_WEIGHTS_I8:
        return H5Tcopy(H5T_STD_I8LE);
    case ATTN_WEIGHTS_U8:
        return H5Tcopy(H5T_STD_U8LE);
    case ATTN_WEIGHTS_I16:
        return H5Tcopy(H5T_STD_I16LE);
    case ATTN_WEIGHTS_U16:
        return H5Tcopy(H5T_STD_U16LE);
    case ATTN_WEIGHTS_I32:
        return H5Tcopy(H5T_STD_I32LE);
    case ATTN_WEIGHTS_U32:
        return H5Tcopy(H5T_STD_U32LE);
    case ATTN_WEIGHTS_I64:
        return H5Tcopy(H5T_STD_I64LE);
    case ATTN_WEIGHTS_U64:
        return H5Tcopy(H5T_STD_U64LE);
    default:
        refuse(EXIT_REFUSED, "tensor \"%s\": %s has no place in a Keras file", quoted(tensor->name),
               attn_weights_dtype_name(tensor->dtype));
    }
}

static void write_tensor(const attn_weights_file *from, const attn_weights_tensor *tensor, hid_t group,
                         const char *path) {
    hsize_t shape[ATTN_WEIGHTS_MAX_RANK];
    for (int i = 0; i < tensor->rank; ++i) shape[i] = (hsize_t)tensor->shape[i];
    free(buffer);
    buffer = malloc(tensor->bytes + 1);
    if (!buffer) refuse(EXIT_LIMIT, "out of memory for the tensor \"%s\"", quoted(tensor->name));
    if (attn_weights_read(from, tensor, tensor->dtype, buffer, tensor->bytes) != ATTN_OK)
        refuse(EXIT_IO, "%s", attn_last_error_message());
    const hid_t type = type_of(tensor);
    const hid_t space = tensor->rank ? H5Screate_simple(tensor->rank, shape, NULL) : H5Screate(H5S_SCALAR);
    const hid_t linking = H5Pcreate(H5P_LINK_CREATE);
    check(H5Pset_create_intermediate_group(linking, 1) >= 0, path);
    const hid_t dataset = H5Dcreate2(group, path, type, space, linking, H5P_DEFAULT, H5P_DEFAULT);
    check(dataset >= 0 && H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, buffer) >= 0, path);
    H5Dclose(dataset);
    H5Pclose(linking);
    H5Sclose(space);
    H5Tclose(type);
}

static void write_layer(const attn_weights_file *from, const ordered_layer *layer, hid_t file) {
    const hid_t linking = H5Pcreate(H5P_LINK_CREATE);
    check(H5Pset_create_intermediate_group(linking, 1) >= 0, layer->group);
    const hid_t group = H5Gcreate2(file, layer->group, linking, H5P_DEFAULT, H5P_DEFAULT);
    check(group >= 0, layer->group);
    const char **paths = pool_take(layer->count, sizeof *paths);
    for (size_t i = 0; i < layer->count; ++i) {
        paths[i] = path_of(layer, layer->tensors[i]);
        write_tensor(from, layer->tensors[i], group, paths[i]);
    }
    write_list(group, "weight_names", paths, layer->count);
    H5Gclose(group);
    H5Pclose(linking);
}

static void write_file(const attn_weights_file *from, const char *path) {
    order found;
    order_find(from, &found);
    const hid_t file = H5Fcreate(path, H5F_ACC_EXCL, H5P_DEFAULT, H5P_DEFAULT);
    check(file >= 0, "the file");
    temporary = path;
    const char **names = pool_take(found.count, sizeof *names);
    for (size_t i = 0; i < found.count; ++i) {
        names[i] = found.layers[i].group;
        write_layer(from, &found.layers[i], file);
    }
    const char *version = attn_weights_metadata(from, "keras_version");
    write_list(file, "layer_names", names, found.count);
    write_text(file, "backend", "tensorflow");
    write_text(file, "keras_version", version && version[0] == '2' ? version : "2.15.0");
    check(H5Fclose(file) >= 0, "the file");
}

static void put_in_place(const char *path) {
    const int descriptor = open(temporary, O_RDONLY | O_CLOEXEC);
    const bool synced = descriptor >= 0 && fsync(descriptor) == 0;
    if (descriptor >= 0) close(descriptor);
    check(synced, "the file to disk");
    if (rename(temporary, path) != 0) refuse(EXIT_IO, "%s", strerrordesc_np(errno));
    temporary = NULL;
}

static void convert(const attn_weights_file *from, const char *path) {
    const char *slash = strrchr(path, '/');
    const char *weights_end = ".weights.h5";
    struct stat about;
    if (strlen(path) >= strlen(weights_end) && strcmp(path + strlen(path) - strlen(weights_end), weights_end) == 0)
        refuse(EXIT_USAGE, "Keras reads another layout from names that end in .weights.h5; name it .h5");
    if (lstat(path, &about) == 0 && !S_ISREG(about.st_mode) && !S_ISLNK(about.st_mode))
        refuse(EXIT_IO, "exists and is not a regular file");
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    write_file(from, pool_text("%.*s.attention-%ld.tmp", slash ? (int)(slash - path + 1) : 0, path, (long)getpid()));
    put_in_place(path);
}

int write_h5(const attn_weights_file *from, const char *path, report *result) {
    refuge here = {.report = result};
    *result = (report){0};
    reader_refuge = &here;
    if (setjmp(here.escape) == 0) convert(from, path);
    H5close();
    if (temporary) unlink(temporary);
    temporary = NULL;
    free(buffer);
    buffer = NULL;
    pool_release();
    reader_refuge = NULL;
    return result->code;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "write_h5.h"

#include "lib/replace.h"
#include "order.h"
#include "pool.h"

#include <errno.h>
#include <hdf5.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MEMORY_STEP ((size_t)4 << 20) /* by which the file in memory grows */
#define ATTRIBUTE_BYTES 64000         /* of one attribute, below the 64 KiB that an object's header holds */

static attn_replacement target = {.descriptor = -1}; /* the file that is being written */
static void *buffer;                                 /* one tensor's data */

static void check(bool good, const char *what) {
    const int cause = errno;
    if (!good && cause == ENOMEM) refuse(EXIT_LIMIT, "out of memory while writing %s", quoted(what));
    if (!good) refuse(EXIT_IO, "writing %s failed", quoted(what));
}

/* A list of names is an attribute of strings of one length. */
static void check_name(const char *name) {
    if (strlen(name) > ATTRIBUTE_BYTES)
        refuse(EXIT_REFUSED, "tensor \"%s\": a name of %zu bytes; a Keras file holds names of at most %d", quoted(name),
               strlen(name), ATTRIBUTE_BYTES);
}

/* ---- Signals, while the file has a name ---- */

static const int ending[] = {SIGINT, SIGTERM, SIGHUP};
enum { ENDING = sizeof ending / sizeof *ending };
static struct sigaction before[ENDING];

/* Ends the program as the signal would have, without the file. */
static void end_without_file(int number) {
    if (target.name) unlink(target.name);
    signal(number, SIG_DFL);
    raise(number);
}

/* A file without a name goes by itself. What is ignored, as under nohup, stays so. */
static void watch_signals(void) {
    struct sigaction action = {.sa_handler = end_without_file};
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < ENDING; ++i)
        if (target.name && before[i].sa_handler != SIG_IGN) sigaction(ending[i], &action, NULL);
}

static void leave_signals(void) {
    for (int i = 0; i < ENDING; ++i) sigaction(ending[i], &before[i], NULL);
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
    for (size_t i = 0; i < count; ++i) check_name(items[i]);
    for (size_t i = 0; i < count; ++i)
        if (strlen(items[i]) > size) size = strlen(items[i]);
    const size_t room = ATTRIBUTE_BYTES / size;
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
               quoted(tensor->dtype_name));
    }
}

static void write_tensor(const attn_weights_file *from, const attn_weights_tensor *tensor, hid_t group,
                         const char *path) {
    hsize_t shape[ATTN_WEIGHTS_MAX_RANK];
    const hid_t type = type_of(tensor);
    check_name(path);
    for (int i = 0; i < tensor->rank; ++i) shape[i] = (hsize_t)tensor->shape[i];
    free(buffer);
    buffer = malloc(tensor->bytes + 1);
    if (!buffer) refuse(EXIT_LIMIT, "out of memory for the tensor \"%s\"", quoted(tensor->name));
    if (attn_weights_read(from, tensor, tensor->dtype, buffer, tensor->bytes) != ATTN_OK)
        refuse(EXIT_IO, "%s", attn_last_error_message());
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
    check_name(layer->group);
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

static void refuse_target(void) {
    refuse(EXIT_IO, "%s%s%s", target.failed, target.cause ? ": " : "",
           target.cause ? strerrordesc_np(target.cause) : "");
}

/* libhdf5 builds the file in memory, for it opens files by name alone, and what is written has none. */
static void write_file(const attn_weights_file *from) {
    order found;
    order_find(from, &found);
    const hid_t in_memory = H5Pcreate(H5P_FILE_ACCESS);
    check(H5Pset_fapl_core(in_memory, MEMORY_STEP, 0) >= 0, "the file");
    const hid_t file = H5Fcreate("memory", H5F_ACC_TRUNC, H5P_DEFAULT, in_memory);
    check(file >= 0, "the file");
    const char **names = pool_take(found.count, sizeof *names);
    for (size_t i = 0; i < found.count; ++i) {
        names[i] = found.layers[i].group;
        write_layer(from, &found.layers[i], file);
    }
    const char *version = attn_weights_metadata(from, "keras_version");
    write_list(file, "layer_names", names, found.count);
    write_text(file, "backend", "tensorflow");
    write_text(file, "keras_version", version && version[0] == '2' ? version : "2.15.0");
    check(H5Fflush(file, H5F_SCOPE_GLOBAL) >= 0, "the file");
    const ssize_t size = H5Fget_file_image(file, NULL, 0);
    void *image = NULL;
    check(size > 0 && H5Fget_vfd_handle(file, H5P_DEFAULT, &image) >= 0, "the file");
    if (!attn_replacement_write(&target, *(void **)image, (size_t)size)) refuse_target();
    H5Fclose(file);
    H5Pclose(in_memory);
}

static void convert(const attn_weights_file *from, const char *path) {
    const char *weights_end = ".weights.h5";
    if (strlen(path) >= strlen(weights_end) && strcmp(path + strlen(path) - strlen(weights_end), weights_end) == 0)
        refuse(EXIT_USAGE, "Keras reads another layout from names that end in .weights.h5; name it .h5");
    if (!attn_replacement_open(&target, path)) refuse_target();
    watch_signals();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    errno = 0;
    write_file(from);
    if (!attn_replacement_commit(&target)) refuse_target();
}

int write_h5(const attn_weights_file *from, const char *path, report *result) {
    refuge here = {.report = result};
    *result = (report){0};
    reader_refuge = &here;
    for (int i = 0; i < ENDING; ++i) sigaction(ending[i], NULL, &before[i]);
    if (setjmp(here.escape) == 0) convert(from, path);
    H5close();
    attn_replacement_abandon(&target);
    leave_signals();
    order_release();
    free(buffer);
    buffer = NULL;
    pool_release();
    reader_refuge = NULL;
    return result->code;
}

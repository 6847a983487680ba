/* SPDX-License-Identifier: Apache-2.0 */
/* Weights and training state in safetensors files. */
#include "examples/nn/model.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const moment_prefixes[NN_MOMENTS] = {"optimiser/m/", "optimiser/v/"};
static const char step_key[] = "nn_step", seed_key[] = "nn_seed";

enum { TENSORS = NN_LAYERS * NN_LAYER_PARAMETERS * (1 + NN_MOMENTS), TENSOR_NAME_SIZE = NN_NAME_SIZE + 16 };

/* The tensors of a file, and where they lie in the model. */
typedef struct tensor_list {
    size_t count;
    struct tensor {
        char name[TENSOR_NAME_SIZE];
        const nn_parameter *parameter;
        size_t array; /* 0: the weights, then the moments */
        int64_t shape[2];
    } tensors[TENSORS];
} tensor_list;

static tensor_list *list_tensors(const nn_model *model, bool state) {
    tensor_list *list = calloc(1, sizeof *list);
    for (size_t a = 0; list && a < (state ? 1 + NN_MOMENTS : 1); a++)
        for (size_t l = 0; l < model->layer_count; l++)
            for (size_t k = 0; k < model->layers[l].parameter_count; k++) {
                const nn_parameter *p = &model->layers[l].parameters[k];
                struct tensor *t = &list->tensors[list->count++];
                *t = (struct tensor){.parameter = p, .array = a, .shape = {(int64_t)p->rows, (int64_t)p->columns}};
                snprintf(t->name, sizeof t->name, "%s%s", a ? moment_prefixes[a - 1] : "", p->name);
            }
    return list;
}

static int rank_of(const nn_parameter *p) { return p->rows ? 2 : 1; }
static const int64_t *shape_of(const struct tensor *t) { return t->parameter->rows ? t->shape : t->shape + 1; }

const nn_parameter *nn_find(const nn_model *model, const char *name) {
    for (size_t l = 0; l < model->layer_count; l++)
        for (size_t k = 0; k < model->layers[l].parameter_count; k++)
            if (!strcmp(model->layers[l].parameters[k].name, name)) return &model->layers[l].parameters[k];
    return NULL;
}

float *nn_model_weight(nn_model *model, const char *name, size_t *count) {
    const nn_parameter *p = model->weights ? nn_find(model, name) : NULL;
    if (count) *count = p ? p->count : 0;
    return p ? model->weights + p->offset : NULL;
}

const float *nn_model_gradient(const nn_model *model, const char *name, size_t *count) {
    const nn_parameter *p = model->weights ? nn_find(model, name) : NULL;
    if (count) *count = p ? p->count : 0;
    return p ? model->shards[0].gradients + p->offset : NULL;
}

/* ---- Writing --------------------------------------------------------------------------------------------------------- */

static attn_status write_file(const nn_model *model, const char *path, const tensor_list *list,
                              const attn_weights_metadata_entry *metadata, size_t metadata_count) {
    attn_weights_entry entries[TENSORS];
    const float *const arrays[] = {model->weights, model->moments[0], model->moments[1]};
    for (size_t i = 0; i < list->count; i++) {
        const struct tensor *t = &list->tensors[i];
        entries[i] = (attn_weights_entry){.name = t->name,
                                          .dtype = ATTN_WEIGHTS_F32,
                                          .rank = rank_of(t->parameter),
                                          .shape = shape_of(t),
                                          .data = arrays[t->array] + t->parameter->offset};
    }
    return attn_weights_write(path, entries, list->count, metadata, metadata_count);
}

bool nn_model_save(nn_model *model, const char *path, bool state, const attn_weights_metadata_entry *metadata,
                   size_t metadata_count) {
    if (!model->compiled || model->failed) return nn_fail(model, "the model is not compiled");
    char step[24], seed[24];
    snprintf(step, sizeof step, "%" PRIu64, model->step);
    snprintf(seed, sizeof seed, "%" PRIu64, model->options.seed);
    tensor_list *list = list_tensors(model, state);
    attn_weights_metadata_entry *all = calloc(metadata_count + 2, sizeof *all);
    attn_status status = ATTN_ERROR_OUT_OF_MEMORY;
    if (list && all) {
        for (size_t i = 0; i < metadata_count; i++) all[i] = metadata[i];
        all[metadata_count] = (attn_weights_metadata_entry){step_key, step};
        all[metadata_count + 1] = (attn_weights_metadata_entry){seed_key, seed};
        status = write_file(model, path, list, all, metadata_count + (state ? 2 : 0));
    }
    free(all);
    free(list);
    return !status || nn_fail(model, "%s: %s", path, attn_last_error_message());
}

/* ---- Reading --------------------------------------------------------------------------------------------------------- */

static bool read_number(nn_model *model, const attn_weights_file *file, const char *key, uint64_t *number) {
    const char *text = attn_weights_metadata(file, key);
    char *end;
    errno = 0;
    if (!text || *text < '0' || *text > '9' || (*number = strtoull(text, &end, 10), *end || errno))
        return nn_fail(model, "no training state: %s is missing or no number", key);
    return true;
}

static bool read_tensor(nn_model *model, const attn_weights_file *file, const struct tensor *t, float *array) {
    const nn_parameter *p = t->parameter;
    const attn_weights_tensor *found = attn_weights_find(file, t->name);
    if (!found) return nn_fail(model, "no tensor %s", t->name);
    const size_t shape_size = (size_t)rank_of(p) * sizeof *found->shape;
    if (found->rank != rank_of(p) || memcmp(found->shape, shape_of(t), shape_size))
        return nn_fail(model, "%s has another shape than the model's", t->name);
    if (attn_weights_read(file, found, ATTN_WEIGHTS_F32, array + p->offset, p->count * sizeof *array))
        return nn_fail(model, "%s", attn_last_error_message());
    return true;
}

/* Into arrays of its own, which take the model's place when all is there. */
static bool read_file(nn_model *model, const attn_weights_file *file, bool state) {
    const size_t count = state ? 1 + NN_MOMENTS : 1;
    uint64_t step = 0, seed = 0;
    if (state && (!read_number(model, file, step_key, &step) || !read_number(model, file, seed_key, &seed)))
        return false;
    float *arrays[1 + NN_MOMENTS] = {0}, **own[] = {&model->weights, &model->moments[0], &model->moments[1]};
    tensor_list *list = list_tensors(model, state);
    bool good = list || nn_fail(model, "no memory");
    for (size_t a = 0; good && a < count; a++)
        good = (arrays[a] = nn_allocate(model->parameters * sizeof(float))) || nn_fail(model, "no memory");
    for (size_t i = 0; good && i < list->count; i++)
        good = read_tensor(model, file, &list->tensors[i], arrays[list->tensors[i].array]);
    for (size_t a = 0; good && a < count; a++) {
        float *before = *own[a];
        *own[a] = arrays[a];
        arrays[a] = before;
    }
    for (size_t a = 0; a < count; a++) free(arrays[a]);
    free(list);
    if (good && state) model->step = step, model->options.seed = seed;
    return good;
}

bool nn_model_load(nn_model *model, const char *path, bool state) {
    if (!model->compiled || model->failed) return nn_fail(model, "the model is not compiled");
    attn_weights_file *file;
    if (attn_weights_open(path, 0, &file)) return nn_fail(model, "%s", attn_last_error_message());
    const bool good = read_file(model, file, state);
    attn_weights_close(file);
    return good;
}

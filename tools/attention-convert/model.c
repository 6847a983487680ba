/* SPDX-License-Identifier: Apache-2.0 */
#include "model.h"

#include "pool.h"
#include "report.h"

#include <ctype.h>
#include <string.h>

layer *model_add_layer(model *to, const char *name, const char *class_name, const config_layer *config) {
    to->layers = pool_grow(to->layers, to->count, sizeof *to->layers);
    layer *added = &to->layers[to->count++];
    *added = (layer){.name = name, .class_name = class_name, .config = config};
    return added;
}

void layer_add_weight(layer *to, weight added) {
    to->weights = pool_grow(to->weights, to->count, sizeof *to->weights);
    to->weights[to->count++] = added;
}

/* ---- The attention layer ---- */

/* In Keras's order within each score; 4.1 has names of its own. */
static const struct {
    const char *role, *alias;
    attn_score score;
} roles[] = {
    {"luong_w", "attention_score_vec", ATTN_SCORE_LUONG}, {"bahdanau_v", NULL, ATTN_SCORE_BAHDANAU},
    {"bahdanau_w1", NULL, ATTN_SCORE_BAHDANAU},           {"bahdanau_w2", NULL, ATTN_SCORE_BAHDANAU},
    {"w_c", "attention_vector", ATTN_SCORE_LUONG},
};

#define ROLES (sizeof roles / sizeof *roles)

/* Whether name is base, or base and the "_1" that Keras adds to make it unique. */
static bool is_numbered(const char *name, const char *base) {
    const size_t length = base ? strlen(base) : 0;
    if (!base || strncmp(name, base, length) != 0) return false;
    if (!name[length]) return true;
    return name[length] == '_' && name[length + 1] &&
           strspn(name + length + 1, "0123456789") == strlen(name + length + 1);
}

const char *attention_role(const char *sublayer) {
    for (size_t i = 0; i < ROLES; ++i)
        if (is_numbered(sublayer, roles[i].role) || is_numbered(sublayer, roles[i].alias)) return roles[i].role;
    return NULL;
}

void name_by_order(layer *attention) {
    const size_t first = attention->count == 2 ? 0 : 1;
    if (attention->count != 2 && attention->count != 4)
        refuse(EXIT_REFUSED, "layer \"%s\": %zu weights, want 2 (luong) or 4 (bahdanau)", quoted(attention->name),
               attention->count);
    for (size_t i = 0; i < attention->count; ++i)
        attention->weights[i].name = roles[i + 1 == attention->count ? ROLES - 1 : first + i].role;
}

static const object *weight_named(const layer *of, const char *name) {
    for (size_t i = 0; i < of->count; ++i)
        if (strcmp(of->weights[i].name, name) == 0) return of->weights[i].data;
    return NULL;
}

bool is_complete(const layer *attention) {
    const bool luong = weight_named(attention, "luong_w");
    if (!weight_named(attention, "w_c") || attention->count != (luong ? 2 : 4)) return false;
    return luong || (weight_named(attention, "bahdanau_v") && weight_named(attention, "bahdanau_w1") &&
                     weight_named(attention, "bahdanau_w2"));
}

static void check_shape(const layer *of, const char *name, int rank, int64_t rows, int64_t columns) {
    const object *data = weight_named(of, name);
    const int64_t found[2] = {data->rank > 0 ? data->shape[0] : 1, data->rank > 1 ? data->shape[1] : 1};
    if (data->rank != rank || found[0] != rows || (rank > 1 && found[1] != columns))
        refuse(EXIT_REFUSED, "layer \"%s\": %s has %d dimensions, the first %lld and %lld; want %d, %lld and %lld",
               quoted(of->name), name, data->rank, (long long)found[0], (long long)found[1], rank, (long long)rows,
               (long long)columns);
}

static void check_attention(layer *of) {
    const bool luong = weight_named(of, "luong_w");
    const char *name = quoted(of->name);
    if (!is_complete(of))
        refuse(EXIT_REFUSED,
               "layer \"%s\": its %zu weights are neither luong_w and w_c nor bahdanau_v, bahdanau_w1, bahdanau_w2 and "
               "w_c",
               name, of->count);
    const object *score_matrix = weight_named(of, luong ? "luong_w" : "bahdanau_w2"), *w_c = weight_named(of, "w_c");
    if (score_matrix->rank != 2 || w_c->rank != 2)
        refuse(EXIT_REFUSED, "layer \"%s\": a weight that is not a matrix", name);
    const int64_t features = score_matrix->shape[0], units = w_c->shape[1];
    if (features < 1 || units < 1) refuse(EXIT_REFUSED, "layer \"%s\": a weight without elements", name);
    check_shape(of, luong ? "luong_w" : "bahdanau_w2", 2, features, features);
    check_shape(of, "w_c", 2, 2 * features, units);
    if (!luong) {
        check_shape(of, "bahdanau_w1", 2, features, features);
        check_shape(of, "bahdanau_v", 2, features, 1);
    }
    for (size_t i = 0; i < of->count; ++i) {
        const attn_weights_dtype dtype = of->weights[i].data->dtype;
        if (dtype != ATTN_WEIGHTS_F32 && dtype != ATTN_WEIGHTS_F64 && dtype != ATTN_WEIGHTS_F16 &&
            dtype != ATTN_WEIGHTS_BF16)
            refuse(EXIT_REFUSED, "layer \"%s\": %s is of dtype %s, not of floating point", name, of->weights[i].name,
                   attn_weights_dtype_name(dtype));
    }
    of->score = luong ? ATTN_SCORE_LUONG : ATTN_SCORE_BAHDANAU;
    of->features = features;
    of->units = units;
    if (of->config && of->config->attention &&
        (of->config->units != units || strcmp(of->config->score, luong ? "luong" : "bahdanau") != 0))
        refuse(EXIT_REFUSED,
               "layer \"%s\": its weights are those of %s with %lld units, its configuration says %s with %lld", name,
               luong ? "luong" : "bahdanau", (long long)units, of->config->score, (long long)of->config->units);
}

/* ---- Other layers: shapes against the configuration ---- */

static void check_dense(const layer *of, const config_layer *config) {
    const object *kernel = weight_named(of, "kernel");
    if (!kernel || config->units < 0) return;
    check_shape(of, "kernel", 2, kernel->shape[0], config->units);
    if (weight_named(of, "bias")) check_shape(of, "bias", 1, config->units, 1);
}

static void check_recurrent(const layer *of, const config_layer *config, const char *prefix, int64_t gates) {
    const object *kernel = weight_named(of, pool_text("%skernel", prefix));
    if (!kernel || config->units < 1) return;
    check_shape(of, pool_text("%skernel", prefix), 2, kernel->shape[0], gates * config->units);
    if (weight_named(of, pool_text("%srecurrent_kernel", prefix)))
        check_shape(of, pool_text("%srecurrent_kernel", prefix), 2, config->units, gates * config->units);
}

static int64_t gates_of(const char *class_name) {
    static const struct {
        const char *name;
        int64_t gates;
    } recurrent[] = {{"LSTM", 4}, {"GRU", 3}, {"SimpleRNN", 1}};
    for (size_t i = 0; i < sizeof recurrent / sizeof *recurrent; ++i)
        if (strcmp(class_name, recurrent[i].name) == 0) return recurrent[i].gates;
    return 0;
}

static void check_layer(layer *of) {
    const config_layer *config = of->config;
    for (size_t i = 0; i < of->count; ++i) {
        const object *data = of->weights[i].data;
        if (data->unfit) refuse(EXIT_REFUSED, "%s: %s", quoted(tree_path(data)), data->unfit);
        for (size_t k = 0; k < i; ++k)
            if (strcmp(of->weights[k].name, of->weights[i].name) == 0)
                refuse(EXIT_REFUSED, "layer \"%s\": two weights named %s", quoted(of->name),
                       quoted(of->weights[i].name));
    }
    if (of->attention) {
        check_attention(of);
    } else if (config && strcmp(config->class_name, "Dense") == 0) {
        check_dense(of, config);
    } else if (config && strcmp(config->class_name, "Embedding") == 0) {
        if (weight_named(of, "embeddings") && config->input_dim >= 0 && config->output_dim >= 0)
            check_shape(of, "embeddings", 2, config->input_dim, config->output_dim);
    } else if (config && config->wrapped && strcmp(config->class_name, "Bidirectional") == 0) {
        check_recurrent(of, config->wrapped, "forward_", gates_of(config->wrapped->class_name));
    } else if (config && gates_of(config->class_name) > 0) {
        check_recurrent(of, config, "", gates_of(config->class_name));
    }
}

void model_check(model *checked) {
    for (size_t i = 0; i < checked->count; ++i) {
        for (size_t k = 0; k < i; ++k)
            if (checked->layers[k].count && checked->layers[i].count &&
                strcmp(checked->layers[k].name, checked->layers[i].name) == 0)
                refuse(EXIT_REFUSED, "two layers named \"%s\"", quoted(checked->layers[i].name));
        check_layer(&checked->layers[i]);
    }
}

/* ---- Debug mode ---- */

/* Whether a layer is one of the sublayers that debug mode makes: one matrix, no bias, a sublayer's name or (where layers
 * have no names) any. */
static bool is_loose_matrix(const layer *of) {
    return !of->attention && of->count == 1 && !of->weights[0].data->unfit && of->weights[0].data->rank == 2 &&
           strcmp(of->weights[0].name, "kernel") == 0;
}

/* Without names: the model's only matrices without bias, in Keras's order, fit the layer's shapes. */
static bool fits_by_shape(layer *const *loose, size_t count) {
    if (count != 2 && count != 4) return false;
    const int64_t features = loose[0]->weights[0].data->shape[0];
    for (size_t i = 0; i < count; ++i) {
        const int64_t *shape = loose[i]->weights[0].data->shape;
        const bool last = i + 1 == count, column = count == 4 && i == 2; /* w1, w2, v, w_c: the order of the graph */
        if (shape[0] != (last ? 2 * features : features) || (!last && shape[1] != (column ? 1 : features)))
            return false;
    }
    return true;
}

static const char *unused_name(const model *in) {
    const char *name = "attention";
    for (size_t number = 0, i = 0; i < in->count; ++i)
        if (strcmp(in->layers[i].name, name) == 0) {
            name = pool_text("attention_%zu", ++number);
            i = (size_t)-1;
        }
    return name;
}

void model_fold_debug(model *folded) {
    layer **loose = pool_take(folded->count + 1, sizeof *loose);
    size_t count = 0;
    for (size_t i = 0; i < folded->count; ++i) {
        if (folded->layers[i].attention) return;
        if (!is_loose_matrix(&folded->layers[i])) continue;
        if (folded->named_by_groups || attention_role(folded->layers[i].name)) loose[count++] = &folded->layers[i];
    }
    static const char *const graph_order[] = {"bahdanau_w1", "bahdanau_w2", "bahdanau_v", "w_c"};
    if (count == 0 || (folded->named_by_groups && !fits_by_shape(loose, count))) return;
    layer attention = {.name = unused_name(folded), .class_name = "Attention", .attention = true};
    for (size_t i = 0; i < count; ++i) {
        const char *role = !folded->named_by_groups ? attention_role(loose[i]->name)
                           : count == 4             ? graph_order[i]
                                                    : roles[i == 0 ? 0 : ROLES - 1].role;
        weight own = loose[i]->weights[0];
        own.name = role;
        layer_add_weight(&attention, own);
    }
    if (!is_complete(&attention)) return;
    note("layer \"%s\": made of the layers that debug mode lays out one by one%s", attention.name,
         folded->named_by_groups ? ", found by their shapes" : "");
    /* The first of them becomes the layer, the others empty. */
    *loose[0] = attention;
    for (size_t i = 1; i < count; ++i) loose[i]->count = 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The library's layer: one plan to predict, one to train and one for the way back, each for a shard, in this thread. */
#include "examples/nn/layers.h"

#include <string.h>

/* What a shard needs, cut from what it keeps. */
typedef struct memory {
    int32_t *starts; /* (NN_SHARD) */
    void *kept;
    void *workspace; /* of whichever plan runs */
    size_t kept_size, workspace_size;
} memory;

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

/* Cuts the memory and answers how much of it there is; counts alone where base is NULL. Every part is a multiple of the alignment. */
static size_t carve(const nn_layer *layer, char *base, memory *m) {
    const size_t range = NN_SHARD * sizeof(int32_t);
    *m = (memory){.kept_size = attn_plan_kept_size(layer->training_plan)};
    m->workspace_size =
        larger(attn_plan_workspace_size(layer->forward_plan),
               larger(attn_plan_workspace_size(layer->training_plan), attn_plan_workspace_size(layer->backward_plan)));
    if (base) {
        m->starts = (int32_t *)(void *)base;
        m->kept = base + range;
        m->workspace = base + range + m->kept_size;
    }
    return range + m->kept_size + m->workspace_size;
}

static size_t kept_bytes(const nn_layer *layer) {
    memory m;
    return carve(layer, NULL, &m);
}

static attn_layer_weights weights_of(const nn_layer *layer, const nn_pass *pass) {
    attn_layer_weights weights = ATTN_LAYER_WEIGHTS_INIT;
    if (layer->score == ATTN_SCORE_LUONG) {
        weights.luong_w = nn_weights_of(layer, pass, 0);
    } else if (layer->score == ATTN_SCORE_BAHDANAU) {
        weights.bahdanau_v = nn_weights_of(layer, pass, 0);
        weights.bahdanau_w1 = nn_weights_of(layer, pass, 1);
        weights.bahdanau_w2 = nn_weights_of(layer, pass, 2);
    }
    weights.w_c = nn_weights_of(layer, pass, layer->parameter_count - 1);
    return weights;
}

static void take(nn_pass *pass, attn_status status) {
    if (pass->status == ATTN_OK) pass->status = status;
}

static void forward(const nn_layer *layer, nn_pass *pass, const float *in, float *out, void *kept) {
    memory m;
    carve(layer, kept, &m);
    attn_layer_forward_args args = ATTN_LAYER_FORWARD_ARGS_INIT;
    args.batch = (int64_t)pass->items;
    args.h = in;
    args.weights = weights_of(layer, pass);
    args.output = out;
    args.attention_weights = pass->attention;
    args.workspace = m.workspace, args.workspace_size = m.workspace_size;
    if (pass->data->starts) {
        for (size_t i = 0; i < pass->items; i++) m.starts[i] = pass->data->starts[nn_row(pass, i)];
        args.starts = m.starts;
    }
    if (pass->training) args.kept = m.kept, args.kept_size = m.kept_size;
    take(pass, attn_layer_forward(pass->training ? layer->training_plan : layer->forward_plan, &args));
}

static void backward(const nn_layer *layer, nn_pass *pass, const float *in, const float *out, const float *grad_out,
                     float *grad_in, void *kept) {
    (void)out;
    memory m;
    carve(layer, kept, &m);
    attn_layer_backward_args args = ATTN_LAYER_BACKWARD_ARGS_INIT;
    args.batch = (int64_t)pass->items;
    args.h = in;
    args.weights = weights_of(layer, pass);
    args.starts = pass->data->starts ? m.starts : NULL;
    args.kept = m.kept, args.kept_size = m.kept_size;
    args.grad_output = grad_out;
    args.grad_h = grad_in;
    if (layer->score == ATTN_SCORE_LUONG) {
        args.gradients.luong_w = nn_gradients_of(layer, pass, 0);
    } else if (layer->score == ATTN_SCORE_BAHDANAU) {
        args.gradients.bahdanau_v = nn_gradients_of(layer, pass, 0);
        args.gradients.bahdanau_w1 = nn_gradients_of(layer, pass, 1);
        args.gradients.bahdanau_w2 = nn_gradients_of(layer, pass, 2);
    }
    args.gradients.w_c = nn_gradients_of(layer, pass, layer->parameter_count - 1);
    args.workspace = m.workspace, args.workspace_size = m.workspace_size;
    take(pass, attn_layer_backward(layer->backward_plan, &args));
}

static bool compile(nn_layer *layer, attn_context *context) {
    attn_layer_desc desc = ATTN_LAYER_DESC_INIT;
    desc.score = layer->score;
    desc.batch = NN_SHARD;
    desc.timesteps = (int64_t)layer->in.steps;
    desc.features = (int64_t)layer->in.width;
    desc.units = (int64_t)layer->out.width;
    if (attn_layer_forward_plan(context, &desc, &layer->forward_plan)) return false;
    desc.flags = ATTN_LAYER_TRAINING;
    if (attn_layer_forward_plan(context, &desc, &layer->training_plan)) return false;
    desc.flags = 0;
    return !attn_layer_backward_plan(context, &desc, &layer->backward_plan);
}

static void destroy(nn_layer *layer) {
    attn_plan_destroy(layer->forward_plan);
    attn_plan_destroy(layer->training_plan);
    attn_plan_destroy(layer->backward_plan);
}

const nn_kind nn_attention_kind = {.name = "attention",
                                   .forward = forward,
                                   .backward = backward,
                                   .kept_bytes = kept_bytes,
                                   .compile = compile,
                                   .destroy = destroy};

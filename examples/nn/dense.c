/* SPDX-License-Identifier: Apache-2.0 */
#include "examples/nn/layers.h"

#include <cblas.h>
#include <math.h>

enum { KERNEL, BIAS };

/* The logits, and room for their gradients. */
static size_t kept_bytes(const nn_layer *layer) { return 2 * NN_SHARD * layer->out.width * sizeof(float); }

static float activate(nn_activation activation, float x) {
    switch (activation) {
    case NN_RELU:
        return x > 0 ? x : 0;
    case NN_SIGMOID:
        return 1 / (1 + expf(-x));
    default:
        return x;
    }
}

/* By the activation's value. */
static float slope(nn_activation activation, float y) {
    switch (activation) {
    case NN_RELU:
        return y > 0;
    case NN_SIGMOID:
        return y * (1 - y);
    default:
        return 1;
    }
}

static void forward(const nn_layer *layer, nn_pass *pass, const float *in, float *out, void *kept) {
    const size_t width = layer->out.width, count = pass->items * width;
    const float *bias = nn_weights_of(layer, pass, BIAS);
    float *logits = kept;
    for (size_t i = 0; i < count; i++) logits[i] = bias[i % width];
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)pass->items, (int)width, (int)layer->in.width, 1, in,
                (int)layer->in.width, nn_weights_of(layer, pass, KERNEL), (int)width, 1, logits, (int)width);
    for (size_t i = 0; i < count; i++) out[i] = activate(layer->activation, logits[i]);
}

static void backward(const nn_layer *layer, nn_pass *pass, const float *in, const float *out, const float *grad_out,
                     float *grad_in, void *kept) {
    const int items = (int)pass->items, width = (int)layer->out.width, depth = (int)layer->in.width;
    const size_t count = pass->items * layer->out.width;
    float *grad = (float *)kept + NN_SHARD * layer->out.width, *bias = nn_gradients_of(layer, pass, BIAS);
    for (size_t i = 0; i < count; i++) {
        grad[i] = layer->logit_gradient ? grad_out[i] : grad_out[i] * slope(layer->activation, out[i]);
        bias[i % layer->out.width] += grad[i];
    }
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, depth, width, items, 1, in, depth, grad, width, 1,
                nn_gradients_of(layer, pass, KERNEL), width);
    if (grad_in)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, items, depth, width, 1, grad, width,
                    nn_weights_of(layer, pass, KERNEL), width, 0, grad_in, depth);
}

const nn_kind nn_dense_kind = {.name = "dense", .forward = forward, .backward = backward, .kept_bytes = kept_bytes};

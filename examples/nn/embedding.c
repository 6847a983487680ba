/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens to rows of a table. A token outside the table is an error of the pass. */
#include "examples/nn/layers.h"

#include <string.h>

static const int32_t *tokens_of(const nn_layer *layer, const nn_pass *pass, size_t item) {
    return pass->data->tokens + nn_row(pass, item) * layer->out.steps;
}

static void forward(const nn_layer *layer, nn_pass *pass, const float *in, float *out, void *kept) {
    (void)in, (void)kept;
    const size_t steps = layer->out.steps, width = layer->out.width, vocabulary = layer->parameters[0].rows;
    const float *table = nn_weights_of(layer, pass, 0);
    for (size_t i = 0; i < pass->items; i++) {
        const int32_t *tokens = tokens_of(layer, pass, i);
        for (size_t t = 0; t < steps; t++, out += width) {
            if (tokens[t] < 0 || (size_t)tokens[t] >= vocabulary) {
                pass->status = ATTN_ERROR_RANGE;
                return;
            }
            memcpy(out, table + (size_t)tokens[t] * width, width * sizeof *out);
        }
    }
}

static void backward(const nn_layer *layer, nn_pass *pass, const float *in, const float *out, const float *grad_out,
                     float *grad_in, void *kept) {
    (void)in, (void)out, (void)grad_in, (void)kept;
    const size_t steps = layer->out.steps, width = layer->out.width;
    float *table = nn_gradients_of(layer, pass, 0);
    for (size_t i = 0; i < pass->items; i++) {
        const int32_t *tokens = tokens_of(layer, pass, i);
        for (size_t t = 0; t < steps; t++, grad_out += width) {
            float *row = table + (size_t)tokens[t] * width;
            for (size_t j = 0; j < width; j++) row[j] += grad_out[j];
        }
    }
}

const nn_kind nn_embedding_kind = {.name = "embedding", .forward = forward, .backward = backward};

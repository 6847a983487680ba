/* SPDX-License-Identifier: Apache-2.0 */
/* The mask is not kept: it is a function of the seed, the step and the place, and made again on the way back. */
#include "examples/nn/layers.h"
#include "examples/nn/random.h"

#include <math.h>
#include <string.h>

static void apply(const nn_layer *layer, const nn_pass *pass, const float *in, float *out) {
    const size_t count = layer->in.steps * layer->in.width, pairs = (count + 1) / 2;
    const uint64_t key = nn_random_key(pass->seed, nn_dropout_stream(layer->index, pass->step));
    const uint32_t below = (uint32_t)lround(ldexp(layer->rate, 32));
    const float scale = (float)(1 / (1 - layer->rate));
    for (size_t i = 0; i < pass->items; i++)
        pass->machine->cells->dropout(count, key + NN_GOLDEN * ((pass->first + i) * pairs), below, scale,
                                      in + i * count, out + i * count);
}

static void forward(const nn_layer *layer, nn_pass *pass, const float *in, float *out, void *kept) {
    (void)kept;
    if (pass->training)
        apply(layer, pass, in, out);
    else
        memcpy(out, in, pass->items * layer->in.steps * layer->in.width * sizeof *out);
}

static void backward(const nn_layer *layer, nn_pass *pass, const float *in, const float *out, const float *grad_out,
                     float *grad_in, void *kept) {
    (void)in, (void)out, (void)kept;
    if (grad_in) apply(layer, pass, grad_out, grad_in);
}

const nn_kind nn_dropout_kind = {.name = "dropout", .forward = forward, .backward = backward};

/* SPDX-License-Identifier: Apache-2.0 */
/* A shard goes through all time steps by itself. A step is one product: x_t and h_(t-1) lie side by side in a row of
 * `inputs`, as the two kernels lie one below the other among the weights. The way back is one product too, with the kernels
 * transposed beforehand, since OpenBLAS multiplies by a transposed matrix at half the speed. The kernels' gradients are
 * summed over several steps at a time: a product of as many rows as that is worth its packing. */
#include "examples/nn/layers.h"

#include <stdlib.h>
#include <string.h>

enum { KERNEL, RECURRENT_KERNEL, BIAS };

enum {
    GRADIENT_STEPS = 8
}; /* products over 16 to 512 rows are equally fast, and the gradients of 8 steps stay in the cache */

/* All rows of a step, of every item, lie together. In inference two steps take turns. */
typedef struct memory {
    size_t across, gates, units; /* widths of the rows below */
    float *inputs;               /* (T + 1, items, across): x_t, then h_(t-1) */
    float *activations;          /* (T, items, gates) */
    float *cells;                /* (T + 1, items, units): c_(t-1) */
    float *grad_gates;           /* (GRADIENT_STEPS, items, gates) */
    float *grad_inputs;          /* (items, across) */
    float *grad_cell;            /* (items, units) */
    float *zeros;                /* (units) */
} memory;

/* Cuts the memory and answers how much of it there is; counts alone where base is NULL. */
static size_t carve(const nn_layer *layer, float *base, size_t items, memory *m) {
    const size_t units = layer->out.width, steps = layer->in.steps;
    *m = (memory){.across = layer->in.width + units, .gates = 4 * units, .units = units};
    size_t used = 0;
    float **parts[] = {&m->inputs,      &m->activations, &m->cells, &m->grad_gates,
                       &m->grad_inputs, &m->grad_cell,   &m->zeros};
    const size_t rows[] = {(steps + 1) * m->across,
                           steps * m->gates,
                           (steps + 1) * units,
                           GRADIENT_STEPS * m->gates,
                           m->across,
                           units,
                           units};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        *parts[i] = base ? base + used : NULL;
        used += (rows[i] * items + 15) / 16 * 16; /* whole cache lines */
    }
    return used * sizeof(float);
}

static size_t kept_bytes(const nn_layer *layer) {
    memory m;
    return carve(layer, NULL, NN_SHARD, &m);
}

/* Whether the layer gives h_t, and where that of an item lies in its output. */
static bool gives(const nn_layer *layer, size_t t) { return layer->sequences || t + 1 == layer->in.steps; }
static size_t place(const nn_layer *layer, size_t item, size_t t) {
    return (layer->sequences ? item * layer->in.steps + t : item) * layer->out.width;
}

static void forward(const nn_layer *layer, nn_pass *pass, const float *in, float *out, void *kept) {
    const size_t items = pass->items, steps = layer->in.steps, features = layer->in.width;
    const float *kernels = nn_weights_of(layer, pass, KERNEL), *bias = nn_weights_of(layer, pass, BIAS);
    memory m;
    carve(layer, kept, items, &m);
    const size_t inputs = items * m.across, cells = items * m.units, gates = items * m.gates;
    for (size_t i = 0; i < items; i++) memset(m.inputs + i * m.across + features, 0, m.units * sizeof(float));
    memset(m.cells, 0, cells * sizeof(float));
    for (size_t t = 0; t < steps; t++) {
        const size_t now = pass->training ? t : t % 2, next = pass->training ? t + 1 : (t + 1) % 2;
        float *x = m.inputs + now * inputs, *hidden = m.inputs + next * inputs + features;
        float *sums = m.activations + (pass->training ? t : 0) * gates;
        for (size_t i = 0; i < items; i++)
            memcpy(x + i * m.across, in + (i * steps + t) * features, features * sizeof(float));
        pass->machine->multiply(items, m.gates, m.across, x, kernels, sums);
        for (size_t i = 0; i < items; i++) {
            pass->machine->cells->lstm_forward(m.units, sums + i * m.gates, bias, m.cells + now * cells + i * m.units,
                                               m.cells + next * cells + i * m.units, hidden + i * m.across,
                                               gives(layer, t) ? out + place(layer, i, t) : NULL);
        }
    }
}

/* What the next step back reads has long left the caches; it comes while a product is computed. */
static void fetch(const float *p, size_t count) {
    for (size_t i = 0; i < count; i += 16) __builtin_prefetch(p + i);
}

static void backward(const nn_layer *layer, nn_pass *pass, const float *in, const float *out, const float *grad_out,
                     float *grad_in, void *kept) {
    (void)in, (void)out;
    const size_t items = pass->items, steps = layer->in.steps, features = layer->in.width;
    float *kernels = nn_gradients_of(layer, pass, KERNEL), *bias = nn_gradients_of(layer, pass, BIAS);
    memory m;
    carve(layer, kept, items, &m);
    const size_t inputs = items * m.across, cells = items * m.units, gates = items * m.gates;
    memset(m.grad_inputs, 0, inputs * sizeof(float)); /* nothing comes from after the last step */
    memset(m.grad_cell, 0, cells * sizeof(float));
    memset(m.zeros, 0, m.units * sizeof(float));
    for (size_t t = steps; t-- > 0;) {
        const size_t slot = t % GRADIENT_STEPS;
        float *grad = m.grad_gates + slot * gates;
        for (size_t i = 0; i < items; i++) {
            const size_t row = i * m.units;
            const float *above = gives(layer, t) ? grad_out + place(layer, i, t) : m.zeros;
            pass->machine->cells->lstm_backward(m.units, m.activations + t * gates + i * m.gates,
                                                m.cells + t * cells + row, m.cells + (t + 1) * cells + row, above,
                                                m.grad_inputs + i * m.across + features, m.grad_cell + row,
                                                grad + i * m.gates, bias);
        }
        if (t > 0) {
            fetch(m.activations + (t - 1) * gates, gates);
            fetch(m.cells + (t - 1) * cells, cells);
            for (size_t i = 0; layer->sequences && i < items; i++) fetch(grad_out + place(layer, i, t - 1), m.units);
        }
        if (grad_in || t > 0) pass->machine->multiply(items, m.across, m.gates, grad, layer->transposed, m.grad_inputs);
        for (size_t i = 0; grad_in && i < items; i++)
            memcpy(grad_in + (i * steps + t) * features, m.grad_inputs + i * m.across, features * sizeof(float));
        if (slot > 0) continue;
        const size_t summed = steps - t < GRADIENT_STEPS ? steps - t : GRADIENT_STEPS;
        pass->machine->add_transposed(m.across, m.gates, summed * items, m.inputs + t * inputs, grad, kernels);
    }
}

static bool compile(nn_layer *layer, attn_context *context) {
    (void)context;
    layer->transposed = malloc((layer->in.width + layer->out.width) * 4 * layer->out.width * sizeof(float));
    return layer->transposed;
}

static void destroy(nn_layer *layer) { free(layer->transposed); }

static void prepare(const nn_layer *layer, const float *weights) {
    const size_t rows = layer->in.width + layer->out.width, columns = 4 * layer->out.width;
    const float *kernels = weights + layer->parameters[KERNEL].offset;
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++) layer->transposed[j * rows + i] = kernels[i * columns + j];
}

const nn_kind nn_lstm_kind = {.name = "lstm",
                              .forward = forward,
                              .backward = backward,
                              .kept_bytes = kept_bytes,
                              .prepare = prepare,
                              .compile = compile,
                              .destroy = destroy};

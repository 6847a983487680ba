/* SPDX-License-Identifier: Apache-2.0 */
/* The layers of a safetensors file in Keras's order. */
#ifndef ATTN_CONVERT_ORDER_H
#define ATTN_CONVERT_ORDER_H

#include "attention/weights.h"

typedef struct ordered_layer {
    const char *group; /* Keras's layer */
    const attn_weights_tensor **tensors;
    size_t count;
} ordered_layer;

typedef struct order {
    ordered_layer *layers;
    size_t count;
} order;

/* From the metadata that converting from Keras left; without it from names and kinds, with a note. Every tensor of the
 * file is in it once; refuses otherwise. */
void order_find(const attn_weights_file *file, order *out);

/* The part of a tensor's name behind its layer. */
const char *order_weight_name(const attn_weights_tensor *tensor);

/* Frees what a refusal left; to be called after order_find, whatever came of it. */
void order_release(void);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Writes a model as a safetensors file into a memory file. */
#ifndef ATTN_CONVERT_LAYOUT_H
#define ATTN_CONVERT_LAYOUT_H

#include "model.h"

/* Tensors are "<layer>/<weight>". part: some layers were left out, so what concerns the whole model is not written. */
void layout_write(const model *in, bool part, size_t file_size, int descriptor);

void layout_release(void);

#endif

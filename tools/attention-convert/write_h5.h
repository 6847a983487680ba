/* SPDX-License-Identifier: Apache-2.0 */
/* The way back: a safetensors file as a weights file that Keras loads. */
#ifndef ATTN_CONVERT_WRITE_H5_H
#define ATTN_CONVERT_WRITE_H5_H

#include "attention/weights.h"
#include "report.h"

/* Writes the tensors of an open file for load_weights, atomically: in the layout of save_weights("x.h5"). Returns the exit
 * code that is also in *result. */
int write_h5(const attn_weights_file *from, const char *path, report *result);

#endif

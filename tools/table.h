/* SPDX-License-Identifier: Apache-2.0 */
/* A weights file as a table on standard output: metadata, tensors, attention layers. */
#ifndef ATTN_TOOLS_TABLE_H
#define ATTN_TOOLS_TABLE_H

#include "attention/weights.h"

void table_print(const attn_weights_file *file);

#endif

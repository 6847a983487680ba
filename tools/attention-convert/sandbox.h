/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the reader in a process of its own, with limits on time and memory and, where the kernel allows, without any system
 * call that could reach outside. */
#ifndef ATTN_CONVERT_SANDBOX_H
#define ATTN_CONVERT_SANDBOX_H

#include "reader.h"

/* Reads the Keras file behind input (of size bytes) and returns the exit code. On EXIT_CONVERTED *output is a memory file
 * with a safetensors file, which the caller closes; its content is still the reader's word and must be checked. */
int sandbox_run(int input, size_t size, const reader_options *options, report *result, int *output);

#endif

/* The implementations cpu:openblas:…, matrix products of OpenBLAS with the softmax between them: full implementations,
 * for the sizes where OpenBLAS is fastest and as a yardstick for the fused ones.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef ATTN_CPU_COMPOSITION_H
#define ATTN_CPU_COMPOSITION_H

#include "lib/backend.h"

extern const attn_implementation attn_composition_implementations[];
extern const size_t attn_composition_implementations_count; /* 0 in a build without OpenBLAS */

#endif

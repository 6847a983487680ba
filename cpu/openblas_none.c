/* In place of openblas.c, composition.c and what else stands on them in a build without OpenBLAS (ATTN_OPENBLAS=OFF).
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "cpu/blocks.h"
#include "cpu/composition.h"
#include "cpu/openblas.h"
#include "cpu/sdpa.h"

void attn_openblas_open(attn_openblas *blas) {
    *blas = (attn_openblas){.text = "no OpenBLAS: this library was built without it"};
}

void attn_openblas_close(attn_openblas *blas) { (void)blas; }

const attn_implementation attn_composition_implementations[1] = {{.name = NULL}};
const size_t attn_composition_implementations_count = 0;

const attn_implementation attn_sdpa_openblas_implementations[1] = {{.name = NULL}};
const size_t attn_sdpa_openblas_implementations_count = 0;

const attn_implementation attn_matmul_openblas_implementations[1] = {{.name = NULL}};
const size_t attn_matmul_openblas_implementations_count = 0;

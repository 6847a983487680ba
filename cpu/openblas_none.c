/* In place of openblas.c, composition.c and what else stands on them in a build without OpenBLAS (ATTN_OPENBLAS=OFF).
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "cpu/blocks.h"
#include "cpu/composition.h"
#include "cpu/openblas.h"
#include "cpu/sdpa.h"

void attn_openblas_switch_off(attn_openblas_slot *slot, const char *by) {
    (void)slot;
    (void)by;
}

const attn_openblas *attn_openblas_of(attn_openblas_slot *slot) {
    static const attn_openblas none = {.text = "no OpenBLAS: this library was built without it"};
    (void)slot;
    return &none;
}

const attn_implementation attn_composition_implementations[1] = {{.name = NULL}};
const size_t attn_composition_implementations_count = 0;

const attn_implementation attn_sdpa_openblas_implementations[1] = {{.name = NULL}};
const size_t attn_sdpa_openblas_implementations_count = 0;

const attn_implementation attn_matmul_openblas_implementations[1] = {{.name = NULL}};
const size_t attn_matmul_openblas_implementations_count = 0;

/* SPDX-License-Identifier: Apache-2.0 */
/* Prints what a context says of its BLAS. */
#include "attention/attention.h"

#include <stdio.h>

int main(void) {
    attn_context *context;
    if (attn_context_create(NULL, &context)) return 1;
    puts(attn_context_blas(context));
    attn_context_destroy(context);
    return 0;
}

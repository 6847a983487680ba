/* SPDX-License-Identifier: Apache-2.0 */
/* The installed library from C: H is 1 wherever it is looked at, so the context is 1 and the output tanh(2). */
#include <attention/attention.h>
#include <attention/weights.h>

#include <stdio.h>
#include <stdlib.h>

enum { B = 2, T = 3, D = 2, U = 1 };

static int fail(const char *what) {
    fprintf(stderr, "consumer: %s: %s\n", what, attn_last_error_message());
    return 1;
}

static int run(attn_plan *plan) {
    const float h[B * T * D] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, luong_w[D * D] = {1, 2, 3, 4}, w_c[2 * D * U] = {0.5, 0.5, 0.5, 0.5};
    const double tanh_2 = 0.96402758007581688;
    float output[B * U] = {0};
    attn_layer_forward_args args = ATTN_LAYER_FORWARD_ARGS_INIT;
    args.h = h;
    args.weights.luong_w = luong_w;
    args.weights.w_c = w_c;
    args.output = output;
    args.workspace_size = attn_plan_workspace_size(plan);
    args.workspace = aligned_alloc(ATTN_WORKSPACE_ALIGNMENT, args.workspace_size + ATTN_WORKSPACE_ALIGNMENT);
    const attn_status status = attn_layer_forward(plan, &args);
    free(args.workspace);
    if (status) return fail("forward");
    for (int i = 0; i < B * U; i++)
        if (output[i] < tanh_2 - 1e-6 || output[i] > tanh_2 + 1e-6) {
            fprintf(stderr, "consumer: output[%d] is %.9g, want %.9g\n", i, (double)output[i], tanh_2);
            return 1;
        }
    return 0;
}

int main(void) {
    attn_context *context;
    attn_plan *plan;
    attn_layer_desc desc = ATTN_LAYER_DESC_INIT;
    desc.batch = B, desc.timesteps = T, desc.features = D, desc.units = U;
    if (attn_context_create(NULL, &context)) return fail("context");
    if (attn_layer_forward_plan(context, &desc, &plan)) return fail("plan");
    attn_context_destroy(context);
    const int failed = run(plan);
    attn_plan_destroy(plan);
    return failed;
}

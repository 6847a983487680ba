/* SPDX-License-Identifier: Apache-2.0 */
/* The installed library from C++: every initialiser, and a dot product with one attended key, whose context is that key. */
#include <attention/attention.h>
#include <attention/weights.h>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

static int fail(const char *what) {
    std::fprintf(stderr, "consumer: %s: %s\n", what, attn_last_error_message());
    return 1;
}

int main() {
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.threads = 1;
    attn_context *created_context = nullptr;
    if (attn_context_create(&options, &created_context)) return fail("context");
    const std::unique_ptr<attn_context, decltype(&attn_context_destroy)> context(created_context, attn_context_destroy);

    attn_layer_desc desc = ATTN_LAYER_DESC_INIT;
    desc.score = ATTN_SCORE_DOT;
    desc.dtype = ATTN_FLOAT64;
    desc.batch = 1;
    desc.timesteps = 1;
    desc.features = 3;
    attn_plan *created_plan = nullptr;
    if (attn_layer_forward_plan(context.get(), &desc, &created_plan)) return fail("plan");
    const std::unique_ptr<attn_plan, decltype(&attn_plan_destroy)> plan(created_plan, attn_plan_destroy);

    const std::vector<double> h = {0.25, -2.0, 8.0};
    std::vector<double> result(3);
    const std::size_t size = attn_plan_workspace_size(plan.get());
    std::vector<char> memory(size + ATTN_WORKSPACE_ALIGNMENT);
    void *workspace = memory.data();
    std::size_t space = memory.size();
    attn_layer_forward_args args = ATTN_LAYER_FORWARD_ARGS_INIT;
    args.weights = ATTN_LAYER_WEIGHTS_INIT;
    args.h = h.data();
    args.context = result.data();
    args.workspace = std::align(ATTN_WORKSPACE_ALIGNMENT, size, workspace, space);
    args.workspace_size = size;
    if (attn_layer_forward(plan.get(), &args)) return fail("forward");
    if (result != h) {
        std::fprintf(stderr, "consumer: the context of one key is not that key\n");
        return 1;
    }
    return std::string(attn_version()).empty() ? 1 : 0;
}

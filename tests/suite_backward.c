/* SPDX-License-Identifier: Apache-2.0 */
/* The backward pass beyond its values, which suite_values walks: the reference itself against differences, bits, special
 * values, faults. */
#include "tests/suite.h"

#include <math.h>

enum { RESULTS = 4, GRADIENTS = 7 };

static void train(kit_problem *problem, const char *forward, int threads, uint64_t flags) {
    attn_layer_desc desc = problem->desc;
    desc.flags = ATTN_LAYER_TRAINING | flags;
    attn_plan *plan = walk_plan(&desc, forward, threads);
    cr_assert(kit_problem_run(problem, plan, KIT_CONTEXT) == ATTN_OK, "%s", attn_last_error_message());
    attn_plan_destroy(plan);
}

/* NULL: the library's choice. */
static attn_plan *plan_backward(const kit_problem *problem, const char *name, int threads) {
    attn_context *context = kit_context(threads, name);
    attn_plan *plan;
    cr_assert(attn_layer_backward_plan(context, &problem->desc, &plan) == ATTN_OK, "%s", attn_last_error_message());
    attn_context_destroy(context);
    return plan;
}

static void back(kit_problem *problem, const char *backward, int threads, unsigned incoming) {
    attn_plan *plan = plan_backward(problem, backward, threads);
    cr_assert(kit_problem_back(problem, plan, incoming, KIT_ALL_GRADIENTS, 0) == ATTN_OK, "%s: %s",
              attn_plan_implementation(plan), attn_last_error_message());
    attn_plan_destroy(plan);
}

/* ---- Differences ---------------------------------------------------------------------------------- */

/* A loss of all four results, by weights that are finite everywhere. */
typedef struct loss_weights {
    double *values[RESULTS];
    size_t counts[RESULTS];
} loss_weights;

static loss_weights weigh(kit_problem *problem) {
    const reference_input in = kit_problem_input(problem);
    const size_t rows = in.batch * in.queries;
    loss_weights w = {.counts = {rows * in.units, rows * in.features, rows * in.timesteps, rows}};
    for (int i = 0; i < RESULTS; i++) {
        w.values[i] = malloc((w.counts[i] + 1) * sizeof(double));
        for (size_t j = 0; j < w.counts[i]; j++) w.values[i][j] = sin((double)(j * 7 + (size_t)i * 3 + 1));
        kit_problem_set_incoming(problem, 1u << i, w.values[i]);
    }
    return w;
}

static double loss(const kit_problem *problem, const loss_weights *w) {
    const reference_input in = kit_problem_input(problem);
    long double *results[RESULTS], sum = 0;
    for (int i = 0; i < RESULTS; i++) results[i] = calloc(w->counts[i] + 1, sizeof *results[i]);
    reference_layer_float64(&in, &(reference_result){results[0], results[1], results[2], results[3]});
    for (int i = 0; i < RESULTS; i++) {
        for (size_t j = 0; j < w->counts[i]; j++)
            if (!isinf(results[i][j])) sum += (long double)w->values[i][j] * results[i][j];
        free(results[i]);
    }
    return (double)sum;
}

static double element(const void *gradient, size_t i) {
    double value;
    memcpy(&value, (const char *)gradient + i * sizeof value, sizeof value);
    return value;
}

/* Every third element or so of each input, against the reference's gradient and those of all implementations. */
static void compare_differences(const char *name) {
    const double eps = 1e-6;
    kit_problem *problem = kit_problem_make(find_case(name), KIT_GUARD_BEHIND);
    const loss_weights w = weigh(problem);
    double *const inputs[GRADIENTS] = {problem->content.h,           problem->content.query,
                                       problem->content.luong_w,     problem->content.bahdanau_w1,
                                       problem->content.bahdanau_w2, problem->content.bahdanau_v,
                                       problem->content.w_c};
    const char *names[WALK_IMPLEMENTATIONS];
    const size_t count = walk_usable_backward(&problem->spec, names);
    cr_assert(count > 0);
    for (size_t n = 0; n <= count; n++) { /* the last time: the reference */
        if (n < count) {
            train(problem, NULL, 1, 0);
            back(problem, names[n], 1, KIT_ALL_OUTPUTS);
        }
        for (int g = 0; g < GRADIENTS; g++) {
            size_t elements, bytes = 0;
            const long double *expected = kit_problem_expected_gradient(problem, KIT_ALL_OUTPUTS, 1u << g, &elements);
            void *computed = n < count ? kit_problem_gradient(problem, 1u << g, &bytes) : NULL;
            for (size_t i = 0; i < elements; i += 3) {
                const double before = inputs[g][i];
                inputs[g][i] = before + eps;
                const double above = loss(problem, &w);
                inputs[g][i] = before - eps;
                const double difference = (above - loss(problem, &w)) / (2 * eps),
                             value = computed ? element(computed, i) : (double)expected[i];
                inputs[g][i] = before;
                cr_assert(fabs(value - difference) <= 1e-5 + 1e-3 * fabs(difference),
                          "%s: %s: gradient %d, element %zu is %g, the difference %g", name,
                          n < count ? names[n] : "reference", g, i, value, difference);
            }
            free(computed);
        }
    }
    for (int i = 0; i < RESULTS; i++) free(w.values[i]);
    kit_problem_free(problem);
}

Test(backward, central_differences) {
    static const char *const names[] = {"luong_odd_f64",      "bahdanau_odd_f64",         "dot_odd_f64",
                                        "luong_mask_all_f64", "bahdanau_query_wider_f64", "dot_mask_all_queries_f64"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) compare_differences(names[i]);
}

/* ---- Bits ----------------------------------------------------------------------------------------- */

static const char *const some_cases[] = {"luong_range_d100_f32",      "bahdanau_range_d100_f32", "dot_queries_all_f64",
                                         "bahdanau_queries_d100_f32", "luong_t4099_f32",         "bahdanau_b65_f64",
                                         "luong_time_major_all_f32",  "bahdanau_score_wide_f32"};

Test(backward, threads_change_no_bit) {
    static const int threads[] = {1, 2, 3, 8};
    for (size_t i = 0; i < sizeof some_cases / sizeof *some_cases; i++) {
        kit_problem *problem = kit_problem_make(find_case(some_cases[i]), KIT_GUARD_BEHIND);
        const char *names[WALK_IMPLEMENTATIONS];
        const size_t count = walk_usable_backward(&problem->spec, names);
        train(problem, NULL, 2, 0);
        for (size_t n = 0; n < count; n++) {
            bits first = {NULL, 0};
            for (size_t t = 0; t < sizeof threads / sizeof *threads; t++) {
                back(problem, names[n], threads[t], KIT_ALL_OUTPUTS);
                bits now = gradient_bits(problem);
                cr_assert(t == 0 || bits_equal(&first, &now), "%s: %s: other bits with %d threads", some_cases[i],
                          names[n], threads[t]);
                if (t == 0)
                    first = now;
                else
                    bits_free(&now);
            }
            bits_free(&first);
        }
        kit_problem_free(problem);
    }
}

/* What a forward pass keeps does not depend on its threads either. */
Test(backward, training_bits) {
    for (size_t i = 0; i < sizeof some_cases / sizeof *some_cases; i++) {
        kit_problem *problem = kit_problem_make(find_case(some_cases[i]), KIT_GUARD_BEHIND);
        const char *names[WALK_IMPLEMENTATIONS];
        const size_t count = walk_usable_flags(&problem->spec, ATTN_LAYER_TRAINING, names);
        for (size_t n = 0; n < count; n++) {
            bits all[2];
            for (int t = 0; t < 2; t++) {
                train(problem, names[n], 1 + 4 * t, 0);
                back(problem, NULL, 1, KIT_ALL_OUTPUTS);
                all[t] = gradient_bits(problem);
            }
            cr_assert(bits_equal(&all[0], &all[1]), "%s: %s", some_cases[i], names[n]);
            bits_free(&all[0]);
            bits_free(&all[1]);
        }
        kit_problem_free(problem);
    }
}

/* The rows of an item do not change with those behind it. */
Test(backward, fewer_items_change_no_bit) {
    for (size_t i = 0; i < sizeof some_cases / sizeof *some_cases; i++) {
        kit_problem *problem = kit_problem_make(find_case(some_cases[i]), KIT_GUARD_BEHIND);
        const char *names[WALK_IMPLEMENTATIONS];
        const size_t count = walk_usable_backward(&problem->spec, names);
        for (size_t n = 0; n < count; n++) {
            if (strstr(names[n], ":openblas:")) continue;
            void *rows[2];
            size_t size;
            for (int fewer = 0; fewer < 2; fewer++) {
                problem->args.batch = fewer ? 1 : problem->spec.batch;
                train(problem, "cpu:scalar", 1, 0);
                back(problem, names[n], 3, KIT_ALL_OUTPUTS);
                rows[fewer] = kit_problem_gradient(problem, KIT_GRAD_H, &size);
            }
            cr_assert(!memcmp(rows[0], rows[1], size / (size_t)problem->spec.batch), "%s: %s", some_cases[i], names[n]);
            free(rows[0]);
            free(rows[1]);
        }
        problem->args.batch = problem->spec.batch;
        kit_problem_free(problem);
    }
}

/* ---- Special values --------------------------------------------------------------------------------- */

/* With a feature that is 1 everywhere, its row of luong_w's gradient is the scores' gradients summed up, times the query:
 * they cancel. */
Test(backward, gradients_of_scores_sum_to_nothing) {
    const kit_case *spec = find_case("luong_d33_f32");
    kit_problem *scratch = kit_problem_make(spec, KIT_GUARD_BEHIND);
    kit_content content = scratch->content;
    scratch->content = (kit_content){0};
    kit_problem_free(scratch);
    const size_t D = (size_t)spec->features, rows = (size_t)(spec->batch * spec->timesteps);
    for (size_t s = 0; s < rows; s++) content.h[s * D] = 1;
    kit_problem *problem = kit_problem_from(spec, &content, KIT_GUARD_BEHIND);
    const char *names[WALK_IMPLEMENTATIONS];
    const size_t count = walk_usable_backward(spec, names);
    train(problem, NULL, 1, 0);
    for (size_t n = 0; n < count; n++) {
        size_t bytes;
        back(problem, names[n], 2, KIT_OUTPUT | KIT_CONTEXT | KIT_WEIGHTS);
        float *gradient = kit_problem_gradient(problem, KIT_GRAD_LUONG_W, &bytes);
        kit_problem_check_back(problem);
        const double *limits = kit_problem_gradient_gates(problem, KIT_GRAD_LUONG_W);
        for (size_t j = 0; j < D; j++)
            cr_assert(fabs((double)gradient[j]) <= limits[j], "%s: %g, gate %g", names[n], (double)gradient[j],
                      limits[j]);
        free(gradient);
    }
    kit_problem_free(problem);
}

/* Rows that have a large part in common and differ little, a long T: the gradients of the scores cancel, and so does every gradient that is
 * their sum. They are where a feature is 1 everywhere, in K's gradient; where a column of W2 is 0, so that tanh does not change over
 * time, in W1's and v's, and in W2's with that feature. */
static kit_problem *make_level(const kit_case *spec) {
    kit_problem *scratch = kit_problem_make(spec, KIT_GUARD_BEHIND);
    kit_content content = scratch->content;
    scratch->content = (kit_content){0};
    kit_problem_free(scratch);
    const size_t D = (size_t)spec->features, A = (size_t)(spec->score_width ? spec->score_width : spec->features);
    for (size_t i = 0; i < (size_t)(spec->batch * spec->timesteps) * D; i++)
        content.h[i] = i % D ? (float)(3 + 0.01 * content.h[i]) : 1;
    for (size_t i = 0; content.luong_w && i < D * D; i++) content.luong_w[i] = (float)(0.03 * content.luong_w[i]);
    for (size_t d = 0; content.bahdanau_w2 && d < D; d++) {
        content.bahdanau_w1[d * A] = (float)(0.1 * content.bahdanau_w1[d * A]);
        content.bahdanau_w2[d * A] = 0;
    }
    return kit_problem_from(spec, &content, KIT_GUARD_BEHIND);
}

/* The largest |gc| |H[s]|: with x, the size of what cancels. */
static double level_size(const kit_problem *problem, const double *gc) {
    const size_t D = (size_t)problem->spec.features;
    double most = 0;
    for (size_t s = 0; s < (size_t)problem->spec.timesteps; s++) {
        double size = 0;
        for (size_t d = 0; d < D; d++) size += fabs(gc[d] * problem->content.h[s * D + d]);
        most = fmax(most, size);
    }
    return most;
}

static void expect_nothing(const kit_problem *problem, const char *name, unsigned which, size_t count, size_t stride,
                           double limit) {
    size_t bytes;
    float *gradient = kit_problem_gradient(problem, which, &bytes);
    for (size_t i = 0; i < count; i++)
        cr_assert(fabs((double)gradient[i * stride]) <= limit, "%s: gradient %u, element %zu: %g, limit %g", name,
                  which, i * stride, (double)gradient[i * stride], limit);
    free(gradient);
}

Test(backward, what_sums_up_gradients_of_scores_cancels) {
    static const struct {
        const char *name;
        int64_t timesteps;
    } cases[] = {{"luong_t4099_f32", 512}, {"bahdanau_t4099_f32", 4099}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kit_case shorter = *find_case(cases[i].name), *spec = &shorter;
        shorter.timesteps = cases[i].timesteps;
        kit_problem *problem = make_level(spec);
        const reference_input in = kit_problem_input(problem);
        const size_t D = in.features, A = in.score_width;
        double gc[64] = {0}, largest_x = 0, largest_v = 0;
        for (size_t d = 0; d < D; d++) {
            gc[d] = (float)(1 + 0.3 * sin((double)d));
            largest_x = fmax(largest_x, fabs(problem->content.h[(size_t)(spec->timesteps - 1) * D + d]));
        }
        for (size_t k = 0; problem->content.bahdanau_v && k < A; k++)
            largest_v = fmax(largest_v, fabs(problem->content.bahdanau_v[k]));
        kit_problem_set_incoming(problem, KIT_CONTEXT, gc);
        const double limit = 0x1p-24 * level_size(problem, gc);
        const char *names[WALK_IMPLEMENTATIONS], *forward[WALK_IMPLEMENTATIONS];
        const size_t count = walk_usable_backward(spec, names),
                     forwards = walk_usable_flags(spec, ATTN_LAYER_TRAINING, forward);
        for (size_t n = 0; n < count * forwards; n++) {
            const char *name = names[n / forwards];
            train(problem, forward[n % forwards], 1, 0);
            back(problem, name, 2, KIT_CONTEXT);
            if (spec->score == ATTN_SCORE_LUONG) {
                expect_nothing(problem, name, KIT_GRAD_LUONG_W, D, 1, limit * largest_x);
            } else {
                expect_nothing(problem, name, KIT_GRAD_W1, D, A, limit * largest_v * largest_x);
                expect_nothing(problem, name, KIT_GRAD_W2, 1, A, limit * largest_v);
                expect_nothing(problem, name, KIT_GRAD_V, 1, A, limit);
            }
        }
        kit_problem_free(problem);
    }
}

/* NaN in one item's incoming gradient reaches its rows and the sums over items, no other item's rows. */
Test(backward, nan_stays_in_its_item) {
    static const char *const names[] = {"luong_lengths_f32", "bahdanau_range_f32", "dot_queries_range_f64"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        kit_problem *problem = kit_problem_make(find_case(names[i]), KIT_GUARD_BEHIND);
        const reference_input in = kit_problem_input(problem);
        const size_t each = in.queries * in.features;
        double *values = calloc(in.batch * each, sizeof *values);
        for (size_t j = 0; j < in.batch * each; j++) values[j] = j / each == 4 ? NAN : 0.5;
        kit_problem_set_incoming(problem, KIT_CONTEXT, values);
        free(values);
        const char *implementations[WALK_IMPLEMENTATIONS];
        const size_t count = walk_usable_backward(&problem->spec, implementations);
        train(problem, NULL, 2, 0);
        for (size_t n = 0; n < count; n++) {
            back(problem, implementations[n], 2, KIT_CONTEXT);
            const kit_verdict verdict = kit_problem_check_back(problem);
            cr_assert(verdict.error <= 1, "%s: %s: %g: %s", names[i], implementations[n], verdict.error, verdict.where);
        }
        kit_problem_free(problem);
    }
}

/* ---- Faults ------------------------------------------------------------------------------------------- */

static void refused(attn_status got, attn_status want, const char *part, const char *what) {
    cr_assert(got == want, "%s: status %d, wanted %d: %s", what, (int)got, (int)want, attn_last_error_message());
    cr_assert(strstr(attn_last_error_message(), part), "%s: \"%s\" is not in: %s", what, part,
              attn_last_error_message());
}

typedef struct call {
    kit_problem *problem;
    attn_plan *forward, *backward;
    attn_layer_backward_args args;
} call;

static call make_call(const char *name) {
    call c = {.problem = kit_problem_make(find_case(name), KIT_GUARD_BEHIND)};
    attn_layer_desc desc = c.problem->desc;
    desc.flags = ATTN_LAYER_TRAINING;
    c.forward = walk_plan(&desc, NULL, 1);
    c.backward = plan_backward(c.problem, NULL, 1);
    cr_assert(kit_problem_run(c.problem, c.forward, KIT_CONTEXT) == ATTN_OK, "%s", attn_last_error_message());
    cr_assert(kit_problem_back(c.problem, c.backward, KIT_OUTPUT, KIT_ALL_GRADIENTS, 0) == ATTN_OK, "%s",
              attn_last_error_message());
    c.args = kit_problem_back_args(c.problem, KIT_ALL_OUTPUTS, KIT_ALL_GRADIENTS);
    c.args.workspace_size = attn_plan_workspace_size(c.backward);
    c.args.workspace = kit_alloc(c.args.workspace_size, KIT_GUARD_BEHIND);
    return c;
}

static void free_call(call *c) {
    kit_free(c->args.workspace);
    attn_plan_destroy(c->forward);
    attn_plan_destroy(c->backward);
    kit_problem_free(c->problem);
}

#define BAD(field, value, status, part)                                                                                \
    do {                                                                                                               \
        attn_layer_backward_args args = c.args;                                                                        \
        args.field = value;                                                                                            \
        refused(attn_layer_backward(c.backward, &args), status, part, #field " = " #value);                            \
    } while (0)

Test(backward, faulty_arguments) {
    call c = make_call("luong_odd_f32");
    bits before = gradient_bits(c.problem);
    refused(attn_layer_backward(NULL, &c.args), ATTN_ERROR_INVALID_ARGUMENT, "plan", "plan NULL");
    refused(attn_layer_backward(c.backward, NULL), ATTN_ERROR_INVALID_ARGUMENT, "args", "args NULL");
    refused(attn_layer_backward(c.forward, &c.args), ATTN_ERROR_INVALID_ARGUMENT, "is one of the layer's forward pass",
            "direction");
    refused(attn_layer_forward(c.backward, &c.problem->args), ATTN_ERROR_INVALID_ARGUMENT,
            "is one of the layer's backward pass", "direction");
    BAD(struct_size, 8, ATTN_ERROR_INVALID_ARGUMENT, "args.struct_size");
    BAD(weights.struct_size, 8, ATTN_ERROR_INVALID_ARGUMENT, "args.weights.struct_size");
    BAD(gradients.struct_size, 4000, ATTN_ERROR_INVALID_ARGUMENT, "args.gradients.struct_size");
    BAD(accumulate, 8, ATTN_ERROR_UNSUPPORTED, "accumulate: has unknown bits 0x8");
    BAD(h, NULL, ATTN_ERROR_INVALID_ARGUMENT, "h: is NULL");
    BAD(weights.w_c, NULL, ATTN_ERROR_INVALID_ARGUMENT, "weights.w_c: is NULL");
    BAD(query, c.args.h, ATTN_ERROR_INVALID_ARGUMENT, "query: is given");
    BAD(grad_query, c.args.grad_h, ATTN_ERROR_INVALID_ARGUMENT, "grad_query: is given");
    BAD(gradients.bahdanau_v, c.args.grad_h, ATTN_ERROR_INVALID_ARGUMENT, "gradients.bahdanau_v: is given");
    BAD(batch, 4, ATTN_ERROR_RANGE, "args.batch");
    BAD(workspace_size, c.args.workspace_size - 1, ATTN_ERROR_WORKSPACE, "workspace_size");
    BAD(workspace, NULL, ATTN_ERROR_INVALID_ARGUMENT, "workspace: is NULL");
    BAD(grad_h_time_stride, 4, ATTN_ERROR_SHAPE, "grad_h_time_stride: is 4");
    BAD(grad_output_row_stride, -1, ATTN_ERROR_SHAPE, "grad_output_row_stride: is -1");
    BAD(grad_h, (char *)c.args.grad_h + 1, ATTN_ERROR_ALIGNMENT, "grad_h");
    BAD(grad_h, (void *)(uintptr_t)c.args.h, ATTN_ERROR_OVERLAP, "grad_h: overlaps h");
    BAD(grad_h, (void *)(uintptr_t)c.args.kept, ATTN_ERROR_OVERLAP, "overlap");
    BAD(gradients.w_c, c.args.grad_h, ATTN_ERROR_OVERLAP, "overlap");
    BAD(gradients.luong_w, (void *)(uintptr_t)c.args.weights.luong_w, ATTN_ERROR_OVERLAP, "gradients.luong_w");
    attn_layer_backward_args none = c.args;
    none.grad_output = none.grad_context = none.grad_attention_weights = none.grad_lse = NULL;
    refused(attn_layer_backward(c.backward, &none), ATTN_ERROR_INVALID_ARGUMENT, "want an incoming gradient", "none");
    none = c.args;
    none.grad_h = none.gradients.luong_w = none.gradients.w_c = NULL;
    refused(attn_layer_backward(c.backward, &none), ATTN_ERROR_INVALID_ARGUMENT, "want something to compute", "none");
    bits after = gradient_bits(c.problem);
    cr_assert(bits_equal(&before, &after), "a refused call wrote");
    bits_free(&before);
    bits_free(&after);
    free_call(&c);
}

/* kept is what a forward pass in training left, of the same sizes, and nothing else. */
Test(backward, foreign_kept) {
    call c = make_call("bahdanau_odd_f32");
    BAD(kept, NULL, ATTN_ERROR_INVALID_ARGUMENT, "kept: is NULL");
    BAD(kept, (const char *)c.args.kept + 4, ATTN_ERROR_ALIGNMENT, "kept");
    BAD(kept_size, c.args.kept_size - 1, ATTN_ERROR_WORKSPACE, "kept_size");
    BAD(batch, 2, ATTN_ERROR_INVALID_ARGUMENT, "kept: was filled for batch 3, want 2");
    BAD(timesteps, 6, ATTN_ERROR_INVALID_ARGUMENT, "kept: was filled for timesteps 7, want 6");
    void *other = kit_alloc(c.args.kept_size, KIT_GUARD_BEHIND);
    BAD(kept, other, ATTN_ERROR_INVALID_ARGUMENT, "kept: was not filled");
    memcpy(other, c.args.kept, c.args.kept_size); /* moved, to the same alignment: sound */
    attn_layer_backward_args args = c.args;
    args.kept = other;
    cr_assert(attn_layer_backward(c.backward, &args) == ATTN_OK, "%s", attn_last_error_message());
    kit_free(other);
    train(c.problem, NULL, 1, ATTN_LAYER_RECOMPUTE);
    args = kit_problem_back_args(c.problem, KIT_ALL_OUTPUTS, KIT_ALL_GRADIENTS);
    cr_assert(args.kept_size < c.args.kept_size, "computing again keeps less");
    args.workspace = c.args.workspace, args.workspace_size = c.args.workspace_size;
    refused(attn_layer_backward(c.backward, &args), ATTN_ERROR_WORKSPACE, "kept_size", "a smaller kept");
    free_call(&c);
}

Test(backward, forward_and_kept) {
    kit_problem *problem = kit_problem_make(find_case("dot_odd_f32"), KIT_GUARD_BEHIND);
    attn_plan *plain = walk_plan(&problem->desc, NULL, 1);
    attn_layer_desc desc = problem->desc;
    desc.flags = ATTN_LAYER_TRAINING;
    attn_plan *training = walk_plan(&desc, NULL, 1);
    cr_assert(attn_plan_kept_size(NULL) == 0 && attn_plan_kept_size(plain) == 0);
    const size_t size = attn_plan_kept_size(training), workspace = attn_plan_workspace_size(training);
    cr_assert(size > 0 && size % ATTN_WORKSPACE_ALIGNMENT == 0);
    attn_layer_forward_args args = problem->args;
    args.workspace_size = workspace + attn_plan_workspace_size(plain);
    args.workspace = kit_alloc(args.workspace_size / 64 * 64 + 64, KIT_GUARD_BEHIND);
    args.kept = kit_alloc(size, KIT_GUARD_BEHIND);
    args.kept_size = size;
    refused(attn_layer_forward(plain, &args), ATTN_ERROR_INVALID_ARGUMENT, "kept: is given", "not in training");
    cr_assert(attn_layer_forward(training, &args) == ATTN_OK, "%s", attn_last_error_message());
    args.kept_size = size - 1;
    refused(attn_layer_forward(training, &args), ATTN_ERROR_WORKSPACE, "kept_size", "short");
    args.kept_size = size;
    args.context = args.kept;
    refused(attn_layer_forward(training, &args), ATTN_ERROR_OVERLAP, "overlaps", "overlap");
    kit_free(args.kept);
    args.context = problem->args.context, args.kept = NULL;
    refused(attn_layer_forward(training, &args), ATTN_ERROR_INVALID_ARGUMENT, "kept: is NULL", "NULL");
    kit_free(args.workspace);
    attn_plan_destroy(plain);
    attn_plan_destroy(training);
    kit_problem_free(problem);
}

/* Each explained once, the chosen one the plan's. */
typedef struct explained {
    size_t count, chosen;
    char name[96];
} explained;

static void take_explanation(void *user, const char *implementation, int chosen, const char *refusal) {
    explained *e = user;
    e->count++;
    cr_assert(strstr(implementation, ":backward:") && !(chosen && refusal), "%s", implementation);
    if (!chosen) return;
    e->chosen++;
    snprintf(e->name, sizeof e->name, "%s", implementation);
}

Test(backward, explanation) {
    kit_problem *problem = kit_problem_make(find_case("bahdanau_odd_f32"), KIT_GUARD_BEHIND);
    attn_context *context = kit_context(1, NULL);
    explained e = {0, 0, ""};
    cr_assert(attn_layer_backward_explain(context, &problem->desc, take_explanation, &e) == ATTN_OK);
    attn_plan *plan;
    cr_assert(attn_layer_backward_plan(context, &problem->desc, &plan) == ATTN_OK);
    cr_assert(e.count >= 6 && e.chosen == 1 && !strcmp(e.name, attn_plan_implementation(plan)), "%zu, %zu, %s", e.count,
              e.chosen, e.name);
    attn_plan_destroy(plan);
    refused(attn_layer_backward_explain(NULL, &problem->desc, take_explanation, &e), ATTN_ERROR_INVALID_ARGUMENT,
            "context", "NULL");
    refused(attn_layer_backward_plan(NULL, &problem->desc, &plan), ATTN_ERROR_INVALID_ARGUMENT, "context", "NULL");
    cr_assert(plan == NULL);
    attn_context_destroy(context);
    kit_problem_free(problem);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Which implementation is chosen, and that the answer to "is this supported?" is what planning does. */
#include "tests/suite.h"

/* The benchmark's rows on the best instruction set that is allowed: the fused implementation of that very set, by name. The
 * scalar build is a fallback, not a choice: there the composition may win. */
Test(choice, benchmark_rows_are_fused) {
    attn_context *context = kit_context(2, NULL);
    size_t count, rows = 0;
    const kit_case *cases = kit_cases(&count);
    for (size_t i = 0; i < count; i++) {
        if (!(cases[i].flags & KIT_BENCH)) continue;
        attn_layer_desc desc = ATTN_LAYER_DESC_INIT;
        desc.score = cases[i].score, desc.dtype = cases[i].dtype, desc.batch = cases[i].batch,
        desc.timesteps = cases[i].timesteps;
        desc.features = cases[i].features, desc.units = cases[i].units;
        attn_plan *plan;
        cr_assert(attn_layer_forward_plan(context, &desc, &plan) == ATTN_OK, "%s: %s", cases[i].name,
                  attn_last_error_message());
        char wanted[96];
        snprintf(wanted, sizeof wanted, "cpu:%s:%s:forward:%s", attn_context_isa(context), kit_score_name(desc.score),
                 kit_dtype_name(desc.dtype));
        if (strcmp(attn_context_isa(context), "scalar"))
            cr_assert(!strcmp(attn_plan_implementation(plan), wanted), "%s runs %s, meant for %s", cases[i].name,
                      attn_plan_implementation(plan), wanted);
        attn_plan_destroy(plan);
        rows++;
    }
    cr_assert(rows == 14, "%zu benchmark rows", rows);
    attn_context_destroy(context);
}

/* A fused implementation does its own arithmetic: without any BLAS in sight it is there all the same, with the same bits. */
Test(choice, fused_does_without_blas) {
    static const char *const cases[] = {"luong_imdb_one_f32", "bahdanau_imdb_one_f32", "dot_d100_f64"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *names[WALK_IMPLEMENTATIONS];
        const size_t count = walk_usable(find_case(cases[i]), names);
        size_t fused = 0;
        for (size_t j = 0; j < count; j++) fused += is_batch_invariant(find_case(cases[i]), names[j]);
        cr_assert(fused > 0, "%s: no fused implementation among %zu", cases[i], count);
    }
}

typedef struct told {
    size_t lines, chosen, usable;
    char name[96];
} told;

static void listen(void *user, const char *implementation, int chosen, const char *refusal) {
    told *t = user;
    t->lines++;
    t->usable += refusal == NULL;
    if (!chosen) return;
    t->chosen++;
    snprintf(t->name, sizeof t->name, "%s", implementation);
}

static void compare(attn_context *context, const attn_layer_desc *desc, const char *what) {
    told t = {0};
    attn_plan *plan;
    const attn_status said = attn_layer_forward_explain(context, desc, listen, &t),
                      did = attn_layer_forward_plan(context, desc, &plan);
    cr_assert(said == did, "%s: explain says %s, planning %s", what, attn_status_string(said), attn_status_string(did));
    if (did == ATTN_OK)
        cr_assert(t.chosen == 1 && !strcmp(t.name, attn_plan_implementation(plan)), "%s: %s, not %s", what, t.name,
                  attn_plan_implementation(plan));
    if (did == ATTN_ERROR_UNSUPPORTED) cr_assert(t.chosen == 0 && t.usable == 0, "%s", what);
    attn_plan_destroy(plan);
}

Test(choice, explain_agrees_with_planning) {
    attn_context *context = kit_context(2, NULL);
    size_t count, names = 0;
    while (attn_context_implementation_name(context, names)) names++;
    const kit_case *cases = kit_cases(&count);
    for (size_t i = 0; i < count; i++) {
        kit_case small = cases[i];
        small.distinct = small.batch = small.batch ? 1 : 0;
        kit_problem *problem = kit_problem_make(&small, KIT_GUARD_BEHIND);
        compare(context, &problem->desc, cases[i].name);
        kit_problem_free(problem);
    }
    for (size_t i = 0; i < names; i++) {
        attn_context *forced = kit_context(1, attn_context_implementation_name(context, i));
        for (int score = ATTN_SCORE_LUONG; score <= ATTN_SCORE_DOT; score++)
            for (int dtype = ATTN_FLOAT32; dtype <= ATTN_FLOAT64; dtype++) {
                attn_layer_desc desc = ATTN_LAYER_DESC_INIT;
                desc.score = (attn_score)score, desc.dtype = (attn_dtype)dtype;
                desc.batch = desc.timesteps = desc.features = desc.units = 3;
                compare(forced, &desc, attn_context_implementation_name(context, i));
            }
        attn_context_destroy(forced);
    }
    attn_layer_desc bad = ATTN_LAYER_DESC_INIT;
    compare(context, &bad, "features 0");
    attn_context_destroy(context);
}

/* device:isa or library:score:direction:dtype, each name once. */
Test(choice, names_follow_the_grammar) {
    attn_context *context = kit_context(1, NULL);
    const char *name;
    for (size_t i = 0; (name = attn_context_implementation_name(context, i)); i++) {
        char device[16], library[16], score[16], direction[16], dtype[16], rest;
        const int fields = sscanf(name, "%15[a-z0-9]:%15[a-z0-9]:%15[a-z]:%15[a-z]:%15[a-z0-9]%c", device, library,
                                  score, direction, dtype, &rest);
        cr_assert(fields == 5, "%s", name);
        for (size_t j = 0; j < i; j++)
            cr_assert(strcmp(name, attn_context_implementation_name(context, j)), "%s twice", name);
    }
    attn_context_destroy(context);
}

Test(choice, batch_invariant_contexts_avoid_compositions) {
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.flags = ATTN_CONTEXT_BATCH_INVARIANT;
    attn_context *context;
    cr_assert(attn_context_create(&options, &context) == ATTN_OK);
    for (int score = ATTN_SCORE_LUONG; score <= ATTN_SCORE_DOT; score++)
        for (int dtype = ATTN_FLOAT32; dtype <= ATTN_FLOAT64; dtype++) {
            attn_layer_desc desc = ATTN_LAYER_DESC_INIT;
            desc.score = (attn_score)score, desc.dtype = (attn_dtype)dtype;
            desc.batch = 4, desc.timesteps = 100, desc.features = 2000, desc.units = 10;
            attn_plan *plan;
            cr_assert(attn_layer_forward_plan(context, &desc, &plan) == ATTN_OK, "%s", attn_last_error_message());
            cr_assert(!strstr(attn_plan_implementation(plan), "openblas"), "%s", attn_plan_implementation(plan));
            attn_plan_destroy(plan);
        }
    attn_context_destroy(context);
}

/* Nor are they to be had by force. */
Test(choice, batch_invariant_contexts_refuse_forced_compositions) {
    attn_context *all = kit_context(1, NULL);
    const char *names[WALK_IMPLEMENTATIONS];
    const size_t count =
        kit_implementations(all, "forward", ATTN_SCORE_LUONG, ATTN_FLOAT32, names, WALK_IMPLEMENTATIONS);
    kit_problem *problem = kit_problem_make(find_case("luong_d64_f32"), KIT_GUARD_BEHIND);
    for (size_t i = 0; i < count; i++) {
        if (!strstr(names[i], "openblas")) continue;
        attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
        options.flags = ATTN_CONTEXT_BATCH_INVARIANT, options.implementation = names[i];
        attn_context *context;
        attn_plan *plan;
        cr_assert(attn_context_create(&options, &context) == ATTN_OK, "%s", attn_last_error_message());
        cr_assert(attn_layer_forward_plan(context, &problem->desc, &plan) == ATTN_ERROR_UNSUPPORTED);
        cr_assert(strstr(attn_last_error_message(), "batch-invariant"), "%s", attn_last_error_message());
        attn_context_destroy(context);
    }
    kit_problem_free(problem);
    attn_context_destroy(all);
}

/* A context that is held to an instruction set uses none above it. */
Test(choice, the_isa_is_a_ceiling) {
    static const char *const isas[] = {"scalar", "avx2", "avx512"};
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
        options.isa = isas[i];
        attn_context *context;
        if (attn_context_create(&options, &context) != ATTN_OK) continue; /* not on this machine */
        cr_assert(!strcmp(attn_context_isa(context), isas[i]));
        const char *name;
        for (size_t j = 0; (name = attn_context_implementation_name(context, j)); j++)
            for (size_t above = i + 1; above < sizeof isas / sizeof *isas; above++) {
                if (!strstr(name, isas[above])) continue;
                options.implementation = name;
                attn_context *forced;
                cr_assert(attn_context_create(&options, &forced) == ATTN_OK, "%s", attn_last_error_message());
                attn_layer_desc desc = ATTN_LAYER_DESC_INIT;
                desc.score = strstr(name, "bahdanau") ? ATTN_SCORE_BAHDANAU
                             : strstr(name, "dot")    ? ATTN_SCORE_DOT
                                                      : ATTN_SCORE_LUONG;
                desc.dtype = strstr(name, "f64") ? ATTN_FLOAT64 : ATTN_FLOAT32;
                desc.batch = desc.timesteps = desc.features = 2;
                attn_plan *plan;
                cr_assert(attn_layer_forward_plan(forced, &desc, &plan) == ATTN_ERROR_UNSUPPORTED, "%s under %s", name,
                          isas[i]);
                attn_context_destroy(forced);
            }
        attn_context_destroy(context);
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/* attention_cases: walks the declared cases without a test framework. Failing tests print its command line. */
#include "tests/walk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: attention_cases [--case NAME] [--impl NAME] [--cuda MODULE] [--threads N] [--storage T]\n"
    "                       [--small | --slow] [--list] [--probe]\n"
    "  --case NAME   only this case; may be repeated\n"
    "  --impl NAME   only the implementations whose names begin with these fields\n"
    "  --cuda MODULE the cases on CUDA that an implementation of this module can run, on the first GPU\n"
    "  --threads N   threads of a run (default 2)\n"
    "  --storage T   H stored as f16 or bf16, the cases in float32 alone\n"
    "  --slow        the slow cases too\n"
    "  --list        print the names of the cases\n"
    "  --probe       run nothing: succeed when ATTN_CPU_ISA is a set that this machine has\n"
    "The environment's ATTN_CPU_ISA chooses the instruction set. Ends with 'N passed, M failed'.\n";

static int wrong(const char *argument) {
    fprintf(stderr, "attention_cases: %s\n%s", argument, usage);
    return 2;
}

/* Multiplications of the additive score, the costliest. */
static bool is_small(const kit_case *spec) {
    const int64_t width =
        spec->score == ATTN_SCORE_BAHDANAU ? spec->score_width ? spec->score_width : spec->features : 4;
    return spec->batch * spec->timesteps * spec->features * width < 1000000;
}

/* With H stored so; 0: as the case has it. */
static void walk(walk_tally *tally, const kit_case *spec, attn_dtype stored) {
    kit_case other = *spec;
    other.h_dtype = stored;
    if (!stored || spec->dtype == ATTN_FLOAT32) walk_case(tally, &other);
}

static int walk_all(walk_tally *tally, attn_dtype stored, bool small, bool slow, bool list) {
    size_t count;
    const kit_case *cases = kit_cases(&count);
    for (size_t i = 0; i < count; i++) {
        if (list) puts(cases[i].name);
        if (!list && (slow || !(cases[i].flags & KIT_SLOW)) && (!small || is_small(&cases[i])))
            walk(tally, &cases[i], stored);
    }
    return list;
}

int main(int argc, char **argv) {
    walk_tally tally = {.threads = 2};
    attn_dtype stored = ATTN_FLOAT32;
    bool small = false, slow = false, list = false, named = false;
    for (int i = 1; i < argc; i++) {
        const bool more = i + 1 < argc;
        if (!strcmp(argv[i], "--help")) return fputs(usage, stdout), 0;
        if (!strcmp(argv[i], "--probe")) {
            attn_context *context;
            const attn_status status = attn_context_create(NULL, &context);
            attn_context_destroy(context);
            return status != ATTN_OK;
        }
        if (!strcmp(argv[i], "--small"))
            small = true;
        else if (!strcmp(argv[i], "--slow"))
            slow = true;
        else if (!strcmp(argv[i], "--list"))
            list = true;
        else if (more && !strcmp(argv[i], "--impl"))
            tally.implementation = argv[++i];
        else if (more && !strcmp(argv[i], "--cuda"))
            tally.implementation = tally.implementation ? tally.implementation : "cuda", kit_use_cuda(argv[++i]);
        else if (more && !strcmp(argv[i], "--threads"))
            tally.threads = atoi(argv[++i]);
        else if (more && !strcmp(argv[i], "--storage") && !strcmp(argv[i + 1], "f16"))
            stored = ATTN_FLOAT16, i++;
        else if (more && !strcmp(argv[i], "--storage") && !strcmp(argv[i + 1], "bf16"))
            stored = ATTN_BFLOAT16, i++;
        else if (more && !strcmp(argv[i], "--case"))
            named = true, i++;
        else
            return wrong(argv[i]);
    }
    attn_context *held = kit_context(1, NULL); /* OpenBLAS stays loaded from context to context */
    for (int i = 1; i < argc && named; i++) {
        if (strcmp(argv[i], "--case")) continue;
        const kit_case *spec = kit_find_case(argv[++i]);
        if (!spec) return wrong(argv[i]);
        walk(&tally, spec, stored);
    }
    const bool listed = !named && walk_all(&tally, stored, small, slow, list);
    attn_context_destroy(held);
    if (listed) return 0;
    printf("largest error over gate: %.3g\n%zu passed, %zu failed\n", tally.worst, tally.passed, tally.failed);
    return tally.failed || !tally.passed ? 1 : 0;
}

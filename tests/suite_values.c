/* SPDX-License-Identifier: Apache-2.0 */
/* Every case on every implementation, within its gates: all ways to ask for it, guard pages on both sides. */
#include "tests/suite.h"

static void walk_cases(attn_score score, attn_dtype dtype) {
    size_t count, walked = 0;
    const kit_case *cases = kit_cases(&count);
    walk_tally tally = {.threads = 2};
    attn_context *held = kit_context(1, NULL); /* OpenBLAS stays loaded from context to context */
    for (size_t i = 0; i < count; i++) {
        if (cases[i].score != score || cases[i].dtype != dtype || cases[i].flags & KIT_SLOW) continue;
        walk_case(&tally, &cases[i]);
        walked++;
    }
    attn_context_destroy(held);
    cr_assert(walked > 20, "only %zu cases", walked);
    cr_assert(tally.failed == 0, "%zu of %zu failed, see above", tally.failed, tally.passed + tally.failed);
    cr_assert(tally.passed >= walked, "%zu implementations for %zu cases", tally.passed, walked);
}

Test(values, luong_f32) { walk_cases(ATTN_SCORE_LUONG, ATTN_FLOAT32); }
Test(values, luong_f64) { walk_cases(ATTN_SCORE_LUONG, ATTN_FLOAT64); }
Test(values, bahdanau_f32) { walk_cases(ATTN_SCORE_BAHDANAU, ATTN_FLOAT32); }
Test(values, bahdanau_f64) { walk_cases(ATTN_SCORE_BAHDANAU, ATTN_FLOAT64); }
Test(values, dot_f32) { walk_cases(ATTN_SCORE_DOT, ATTN_FLOAT32); }
Test(values, dot_f64) { walk_cases(ATTN_SCORE_DOT, ATTN_FLOAT64); }

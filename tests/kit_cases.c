/* SPDX-License-Identifier: Apache-2.0 */
/* cases.def, unrolled. */
#include "tests/kit.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum {
    LUONG = 1 << ATTN_SCORE_LUONG,
    BAHDANAU = 1 << ATTN_SCORE_BAHDANAU,
    DOT = 1 << ATTN_SCORE_DOT,
    ANY = LUONG | BAHDANAU | DOT
};
enum { F32 = 1 << ATTN_FLOAT32, F64 = 1 << ATTN_FLOAT64, BOTH = F32 | F64 };
enum { NONE = -2 }; /* given queries, of which there are none: in the table 0 stands for the last step */

typedef struct row {
    int scores, dtypes;
    kit_case fields;
} row;

#define CASES(row_name, scores_, dtypes_, flags_, b, t, d, u, ...)                                                     \
    {scores_,                                                                                                          \
     dtypes_,                                                                                                          \
     {.row = #row_name, .flags = flags_, .batch = b, .timesteps = t, .features = d, .units = u, __VA_ARGS__}},
static const row rows[] = {
#include "tests/cases.def"
};
#undef CASES

enum { ROWS = sizeof rows / sizeof *rows };
static kit_case cases[ROWS * 6];
static size_t case_count;

static uint64_t hash_name(const char *name) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (; *name; name++) hash = (hash ^ (unsigned char)*name) * UINT64_C(0x100000001b3);
    return hash;
}

static void add_case(const row *from, int score, int dtype) {
    kit_case *spec = &cases[case_count++];
    *spec = from->fields;
    spec->score = (attn_score)score;
    spec->dtype = (attn_dtype)dtype;
    snprintf(spec->name, sizeof spec->name, "%s_%s_%s", kit_score_name(spec->score), spec->row,
             kit_dtype_name(spec->dtype));
    spec->seed = hash_name(spec->name);
    spec->queries = spec->queries == 0 ? ATTN_LAST_STEP : spec->queries == NONE ? 0 : spec->queries;
    if (spec->score != ATTN_SCORE_BAHDANAU) spec->score_width = 0;
}

static void unroll(void) {
    for (size_t i = 0; i < ROWS; i++)
        for (int score = ATTN_SCORE_LUONG; score <= ATTN_SCORE_DOT; score++)
            for (int dtype = ATTN_FLOAT32; dtype <= ATTN_FLOAT64; dtype++)
                if (rows[i].scores & 1 << score && rows[i].dtypes & 1 << dtype) add_case(&rows[i], score, dtype);
}

const kit_case *kit_cases(size_t *count) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, unroll);
    *count = case_count;
    return cases;
}

const kit_case *kit_find_case(const char *name) {
    size_t count;
    const kit_case *all = kit_cases(&count);
    for (size_t i = 0; i < count; i++)
        if (!strcmp(all[i].name, name)) return &all[i];
    return NULL;
}

const char *kit_score_name(attn_score score) {
    static const char *const names[] = {"luong", "bahdanau", "dot"};
    return names[score];
}

const char *kit_dtype_name(attn_dtype dtype) {
    static const char *const names[] = {
        [ATTN_FLOAT32] = "f32", [ATTN_FLOAT64] = "f64", [ATTN_FLOAT16] = "f16", [ATTN_BFLOAT16] = "bf16"};
    return names[dtype];
}

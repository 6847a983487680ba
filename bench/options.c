/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/options.h"

#include "bench/program.h"

#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "attention-bench [options] [workload ...]\n"
    "\n"
    "Runs the attention layer on real IMDB reviews, compares it with what Keras computed for them, and times workloads "
    "on\n"
    "every implementation beside the limit that this machine sets. A result outside its error gate gets no time.\n"
    "\n"
    "Workloads (none named: all), batch B, timesteps T, features D, units U\n"
    "  imdb              64 x 500 x 100 -> 128   hidden states of real reviews\n"
    "  imdb_one           1 x 500 x 100 -> 128   one review\n"
    "  imdb_stream     1024 x 500 x 100 -> 128   larger than the cache\n"
    "  add_two_numbers   64 x 20 x 100 -> 128\n"
    "  find_max          32 x 10 x 128 -> 128\n"
    "  long               4 x 8192 x 128 -> 128\n"
    "  wide              16 x 256 x 1024 -> 1024\n"
    "  --score S         luong, bahdanau, dot, both (luong and bahdanau; the default), all; or several with commas\n"
    "  --direction D     forward (default), backward, both (a forward pass in training, then the backward pass: one "
    "time),"
    "\n"
    "                    all; or several with commas\n"
    "  --dtype T         f32 (default), f64\n"
    "\n"
    "Any shape: these change the named workloads; without a name they make one, starting from imdb's sizes\n"
    "  --batch B  --timesteps T  --features D  --units U\n"
    "  --queries Q       given queries, Q per item, in place of the last step; 0 stands for the last step\n"
    "  --query-features DQ  --score-width A      of given queries; of bahdanau\n"
    "\n"
    "What is run\n"
    "  --threads N       default: the processors this process may use\n"
    "  --isa I           the highest instruction set that the library may use: scalar, avx2, avx512\n"
    "  --impl NAME       only implementations whose name begins so, such as cpu:avx2 or cpu:openblas; may be "
    "repeated;\n"
    "                    all includes the scalar fallback, which is left out by default\n"
    "  --prepared        weights go through attn_layer_prepare once, outside the time\n"
    "  --attention-weights   ask for the attention weights too, not for the output alone\n"
    "  --cold            take turns on copies of H that together do not fit the caches\n"
    "  --seconds S       timing of each workload and score, default 0.5\n"
    "  --rounds N        how many turns each implementation takes in them, default 10, fewer where calls are long\n"
    "\n"
    "What comes out, beside the table\n"
    "  --html FILE       the reviews, each word shaded by its attention weight\n"
    "  --json FILE       everything, with machine and peaks\n"
    "  --csv FILE        the table\n"
    "  --reviews-only    no table: the reviews alone\n"
    "  --list            workloads and implementations, nothing is run\n"
    "  --data FOLDER     the reviews and the model, default the project's bench/data\n"
    "  --help\n"
    "\n"
    "Exit status: 0; 1 when a result lies outside its gate; 2 when the command line or the machine did not do.\n"
    "docs/benchmarks.md explains the columns and how the limits are counted.\n";

enum option_id {
    BATCH = 256,
    TIMESTEPS,
    FEATURES,
    UNITS,
    QUERIES,
    QUERY_FEATURES,
    SCORE_WIDTH,
    THREADS,
    ROUNDS,
    SCORE,
    DIRECTION,
    DTYPE,
    IMPL,
    ISA,
    SECONDS,
    PREPARED,
    WEIGHTS,
    COLD,
    HTML,
    JSON,
    CSV,
    LIST,
    DATA,
    REVIEWS,
    HELP
};

static const struct option known[] = {
    {"batch", required_argument, NULL, BATCH},
    {"timesteps", required_argument, NULL, TIMESTEPS},
    {"features", required_argument, NULL, FEATURES},
    {"units", required_argument, NULL, UNITS},
    {"queries", required_argument, NULL, QUERIES},
    {"query-features", required_argument, NULL, QUERY_FEATURES},
    {"score-width", required_argument, NULL, SCORE_WIDTH},
    {"threads", required_argument, NULL, THREADS},
    {"rounds", required_argument, NULL, ROUNDS},
    {"score", required_argument, NULL, SCORE},
    {"direction", required_argument, NULL, DIRECTION},
    {"dtype", required_argument, NULL, DTYPE},
    {"impl", required_argument, NULL, IMPL},
    {"isa", required_argument, NULL, ISA},
    {"seconds", required_argument, NULL, SECONDS},
    {"prepared", no_argument, NULL, PREPARED},
    {"attention-weights", no_argument, NULL, WEIGHTS},
    {"cold", no_argument, NULL, COLD},
    {"html", required_argument, NULL, HTML},
    {"json", required_argument, NULL, JSON},
    {"csv", required_argument, NULL, CSV},
    {"list", no_argument, NULL, LIST},
    {"data", required_argument, NULL, DATA},
    {"reviews-only", no_argument, NULL, REVIEWS},
    {"help", no_argument, NULL, HELP},
    {0},
};

static const char *name_of(int id) {
    for (const struct option *o = known; o->name; o++)
        if (o->val == id) return o->name;
    return "";
}

static int64_t whole_number(int id, const char *value, int64_t least, int64_t most) {
    char *end;
    errno = 0;
    const long long number = strtoll(value, &end, 10);
    if (errno || end == value || *end || number < least || number > most)
        fail("--%s %s: a number from %lld to %lld is wanted", name_of(id), value, (long long)least, (long long)most);
    return number;
}

static double seconds_of(const char *value) {
    char *end;
    const double number = strtod(value, &end);
    if (end == value || *end || !(number > 0 && number <= 3600))
        fail("--seconds %s: a time up to 3600 is wanted", value);
    return number;
}

typedef struct choice {
    const char *name;
    unsigned bits;
} choice;

static const choice scores[] = {{"luong", SCORE_LUONG},
                                {"bahdanau", SCORE_BAHDANAU},
                                {"dot", SCORE_DOT},
                                {"both", SCORE_LUONG | SCORE_BAHDANAU},
                                {"all", SCORE_LUONG | SCORE_BAHDANAU | SCORE_DOT},
                                {NULL, 0}};

static const choice directions[] = {{"forward", 1u << DIRECTION_FORWARD},
                                    {"backward", 1u << DIRECTION_BACKWARD},
                                    {"both", 1u << DIRECTION_BOTH},
                                    {"all", (1u << DIRECTIONS) - 1},
                                    {NULL, 0}};

/* A list of words, each one of the choices. */
static unsigned chosen_of(int id, const choice *choices, const char *value) {
    unsigned all = 0;
    for (const char *word = value; word; word = strchr(word, ',')) {
        word += *word == ',';
        const size_t length = strcspn(word, ",");
        unsigned found = 0;
        for (const choice *c = choices; c->name; c++)
            if (strlen(c->name) == length && !strncmp(c->name, word, length)) found = c->bits;
        if (!found) fail("--%s %s: see --help for what is wanted", name_of(id), value);
        all |= found;
    }
    return all;
}

static attn_dtype dtype_of(const char *value) {
    if (!strcmp(value, "f32")) return ATTN_FLOAT32;
    if (!strcmp(value, "f64")) return ATTN_FLOAT64;
    fail("--dtype %s: f32 or f64 is wanted", value);
}

static void remember(const char **list, int *count, const char *value, const char *what) {
    if (*count == OPTION_ROOM) fail("more than %d %s", OPTION_ROOM, what);
    list[(*count)++] = value;
}

static void take(options *o, int id, const char *value) {
    const int64_t most = (int64_t)1 << 40;
    o->shaped |= id >= BATCH && id <= SCORE_WIDTH;
    switch (id) {
    case BATCH:
        o->shape.batch = whole_number(id, value, 1, most);
        break;
    case TIMESTEPS:
        o->shape.timesteps = whole_number(id, value, 1, most);
        break;
    case FEATURES:
        o->shape.features = whole_number(id, value, 1, most);
        break;
    case UNITS:
        o->shape.units = whole_number(id, value, 0, most);
        break;
    case QUERIES:
        o->shape.queries = whole_number(id, value, 0, most);
        break;
    case QUERY_FEATURES:
        o->shape.query_features = whole_number(id, value, 1, most);
        break;
    case SCORE_WIDTH:
        o->shape.score_width = whole_number(id, value, 1, most);
        break;
    case THREADS:
        o->threads = (int)whole_number(id, value, 1, 1024);
        break;
    case ROUNDS:
        o->rounds = (int)whole_number(id, value, 1, 1000000);
        break;
    case SCORE:
        o->scores = chosen_of(id, scores, value);
        break;
    case DIRECTION:
        o->directions = chosen_of(id, directions, value);
        break;
    case DTYPE:
        o->dtype = dtype_of(value);
        break;
    case IMPL:
        remember(o->implementations, &o->implementation_count, value, "--impl");
        break;
    case ISA:
        o->isa = value;
        break;
    case SECONDS:
        o->seconds = seconds_of(value);
        break;
    case PREPARED:
        o->prepared = true;
        break;
    case WEIGHTS:
        o->attention_weights = true;
        break;
    case COLD:
        o->cold = true;
        break;
    case HTML:
        o->html = value;
        break;
    case JSON:
        o->json = value;
        break;
    case CSV:
        o->csv = value;
        break;
    case LIST:
        o->list = true;
        break;
    case DATA:
        o->data = value;
        break;
    case REVIEWS:
        o->reviews_only = true;
        break;
    case HELP:
        fputs(help, stdout);
        exit(0);
    default:
        fputs("attention-bench --help lists what there is\n", stderr);
        exit(2);
    }
}

options options_read(int argc, char **argv) {
    options o = {
        .scores = SCORE_LUONG | SCORE_BAHDANAU,
        .directions = 1u << DIRECTION_FORWARD,
        .shape = {NOT_GIVEN, NOT_GIVEN, NOT_GIVEN, NOT_GIVEN, NOT_GIVEN, NOT_GIVEN, NOT_GIVEN},
        .seconds = 0.5,
        .rounds = NOT_GIVEN,
        .data = BENCH_DATA,
    };
    for (int id; (id = getopt_long(argc, argv, "", known, NULL)) != -1;) take(&o, id, optarg);
    for (int i = optind; i < argc; i++) remember(o.workloads, &o.workload_count, argv[i], "workloads");
    return o;
}

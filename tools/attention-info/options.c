/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/attention-info/options.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char info_usage[] =
    "usage: attention-info [OPTIONS]\n"
    "       attention-info FILE.safetensors\n"
    "\n"
    "Prints the version of libattention, what the CPU offers, the BLAS with its core, the threads, the backends and "
    "the\n"
    "implementations. Given a problem, prints which implementation would run it and why every other was refused.\n"
    "Given a weights file, prints a table of what is inside.\n"
    "\n"
    "The problem, a forward pass of the attention layer:\n"
    "  --score SCORE        luong (default), bahdanau or dot\n"
    "  --dtype DTYPE        f32 (default) or f64\n"
    "  --batch B            items (default 1)\n"
    "  --timesteps T        rows of the memory of one item; needed\n"
    "  --features D         width of a row; needed\n"
    "  --queries TQ         given queries of one item (default: none, the query is the last step)\n"
    "  --query-features DQ  width of a given query (default D)\n"
    "  --score-width A      width of the bahdanau score (default D)\n"
    "  --units U            width of the output (default 0: the context alone)\n"
    "\n"
    "Or one of scaled-dot-product attention, with --dtype and --batch as above:\n"
    "  --heads HQ           query heads; needed\n"
    "  --key-heads HKV      key heads, of which HQ is a multiple (default HQ)\n"
    "  --rows SQ            queries of one head; needed\n"
    "  --keys SKV           keys of one head (default SQ)\n"
    "  --head-dim D         width of a query and a key; needed\n"
    "  --value-dim DV       width of a value (default D)\n"
    "  --causal CORNER      top-left or bottom-right\n"
    "\n"
    "The context:\n"
    "  --threads N          how many tasks a run is split over (default: the processors of the process)\n"
    "  --isa ISA            use no instruction set above scalar, avx2 or avx512\n"
    "  --impl NAME          force the implementation of that name, or with those leading fields, such as cpu:openblas\n"
    "  --batch-invariant    only implementations whose results for an item do not depend on the batch\n"
    "\n"
    "  --version            the version alone\n"
    "  --help               this text\n"
    "\n"
    "The environment variables ATTN_IMPL and ATTN_CPU_ISA stand in for --impl and --isa.\n"
    "The exit status is 0, 1 when there is no context or nothing fits the problem, 2 for a wrong command line.\n";

/* What the value of an option is read into. */
typedef enum value_kind { SIZE, THREADS, TEXT, SCORE, DTYPE, CAUSAL, BATCH_INVARIANT, HELP, VERSION } value_kind;

typedef struct info_option {
    const char *name;
    value_kind kind;
    void *to;
    enum { CONTEXT, LAYER, SDPA, ANY_PROBLEM } of;
} info_option;

static bool read_number(const char *text, int64_t most, int64_t *number) {
    char *end;
    errno = 0;
    const long long value = strtoll(text, &end, 10);
    if (errno || end == text || *end || value < 0 || value > most) return false;
    *number = value;
    return true;
}

/* The index of a word in a list that ends with NULL, -1 when it is not there. */
static int find_word(const char *const *list, const char *word) {
    for (int i = 0; list[i]; i++)
        if (!strcmp(list[i], word)) return i;
    return -1;
}

static bool read_value(const info_option *option, const char *text) {
    static const char *const scores[] = {"luong", "bahdanau", "dot", NULL}, *const dtypes[] = {"f32", "f64", NULL},
                             *const corners[] = {"none", "top-left", "bottom-right", NULL};
    int64_t number;
    int word;
    switch (option->kind) {
    case SIZE:
        return read_number(text, INT64_MAX, option->to);
    case THREADS:
        if (!read_number(text, INT_MAX, &number)) return false;
        *(int *)option->to = (int)number;
        return true;
    case TEXT:
        *(const char **)option->to = text;
        return true;
    case SCORE:
        if ((word = find_word(scores, text)) >= 0) *(attn_score *)option->to = (attn_score)word;
        return word >= 0;
    case DTYPE:
        if ((word = find_word(dtypes, text)) >= 0) *(attn_dtype *)option->to = (attn_dtype)word;
        return word >= 0;
    case CAUSAL:
        if ((word = find_word(corners, text)) >= 0) *(attn_causal *)option->to = (attn_causal)word;
        return word >= 0;
    default:
        return false;
    }
}

/* Options without a value. */
static bool set_flag(const info_option *option) {
    switch (option->kind) {
    case BATCH_INVARIANT:
        *(uint64_t *)option->to |= ATTN_CONTEXT_BATCH_INVARIANT;
        return true;
    case HELP:
    case VERSION:
        *(bool *)option->to = true;
        return true;
    default:
        return false;
    }
}

static bool complain(const char *word, const char *what) {
    fprintf(stderr, "attention-info: %s: %s; --help explains the options\n", word, what);
    return false;
}

static bool check_sdpa(info_options *options) {
    attn_sdpa_desc *sdpa = &options->sdpa;
    if (options->has_problem) return complain("--heads", "and options of the layer can't be one problem");
    if (sdpa->query_heads < 0) return complain("--heads", "is missing from the problem");
    if (sdpa->queries < 0) return complain("--rows", "is missing from the problem");
    if (sdpa->head_dim < 0) return complain("--head-dim", "is missing from the problem");
    if (sdpa->keys < 0) sdpa->keys = sdpa->queries;
    sdpa->dtype = options->problem.dtype, sdpa->batch = options->problem.batch;
    return true;
}

static bool check_problem(info_options *options) {
    if (options->has_sdpa) return check_sdpa(options);
    if (!options->has_problem) return true;
    if (options->problem.timesteps < 0) return complain("--timesteps", "is missing from the problem");
    if (options->problem.features < 0) return complain("--features", "is missing from the problem");
    return true;
}

bool info_read_options(int count, char **words, info_options *options) {
    *options = (info_options){
        .context = ATTN_CONTEXT_OPTIONS_INIT, .problem = ATTN_LAYER_DESC_INIT, .sdpa = ATTN_SDPA_DESC_INIT};
    attn_layer_desc *problem = &options->problem;
    attn_sdpa_desc *sdpa = &options->sdpa;
    sdpa->query_heads = sdpa->queries = sdpa->keys = sdpa->head_dim = -1;
    bool any_problem = false;
    problem->batch = 1, problem->timesteps = problem->features = -1;
    const info_option known[] = {
        {"--score", SCORE, &problem->score, LAYER},
        {"--dtype", DTYPE, &problem->dtype, ANY_PROBLEM},
        {"--batch", SIZE, &problem->batch, ANY_PROBLEM},
        {"--timesteps", SIZE, &problem->timesteps, LAYER},
        {"--features", SIZE, &problem->features, LAYER},
        {"--queries", SIZE, &problem->queries, LAYER},
        {"--query-features", SIZE, &problem->query_features, LAYER},
        {"--score-width", SIZE, &problem->score_width, LAYER},
        {"--units", SIZE, &problem->units, LAYER},
        {"--heads", SIZE, &sdpa->query_heads, SDPA},
        {"--key-heads", SIZE, &sdpa->key_heads, SDPA},
        {"--rows", SIZE, &sdpa->queries, SDPA},
        {"--keys", SIZE, &sdpa->keys, SDPA},
        {"--head-dim", SIZE, &sdpa->head_dim, SDPA},
        {"--value-dim", SIZE, &sdpa->value_dim, SDPA},
        {"--causal", CAUSAL, &sdpa->causal, SDPA},
        {"--threads", THREADS, &options->context.threads, CONTEXT},
        {"--isa", TEXT, &options->context.isa, CONTEXT},
        {"--impl", TEXT, &options->context.implementation, CONTEXT},
        {"--batch-invariant", BATCH_INVARIANT, &options->context.flags, CONTEXT},
        {"--version", VERSION, &options->version, CONTEXT},
        {"--help", HELP, &options->help, CONTEXT},
    };
    for (int i = 1; i < count; i++) {
        size_t at = 0;
        while (at < sizeof known / sizeof *known && strcmp(known[at].name, words[i])) at++;
        if (at == sizeof known / sizeof *known && *words[i] != '-' && !options->file) {
            options->file = words[i];
            continue;
        }
        if (at == sizeof known / sizeof *known) return complain(words[i], "is no option");
        options->has_problem |= known[at].of == LAYER;
        options->has_sdpa |= known[at].of == SDPA;
        any_problem |= known[at].of == ANY_PROBLEM;
        if (set_flag(&known[at])) continue;
        if (i + 1 == count) return complain(words[i], "needs a value");
        if (!read_value(&known[at], words[++i])) return complain(words[i], "is no value of the option before it");
    }
    if (options->file && count > 2) return complain(options->file, "a weights file takes no options");
    options->has_problem |= any_problem && !options->has_sdpa;
    return options->help || options->version || check_problem(options);
}

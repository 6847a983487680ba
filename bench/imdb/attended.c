/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/imdb/attended.h"

#include "bench/program.h"

#include <string.h>

enum { WORDS_SHOWN = 12 };

/* What a model makes of the test reviews. */
typedef struct answer {
    float *probability, *attention; /* (count), (count, steps) */
} answer;

static answer ask(nn_model *model, int row, const corpus_part *part, size_t steps) {
    answer a = {allocate(part->count * sizeof *a.probability), allocate(part->count * steps * sizeof *a.attention)};
    float *const targets = allocate(part->count * sizeof *targets);
    const nn_data data = row_data(&rows[row], part, targets);
    if (!nn_model_predict(model, &data, a.probability, a.attention)) fail("%s", nn_model_error(model));
    release(targets);
    return a;
}

static double on_padding(const corpus_part *part, const answer *a, size_t review, size_t steps) {
    double sum = 0;
    for (int32_t t = 0; t < part->start[review]; t++) sum += (double)a->attention[review * steps + (size_t)t];
    return sum;
}

static const char *word_of(const corpus *c, int32_t token) {
    if (token == TOKEN_START) return "(start)";
    if (token == TOKEN_UNKNOWN) return "(unknown)";
    const char *const word = vocabulary_word(c->words, (size_t)token);
    return word ? word : "(none)";
}

/* The words with the most attention, each with its weight over the mean weight of the review's words. */
static void print_words(FILE *file, const corpus *c, const corpus_part *part, const answer *a, size_t review) {
    const int32_t *const token = part->tokens + review * c->steps;
    const float *const weight = a->attention + review * c->steps;
    const size_t start = (size_t)part->start[review], words = c->steps - start;
    bool *const shown = allocate(c->steps);
    const double mean = (1 - on_padding(part, a, review, c->steps)) / (double)words;
    for (size_t n = 0; n < WORDS_SHOWN && n < words; n++) {
        size_t best = c->steps;
        for (size_t t = start; t < c->steps; t++)
            if (!shown[t] && (best == c->steps || weight[t] > weight[best])) best = t;
        shown[best] = true;
        fprintf(file, "%s%s %.1f", n ? ", " : "", word_of(c, token[best]), (double)weight[best] / mean);
    }
    fputc('\n', file);
    release(shown);
}

static void print_review(FILE *file, const corpus *c, const answer answers[ROWS], size_t review) {
    const corpus_part *const part = &c->part[SOURCE_TEST];
    fprintf(file, "\n%s, %zu words\n", part->name[review], c->steps - (size_t)part->start[review]);
    for (int row = 0; row < ROWS; row++) {
        const answer *const a = &answers[row];
        if (!a->attention) continue;
        fprintf(file, "  %s: positive %.3f, %.0f %% of the attention on padding\n    ", rows[row].title,
                (double)a->probability[review], 100 * on_padding(part, a, review, c->steps));
        print_words(file, c, part, a, review);
    }
}

void attended_print(FILE *file, nn_model *const models[ROWS], const corpus *c, size_t reviews) {
    const corpus_part *const part = &c->part[SOURCE_TEST];
    answer answers[ROWS] = {0};
    fprintf(file, "Where the attention lies. After a word: its weight over the mean weight of the review's words.\n");
    for (int row = 0; row < ROWS; row++) {
        if (!models[row] || !rows[row].attention) continue;
        double sum = 0;
        answers[row] = ask(models[row], row, part, c->steps);
        for (size_t i = 0; i < part->count; i++) sum += on_padding(part, &answers[row], i, c->steps);
        fprintf(file, "%s: %.1f %% on padding, over all test reviews\n", rows[row].title,
                100 * sum / (double)part->count);
    }
    for (size_t i = 0; i < reviews && i < part->count; i++)
        print_review(file, c, answers, (2 * i + 1) * part->count / (2 * reviews));
    for (int row = 0; row < ROWS; row++) release(answers[row].probability), release(answers[row].attention);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/imdb/corpus.h"

#include "bench/imdb/words.h"
#include "bench/program.h"

#include <string.h>

static void count_word(void *user, const char *word, size_t length) { vocabulary_count(user, word, length); }

/* A ring that keeps the last `steps` tokens of a text. */
typedef struct ring {
    const vocabulary *words;
    size_t limit, steps, count;
    int32_t *tokens;
} ring;

static void push(ring *r, size_t token) { r->tokens[r->count++ % r->steps] = (int32_t)token; }

static void push_word(void *user, const char *word, size_t length) {
    ring *const r = user;
    const size_t token = vocabulary_token(r->words, word, length);
    push(r, token < r->limit ? token : TOKEN_UNKNOWN);
}

int32_t corpus_encode(const vocabulary *words, const char *text, size_t length, size_t limit, size_t steps,
                      int32_t *tokens) {
    ring r = {words, limit, steps, 0, allocate(steps * sizeof *r.tokens)};
    push(&r, TOKEN_START);
    words_of(text, length, push_word, &r);
    const size_t kept = r.count < steps ? r.count : steps, padding = steps - kept;
    memset(tokens, 0, padding * sizeof *tokens);
    for (size_t i = 0; i < kept; i++) tokens[padding + i] = r.tokens[(r.count - kept + i) % steps];
    release(r.tokens);
    return (int32_t)padding;
}

static vocabulary *learn_words(const review_set *all) {
    vocabulary *const words = vocabulary_new();
    for (int label = SOURCE_POSITIVE; label >= SOURCE_NEGATIVE; label--)
        for (size_t i = 0; i < all->count[SOURCE_TRAIN][label]; i++) {
            const review_text *const r = &all->review[SOURCE_TRAIN][label][i];
            words_of(r->text, r->length, count_word, words);
        }
    vocabulary_rank(words);
    return words;
}

static void encode_part(const corpus *c, const review_set *all, int split, corpus_part *part) {
    const size_t count = all->count[split][SOURCE_NEGATIVE] + all->count[split][SOURCE_POSITIVE];
    *part = (corpus_part){
        0,
        allocate(count * c->steps * sizeof *part->tokens),
        allocate(count * sizeof *part->start),
        allocate(count * sizeof *part->label),
        allocate(count * sizeof *part->name),
    };
    for (int label = SOURCE_POSITIVE; label >= SOURCE_NEGATIVE; label--)
        for (size_t i = 0; i < all->count[split][label]; i++) {
            const review_text *const r = &all->review[split][label][i];
            const size_t at = part->count++;
            part->start[at] =
                corpus_encode(c->words, r->text, r->length, c->limit, c->steps, part->tokens + at * c->steps);
            part->label[at] = label == SOURCE_POSITIVE;
            part->name[at] = text("%s", r->name);
        }
}

static uint64_t checksum(uint64_t sum, const void *data, size_t size) {
    for (const unsigned char *c = data, *end = c + size; c < end; c++) sum = (sum ^ *c) * UINT64_C(1099511628211);
    return sum;
}

corpus corpus_make(const review_set *all, size_t limit, size_t steps) {
    corpus c = {.limit = limit, .steps = steps, .words = learn_words(all), .checksum = UINT64_C(14695981039346656037)};
    for (int split = 0; split < SOURCE_SPLITS; split++) {
        corpus_part *const part = &c.part[split];
        encode_part(&c, all, split, part);
        c.checksum = checksum(c.checksum, part->tokens, part->count * steps * sizeof *part->tokens);
        c.checksum = checksum(c.checksum, part->label, part->count);
    }
    return c;
}

void corpus_free(corpus *c) {
    for (int split = 0; split < SOURCE_SPLITS; split++) {
        corpus_part *const part = &c->part[split];
        for (size_t i = 0; i < part->count; i++) release(part->name[i]);
        release(part->name);
        release(part->tokens);
        release(part->start);
        release(part->label);
    }
    vocabulary_free(c->words);
    *c = (corpus){0};
}

/* SPDX-License-Identifier: Apache-2.0
 * The reviews as Keras feeds them to a model: sequences of tokens, a start in front, words past the vocabulary's limit
 * as unknown, padded and cut at the front to one length. */
#ifndef BENCH_IMDB_CORPUS_H
#define BENCH_IMDB_CORPUS_H

#include "bench/imdb/reviews.h"
#include "bench/imdb/vocabulary.h"

#include <stdint.h>

enum { CORPUS_TOKENS = 5000, CORPUS_STEPS = 500 }; /* of the experiment */

typedef struct corpus_part {
    size_t count;
    int32_t *tokens; /* (count, steps), each below the limit */
    int32_t *start;  /* (count): the first step that is no padding */
    uint8_t *label;  /* (count): 1 positive */
    char **name;     /* (count) */
} corpus_part;

typedef struct corpus {
    size_t limit, steps;
    corpus_part part[SOURCE_SPLITS]; /* positive reviews first, then negative ones, each sorted by name */
    vocabulary *words;               /* of the training reviews alone */
    uint64_t checksum;               /* of tokens and labels */
} corpus;

/* Makes tokens below `limit`, `steps` of them for each review. */
corpus corpus_make(const review_set *all, size_t limit, size_t steps);
void corpus_free(corpus *c);

/* Writes the tokens of one text, with start, padding and cut; returns the first step that is no padding. */
int32_t corpus_encode(const vocabulary *words, const char *text, size_t length, size_t limit, size_t steps,
                      int32_t *tokens);

#endif

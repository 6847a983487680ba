/* SPDX-License-Identifier: Apache-2.0
 * Words by how often they occur, as Keras ranks them: the most frequent first, equal counts in order of first
 * occurrence. Rank 1 is token 4. */
#ifndef BENCH_IMDB_VOCABULARY_H
#define BENCH_IMDB_VOCABULARY_H

#include <stddef.h>

enum { TOKEN_PADDING = 0, TOKEN_START = 1, TOKEN_UNKNOWN = 2, TOKEN_FIRST_WORD = 4 };

typedef struct vocabulary vocabulary;

vocabulary *vocabulary_new(void);
void vocabulary_free(vocabulary *v);

/* Counts one occurrence; after vocabulary_rank no more. */
void vocabulary_count(vocabulary *v, const char *word, size_t length);

/* Gives every word its rank. */
void vocabulary_rank(vocabulary *v);

/* How many different words there are. */
size_t vocabulary_size(const vocabulary *v);

/* The word's token; TOKEN_UNKNOWN for a word that never was counted. */
size_t vocabulary_token(const vocabulary *v, const char *word, size_t length);

/* The word of a token from TOKEN_FIRST_WORD on, with a NUL behind it; NULL past the last. */
const char *vocabulary_word(const vocabulary *v, size_t token);

#endif

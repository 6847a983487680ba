/* SPDX-License-Identifier: Apache-2.0
 * Words as Keras's tokenizer cuts them: lower case (Unicode's full mapping), then every character of a filter becomes a
 * space, and what stands between spaces (U+0020 alone) is a word. */
#ifndef BENCH_IMDB_WORDS_H
#define BENCH_IMDB_WORDS_H

#include <stddef.h>

typedef void (*words_take)(void *user, const char *word, size_t length); /* not terminated, valid during the call */

/* Gives the words of a text, which must be UTF-8, in order. */
void words_of(const char *text, size_t length, words_take take, void *user);

#endif

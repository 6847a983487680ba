/* SPDX-License-Identifier: Apache-2.0
 * A hash table with open addressing: slots hold places in an array of words, which stands in order of first occurrence
 * until it is ranked. */
#include "bench/imdb/vocabulary.h"

#include "bench/program.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct entry {
    char *word;
    size_t length, count, first; /* first: how many different words came before */
} entry;

struct vocabulary {
    entry *entries;
    size_t size, room;
    size_t *slots; /* place + 1; 0: free */
    size_t slot_count;
};

static uint64_t hash(const char *word, size_t length) {
    uint64_t h = UINT64_C(14695981039346656037); /* FNV-1a */
    for (size_t i = 0; i < length; i++) h = (h ^ (unsigned char)word[i]) * UINT64_C(1099511628211);
    return h;
}

/* The slot of a word, or the free one where it belongs. */
static size_t *slot_of(const vocabulary *v, const char *word, size_t length) {
    for (size_t at = (size_t)hash(word, length);; at++) {
        size_t *const slot = &v->slots[at & (v->slot_count - 1)];
        if (!*slot) return slot;
        const entry *const e = &v->entries[*slot - 1];
        if (e->length == length && !memcmp(e->word, word, length)) return slot;
    }
}

static void fill_slots(vocabulary *v) {
    memset(v->slots, 0, v->slot_count * sizeof *v->slots);
    for (size_t i = 0; i < v->size; i++) *slot_of(v, v->entries[i].word, v->entries[i].length) = i + 1;
}

static void grow(vocabulary *v) {
    entry *const more = allocate(2 * v->room * sizeof *more);
    memcpy(more, v->entries, v->size * sizeof *more);
    release(v->entries);
    release(v->slots);
    v->entries = more, v->room *= 2, v->slot_count *= 2;
    v->slots = allocate(v->slot_count * sizeof *v->slots);
    fill_slots(v);
}

vocabulary *vocabulary_new(void) {
    vocabulary *const v = allocate(sizeof *v);
    v->room = 1 << 10, v->slot_count = 2 * v->room; /* at most half of the slots are taken */
    v->entries = allocate(v->room * sizeof *v->entries);
    v->slots = allocate(v->slot_count * sizeof *v->slots);
    return v;
}

void vocabulary_free(vocabulary *v) {
    if (!v) return;
    for (size_t i = 0; i < v->size; i++) release(v->entries[i].word);
    release(v->entries);
    release(v->slots);
    release(v);
}

void vocabulary_count(vocabulary *v, const char *word, size_t length) {
    size_t *slot = slot_of(v, word, length);
    if (!*slot) {
        if (v->size == v->room) grow(v), slot = slot_of(v, word, length);
        v->entries[v->size] = (entry){allocate(length + 1), length, 0, v->size};
        memcpy(v->entries[v->size].word, word, length);
        *slot = ++v->size;
    }
    v->entries[*slot - 1].count++;
}

static int by_rank(const void *a, const void *b) {
    const entry *const x = a, *const y = b;
    if (x->count != y->count) return x->count > y->count ? -1 : 1;
    return x->first < y->first ? -1 : x->first > y->first;
}

void vocabulary_rank(vocabulary *v) {
    qsort(v->entries, v->size, sizeof *v->entries, by_rank);
    fill_slots(v);
}

size_t vocabulary_size(const vocabulary *v) { return v->size; }

size_t vocabulary_token(const vocabulary *v, const char *word, size_t length) {
    const size_t place = *slot_of(v, word, length);
    return place ? place - 1 + TOKEN_FIRST_WORD : TOKEN_UNKNOWN;
}

const char *vocabulary_word(const vocabulary *v, size_t token) {
    return token >= TOKEN_FIRST_WORD && token - TOKEN_FIRST_WORD < v->size ? v->entries[token - TOKEN_FIRST_WORD].word
                                                                           : NULL;
}

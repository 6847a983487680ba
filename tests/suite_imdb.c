/* SPDX-License-Identifier: Apache-2.0 */
/* From reviews to tokens, against Keras. With ATTN_IMDB naming the data set, all of it. */
#include "attention/weights.h"
#include "bench/imdb/corpus.h"
#include "bench/imdb/words.h"
#include "tests/suite.h"

#include <sys/stat.h>
#include <unistd.h>

/* ---- Words ----------------------------------------------------------------------------------------------------------- */

static void join(void *user, const char *word, size_t length) {
    char *const line = user;
    snprintf(line + strlen(line), 256 - strlen(line), "%.*s|", (int)length, word);
}

/* What Keras 2.15's text_to_word_sequence makes of the same texts. */
static const struct {
    const char *text, *words;
} cut[] = {
    {"Don't stop<br /><br />NOW! (really)  it's a 10/10", "don't|stop|br|br|now|really|it's|a|10|10|"},
    {"Tab\there\nand\rthere a\u00a0b c\xc2\x85"
     "d",
     "tab|here|and\rthere|a\u00a0b|c\xc2\x85"
     "d|"},
    {"ÀÉ Straße İstanbul ΟΔΟΣ Σ ǅ", "àé|straße|i\u0307stanbul|οδος|σ|ǆ|"},
    {"...", ""},
    {"", ""},
    {"a-b_c~d{e}f|g`h^i]j\\k[l@m?n>o=p;q:r,s+t*u&v%w$x#y\"z'", "a|b|c|d|e|f|g|h|i|j|k|l|m|n|o|p|q|r|s|t|u|v|w|x|y|z'|"},
};

Test(imdb, words) {
    for (size_t i = 0; i < sizeof cut / sizeof cut[0]; i++) {
        char line[256] = "";
        words_of(cut[i].text, strlen(cut[i].text), join, line);
        cr_assert(!strcmp(line, cut[i].words), "%s: %s", cut[i].text, line);
    }
}

static void count(void *user, const char *word, size_t length) { vocabulary_count(user, word, length); }

static vocabulary *learn(const char *text) {
    vocabulary *const v = vocabulary_new();
    words_of(text, strlen(text), count, v);
    vocabulary_rank(v);
    return v;
}

Test(imdb, equal_counts_in_order_of_first_occurrence) {
    static const char *const ranked[] = {"b", "a", "c", "d", "e"};
    vocabulary *const v = learn("b a c b c d a e");
    cr_assert(vocabulary_size(v) == 5);
    for (size_t i = 0; i < 5; i++) {
        cr_assert(!strcmp(vocabulary_word(v, 4 + i), ranked[i]), "%zu: %s", i, vocabulary_word(v, 4 + i));
        cr_assert(vocabulary_token(v, ranked[i], 1) == 4 + i);
    }
    cr_assert(vocabulary_token(v, "f", 1) == TOKEN_UNKNOWN && !vocabulary_word(v, 9) && !vocabulary_word(v, 3));
    vocabulary_free(v);
}

Test(imdb, many_words) {
    enum { WORDS = 20000 };
    vocabulary *const v = vocabulary_new();
    char word[16];
    for (int i = 0; i < WORDS; i++)
        for (int n = 0; n <= (i == WORDS / 2); n++)
            vocabulary_count(v, word, (size_t)snprintf(word, sizeof word, "w%d", i));
    vocabulary_rank(v);
    cr_assert(vocabulary_size(v) == WORDS && vocabulary_token(v, "w10000", 6) == 4);
    cr_assert(vocabulary_token(v, "w0", 2) == 5 && vocabulary_token(v, "w19999", 6) == WORDS + 3);
    vocabulary_free(v);
}

/* ---- Tokens ---------------------------------------------------------------------------------------------------------- */

static void expect_tokens(const char *text, size_t limit, int32_t start, const int32_t wanted[4]) {
    vocabulary *const v = learn("a a a a b b b c c d"); /* a 4, b 5, c 6, d 7 */
    int32_t tokens[4] = {-1, -1, -1, -1};
    cr_assert(corpus_encode(v, text, strlen(text), limit, 4, tokens) == start, "%s", text);
    for (int i = 0; i < 4; i++) cr_assert(tokens[i] == wanted[i], "%s: token %d is %d", text, i, tokens[i]);
    vocabulary_free(v);
}

Test(imdb, padded_and_cut_at_the_front) {
    expect_tokens("", 8, 3, (const int32_t[]){0, 0, 0, 1});
    expect_tokens("a", 8, 2, (const int32_t[]){0, 0, 1, 4});
    expect_tokens("b x", 8, 1, (const int32_t[]){0, 1, 5, 2});
    expect_tokens("a b c", 8, 0, (const int32_t[]){1, 4, 5, 6});
    expect_tokens("a b c d", 8, 0, (const int32_t[]){4, 5, 6, 7});
    expect_tokens("d d a b c d", 7, 0, (const int32_t[]){4, 5, 6, 2});
}

/* ---- Reviews --------------------------------------------------------------------------------------------------------- */

static char root[64];

static void put(const char *name, const char *bytes, size_t size) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, name);
    FILE *const file = fopen(path, "wb");
    cr_assert(file && fwrite(bytes, 1, size, file) == size && fclose(file) == 0, "%s", path);
}

/* A data set of two reviews a folder. */
static void make_folder(void) {
    strcpy(root, "/tmp/attention-imdb-XXXXXX");
    cr_assert(mkdtemp(root) != NULL);
    static const char *const folders[] = {"train", "train/neg", "train/pos", "test", "test/neg", "test/pos"};
    char path[128];
    for (size_t i = 0; i < 6; i++) {
        snprintf(path, sizeof path, "%s/%s", root, folders[i]);
        cr_assert(mkdir(path, 0700) == 0);
    }
    put("train/pos/0_9.txt", "good b", 6), put("train/pos/1_7.txt", "a good", 6);
    put("train/neg/0_1.txt", "bad", 3), put("train/neg/1_4.txt", "Bad!", 4);
    put("test/pos/0_10.txt", "good", 4), put("test/pos/1_8.txt", "new", 3);
    put("test/neg/0_2.txt", "bad", 3), put("test/neg/1_3.txt", "a", 1);
    put("train/pos/notes.txt", "no review", 9);
}

static void remove_folder(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", root);
    cr_assert(system(command) == 0); // NOLINT
}

Test(imdb, a_small_data_set) {
    make_folder();
    review_set all = reviews_read(root, 2, 0);
    cr_assert(all.faults == 0 && all.count[SOURCE_TEST][SOURCE_NEGATIVE] == 2);
    corpus c = corpus_make(&all, 7, 3);
    reviews_free(&all);
    /* good 4 before bad 5: equal counts, positive reviews first; then b 6; a 7 is past the limit */
    static const int32_t train[4][3] = {{1, 4, 6}, {1, 2, 4}, {0, 1, 5}, {0, 1, 5}};
    static const int32_t test[4][3] = {{0, 1, 4}, {0, 1, 2}, {0, 1, 5}, {0, 1, 2}};
    cr_assert(c.part[SOURCE_TRAIN].count == 4 && c.part[SOURCE_TEST].count == 4);
    cr_assert(!memcmp(c.part[SOURCE_TRAIN].tokens, train, sizeof train));
    cr_assert(!memcmp(c.part[SOURCE_TEST].tokens, test, sizeof test));
    cr_assert(!memcmp(c.part[SOURCE_TEST].label, "\1\1\0\0", 4) &&
              !strcmp(c.part[SOURCE_TEST].name[3], "test/neg/1_3.txt"));
    corpus_free(&c);
    remove_folder();
}

Test(imdb, what_is_missing_or_damaged_is_named) {
    static const char *const wanted[] = {
        "train/pos/1_7.txt: not UTF-8 at byte 2",
        "train/neg/0_1.txt: empty",
        "test/neg/1_3.txt: a zero byte at byte 1",
        "test/pos/1_5.txt: rating 5 in this folder",
        "test/neg/0: missing",
    };
    make_folder();
    put("train/pos/1_7.txt", "a \xe2\x82", 4), put("train/neg/0_1.txt", "", 0), put("test/neg/1_3.txt", "a\0b", 3);
    char from[128], to[128];
    snprintf(from, sizeof from, "%s/test/pos/1_8.txt", root), snprintf(to, sizeof to, "%s/test/pos/1_5.txt", root);
    cr_assert(rename(from, to) == 0);
    snprintf(from, sizeof from, "%s/test/neg/0_2.txt", root);
    cr_assert(unlink(from) == 0);
    review_set all = reviews_read(root, 2, 5);
    cr_assert(all.faults == 5);
    for (size_t i = 0; i < 5; i++) {
        size_t found = 0;
        for (size_t j = 0; j < 5; j++) found += !strcmp(all.fault[j], wanted[i]);
        cr_assert(found == 1, "%s", wanted[i]);
    }
    cr_assert(all.count[SOURCE_TRAIN][SOURCE_POSITIVE] == 1 && all.count[SOURCE_TEST][SOURCE_NEGATIVE] == 0);
    reviews_free(&all);
    remove_folder();
}

/* ---- The data set itself ------------------------------------------------------------------------------------------------ */

static void expect_words(const vocabulary *words) {
    FILE *const file = fopen(BENCH_DATA "/imdb_vocab.txt", "r");
    char line[256];
    cr_assert(file != NULL);
    for (size_t token = TOKEN_FIRST_WORD; token < CORPUS_TOKENS; token++) {
        cr_assert(fgets(line, sizeof line, file) != NULL);
        line[strcspn(line, "\n")] = '\0';
        cr_assert(!strcmp(line, vocabulary_word(words, token)), "token %zu: %s", token, vocabulary_word(words, token));
    }
    fclose(file);
}

/* The place of the review "test/pos/0_9" among the test reviews. */
static size_t place_of(const corpus_part *part, const char *name, size_t length) {
    for (size_t i = 0; i < part->count; i++)
        if (!strncmp(part->name[i], name, length) && !strcmp(part->name[i] + length, ".txt")) return i;
    cr_assert(false, "%.*s", (int)length, name);
    return 0;
}

static void expect_tokens_of_keras(const corpus_part *part) {
    attn_weights_file *file;
    cr_assert(attn_weights_open(BENCH_DATA "/imdb_reviews.safetensors", 0, &file) == ATTN_OK);
    const attn_weights_tensor *const tensor = attn_weights_find(file, "tokens");
    uint16_t *const tokens = malloc(tensor->bytes);
    cr_assert(attn_weights_read(file, tensor, ATTN_WEIGHTS_U16, tokens, tensor->bytes) == ATTN_OK);
    const char *name = attn_weights_metadata(file, "reviews");
    for (int64_t i = 0; i < tensor->shape[0]; i++, name += strcspn(name, " "), name += *name == ' ') {
        const size_t at = place_of(part, name, strcspn(name, " "));
        int32_t start = 0;
        while (!tokens[i * CORPUS_STEPS + start]) start++;
        cr_assert(part->start[at] == start, "%s", part->name[at]);
        for (size_t t = 0; t < CORPUS_STEPS; t++)
            cr_assert(part->tokens[at * CORPUS_STEPS + t] == tokens[(size_t)i * CORPUS_STEPS + t], "%s, step %zu",
                      part->name[at], t);
    }
    free(tokens);
    attn_weights_close(file);
}

Test(imdb, the_data_set) {
    const char *const path = getenv(SOURCE_VARIABLE);
    if (!path || !*path) {
        printf("skipped: the data set (" SOURCE_VARIABLE " is not set)\n");
        return;
    }
    review_set all = reviews_read(path, REVIEWS_PER_FOLDER, 16);
    corpus c = corpus_make(&all, CORPUS_TOKENS, CORPUS_STEPS);
    cr_assert(c.part[SOURCE_TRAIN].count + c.part[SOURCE_TEST].count + all.faults == 4 * REVIEWS_PER_FOLDER);
    reviews_free(&all);
    expect_words(c.words);
    expect_tokens_of_keras(&c.part[SOURCE_TEST]);
    corpus_free(&c);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/imdb/words.h"

#include "bench/program.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unicase.h>

static const char separators[] = " !\"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n";

/* In new memory from malloc. Most texts are ASCII, which needs no tables. */
static char *lower(const char *text, size_t *length) {
    bool ascii = true;
    char *made = malloc(*length + 1);
    if (!made) fail("out of memory");
    for (size_t i = 0; i < *length; i++) {
        const char c = text[i];
        ascii &= (unsigned char)c < 0x80;
        made[i] = c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
    }
    if (ascii) return made;
    free(made);
    made = (char *)u8_tolower((const uint8_t *)text, *length, NULL, NULL, NULL, length);
    if (!made) fail("can't change a review to lower case: %s", strerror(errno));
    return made;
}

void words_of(const char *text, size_t length, words_take take, void *user) {
    char *const lowered = lower(text, &length);
    size_t begin = 0;
    for (size_t i = 0; i <= length; i++) {
        if (i < length && (lowered[i] == '\0' || !strchr(separators, lowered[i]))) continue;
        if (i > begin) take(user, lowered + begin, i - begin);
        begin = i + 1;
    }
    free(lowered);
}

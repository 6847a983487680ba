/* Text from a file, made fit for a message: cut to length and without control characters.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef ATTN_LIB_QUOTE_H
#define ATTN_LIB_QUOTE_H

#include <stddef.h>
#include <string.h>

#define ATTN_QUOTE_SIZE 96

/* Copies length bytes of text into buffer (of ATTN_QUOTE_SIZE) and returns it; '?' stands for each control character,
 * "..." for what was cut, never within a UTF-8 sequence. */
static inline const char *attn_quote_part(char *buffer, const char *text, size_t length) {
    const size_t most = ATTN_QUOTE_SIZE - 4;
    size_t kept = length < most ? length : most;
    if (kept < length)
        while (kept > 0 && ((unsigned char)text[kept] & 0xc0) == 0x80) --kept;
    for (size_t i = 0; i < kept; ++i) {
        const unsigned char c = (unsigned char)text[i];
        buffer[i] = c < 0x20 || c == 0x7f ? '?' : text[i];
    }
    strcpy(buffer + kept, kept < length ? "..." : "");
    return buffer;
}

static inline const char *attn_quote(char *buffer, const char *text) {
    return attn_quote_part(buffer, text, strlen(text));
}

#endif

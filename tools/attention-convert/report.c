/* SPDX-License-Identifier: Apache-2.0 */
#include "report.h"

#include "lib/quote.h"

#include <stdarg.h>
#include <stdio.h>

refuge *reader_refuge;

void refuse(int code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reader_refuge->report->message, sizeof reader_refuge->report->message, format, arguments);
    va_end(arguments);
    reader_refuge->report->code = code;
    longjmp(reader_refuge->escape, 1);
}

void note(const char *format, ...) {
    char *notes = reader_refuge->report->notes;
    const size_t used = strlen(notes), left = sizeof reader_refuge->report->notes - used;
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(notes + used, left, format, arguments);
    va_end(arguments);
    if (length >= 0 && (size_t)length + 1 < left)
        strcpy(notes + used + length, "\n");
    else
        notes[used] = '\0';
}

const char *quoted(const char *text) {
    static char buffers[4][ATTN_QUOTE_SIZE];
    static unsigned turn;
    return attn_quote(buffers[turn++ % 4], text);
}

/* SPDX-License-Identifier: Apache-2.0
 * Glyphs for what is written on a picture. */
#ifndef EXAMPLES_PLOT_FONT_H
#define EXAMPLES_PLOT_FONT_H

enum { FONT_WIDTH = 5, FONT_HEIGHT = 7, FONT_ADVANCE = 6 };

/* The rows of a glyph, FONT_WIDTH characters each with one between rows, '#' where there is ink; NULL: a space. */
const char *font_glyph(char c);

/* How many rows a letter hangs below the line. */
int font_drop(char c);

#endif

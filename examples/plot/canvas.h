/* SPDX-License-Identifier: Apache-2.0
 * A picture in memory, drawn on and written as PNG. Coordinates are pixels, x to the right, y downwards; what falls
 * outside is clipped. */
#ifndef EXAMPLES_PLOT_CANVAS_H
#define EXAMPLES_PLOT_CANVAS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct colour {
    uint8_t red, green, blue;
} colour;

typedef struct canvas {
    int width, height;
    colour *pixels; /* (height, width) */
} canvas;

/* All of one colour. Without memory the picture is empty: drawing does nothing, writing it fails. */
canvas canvas_new(int width, int height, colour background);
void canvas_free(canvas *c);

void canvas_fill(canvas *c, int x, int y, int width, int height, colour fill);

/* A smooth line from one point to another. */
void canvas_line(canvas *c, double x0, double y0, double x1, double y1, double thickness, colour line);

/* Text in ASCII, its upper left corner at (x, y); a character that there is no glyph for becomes a space. */
void canvas_text(canvas *c, int x, int y, const char *text, int scale, colour ink);
int canvas_text_width(const char *text, int scale);
int canvas_text_height(int scale);

/* False with errno when the file can't be written. */
bool canvas_write(const canvas *c, const char *path);

#endif

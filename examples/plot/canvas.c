/* SPDX-License-Identifier: Apache-2.0 */
#include "examples/plot/canvas.h"

#include "examples/plot/font.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>

canvas canvas_new(int width, int height, colour background) {
    canvas c = {width, height, malloc((size_t)width * (size_t)height * sizeof *c.pixels)};
    if (!c.pixels) c.width = c.height = 0;
    canvas_fill(&c, 0, 0, c.width, c.height, background);
    return c;
}

void canvas_free(canvas *c) {
    free(c->pixels);
    *c = (canvas){0};
}

static int within(int value, int limit) { return value < 0 ? 0 : value > limit ? limit : value; }

void canvas_fill(canvas *c, int x, int y, int width, int height, colour fill) {
    const int right = within(x + width, c->width), bottom = within(y + height, c->height);
    for (int j = within(y, c->height); j < bottom; j++)
        for (int i = within(x, c->width); i < right; i++) c->pixels[(ptrdiff_t)j * c->width + i] = fill;
}

static uint8_t mixed(uint8_t below, uint8_t above, double part) {
    return (uint8_t)lround((double)below + ((double)above - (double)below) * part);
}

static void blend(canvas *c, int x, int y, colour above, double part) {
    colour *const p = &c->pixels[(ptrdiff_t)y * c->width + x];
    *p = (colour){mixed(p->red, above.red, part), mixed(p->green, above.green, part), mixed(p->blue, above.blue, part)};
}

/* How far a point is from a segment that begins at the origin and ends at (dx, dy). */
static double distance(double px, double py, double dx, double dy) {
    const double square = dx * dx + dy * dy;
    const double along = square > 0 ? fmin(1, fmax(0, (px * dx + py * dy) / square)) : 0;
    return hypot(px - along * dx, py - along * dy);
}

void canvas_line(canvas *c, double x0, double y0, double x1, double y1, double thickness, colour line) {
    const double reach = thickness / 2 + 1;
    const int left = within((int)floor(fmin(x0, x1) - reach), c->width);
    const int right = within((int)ceil(fmax(x0, x1) + reach), c->width);
    const int top = within((int)floor(fmin(y0, y1) - reach), c->height);
    const int bottom = within((int)ceil(fmax(y0, y1) + reach), c->height);
    for (int y = top; y < bottom; y++)
        for (int x = left; x < right; x++) {
            const double d = distance(x + 0.5 - x0, y + 0.5 - y0, x1 - x0, y1 - y0);
            const double cover = fmin(1, thickness / 2 + 0.5 - d);
            if (cover > 0) blend(c, x, y, line, cover);
        }
}

void canvas_text(canvas *c, int x, int y, const char *text, int scale, colour ink) {
    for (; *text; text++, x += FONT_ADVANCE * scale) {
        const char *const glyph = font_glyph(*text);
        for (int i = 0; glyph && i < FONT_WIDTH * FONT_HEIGHT; i++)
            if (glyph[i / FONT_WIDTH * (FONT_WIDTH + 1) + i % FONT_WIDTH] == '#')
                canvas_fill(c, x + i % FONT_WIDTH * scale, y + (font_drop(*text) + i / FONT_WIDTH) * scale, scale,
                            scale, ink);
    }
}

int canvas_text_width(const char *text, int scale) {
    int glyphs = 0;
    while (text[glyphs]) glyphs++;
    return glyphs ? (glyphs * FONT_ADVANCE - 1) * scale : 0;
}

int canvas_text_height(int scale) { return FONT_HEIGHT * scale; }

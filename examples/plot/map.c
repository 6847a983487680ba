/* SPDX-License-Identifier: Apache-2.0 */
#include "examples/plot/map.h"

#include <math.h>
#include <string.h>

enum { MARGIN = 12, SCALE = 2 };

static const colour paper = {255, 255, 255}, ink = {35, 37, 43};

static double ramp(double value, double from, double to) { return fmin(1, fmax(0, (value - from) / (to - from))); }

/* The three colours rise one after the other; red does not begin at 0. */
colour map_hot(double value) {
    const double red = 0.0416 + (1 - 0.0416) * ramp(value, 0, 0.365079);
    const double green = ramp(value, 0.365079, 0.746032), blue = ramp(value, 0.746032, 1);
    return (colour){(uint8_t)lround(255 * red), (uint8_t)lround(255 * green), (uint8_t)lround(255 * blue)};
}

static double largest(const map *m) {
    double most = 0;
    for (size_t i = 0; i < m->rows * m->columns; i++) most = fmax(most, (double)m->values[i]);
    return most;
}

static void draw(canvas *c, const map *m, int top, int cell) {
    const double most = largest(m);
    for (size_t i = 0; i < m->rows * m->columns; i++)
        canvas_fill(c, MARGIN + (int)(i % m->columns) * cell, top + (int)(i / m->columns) * cell, cell, cell,
                    map_hot(most > 0 ? (double)m->values[i] / most : 0));
}

static int wider(int a, int b) { return a > b ? a : b; }

bool map_write(const char *path, const char *caption, const map *maps, size_t count, int cell) {
    const int line = canvas_text_height(SCALE) + MARGIN;
    int width = canvas_text_width(caption, SCALE), height = MARGIN + line;
    for (size_t i = 0; i < count; i++) {
        width = wider(width, wider((int)maps[i].columns * cell, canvas_text_width(maps[i].title, SCALE)));
        height += line + (int)maps[i].rows * cell + MARGIN;
    }
    canvas c = canvas_new(width + 2 * MARGIN, height, paper);
    canvas_text(&c, MARGIN, MARGIN, caption, SCALE, ink);
    int top = MARGIN + line;
    for (size_t i = 0; i < count; i++) {
        canvas_text(&c, MARGIN, top, maps[i].title, SCALE, ink);
        draw(&c, &maps[i], top + line, cell);
        top += line + (int)maps[i].rows * cell + MARGIN;
    }
    const bool written = canvas_write(&c, path);
    canvas_free(&c);
    return written;
}

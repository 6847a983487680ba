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

static int line_height(void) { return canvas_text_height(SCALE) + MARGIN; }

static int wider(int a, int b) { return a > b ? a : b; }

int map_width(const map *m) { return wider((int)m->columns * m->cell_width, canvas_text_width(m->title, SCALE)); }

int map_height(const map *m) { return line_height() + (int)m->rows * m->cell_height; }

void map_draw(canvas *c, const map *m, int x, int y) {
    const double most = largest(m);
    canvas_text(c, x, y, m->title, SCALE, ink);
    for (size_t i = 0; i < m->rows * m->columns; i++)
        canvas_fill(c, x + (int)(i % m->columns) * m->cell_width,
                    y + line_height() + (int)(i / m->columns) * m->cell_height, m->cell_width, m->cell_height,
                    map_hot(most > 0 ? (double)m->values[i] / most : 0));
}

bool map_write(const char *path, const char *caption, const map *maps, size_t count) {
    int width = canvas_text_width(caption, SCALE), height = MARGIN + line_height();
    for (size_t i = 0; i < count; i++) {
        width = wider(width, map_width(&maps[i]));
        height += map_height(&maps[i]) + MARGIN;
    }
    canvas c = canvas_new(width + 2 * MARGIN, height, paper);
    canvas_text(&c, MARGIN, MARGIN, caption, SCALE, ink);
    int y = MARGIN + line_height();
    for (size_t i = 0; i < count; i++) {
        map_draw(&c, &maps[i], MARGIN, y);
        y += map_height(&maps[i]) + MARGIN;
    }
    const bool written = canvas_write(&c, path);
    canvas_free(&c);
    return written;
}

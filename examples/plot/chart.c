/* SPDX-License-Identifier: Apache-2.0 */
#include "examples/plot/chart.h"

#include <math.h>
#include <stdio.h>

enum { SCALE = 2, GAP = 12, LEFT = 96, TICKS = 6 };

static const colour paper = {255, 255, 255}, ink = {35, 37, 43}, grid = {226, 228, 233};

/* The field that the curves are drawn in, and what its edges mean. */
typedef struct axes {
    int x, y, width, height;
    double epochs, low, high, step;
} axes;

/* The round number (1, 2 or 5 times a power of ten) next above a length. */
static double round_step(double length) {
    const double power = pow(10, floor(log10(length))), part = length / power;
    return power * (part <= 1 ? 1 : part <= 2 ? 2 : part <= 5 ? 5 : 10);
}

static void find_range(const chart *drawn, axes *a) {
    a->low = drawn->low, a->high = drawn->high;
    if (!(a->low < a->high)) a->low = INFINITY, a->high = -INFINITY;
    const bool by_values = a->low > a->high;
    for (size_t i = 0; i < drawn->count; i++) {
        const chart_curve *const curve = &drawn->curves[i];
        a->epochs = fmax(a->epochs, (double)curve->count);
        for (size_t j = 0; by_values && j < curve->count; j++)
            a->low = fmin(a->low, curve->values[j]), a->high = fmax(a->high, curve->values[j]);
    }
    if (!isfinite(a->low) || !isfinite(a->high)) a->low = 0, a->high = 1;
    if (a->low == a->high) a->high += a->high != 0 ? fabs(a->high) : 1;
    a->step = round_step((a->high - a->low) / TICKS);
    if (by_values) a->low = floor(a->low / a->step) * a->step, a->high = ceil(a->high / a->step) * a->step;
}

static double place_of_epoch(const axes *a, double epoch) {
    return a->x + (a->epochs > 1 ? (epoch - 1) / (a->epochs - 1) : 0.5) * a->width;
}

static double place_of_value(const axes *a, double value) {
    return a->y + (a->high - value) / (a->high - a->low) * a->height;
}

static void draw_axes(canvas *c, const axes *a) {
    char number[32];
    const int half = canvas_text_height(SCALE) / 2;
    const int digits = a->step < 1 ? (int)ceil(-log10(a->step) - 1e-9) : 0;
    const int lowest = (int)ceil(a->low / a->step - 1e-9), highest = (int)floor(a->high / a->step + 1e-9);
    for (int tick = lowest; tick <= highest; tick++) {
        const double value = tick * a->step;
        const int y = (int)lround(place_of_value(a, value));
        canvas_fill(c, a->x, y, a->width, 1, grid);
        snprintf(number, sizeof number, "%.*f", digits, value);
        canvas_text(c, a->x - GAP - canvas_text_width(number, SCALE), y - half, number, SCALE, ink);
    }
    const int every = (int)fmax(1, round_step(a->epochs / 10));
    for (int epoch = every; epoch <= (int)a->epochs; epoch += every) {
        const int x = (int)lround(place_of_epoch(a, epoch));
        snprintf(number, sizeof number, "%d", epoch);
        canvas_fill(c, x, a->y + a->height, 1, GAP / 2, ink);
        canvas_text(c, x - canvas_text_width(number, SCALE) / 2, a->y + a->height + GAP, number, SCALE, ink);
    }
    canvas_fill(c, a->x, a->y + a->height, a->width, 1, ink);
    canvas_fill(c, a->x, a->y, 1, a->height, ink);
}

static void draw_curve(canvas *c, const axes *a, const chart_curve *curve) {
    for (size_t i = 0; i < curve->count; i++) {
        const size_t j = i + 1 < curve->count ? i + 1 : i;
        if (j == i && curve->count > 1) break;
        if (!isfinite(curve->values[i]) || !isfinite(curve->values[j])) continue;
        canvas_line(c, place_of_epoch(a, (double)i + 1), place_of_value(a, curve->values[i]),
                    place_of_epoch(a, (double)j + 1), place_of_value(a, curve->values[j]), curve->thickness,
                    curve->line);
    }
}

/* The names of the curves, in one line below the axis. */
static void draw_legend(canvas *c, const chart *drawn, int x, int y) {
    for (size_t i = 0; i < drawn->count; i++) {
        const chart_curve *const curve = &drawn->curves[i];
        if (!curve->name) continue;
        const int half = canvas_text_height(SCALE) / 2;
        canvas_line(c, x, y + half, x + 2 * GAP, y + half, curve->thickness, curve->line);
        canvas_text(c, x + 3 * GAP, y, curve->name, SCALE, ink);
        x += 3 * GAP + canvas_text_width(curve->name, SCALE) + 2 * GAP;
    }
}

void chart_draw(canvas *c, const chart *drawn, int x, int y, int width, int height) {
    const int line = canvas_text_height(SCALE) + GAP;
    axes a = {.x = x + LEFT, .y = y + 2 * line + 2 * GAP, .width = width - LEFT - 2 * GAP};
    a.height = height - 4 * line - 4 * GAP;
    find_range(drawn, &a);
    canvas_text(c, x + GAP, y + GAP, drawn->title, SCALE, ink);
    canvas_text(c, x + GAP, y + GAP + line, drawn->value_name, SCALE, ink);
    draw_axes(c, &a);
    for (size_t i = 0; i < drawn->count; i++) draw_curve(c, &a, &drawn->curves[i]);
    draw_legend(c, drawn, a.x, a.y + a.height + GAP + line);
    const char *const epochs = "epoch";
    canvas_text(c, a.x + a.width - canvas_text_width(epochs, SCALE), a.y + a.height + GAP + line, epochs, SCALE, ink);
}

bool chart_write(const char *path, const chart *drawn, int width, int height) {
    canvas c = canvas_new(width, height, paper);
    chart_draw(&c, drawn, 0, 0, width, height);
    const bool written = canvas_write(&c, path);
    canvas_free(&c);
    return written;
}

/* SPDX-License-Identifier: Apache-2.0
 * Curves over epochs. */
#ifndef EXAMPLES_PLOT_CHART_H
#define EXAMPLES_PLOT_CHART_H

#include "examples/plot/canvas.h"

#include <stddef.h>

typedef struct chart_curve {
    const char *name; /* in the legend; NULL: not named */
    colour line;
    double thickness;
    const double *values; /* of epochs 1 to count; NaN leaves a gap */
    size_t count;
} chart_curve;

typedef struct chart {
    const char *title, *value_name; /* what is drawn upwards */
    double low, high;               /* of the vertical axis; equal: by the values */
    const chart_curve *curves;
    size_t count;
} chart;

/* Draws into a field of a picture. */
void chart_draw(canvas *c, const chart *drawn, int x, int y, int width, int height);

/* A picture of one chart; false with errno when the file can't be written. */
bool chart_write(const char *path, const chart *drawn, int width, int height);

#endif

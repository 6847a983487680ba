/* SPDX-License-Identifier: Apache-2.0
 * Matrices as fields of colour: an attention map has a row for each sample and a column for each time step. */
#ifndef EXAMPLES_PLOT_MAP_H
#define EXAMPLES_PLOT_MAP_H

#include "examples/plot/canvas.h"

#include <stddef.h>

/* The colour map hot: black, red, yellow, white for 0 to 1. */
colour map_hot(double value);

typedef struct map {
    const char *title; /* stands above */
    size_t rows, columns;
    const float *values; /* (rows, columns); the largest is white, 0 and less black */
    int cell_width, cell_height;
} map;

int map_width(const map *m);
int map_height(const map *m); /* with its title */

/* Draws title and field, the upper left corner of the whole at (x, y). */
void map_draw(canvas *c, const map *m, int x, int y);

/* A picture of maps one below the other, the caption on top; false with errno when the file can't be written. */
bool map_write(const char *path, const char *caption, const map *maps, size_t count);

#endif

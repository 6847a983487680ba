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
} map;

/* Maps one below the other, each cell `cell` pixels wide and high; false with errno when the file can't be written.
 * caption stands on top. */
bool map_write(const char *path, const char *caption, const map *maps, size_t count, int cell);

#endif

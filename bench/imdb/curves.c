/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/imdb/table.h"

#include "bench/program.h"
#include "examples/plot/chart.h"

#include <math.h>

typedef struct look {
    colour strong, faint;
} look;

static const look looks[ROWS] = {
    [ROW_WITH] = {{200, 62, 30}, {240, 200, 188}},
    [ROW_WITHOUT] = {{38, 84, 170}, {194, 208, 236}},
    [ROW_RANGES] = {{34, 130, 78}, {190, 224, 204}},
};

typedef struct drawing {
    chart_curve *curves;
    size_t count;
    double *values; /* of all curves */
    size_t used;
} drawing;

/* A new curve; its values are the caller's to fill. */
static double *add_curve(drawing *d, const char *name, colour line, double thickness, size_t count) {
    double *const values = d->values + d->used;
    d->used += count;
    d->curves[d->count++] = (chart_curve){name, line, thickness, values, count};
    return values;
}

/* A thin curve for each run of a row. */
static void add_runs(drawing *d, const records *all, int row) {
    for (size_t at = 0; at < all->count; at++) {
        if (all->at[at].row != row || all->at[at].epoch != 1) continue;
        size_t count = 1;
        while (at + count < all->count && all->at[at + count].epoch == count + 1) count++;
        double *const values = add_curve(d, NULL, looks[row].faint, 1.5, count);
        for (size_t i = 0; i < count; i++) values[i] = 100 * all->at[at + i].test_accuracy;
    }
}

/* The mean over the runs of a row, epoch by epoch. */
static void add_mean(drawing *d, const records *all, int row, const char *name, double thickness) {
    size_t epochs = 0;
    for (size_t i = 0; i < all->count; i++)
        if (all->at[i].row == row && all->at[i].epoch > epochs) epochs = all->at[i].epoch;
    if (!epochs) return;
    double *const values = add_curve(d, name, looks[row].strong, thickness, epochs);
    double *const runs = allocate(epochs * sizeof *runs);
    for (size_t i = 0; i < all->count; i++) {
        const record *const r = &all->at[i];
        if (r->row == row) values[r->epoch - 1] += 100 * r->test_accuracy, runs[r->epoch - 1]++;
    }
    for (size_t i = 0; i < epochs; i++) values[i] /= runs[i];
    release(runs);
}

bool table_curves(const char *path, const records *ours, const records *keras) {
    static const char *const keras_names[ROWS] = {"Keras", "Keras", NULL};
    const size_t points = ours->count + keras->count, curves = points + (size_t)2 * ROWS;
    drawing d = {.curves = allocate(curves * sizeof *d.curves), .values = allocate(2 * points * sizeof *d.values)};
    for (int row = 0; row < ROWS; row++) add_runs(&d, ours, row);
    for (int row = 0; row < ROWS; row++) add_mean(&d, ours, row, rows[row].title, 4);
    for (int row = 0; row < ROWS; row++) add_mean(&d, keras, row, keras_names[row], 1.2);
    const chart drawn = {.title = "IMDB reviews: each run thin, their mean thick",
                         .value_name = "test accuracy, %",
                         .curves = d.curves,
                         .count = d.count};
    const bool written = chart_write(path, &drawn, 1500, 800);
    release(d.curves);
    release(d.values);
    return written;
}

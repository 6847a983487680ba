/* SPDX-License-Identifier: Apache-2.0 */
#include "examples/experiment/learning.h"

#include "examples/plot/chart.h"
#include "examples/plot/map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

learning learning_begin(const experiment *of, const char *measure, size_t columns) {
    learning l = {
        .of = of,
        .measure = measure,
        .columns = columns,
        .loss = experiment_array(of->epochs, sizeof *l.loss),
        .error = experiment_array(of->epochs, sizeof *l.error),
        .part = experiment_array(of->epochs, sizeof *l.part),
        .attention = experiment_array(of->epochs * columns, sizeof *l.attention),
        .table = fopen(experiment_path(of, "history.csv"), "w"),
    };
    if (!l.table) experiment_fail("can't write %s: %s", experiment_path(of, "history.csv"), strerror(errno));
    fprintf(l.table, "epoch,loss,validation_mae,%s\n", measure);
    clock_gettime(CLOCK_MONOTONIC, &l.began);
    return l;
}

static double seconds_since(struct timespec *began) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    const double seconds = difftime(now.tv_sec, began->tv_sec) + 1e-9 * (double)(now.tv_nsec - began->tv_nsec);
    *began = now;
    return seconds;
}

void learning_add(learning *l, double loss, double error, double part, const float *attention) {
    const size_t at = l->epochs++;
    l->loss[at] = loss, l->error[at] = error, l->part[at] = part;
    memcpy(l->attention + at * l->columns, attention, l->columns * sizeof *attention);
    fprintf(l->table, "%zu,%.9g,%.9g,%.9g\n", l->epochs, loss, error, part);
    if (fflush(l->table)) experiment_fail("can't write %s: %s", experiment_path(l->of, "history.csv"), strerror(errno));
    printf("epoch %3zu of %zu   loss %.5f   validation MAE %.5f   %s %5.1f %%   %.1f s\n", l->epochs, l->of->epochs,
           loss, error, l->measure, 100 * part, seconds_since(&l->began));
    fflush(stdout);
}

/* A row of the map is one epoch; short trainings get thicker rows. */
static map attention_map(const learning *l, const char *title) {
    const int row = (int)(300 / l->epochs);
    return (map){title, l->epochs, l->columns, l->attention, 24, row < 2 ? 2 : row > 24 ? 24 : row};
}

void learning_end(learning *l, const char *attention_title) {
    enum { MARGIN = 16, CHART_WIDTH = 900, CHART_HEIGHT = 420 };
    static const colour red = {200, 62, 30}, blue = {38, 84, 170}, green = {34, 130, 78}, paper = {255, 255, 255};
    const chart_curve errors[] = {{"training loss", red, 2, l->loss, l->epochs},
                                  {"validation MAE", blue, 2, l->error, l->epochs}};
    const chart_curve measure = {l->measure, green, 2, l->part, l->epochs};
    const chart above = {.title = l->of->name, .value_name = "error", .curves = errors, .count = 2};
    const chart below = {.title = "", .value_name = l->measure, .high = 1, .curves = &measure, .count = 1};
    const map m = attention_map(l, attention_title);
    const int map_side = map_width(&m) + 2 * MARGIN, map_bottom = map_height(&m) + 2 * MARGIN;
    canvas c = canvas_new(map_side + CHART_WIDTH, map_bottom > 2 * CHART_HEIGHT ? map_bottom : 2 * CHART_HEIGHT, paper);
    map_draw(&c, &m, MARGIN, MARGIN);
    chart_draw(&c, &above, map_side, 0, CHART_WIDTH, CHART_HEIGHT);
    chart_draw(&c, &below, map_side, CHART_HEIGHT, CHART_WIDTH, CHART_HEIGHT);
    if (!canvas_write(&c, experiment_path(l->of, "learning.png")))
        experiment_fail("can't write %s: %s", experiment_path(l->of, "learning.png"), strerror(errno));
    canvas_free(&c);
    if (fclose(l->table)) experiment_fail("can't write %s: %s", experiment_path(l->of, "history.csv"), strerror(errno));
    free(l->loss), free(l->error), free(l->part), free(l->attention);
}

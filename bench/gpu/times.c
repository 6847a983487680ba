/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/gpu/times.h"

#include "bench/gpu/device.h"

#include <stdlib.h>

enum { REPLAYS = 4, MOST_COLD = 30 };

/* Microseconds that the runs of a kind may take, and how many they may be. */
static const struct share {
    double time;
    int least, most;
} warm_share = {4e4, 5, 200}, cold_share = {2e4, 5, MOST_COLD}, graph_share = {1e4, 1, 50}, single_share = {4e4, 3, 20};

static driver_event events[2];
static driver_pointer flushed;
static size_t flushed_words;
static bool few;

void times_open(bool small) {
    few = small;
    flushed_words = small ? 1024 : (size_t)64 << 20;
    for (int i = 0; i < 2; i++) DRIVER_MUST(gpu_driver->event_create(&events[i], 0));
    DRIVER_MUST(gpu_driver->alloc(&flushed, flushed_words * sizeof(unsigned)));
}

static void start(void) { DRIVER_MUST(gpu_driver->event_record(events[0], gpu_stream)); }

static double stop(void) {
    float milliseconds;
    DRIVER_MUST(gpu_driver->event_record(events[1], gpu_stream));
    DRIVER_MUST(gpu_driver->event_wait(events[1]));
    DRIVER_MUST(gpu_driver->event_elapsed(&milliseconds, events[0], events[1]));
    return 1e3 * (double)milliseconds;
}

static double once(task t) {
    start();
    t.run(t.of);
    return stop();
}

static int runs_of(const struct share *share, double one) {
    if (few) return 1;
    const double runs = share->time / one;
    return runs < share->least ? share->least : runs > share->most ? share->most : (int)runs;
}

static int by_value(const void *a, const void *b) {
    const double left = *(const double *)a, right = *(const double *)b;
    return left < right ? -1 : left > right;
}

static double warm(task t, double one) {
    const int runs = runs_of(&warm_share, one);
    start();
    for (int i = 0; i < runs; i++) t.run(t.of);
    return stop() / runs;
}

static double cold(task t, double one) {
    double found[MOST_COLD];
    const int runs = runs_of(&cold_share, one);
    for (int i = 0; i < runs; i++) {
        DRIVER_MUST(gpu_driver->fill(flushed, (unsigned)i, flushed_words, gpu_stream));
        found[i] = once(t);
    }
    qsort(found, (size_t)runs, sizeof *found, by_value);
    return found[runs / 2];
}

static double replay(task t, double one) {
    const int runs = runs_of(&graph_share, one);
    driver_graph graph;
    driver_graph_exec exec;
    DRIVER_MUST(gpu_driver->capture_begin(gpu_stream, DRIVER_CAPTURE_THREAD));
    for (int i = 0; i < runs; i++) t.run(t.of);
    DRIVER_MUST(gpu_driver->capture_end(gpu_stream, &graph));
    DRIVER_MUST(gpu_driver->graph_instantiate(&exec, graph, 0));
    DRIVER_MUST(gpu_driver->graph_launch(exec, gpu_stream));
    start();
    for (int i = 0; i < REPLAYS; i++) DRIVER_MUST(gpu_driver->graph_launch(exec, gpu_stream));
    const double time = stop() / (REPLAYS * runs);
    DRIVER_MUST(gpu_driver->graph_exec_destroy(exec));
    DRIVER_MUST(gpu_driver->graph_destroy(graph));
    return time;
}

times times_of(task measured) {
    once(measured);
    const double one = once(measured);
    return (times){warm(measured, one), cold(measured, one), replay(measured, one)};
}

double times_warm(task measured) {
    once(measured);
    return warm(measured, once(measured));
}

double times_best(task measured) {
    double best = once(measured);
    const int runs = runs_of(&single_share, best);
    for (int i = 0; i < runs; i++) {
        const double time = once(measured);
        best = time < best ? time : best;
    }
    return best;
}

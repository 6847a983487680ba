/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/gpu/checks.h"

#include <stdlib.h>
#include <string.h>

typedef struct output {
    unsigned char *bits;
    size_t bytes;
} output;

static output take(const subject *s) {
    output taken;
    taken.bits = s->kind->bits(s, &taken.bytes);
    return taken;
}

/* A number and its negative; zeros have either sign. */
static bool are_opposite(const unsigned char *a, const unsigned char *b, size_t element) {
    bool same = true, zero = true;
    for (size_t i = 0; i < element; i++) {
        const unsigned char sign = i + 1 == element ? 0x80 : 0;
        same = same && a[i] == (b[i] ^ sign);
        zero = zero && !((a[i] | b[i]) & ~sign & 0xff);
    }
    return same || zero;
}

/* Whether the outputs are these now, but for the first `negated` bytes. */
static bool has(const subject *s, const output *first, size_t negated) {
    const output now = take(s);
    bool same = now.bytes == first->bytes;
    for (size_t at = 0; same && at < negated; at += s->element)
        same = are_opposite(now.bits + at, first->bits + at, s->element);
    same = same && !memcmp(now.bits + negated, first->bits + negated, now.bytes - negated);
    free(now.bits);
    return same;
}

static bool replay(const subject *s, driver_graph_exec graph) {
    subject_poison(s);
    const bool ok = !subject_driver->graph_launch(graph, s->stream);
    subject_wait(s);
    return ok;
}

static void check_replays(tally *t, const subject *s, driver_graph graph, const output *first) {
    driver_graph_exec exec;
    DRIVER_MUST(subject_driver->graph_instantiate(&exec, graph, 0));
    for (int i = 0; i < 2; i++)
        tally_count(t, replay(s, exec) && has(s, first, 0), s->name, "a replay gives other bits");
    if (s->kind->negate) {
        s->kind->negate(s);
        tally_count(t, replay(s, exec) && has(s, first, s->negated), s->name, "a replay does not see what changed");
    }
    DRIVER_MUST(subject_driver->graph_exec_destroy(exec));
    DRIVER_MUST(subject_driver->graph_destroy(graph));
}

void check_graph(tally *t, subject *s) {
    subject_poison(s);
    const output poisoned = take(s);
    const bool ran = s->kind->run(s);
    subject_wait(s);
    tally_count(t, ran && s->kind->right(s), s->name, "the first run is wrong");
    const output first = take(s);
    driver_graph graph;
    subject_poison(s);
    DRIVER_MUST(subject_driver->capture_begin(s->stream, DRIVER_CAPTURE_THREAD));
    const bool recorded = s->kind->run(s), captured = !subject_driver->capture_end(s->stream, &graph) && recorded;
    tally_count(t, captured, s->name, "a run can't be captured");
    DRIVER_MUST(subject_driver->synchronize());
    tally_count(t, has(s, &poisoned, 0), s->name, "a captured run ran");
    if (captured) check_replays(t, s, graph, &first);
    free(poisoned.bits);
    free(first.bits);
}

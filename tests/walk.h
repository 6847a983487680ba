/* SPDX-License-Identifier: Apache-2.0 */
/* Cases times implementations: every implementation that can run a case, forced, in every way to call it. */
#ifndef ATTN_TESTS_WALK_H
#define ATTN_TESTS_WALK_H

#include "tests/kit.h"

typedef struct walk_tally {
    const char *implementation; /* only names that begin with these fields; NULL: all */
    int threads;
    size_t passed, failed; /* implementations of cases */
    double worst;          /* the largest error over gate of what passed */
} walk_tally;

/* Prints a line, and how to reproduce it, for each failure. A case that no implementation can run is a failure too, unless
 * `implementation` narrows the choice. */
void walk_case(walk_tally *tally, const kit_case *spec);

/* The implementations of the forward pass that can be planned for a case, forced; with flags as in attn_layer_desc. Returns how many. */
enum { WALK_IMPLEMENTATIONS = 32 };
size_t walk_usable(const kit_case *spec, const char **names);
size_t walk_usable_flags(const kit_case *spec, uint64_t flags, const char **names);

/* The same of the backward pass. */
size_t walk_usable_backward(const kit_case *spec, const char **names);

/* A context that forces `name` and a plan on it, of the pass that the name says; ends the program when that can't be. */
attn_plan *walk_plan(const attn_layer_desc *desc, const char *name, int threads);

#endif

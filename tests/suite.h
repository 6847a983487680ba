/* SPDX-License-Identifier: Apache-2.0 */
/* What every suite includes: the test macros (Test and cr_assert alone) and small helpers. */
#ifndef ATTN_TESTS_SUITE_H
#define ATTN_TESTS_SUITE_H

#ifdef ATTN_PLAIN_RUNNER
#include "tests/plain_runner.h"
#else
#include <criterion/criterion.h>
#endif

#include "tests/kit.h"
#include "tests/walk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Every output of a run, one after the other. */
typedef struct bits {
    char *data;
    size_t size;
} bits;

/* Runs and takes the outputs; a status that is not success fails the test. */
bits run_bits(kit_problem *problem, const attn_plan *plan);
bits gradient_bits(const kit_problem *problem); /* all gradients of the last backward run */
bool bits_equal(const bits *a, const bits *b); /* and not empty */
void bits_free(bits *all);

/* The case of that name; it must exist. */
const kit_case *find_case(const char *name);

/* Runs a small case forced to the given plan and judges it; fails the test with `what` when it is wrong. */
void expect_healthy(kit_problem *problem, const attn_plan *plan, const char *what);

/* Content for a case that has another batch or other timesteps than `from`: its weights are those of `from`. */
kit_content content_like(const kit_problem *from, const kit_case *spec);

/* Whether an implementation promises that an item's bits do not depend on the rest of the batch. */
bool is_batch_invariant(const kit_case *spec, const char *name);

#endif

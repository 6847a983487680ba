/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files of the kit. */
#ifndef ATTN_TESTS_KIT_CONTENT_H
#define ATTN_TESTS_KIT_CONTENT_H

#include "tests/kit.h"

/* count elements of size bytes, zeroed; never NULL. */
void *kit_array(size_t count, size_t size);

/* The content of sizes->batch items. */
kit_content kit_fill_content(const kit_case *spec, const reference_input *sizes);

/* Whether a fill is one of those that are hostile to sums. */
bool kit_is_hostile(kit_fill fill);
/* One of its elements, in order; first: the one of row 0 in the same column. */
double kit_hostile_value(kit_fill fill, uint64_t *state, double first, size_t row, size_t rows, size_t width);

/* An incoming gradient's next element. */
double kit_fill_gradient(const kit_case *spec, uint64_t *state);

void kit_gradients_free(struct kit_gradients *gradients);
bool kit_problem_inputs_unchanged(const kit_problem *problem);

/* Gates by the expected results, times a factor. */
void kit_problem_gates(kit_problem *problem, double factor);

/* (items, rows, width) elements in guarded memory; strides in elements. */
typedef struct kit_tensor {
    size_t element, items, rows, width; /* element: bytes */
    size_t item_stride, row_stride, front, elements;
    char *memory, *data;
    attn_dtype short_dtype; /* where element is 2 */
} kit_tensor;

/* `shape` holds the first line of fields. */
kit_tensor kit_tensor_make(const kit_tensor *shape, unsigned options, kit_guard guard);
void kit_tensor_put(const kit_tensor *t, size_t item, size_t row, const double *values);
double kit_tensor_get(const kit_tensor *t, size_t item, size_t row, size_t i);
void kit_tensor_poison(const kit_tensor *t);
bool kit_tensor_gaps_untouched(const kit_tensor *t);
char *kit_tensor_copy(const kit_tensor *t, size_t *bytes); /* dense, from malloc */
uint64_t kit_tensor_hash(const kit_tensor *t, uint64_t hash);

#endif

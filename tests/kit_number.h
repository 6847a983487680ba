/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers of every attn_dtype, as memory holds them and as doubles. Written from the formats' definitions. */
#ifndef ATTN_TESTS_KIT_NUMBER_H
#define ATTN_TESTS_KIT_NUMBER_H

#include "attention/attention.h"

/* Bytes of an element, and of the numbers that stand beside 16-bit tensors as float32. */
size_t kit_element_size(attn_dtype dtype);
attn_dtype kit_number_dtype(attn_dtype dtype);

double kit_get(attn_dtype dtype, const void *data, size_t index);
/* Rounds to nearest, ties to even. */
void kit_put(attn_dtype dtype, void *data, size_t index, double value);
double kit_round(attn_dtype dtype, double value);

/* Of arithmetic in the dtype: half the spacing at 1, and the smallest normal number. With 16-bit types float32's. */
double kit_unit(attn_dtype dtype);
double kit_smallest(attn_dtype dtype);

/* What rounding a number of this size to the dtype adds to the error of arithmetic: nothing save with 16-bit types. */
double kit_storage_error(attn_dtype dtype, double size);

#endif

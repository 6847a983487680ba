/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers as registers hold them. */
#ifndef ATTN_TESTS_PTX_VALUES_H
#define ATTN_TESTS_PTX_VALUES_H

#include "tests/cuda_ptx/ptx.h"

namespace ptx {

float as_float(uint64_t bits);
double as_double(uint64_t bits);
uint64_t float_bits(float value);
uint64_t double_bits(double value);

/* A value of a floating-point type, all of which double holds. */
double to_double(uint64_t bits, type from);

/* Rounded to nearest, ties to even, or where `to_zero` towards zero; not a number becomes the type's own. */
uint64_t from_double(double value, type to, bool to_zero);

} // namespace ptx

#endif

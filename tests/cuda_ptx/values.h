/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers as registers hold them. */
#ifndef ATTN_TESTS_PTX_VALUES_H
#define ATTN_TESTS_PTX_VALUES_H

#include "tests/cuda_ptx/ptx.h"

#include <cstring>

namespace ptx {

template <typename To, typename From> To bits_as(From from) {
    static_assert(sizeof(To) == sizeof(From), "the same bits");
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

inline float as_float(uint64_t bits) { return bits_as<float>(static_cast<uint32_t>(bits)); }
inline double as_double(uint64_t bits) { return bits_as<double>(bits); }
inline uint64_t float_bits(float value) { return bits_as<uint32_t>(value); }
inline uint64_t double_bits(double value) { return bits_as<uint64_t>(value); }

/* A value of a floating-point type, all of which double holds. */
double to_double(uint64_t bits, type from);

/* Rounded to nearest, ties to even, or where `to_zero` towards zero; not a number becomes the type's own. */
uint64_t from_double(double value, type to, bool to_zero);

} // namespace ptx

#endif

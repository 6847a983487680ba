/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/cuda_ptx/values.h"

#include <cfenv>
#include <cmath>

namespace ptx {

namespace {

/* Layout of the formats that the host has no type for. */
struct layout {
    int fraction, exponent_bits;
};

layout layout_of(type of) { return of.of == kind::brain ? layout{7, 8} : layout{10, 5}; }

double unpack(uint64_t bits, layout of) {
    const int bias = (1 << (of.exponent_bits - 1)) - 1;
    const int exponent = static_cast<int>(bits >> of.fraction) & ((1 << of.exponent_bits) - 1);
    const double fraction = static_cast<double>(bits & ((1u << of.fraction) - 1)) / (1 << of.fraction);
    const double sign = bits >> (of.fraction + of.exponent_bits) & 1 ? -1 : 1;
    if (exponent == (1 << of.exponent_bits) - 1) return fraction != 0 ? NAN : sign * INFINITY;
    if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias);
    return sign * std::ldexp(1 + fraction, exponent - bias);
}

uint64_t pack(double value, layout of, bool to_zero) {
    const int bias = (1 << (of.exponent_bits - 1)) - 1, largest = (1 << of.exponent_bits) - 1;
    const uint64_t sign = (std::signbit(value) ? uint64_t{1} : 0) << (of.fraction + of.exponent_bits);
    if (std::isnan(value)) return (uint64_t{1} << (of.fraction + of.exponent_bits)) - 1;
    const uint64_t infinite = sign | static_cast<uint64_t>(largest) << of.fraction;
    if (std::isinf(value)) return infinite;
    if (value == 0) return sign;
    int exponent = std::ilogb(value);
    if (exponent < 1 - bias) exponent = 1 - bias;
    const double units = std::ldexp(std::fabs(value), of.fraction - exponent);
    const double rounded = to_zero ? std::floor(units) : std::nearbyint(units);
    /* A carry out of the fraction goes into the exponent as it should. */
    uint64_t magnitude = static_cast<uint64_t>(rounded);
    if (rounded >= std::ldexp(1.0, of.fraction)) magnitude += static_cast<uint64_t>(exponent + bias - 1) << of.fraction;
    if (magnitude >= (infinite & ~sign)) return to_zero ? (infinite - 1) : infinite;
    return sign | magnitude;
}

} // namespace

double to_double(uint64_t bits, type from) {
    if (from.bytes == 8) return as_double(bits);
    if (from.bytes == 4) return static_cast<double>(as_float(bits));
    return unpack(bits & 0xffffu, layout_of(from));
}

uint64_t from_double(double value, type to, bool to_zero) {
    if (to.bytes == 8) return double_bits(value);
    if (to.bytes == 2) return pack(value, layout_of(to), to_zero);
    const int before = std::fegetround();
    if (to_zero) std::fesetround(FE_TOWARDZERO);
    volatile const double given = value;
    const float rounded = static_cast<float>(given);
    std::fesetround(before);
    return float_bits(rounded);
}

} // namespace ptx

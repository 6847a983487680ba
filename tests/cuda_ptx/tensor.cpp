/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/cuda_ptx/tensor.h"

#include "tests/cuda_ptx/values.h"

#include <cmath>
#include <cstring>

namespace ptx {

element of_a(unsigned lane, unsigned i, bool tf32) {
    const unsigned group = lane / 4, within = lane % 4;
    if (tf32) return {group + 8 * (i & 1), within + 4 * (i >> 1)};
    return {group + 8 * (i >> 1 & 1), 2 * within + (i & 1) + 8 * (i >> 2)};
}

element of_b(unsigned lane, unsigned i, bool tf32) {
    const unsigned group = lane / 4, within = lane % 4;
    if (tf32) return {within + 4 * i, group};
    return {2 * within + (i & 1) + 8 * (i >> 1), group};
}

element of_c(unsigned lane, unsigned i) { return {lane / 4 + 8 * (i >> 1), 2 * (lane % 4) + (i & 1)}; }

namespace {

/* Exact products are cut to so many bits below the largest one's exponent, added exactly, and the sum is cut to a float. An A100 keeps 24 of
 * them and adds 16 bytes of k at a time, an H100 keeps 25 and adds 32: the coarser of both. */
enum { KEPT_BITS = 24 };
enum { FRACTION = 52, BIAS = 1023, SPECIAL = 0x7ff };

/* Of a number that is not subnormal: products of floats never are. 0 stands for zero. */
int exponent_of(double value) { return static_cast<int>(double_bits(value) >> FRACTION & SPECIAL); }

double power_of_two(int exponent) { return as_double(static_cast<uint64_t>(exponent + BIAS) << FRACTION); }

float cut_to_float(double value) {
    if (std::fabs(value) < 0x1p-126 || std::fabs(value) >= 0x1p128) /* subnormal, or too large */
        return as_float(from_double(value, {kind::real, 4, false}, true));
    return static_cast<float>(as_double(double_bits(value) & ~((uint64_t{1} << 29) - 1)));
}

} // namespace

float add_truncated(float c, const double *products, unsigned count) {
    int largest = exponent_of(static_cast<double>(c));
    for (unsigned i = 0; i < count; i++) {
        const int exponent = exponent_of(products[i]);
        largest = exponent > largest ? exponent : largest;
    }
    if (largest == 0) return 0;
    if (largest == SPECIAL) {
        double plain = static_cast<double>(c);
        for (unsigned i = 0; i < count; i++) plain += products[i];
        return static_cast<float>(plain);
    }
    const int unit = largest - BIAS - KEPT_BITS;
    const double scale = power_of_two(-unit);
    int64_t sum = static_cast<int64_t>(static_cast<double>(c) * scale);
    for (unsigned i = 0; i < count; i++) sum += static_cast<int64_t>(products[i] * scale);
    return cut_to_float(static_cast<double>(sum) * power_of_two(unit));
}

unsigned to_tf32(float value) {
    const unsigned bits = static_cast<unsigned>(float_bits(value));
    return std::isfinite(value) ? (bits + 0x1000u) & ~0x1fffu : std::isnan(value) ? 0x7fffffffu : bits;
}

float seen_as_tf32(unsigned bits) { return as_float(bits & ~0x1fffu); }

namespace {

bool all_finite(unsigned depth, const double (*b)[8]) {
    bool finite = true;
    for (unsigned k = 0; k < depth; k++)
        for (unsigned column = 0; column < 8; column++) finite = finite && std::isfinite(b[k][column]);
    return finite;
}

bool all_zero(unsigned depth, const double *row) {
    bool zero = true;
    for (unsigned k = 0; k < depth; k++) zero = zero && row[k] == 0;
    return zero;
}

} // namespace

void multiply_add(unsigned depth, const double (*a)[16], const double (*b)[8], float (*c)[8]) {
    const unsigned chunk = depth / 2;
    const bool finite = all_finite(depth, b);
    for (unsigned row = 0; row < 16; row++) {
        if (finite && all_zero(depth, a[row])) continue; /* leaves c as it is */
        for (unsigned column = 0; column < 8; column++)
            for (unsigned k = 0; k < depth; k += chunk) {
                double products[8];
                for (unsigned i = 0; i < chunk; i++) products[i] = a[row][k + i] * b[k + i][column];
                c[row][column] = add_truncated(c[row][column], products, chunk);
            }
    }
}

} // namespace ptx

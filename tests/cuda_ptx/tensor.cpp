/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/cuda_ptx/tensor.h"

#include "tests/cuda_ptx/values.h"

#include <cmath>
#include <cstring>

namespace ptx {

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

enum : unsigned { COLUMNS = 8 };
/* Between these a row's sums need no special care: all that is cut off or left is a float like any other. */
enum { LEAST = BIAS - 100, MOST = BIAS + 120 };

void add_row_one_by_one(float *c, const double (*products)[COLUMNS], unsigned count) {
    for (unsigned column = 0; column < COLUMNS; column++) {
        double of_column[8];
        for (unsigned i = 0; i < count; i++) of_column[i] = products[i][column];
        c[column] = add_truncated(c[column], of_column, count);
    }
}

/* add_truncated for a row's columns side by side. A sum of nine numbers below 2^25 has room in 32 bits. */
void add_row(float *c, const double (*products)[COLUMNS], unsigned count) {
    int largest[COLUMNS], plain = 1, sum[COLUMNS];
    for (unsigned column = 0; column < COLUMNS; column++) largest[column] = exponent_of(static_cast<double>(c[column]));
    for (unsigned i = 0; i < count; i++)
        for (unsigned column = 0; column < COLUMNS; column++) {
            const int exponent = exponent_of(products[i][column]);
            largest[column] = exponent > largest[column] ? exponent : largest[column];
        }
    for (int &exponent : largest) {
        exponent = exponent == 0 ? BIAS : exponent; /* all are zero */
        plain &= (exponent >= LEAST) & (exponent <= MOST);
    }
    if (!plain) return add_row_one_by_one(c, products, count);
    double scale[COLUMNS], unit[COLUMNS];
    for (unsigned column = 0; column < COLUMNS; column++) {
        scale[column] = power_of_two(KEPT_BITS + BIAS - largest[column]);
        unit[column] = power_of_two(largest[column] - BIAS - KEPT_BITS);
        sum[column] = static_cast<int>(static_cast<double>(c[column]) * scale[column]);
    }
    for (unsigned i = 0; i < count; i++)
        for (unsigned column = 0; column < COLUMNS; column++)
            sum[column] += static_cast<int>(products[i][column] * scale[column]);
    for (unsigned column = 0; column < COLUMNS; column++)
        c[column] = static_cast<float>(as_double(double_bits(sum[column] * unit[column]) & ~((uint64_t{1} << 29) - 1)));
}

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
        for (unsigned k = 0; k < depth; k += chunk) {
            double products[8][COLUMNS];
            for (unsigned i = 0; i < chunk; i++)
                for (unsigned column = 0; column < COLUMNS; column++)
                    products[i][column] = a[row][k + i] * b[k + i][column];
            add_row(c[row], products, chunk);
        }
    }
}

} // namespace ptx

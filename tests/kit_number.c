/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/kit_number.h"

#include <float.h>
#include <math.h>
#include <string.h>

typedef struct format {
    size_t size;
    int digits, least; /* bits of the significand; exponent of the smallest subnormal number */
    double largest;
} format;

static const format formats[] = {[ATTN_FLOAT32] = {4, 24, -149, FLT_MAX},
                                 [ATTN_FLOAT64] = {8, 53, -1074, DBL_MAX},
                                 [ATTN_FLOAT16] = {2, 11, -24, 65504},
                                 [ATTN_BFLOAT16] = {2, 8, -133, 0x1.fep127}};

static int is_short(attn_dtype dtype) { return formats[dtype].size == 2; }

size_t kit_element_size(attn_dtype dtype) { return formats[dtype].size; }

attn_dtype kit_number_dtype(attn_dtype dtype) { return is_short(dtype) ? ATTN_FLOAT32 : dtype; }

double kit_unit(attn_dtype dtype) { return dtype == ATTN_FLOAT64 ? 0x1p-53 : 0x1p-24; }

double kit_smallest(attn_dtype dtype) { return dtype == ATTN_FLOAT64 ? DBL_MIN : (double)FLT_MIN; }

double kit_storage_error(attn_dtype dtype, double size) {
    return is_short(dtype) ? ldexp(size, -formats[dtype].digits) + ldexp(1, formats[dtype].least - 1) : 0;
}

double kit_round(attn_dtype dtype, double value) {
    const format *f = &formats[dtype];
    if (dtype == ATTN_FLOAT64 || !isfinite(value) || value == 0) return value;
    int exponent;
    frexp(value, &exponent);
    const int step = exponent - f->digits > f->least ? exponent - f->digits : f->least;
    const double rounded = ldexp(nearbyint(ldexp(value, -step)), step);
    return fabs(rounded) > f->largest ? copysign(INFINITY, value) : rounded;
}

/* IEEE 754 binary16: a sign, five bits of exponent, ten of significand. */
static uint16_t half_bits(double rounded) {
    const uint16_t sign = signbit(rounded) ? 0x8000 : 0;
    const double size = fabs(rounded);
    if (isnan(rounded)) return 0x7e00;
    if (isinf(rounded)) return sign | 0x7c00;
    if (size < 0x1p-14) return sign | (uint16_t)ldexp(size, 24);
    int exponent;
    const double significand = ldexp(frexp(size, &exponent), 11);
    return (uint16_t)(sign | ((exponent + 14) << 10) | ((int)significand - 1024));
}

static double half_value(uint16_t bits) {
    const int exponent = bits >> 10 & 31, significand = bits & 1023;
    const double size = exponent == 31  ? significand ? NAN : INFINITY
                        : exponent == 0 ? ldexp(significand, -24)
                                        : ldexp(1024 + significand, exponent - 25);
    return bits & 0x8000 ? -size : size;
}

static uint16_t bfloat_bits(double rounded) {
    const float single = (float)rounded;
    uint32_t bits;
    memcpy(&bits, &single, sizeof bits);
    return isnan(rounded) ? 0x7fc0 : (uint16_t)(bits >> 16);
}

static double bfloat_value(uint16_t half) {
    const uint32_t bits = (uint32_t)half << 16;
    float single;
    memcpy(&single, &bits, sizeof single);
    return (double)single;
}

double kit_get(attn_dtype dtype, const void *data, size_t index) {
    uint16_t bits;
    switch (dtype) {
    case ATTN_FLOAT32:
        return (double)((const float *)data)[index];
    case ATTN_FLOAT64:
        return ((const double *)data)[index];
    default:
        memcpy(&bits, (const char *)data + 2 * index, sizeof bits);
        return dtype == ATTN_FLOAT16 ? half_value(bits) : bfloat_value(bits);
    }
}

void kit_put(attn_dtype dtype, void *data, size_t index, double value) {
    const double rounded = kit_round(dtype, value);
    uint16_t bits;
    switch (dtype) {
    case ATTN_FLOAT32:
        ((float *)data)[index] = (float)rounded;
        break;
    case ATTN_FLOAT64:
        ((double *)data)[index] = rounded;
        break;
    default:
        bits = dtype == ATTN_FLOAT16 ? half_bits(rounded) : bfloat_bits(rounded);
        memcpy((char *)data + 2 * index, &bits, sizeof bits);
        break;
    }
}

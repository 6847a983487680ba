/* The dtypes of weights files: names, sizes, and exact widening.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "lib/safetensors.h"

#include <string.h>

/* A rank of 0 marks what is listed alone; the others have the order of the format's reference implementation. */
static const struct {
    const char *name;
    size_t bits;
    int rank;
} dtypes[] = {
    [ATTN_WEIGHTS_BOOL] = {"BOOL", 8, 13},
    [ATTN_WEIGHTS_U8] = {"U8", 8, 12},
    [ATTN_WEIGHTS_I8] = {"I8", 8, 11},
    [ATTN_WEIGHTS_U16] = {"U16", 16, 9},
    [ATTN_WEIGHTS_I16] = {"I16", 16, 10},
    [ATTN_WEIGHTS_U32] = {"U32", 32, 5},
    [ATTN_WEIGHTS_I32] = {"I32", 32, 6},
    [ATTN_WEIGHTS_U64] = {"U64", 64, 1},
    [ATTN_WEIGHTS_I64] = {"I64", 64, 2},
    [ATTN_WEIGHTS_F16] = {"F16", 16, 8},
    [ATTN_WEIGHTS_BF16] = {"BF16", 16, 7},
    [ATTN_WEIGHTS_F32] = {"F32", 32, 4},
    [ATTN_WEIGHTS_F64] = {"F64", 64, 3},
    [ATTN_WEIGHTS_C64] = {"C64", 64, 0},
    [ATTN_WEIGHTS_F8_E4M3] = {"F8_E4M3", 8, 0},
    [ATTN_WEIGHTS_F8_E5M2] = {"F8_E5M2", 8, 0},
    [ATTN_WEIGHTS_F8_E8M0] = {"F8_E8M0", 8, 0},
    [ATTN_WEIGHTS_F8_E4M3FNUZ] = {"F8_E4M3FNUZ", 8, 0},
    [ATTN_WEIGHTS_F8_E5M2FNUZ] = {"F8_E5M2FNUZ", 8, 0},
    [ATTN_WEIGHTS_F6_E2M3] = {"F6_E2M3", 6, 0},
    [ATTN_WEIGHTS_F6_E3M2] = {"F6_E3M2", 6, 0},
    [ATTN_WEIGHTS_F4] = {"F4", 4, 0},
};

#define DTYPES (sizeof dtypes / sizeof *dtypes)

static size_t bits_of(attn_weights_dtype dtype) { return (size_t)dtype < DTYPES ? dtypes[dtype].bits : 0; }

const char *attn_weights_dtype_name(attn_weights_dtype dtype) {
    return (size_t)dtype < DTYPES ? dtypes[dtype].name : "";
}

size_t attn_weights_dtype_size(attn_weights_dtype dtype) { return bits_of(dtype) % 8 == 0 ? bits_of(dtype) / 8 : 0; }

int attn_weights_dtype_rank(attn_weights_dtype dtype) { return (size_t)dtype < DTYPES ? dtypes[dtype].rank : 0; }

bool attn_weights_dtype_is_read(attn_weights_dtype dtype) { return attn_weights_dtype_rank(dtype) > 0; }

attn_weights_dtype attn_weights_dtype_of(const char *name) {
    for (size_t i = 0; i < DTYPES; ++i)
        if (strcmp(name, dtypes[i].name) == 0) return (attn_weights_dtype)i;
    return ATTN_WEIGHTS_UNKNOWN;
}

bool attn_weights_whole_bytes(attn_weights_dtype dtype, size_t elements) {
    return elements % 8 * bits_of(dtype) % 8 == 0;
}

bool attn_weights_shape_size(attn_weights_dtype dtype, int rank, const int64_t *shape, size_t *elements,
                             size_t *bytes) {
    const size_t bits = bits_of(dtype);
    size_t product = 1, total;
    bool empty = false;
    for (int i = 0; i < rank; ++i) {
        if (shape[i] == 0)
            empty = true;
        else if (__builtin_mul_overflow(product, (uint64_t)shape[i], &product))
            return false;
    }
    /* By eights, for the bits of a product that fits may not. */
    if (__builtin_mul_overflow(product / 8, bits, &total) ||
        __builtin_add_overflow(total, product % 8 * bits / 8, &total))
        return false;
    *elements = empty ? 0 : product;
    *bytes = empty ? 0 : total;
    return true;
}

/* How far a float dtype reaches; a narrower one converts to a wider one exactly. */
static int float_width(attn_weights_dtype dtype) {
    switch (dtype) {
    case ATTN_WEIGHTS_F16:
    case ATTN_WEIGHTS_BF16:
        return 1;
    case ATTN_WEIGHTS_F32:
        return 2;
    case ATTN_WEIGHTS_F64:
        return 3;
    default:
        return 0;
    }
}

bool attn_weights_converts(attn_weights_dtype from, attn_weights_dtype to) {
    return (from == to && attn_weights_dtype_is_read(from)) ||
           (float_width(from) > 0 && float_width(from) < float_width(to));
}

static float float_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float bfloat16_to_float(uint16_t bits) { return float_of_bits((uint32_t)bits << 16); }

/* By bits, so that denormals and NaN payloads survive whatever the floating-point state is. */
static float float16_to_float(uint16_t bits) {
    const uint32_t sign = (uint32_t)(bits & 0x8000u) << 16;
    uint32_t exponent = bits >> 10 & 0x1fu, fraction = bits & 0x3ffu;
    if (exponent == 0x1f) return float_of_bits(sign | 0x7f800000u | fraction << 13);
    if (exponent == 0) {
        if (fraction == 0) return float_of_bits(sign);
        exponent = 1;
        for (; !(fraction & 0x400u); fraction <<= 1) --exponent; /* wraps below 0; the sum below brings it back */
        fraction &= 0x3ffu;
    }
    return float_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

/* In place, first to last: element i is written below where element i + 1 is still to be read. */
#define WIDEN(narrow, wide, convert)                                                                                   \
    do {                                                                                                               \
        const char *source = (char *)buffer + count * (sizeof(wide) - sizeof(narrow));                                 \
        char *target = buffer;                                                                                         \
        for (size_t i = 0; i < count; ++i) {                                                                           \
            narrow from_value;                                                                                         \
            memcpy(&from_value, source + i * sizeof from_value, sizeof from_value);                                    \
            const wide to_value = (wide)convert(from_value);                                                           \
            memcpy(target + i * sizeof to_value, &to_value, sizeof to_value);                                          \
        }                                                                                                              \
    } while (0)

void attn_weights_widen(attn_weights_dtype from, attn_weights_dtype to, void *buffer, size_t count) {
    if (from == to) return;
    if (to == ATTN_WEIGHTS_F32) {
        if (from == ATTN_WEIGHTS_F16)
            WIDEN(uint16_t, float, float16_to_float);
        else
            WIDEN(uint16_t, float, bfloat16_to_float);
    } else {
        if (from == ATTN_WEIGHTS_F16)
            WIDEN(uint16_t, double, float16_to_float);
        else if (from == ATTN_WEIGHTS_BF16)
            WIDEN(uint16_t, double, bfloat16_to_float);
        else
            WIDEN(float, double, );
    }
}

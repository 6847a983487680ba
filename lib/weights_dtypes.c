/* The dtypes of weights files: names, sizes, and exact widening.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "lib/safetensors.h"

#include <string.h>

static const struct {
    const char *name;
    size_t size;
} dtypes[] = {
    [ATTN_WEIGHTS_BOOL] = {"BOOL", 1}, [ATTN_WEIGHTS_U8] = {"U8", 1},     [ATTN_WEIGHTS_I8] = {"I8", 1},
    [ATTN_WEIGHTS_U16] = {"U16", 2},   [ATTN_WEIGHTS_I16] = {"I16", 2},   [ATTN_WEIGHTS_U32] = {"U32", 4},
    [ATTN_WEIGHTS_I32] = {"I32", 4},   [ATTN_WEIGHTS_U64] = {"U64", 8},   [ATTN_WEIGHTS_I64] = {"I64", 8},
    [ATTN_WEIGHTS_F16] = {"F16", 2},   [ATTN_WEIGHTS_BF16] = {"BF16", 2}, [ATTN_WEIGHTS_F32] = {"F32", 4},
    [ATTN_WEIGHTS_F64] = {"F64", 8},
};

#define DTYPES (sizeof dtypes / sizeof *dtypes)

const char *attn_weights_dtype_name(attn_weights_dtype dtype) {
    return (size_t)dtype < DTYPES ? dtypes[dtype].name : "";
}

size_t attn_weights_dtype_size(attn_weights_dtype dtype) { return (size_t)dtype < DTYPES ? dtypes[dtype].size : 0; }

bool attn_weights_dtype_parse(const char *name, attn_weights_dtype *dtype) {
    for (size_t i = 0; i < DTYPES; ++i)
        if (strcmp(name, dtypes[i].name) == 0) {
            *dtype = (attn_weights_dtype)i;
            return true;
        }
    return false;
}

bool attn_weights_shape_size(attn_weights_dtype dtype, int rank, const int64_t *shape, size_t *elements,
                             size_t *bytes) {
    size_t product = 1, total;
    bool empty = false;
    for (int i = 0; i < rank; ++i) {
        if (shape[i] == 0)
            empty = true;
        else if (__builtin_mul_overflow(product, (uint64_t)shape[i], &product))
            return false;
    }
    if (__builtin_mul_overflow(product, attn_weights_dtype_size(dtype), &total)) return false;
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
    return from == to || (float_width(from) > 0 && float_width(from) < float_width(to));
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

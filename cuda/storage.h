/* SPDX-License-Identifier: Apache-2.0 */
/* Elements as tensors store them, and as float32, which all arithmetic is in. Narrowing rounds to nearest, ties to even. */
#ifndef ATTN_CUDA_STORAGE_H
#define ATTN_CUDA_STORAGE_H

#include <cmath>
#include <cstdint>
#include <cstring>
#include <cuda_runtime.h>

struct attn_half { /* IEEE 754 binary16 */
    std::uint16_t bits;
};

struct attn_bfloat { /* the upper half of a float32 */
    std::uint16_t bits;
};

static __device__ inline std::uint32_t attn_bits_of(float value) {
    std::uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static __device__ inline float attn_float_of(std::uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static __device__ inline float attn_widen(float value) { return value; }

static __device__ inline float attn_widen(attn_bfloat value) {
    return attn_float_of(static_cast<std::uint32_t>(value.bits) << 16);
}

/* The exponent moves by a product, which puts subnormal numbers right as well. */
static __device__ inline float attn_widen(attn_half value) {
#ifdef __CUDACC__
    float exact;
    asm("cvt.f32.f16 %0, %1;" : "=f"(exact) : "h"(value.bits));
    return exact;
#endif
    const std::uint32_t magnitude = value.bits & 0x7fffu, sign = (value.bits & 0x8000u) << 16;
    const float widened =
        magnitude >= 0x7c00u ? attn_float_of(magnitude << 13 | 0x7f800000u) : attn_float_of(magnitude << 13) * 0x1p112f;
    return attn_float_of(attn_bits_of(widened) | sign);
}

template <typename Element> struct attn_narrow;

template <> struct attn_narrow<float> {
    static __device__ float from(float value) { return value; }
};

template <> struct attn_narrow<attn_bfloat> {
    static __device__ attn_bfloat from(float value) {
        const std::uint32_t bits = attn_bits_of(value);
        const std::uint32_t rounded = value == value ? bits + 0x7fffu + (bits >> 16 & 1u) : bits | 0x400000u;
        return {static_cast<std::uint16_t>(rounded >> 16)};
    }
};

template <> struct attn_narrow<attn_half> {
    static __device__ attn_half from(float value) {
        const std::uint32_t bits = attn_bits_of(value), magnitude = bits & 0x7fffffffu;
        std::uint32_t half;
        if (value != value)
            half = 0x7e00u;
        else if (magnitude >= 0x477ff000u) /* 65520, which rounds to infinity */
            half = 0x7c00u;
        else if (magnitude <
                 0x38800000u) /* 2^-14: subnormal, counted in steps of 2^-24, the spacing of floats from 0.5 on */
            half = attn_bits_of(attn_float_of(magnitude) + 0.5f) - 0x3f000000u;
        else
            half = (magnitude + 0xfffu + (magnitude >> 13 & 1u) - (112u << 23)) >> 13;
        return {static_cast<std::uint16_t>(half | (bits >> 16 & 0x8000u))};
    }
};

#endif

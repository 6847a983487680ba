/* SPDX-License-Identifier: Apache-2.0 */
/* cuBLAS without a GPU, in the emulated module itself: what the backend uses of it, from the library's documentation. Column-major; sums of 32-bit
 * floats term by term in an order that depends on the sizes (on the draw, where atomics are allowed), of 16-bit types cut after every
 * 16 products as tensor cores do. Modes that cost accuracy do: TF32 cuts the factors, sums of 16-bit types are kept in 16 bits where that was not forbidden. The
 * workspace is written over by every product. Calls count among those of the runtime that can be made to fail. */
#include "tests/cuda_emulation/cuda_runtime.h"
#include "tests/cuda_emulation/emulation.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <dlfcn.h>
#include <vector>

#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace {

enum {
    SUCCESS = 0,
    NOT_INITIALIZED = 1,
    ALLOC_FAILED = 3,
    INVALID_VALUE = 7,
    EXECUTION_FAILED = 13,
    NOT_SUPPORTED = 15
};
enum { REAL_FLOAT = 0, REAL_HALF = 2, REAL_BFLOAT = 14, COMPUTE_FLOAT = 68, COMPUTE_TF32 = 77 };
enum { MATH_TF32 = 3, MATH_LOW_BITS = 15, MATH_NO_SHORT_SUMS = 16, ALIVE = 0x4c6956 };
enum : std::size_t { TENSOR_TERMS = 16, ALIGNMENT = 256, SPOILED_END = 4096, SPOILED_PIECE = 256, SPOILED_PIECES = 16 };

int enter() {
    const cudaError_t error = attn_emulate_library_call();
    return error == cudaSuccess ? SUCCESS : error == cudaErrorMemoryAllocation ? ALLOC_FAILED : EXECUTION_FAILED;
}

} // namespace

struct cublasContext {
    int alive;
    cudaStream_t stream;
    void *workspace;
    std::size_t size;
    int math, pointer, atomics;
};

namespace {

int enter(const cublasContext *handle) {
    if (!handle || handle->alive != ALIVE) return NOT_INITIALIZED;
    return enter();
}

/* ---- Numbers ---------------------------------------------------------------------------------------- */

float from_bits(std::uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

std::uint32_t to_bits(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

std::size_t size_of(int type) { return type == REAL_FLOAT ? 4 : 2; }

/* 5 bits of exponent and 10 of significand, or the upper half of a float. */
float read(const void *data, std::int64_t index, int type) {
    const char *const at = static_cast<const char *>(data) + index * static_cast<std::int64_t>(size_of(type));
    float value;
    std::uint16_t bits;
    if (type == REAL_FLOAT) {
        std::memcpy(&value, at, sizeof value);
        return value;
    }
    std::memcpy(&bits, at, sizeof bits);
    if (type == REAL_BFLOAT) return from_bits(static_cast<std::uint32_t>(bits) << 16);
    const int exponent = bits >> 10 & 31, significand = bits & 1023;
    const float size = exponent == 31  ? (significand ? NAN : INFINITY)
                       : exponent == 0 ? std::ldexp(static_cast<float>(significand), -24)
                                       : std::ldexp(static_cast<float>(1024 + significand), exponent - 25);
    return bits & 0x8000 ? -size : size;
}

/* The nearest multiple of what the type's digits leave, even at ties. */
float rounded(float value, int type) {
    if (type == REAL_FLOAT || !std::isfinite(value) || value == 0) return value;
    const int digits = type == REAL_HALF ? 11 : 8, least = type == REAL_HALF ? -24 : -133;
    int exponent;
    std::frexp(value, &exponent);
    const int step = exponent - digits > least ? exponent - digits : least;
    const double found = std::ldexp(std::nearbyint(std::ldexp(static_cast<double>(value), -step)), step);
    return type == REAL_HALF && std::fabs(found) > 65504 ? std::copysign(INFINITY, value) : static_cast<float>(found);
}

void write(void *data, std::int64_t index, int type, float value) {
    char *const at = static_cast<char *>(data) + index * static_cast<std::int64_t>(size_of(type));
    const float result = rounded(value, type);
    std::uint16_t bits;
    if (type == REAL_FLOAT) {
        std::memcpy(at, &result, sizeof result);
        return;
    }
    if (type == REAL_BFLOAT) {
        bits = static_cast<std::uint16_t>(to_bits(result) >> 16);
    } else {
        const float size = std::fabs(result);
        int exponent = 0, found;
        const float significand = std::frexp(size, &exponent);
        if (!(size <= 65504))
            found = std::isnan(size) ? 0x7e00 : 0x7c00;
        else if (size < 0x1p-14f)
            found = static_cast<int>(std::ldexp(size, 24));
        else
            found = (exponent + 14) * 1024 + static_cast<int>(significand * 2048) - 1024;
        bits = static_cast<std::uint16_t>(found | (std::signbit(result) ? 0x8000 : 0));
    }
    std::memcpy(at, &bits, sizeof bits);
}

float towards_zero(double exact) {
    const float nearest = static_cast<float>(exact);
    if (std::isfinite(nearest) && std::fabs(static_cast<double>(nearest)) > std::fabs(exact))
        return std::nextafter(nearest, 0.0f);
    return nearest;
}

/* ---- Products --------------------------------------------------------------------------------------- */

struct operand {
    const void *data;
    int type, transposed;
    std::int64_t ld;
    long long stride;

    float at(std::int64_t item, std::int64_t row, std::int64_t column) const {
        return read(data, item * stride + (transposed ? column + row * ld : row + column * ld), type);
    }
};

struct sums {
    std::vector<std::int64_t> order;
    bool tf32, shortened;
    int type;

    float of(const operand &a, const operand &b, std::int64_t item, std::int64_t row, std::int64_t column) const {
        float sum = 0;
        if (type == REAL_FLOAT) {
            for (const std::int64_t k : order)
                sum = std::fmaf(cut(a.at(item, row, k)), cut(b.at(item, k, column)), sum);
            return sum;
        }
        for (std::size_t first = 0; first < order.size(); first += TENSOR_TERMS) {
            double part = static_cast<double>(sum);
            for (std::size_t i = first; i < std::min<std::size_t>(order.size(), first + TENSOR_TERMS); i++)
                part +=
                    static_cast<double>(a.at(item, row, order[i])) * static_cast<double>(b.at(item, order[i], column));
            sum = shortened ? rounded(towards_zero(part), type) : towards_zero(part);
        }
        return sum;
    }

    float cut(float factor) const { return tf32 ? from_bits(to_bits(factor) & 0xffffe000u) : factor; }
};

sums plan_sums(const cublasContext *handle, std::int64_t m, std::int64_t n, std::int64_t k, int type, int compute) {
    sums planned;
    planned.type = type;
    planned.tf32 = type == REAL_FLOAT && ((handle->math & MATH_LOW_BITS) == MATH_TF32 || compute == COMPUTE_TF32);
    planned.shortened = type != REAL_FLOAT && !(handle->math & MATH_NO_SHORT_SUMS);
    for (std::int64_t i = 0; i < k; i++) planned.order.push_back(i);
    std::uint64_t state =
        handle->atomics ? attn_emulate_draw(UINT32_MAX) : static_cast<std::uint64_t>((m * 31 + n) * 31 + k);
    for (std::size_t i = planned.order.size(); i > 1; i--) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        std::swap(planned.order[i - 1], planned.order[(state >> 33) % i]);
    }
    return planned;
}

void spoil(void *workspace, std::size_t size) {
    if (size < 2 * SPOILED_END) return;
    char *const start = static_cast<char *>(workspace);
    std::memset(start, 0xff, SPOILED_END);
    std::memset(start + size - SPOILED_END, 0xff, SPOILED_END);
    for (std::size_t i = 0; i < SPOILED_PIECES; i++)
        std::memset(start + attn_emulate_draw(size / SPOILED_PIECE) * SPOILED_PIECE, 0xff, SPOILED_PIECE);
}

} // namespace

const char *attn_emulated_cublas() {
    static char path[4096];
    Dl_info info;
    if (attn_emulation()->without_cublas || !dladdr(reinterpret_cast<void *>(attn_emulation), &info))
        return "/nowhere/libcublas.so.13";
    std::strncpy(path, info.dli_fname, sizeof path - 1);
    return path;
}

EXPORTED int cublasGetProperty(int property, int *value) {
    const int version[] = {attn_emulation()->old_cublas ? 11 : 13, 0, 2};
    *value = version[property];
    return SUCCESS;
}

EXPORTED int cublasCreate_v2(cublasContext **handle) {
    const int found = enter();
    if (found != SUCCESS) return found;
    if (attn_emulate_allow()) return ALLOC_FAILED;
    *handle = new cublasContext();
    (*handle)->alive = ALIVE;
    attn_emulation()->handles++;
    return SUCCESS;
}

EXPORTED int cublasDestroy_v2(cublasContext *handle) {
    if (!handle || handle->alive != ALIVE) return NOT_INITIALIZED;
    handle->alive = 0;
    attn_emulation()->handles--;
    delete handle;
    return SUCCESS;
}

/* The workspace goes back to the library's own. */
EXPORTED int cublasSetStream_v2(cublasContext *handle, cudaStream_t stream) {
    const int found = enter(handle);
    if (found == SUCCESS) handle->stream = stream, handle->workspace = nullptr, handle->size = 0;
    return found;
}

EXPORTED int cublasGetStream_v2(cublasContext *handle, cudaStream_t *stream) {
    const int found = enter(handle);
    *stream = handle->stream;
    return found;
}

EXPORTED int cublasSetWorkspace_v2(cublasContext *handle, void *workspace, std::size_t size) {
    const int found = enter(handle);
    if (found != SUCCESS) return found;
    if (reinterpret_cast<std::uintptr_t>(workspace) % ALIGNMENT != 0) return NOT_SUPPORTED;
    handle->workspace = workspace, handle->size = size;
    return SUCCESS;
}

#define MODE(name, member)                                                                                             \
    EXPORTED int cublasSet##name(cublasContext *handle, int mode) {                                                    \
        const int found = enter(handle);                                                                               \
        if (found == SUCCESS) handle->member = mode;                                                                   \
        return found;                                                                                                  \
    }                                                                                                                  \
    EXPORTED int cublasGet##name(cublasContext *handle, int *mode) {                                                   \
        const int found = enter(handle);                                                                               \
        *mode = handle->member;                                                                                        \
        return found;                                                                                                  \
    }
MODE(MathMode, math)
MODE(PointerMode_v2, pointer)
MODE(AtomicsMode, atomics)

EXPORTED int cublasGemmStridedBatchedEx_64(cublasContext *handle, int transpose_a, int transpose_b, std::int64_t m,
                                           std::int64_t n, std::int64_t k, const void *alpha, const void *a, int a_type,
                                           std::int64_t lda, long long a_stride, const void *b, int b_type,
                                           std::int64_t ldb, long long b_stride, const void *beta, void *c, int c_type,
                                           std::int64_t ldc, long long c_stride, std::int64_t count, int compute_type,
                                           int) {
    const int found = enter(handle);
    if (found != SUCCESS) return found;
    if (m < 0 || n < 0 || k < 0 || count < 0 || lda < (transpose_a ? k : m) || ldb < (transpose_b ? n : k) || ldc < m)
        return INVALID_VALUE;
    if (a_type != b_type || (c_type != a_type && c_type != REAL_FLOAT) || handle->pointer != 0 || count > 65535 ||
        (compute_type != COMPUTE_FLOAT && compute_type != COMPUTE_TF32))
        return NOT_SUPPORTED;
    attn_emulation()->products++;
    attn_emulation()->stream = handle->stream;
    const operand left = {a, a_type, transpose_a, lda, a_stride}, right = {b, b_type, transpose_b, ldb, b_stride};
    const sums planned = plan_sums(handle, m, n, k, a_type, compute_type);
    const float scale = *static_cast<const float *>(alpha), kept = *static_cast<const float *>(beta);
    void *const workspace = handle->workspace;
    const std::size_t size = handle->size;
    const cudaError_t error = attn_emulate_put(handle->stream, [=] {
        spoil(workspace, size);
        for (std::int64_t item = 0; item < count; item++)
            for (std::int64_t column = 0; column < n; column++)
                for (std::int64_t row = 0; row < m; row++) {
                    const std::int64_t at = item * c_stride + row + column * ldc;
                    const float sum = scale * planned.of(left, right, item, row, column);
                    write(c, at, c_type, kept != 0 ? std::fmaf(kept, read(c, at, c_type), sum) : sum);
                }
        return cudaSuccess;
    });
    return error ? EXECUTION_FAILED : SUCCESS;
}

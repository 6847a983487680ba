/* SPDX-License-Identifier: Apache-2.0 */
/* The batched matrix product by cuBLAS, and what is left of it where nothing is multiplied. */
#include "cuda/matmul.h"

#include "cuda/cublas.h"
#include "cuda/device.h"
#include "cuda/launch.h"
#include "cuda/storage.h"
#include "cuda/view.h"

namespace {

enum : unsigned { THREADS = 128 };

struct kept_part {
    std::size_t heads, rows, columns, count; /* count: elements of all items */
    float beta;
    void *c;
    attn_strides strides;
};

/* C = beta C */
template <typename Element> __global__ void keep_kernel(const __grid_constant__ kept_part p) {
    const std::size_t i = static_cast<std::size_t>(blockIdx.x) * THREADS + threadIdx.x;
    if (i >= p.count) return;
    const std::size_t row = i / p.columns, matrix = row / p.rows;
    Element *const to = static_cast<Element *>(p.c) +
                        attn_place(p.strides, matrix / p.heads, matrix % p.heads, row % p.rows) + i % p.columns;
    *to = attn_narrow<Element>::from(p.beta != 0.0f ? p.beta * attn_widen(*to) : 0.0f);
}

std::size_t blocks_of(const attn_matmul_problem *p) {
    return (p->batch * p->heads * p->rows * p->columns + THREADS - 1) / THREADS;
}

template <typename Element> cudaError_t keep(const attn_matmul_call *call, cudaStream_t stream) {
    const attn_matmul_problem &s = call->sizes;
    const kept_part p = {
        s.heads, s.rows,         s.columns, s.batch * s.heads * s.rows * s.columns, static_cast<float>(call->beta),
        call->c, call->c_strides};
    return attn_launch(keep_kernel<Element>, blocks_of(&s), THREADS, 0, stream, p);
}

attn_gemm product_of(const attn_matmul_call *call) {
    const attn_matmul_problem &s = call->sizes;
    attn_gemm g = {};
    g.stored = g.result = s.dtype;
    g.transpose_a = s.transpose_a, g.transpose_b = s.transpose_b;
    g.rows = s.rows, g.columns = s.columns, g.depth = s.depth;
    g.alpha = static_cast<float>(call->alpha), g.beta = static_cast<float>(call->beta);
    g.a = call->a, g.b = call->b, g.c = call->c;
    g.a_row = call->a_strides.row, g.b_row = call->b_strides.row, g.c_row = call->c_strides.row;
    g.batches[0] = {s.batch, call->a_strides.batch, call->b_strides.batch, call->c_strides.batch};
    g.batches[1] = {s.heads, call->a_strides.head, call->b_strides.head, call->c_strides.head};
    g.batches[2] = {1, 0, 0, 0};
    return g;
}

const char *refuse(const attn_implementation *, const attn_device *device, const attn_matmul_problem *p, bool *hard) {
    *hard = true;
    if (blocks_of(p) > attn_largest_grid) return "needs more blocks than a grid has";
    return attn_cublas_refusal(device);
}

std::size_t workspace_size(const attn_implementation *, const attn_device *device, const attn_matmul_problem *) {
    return attn_cublas_workspace_size(device);
}

attn_status run(const attn_implementation *, attn_device *device, const attn_matmul_call *call) {
    const attn_status refused = attn_cuda_ready(device);
    if (refused) return refused;
    const attn_current_device current(device->options.ordinal);
    if (current.error != cudaSuccess) return attn_cuda_take(current.error);
    if (call->a && call->b) {
        attn_cublas_run blas(device, call->workspace);
        if (blas.status) return blas.status;
        const attn_gemm product = product_of(call);
        return product.result == ATTN_FLOAT32 ? blas.multiply_in_parts(product, product.depth) : blas.multiply(product);
    }
    return attn_cuda_take(call->sizes.dtype == ATTN_FLOAT32   ? keep<float>(call, device->stream())
                          : call->sizes.dtype == ATTN_FLOAT16 ? keep<attn_half>(call, device->stream())
                                                              : keep<attn_bfloat>(call, device->stream()));
}

const attn_matmul_functions functions = {refuse, workspace_size, run};

constexpr attn_implementation implementation(const char *name, attn_dtype dtype) {
    attn_implementation made = {};
    made.name = name, made.operation = ATTN_OPERATION_MATMUL, made.dtype = dtype, made.matmul = &functions;
    return made;
}

} // namespace

const attn_implementation attn_cuda_matmul_implementations[] = {
    implementation("cuda:cublas:matmul:forward:f32", ATTN_FLOAT32),
    implementation("cuda:cublas:matmul:forward:bf16", ATTN_BFLOAT16),
    implementation("cuda:cublas:matmul:forward:f16", ATTN_FLOAT16),
};
const size_t attn_cuda_matmul_implementations_count =
    sizeof attn_cuda_matmul_implementations / sizeof *attn_cuda_matmul_implementations;

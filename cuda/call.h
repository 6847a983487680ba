/* SPDX-License-Identifier: Apache-2.0 */
/* From the front-end's call to what the kernels take, for both passes. */
#ifndef ATTN_CUDA_CALL_H
#define ATTN_CUDA_CALL_H

#include "cuda/additive.h"
#include "cuda/items.h"
#include "lib/backend.h"
#include "lib/carve.h"

attn_items attn_call_items(const attn_layer_call *call);

/* The queries as given, or h_t. */
attn_rows attn_call_queries(const attn_layer_call *call);

/* A dense matrix of one row a query. */
attn_rows attn_dense_rows(const float *base, const attn_layer_problem *sizes, std::size_t width);
attn_joined attn_dense_joined(const float *base, std::size_t width);

float *attn_carve_floats(attn_carver *carver, std::size_t count, std::size_t width);

/* Chunks of T steps under a plan: of the pass over H, of the additive score. */
std::size_t attn_call_chunks(const attn_layer_problem *planned, std::size_t timesteps);
std::size_t attn_call_additive_chunks(const attn_layer_problem *planned, std::size_t timesteps);

/* Whether a run of these sizes needs more blocks than a grid has. */
bool attn_call_too_large(const attn_layer_problem *problem);

/* Luong: K . query for each query. */
cudaError_t attn_fold_queries(const attn_layer_call *call, float *folded, cudaStream_t stream);

/* Bahdanau: query . W1 for each query, and what its kernels take. */
cudaError_t attn_project_queries(const attn_layer_call *call, float *projected, cudaStream_t stream);
attn_additive attn_call_additive(const attn_layer_call *call, const float *projected);

/* How an implementation multiplies: what its data points to, of the additive score alone. */
extern const attn_multiplied attn_by_plain_code, attn_by_tensor_cores;
attn_multiplied attn_call_multiplied(const attn_implementation *implementation);

/* NULL, or why the device can't. */
const char *attn_call_refuse_multiplied(const attn_implementation *implementation, const attn_device *device);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* What happens to a tile of scores between the two products of attention: some rows, which are queries of some heads of some items, and some keys.
 * Rows lie dense, queries within heads within items. */
#ifndef ATTN_CUDA_SDPA_TILE_H
#define ATTN_CUDA_SDPA_TILE_H

#include "cuda/view.h"

#ifndef ATTN_CUDA_SDPA_SCORES
#define ATTN_CUDA_SDPA_SCORES (std::size_t{1} << 25)
#define ATTN_CUDA_SDPA_KEYS 8192
#define ATTN_CUDA_SDPA_QUERIES 512
#endif

enum : std::size_t {
    ATTN_TILE_SCORES = ATTN_CUDA_SDPA_SCORES, /* the most of a tile, as the next two */
    ATTN_TILE_KEYS = ATTN_CUDA_SDPA_KEYS,
    ATTN_TILE_QUERIES = ATTN_CUDA_SDPA_QUERIES, /* where not every query sees every key, and backward */
    ATTN_TILE_PITCH = 8,                        /* rows of scores are multiples of 16 bytes */
};

struct attn_sdpa_tile {
    attn_view view;
    attn_dtype dtype;
    const void *bias; /* may be NULL, as slopes and sinks */
    attn_strides bias_strides;
    const float *slopes, *sinks;
    float softcap;                     /* 0: none */
    std::size_t group;                 /* query heads of a key head */
    std::size_t item, head, query;     /* the first */
    std::size_t items, heads, queries; /* how many */
    std::size_t key, keys, pitch;      /* the first, how many; elements between rows of scores */
    std::size_t width;                 /* of a value */
    bool first;                        /* no keys came before */
    float *scores;                     /* scale q . k, of the tile's keys */
    void *exponentials;                /* of dtype; scores themselves in float32 */
    float *maximum, *sum, *lost,
        *factor; /* lost: of the sum by rounding; of each row: of all keys so far, and what their context is to be multiplied by (< 0: cleared) */
    std::uint8_t *seen; /* (items, key heads, keys), zeros: 1 where a row sees the key; NULL: not asked for */
    const void *v;      /* values, and where those of seen keys go, zeros for the others */
    attn_strides v_strides;
    void *clean;                      /* (items, key heads, keys, width) */
    float *context;                   /* (rows, width) */
    bool nothing;                     /* no key at all was seen by any row: maximum, sum and context are not there */
    void *output, *attention_weights; /* may be NULL */
    float *lse;
    float *all_maximum, *all_sum; /* of every query of all items, with one head each; both or neither */
    attn_strides output_strides, lse_strides, weights_strides;
    std::size_t weights_key,
        weights_keys; /* keys whose weights are written, scores being there for those of the tile */

    __host__ __device__ std::size_t rows() const { return items * heads * queries; }
};

/* Scores to exponentials, maximum, sum and factor. */
cudaError_t attn_sdpa_weigh(const attn_sdpa_tile &tile, cudaStream_t stream);
/* The context times factor. */
cudaError_t attn_sdpa_rescale(const attn_sdpa_tile &tile, cudaStream_t stream);
/* Values of keys that somebody sees to clean. */
cudaError_t attn_sdpa_clean(const attn_sdpa_tile &tile, cudaStream_t stream);
/* Output, log-sum-exp, maximum and sum (0 where nothing is attended). */
cudaError_t attn_sdpa_finish(const attn_sdpa_tile &tile, cudaStream_t stream);
/* Scores, computed anew, to attention weights. */
cudaError_t attn_sdpa_normalise(const attn_sdpa_tile &tile, cudaStream_t stream);

#endif

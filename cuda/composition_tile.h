/* SPDX-License-Identifier: Apache-2.0 */
/* What lies between the products of the layer by composition: rows collected and handed out, and for a tile, which is some queries of some items and some
 * of their steps, what becomes of its scores. */
#ifndef ATTN_CUDA_COMPOSITION_TILE_H
#define ATTN_CUDA_COMPOSITION_TILE_H

#include "cuda/items.h"

/* Dense rows, one a query: zeros without a base, and where h_t is of an empty range. */
struct attn_collect {
    attn_items items;
    attn_rows rows;
    std::size_t count, width;
    float *to;
};
cudaError_t attn_collect_launch(const attn_collect &collect, cudaStream_t stream);

/* Dense rows to where a tensor has them. */
struct attn_spread {
    const float *from;
    std::size_t count, queries, width;
    bool tanh;        /* of what is written */
    float *to, *copy; /* the copy is dense, and may be where it comes from; either may be NULL */
    std::ptrdiff_t batch, row;
};
cudaError_t attn_spread_launch(const attn_spread &spread, cudaStream_t stream);

/* What has a number for each query and step of a tile lies in rows, queries within items. */
struct attn_layer_tile {
    attn_items items;
    std::size_t item, query, step;     /* the first */
    std::size_t count, queries, steps; /* how many; count: items */
    std::size_t pitch;                 /* elements between rows */

    __host__ __device__ std::size_t rows() const { return count * queries; }
    /* Of all items' queries, the one of a row. */
    __host__ __device__ std::size_t query_of(std::size_t at) const {
        return (item + at / queries) * items.queries + query + at % queries;
    }
};

/* A row's view of the steps. */
struct attn_layer_sight {
    const attn_items &items;
    std::size_t query;
    attn_range range;

    __device__ attn_layer_sight(const attn_layer_tile &tile, std::size_t row)
        : items(tile.items), query(tile.query_of(row)), range(attn_item_range(tile.items, query / tile.items.queries)) {
    }

    __device__ bool shows(std::size_t step) const {
        return step >= range.start && step - range.start < range.length && attn_unmasked(items, query, step);
    }
};

/* Rows of H, dense, with zeros for those that none of the item's queries sees; and which are seen. */
struct attn_gather {
    attn_layer_tile tile;
    const float *h;
    std::ptrdiff_t h_batch, h_time;
    std::size_t features;
    float *clean;       /* (items, steps, features); NULL: not asked for */
    std::uint8_t *seen; /* (items, steps) */
};
cudaError_t attn_gather_launch(const attn_gather &gather, cudaStream_t stream);

/* Rows of H's gradient to where they belong. Those that nobody sees become zeros, or stay as they are when the others are added. */
struct attn_put {
    attn_layer_tile tile;
    const float *from;        /* (items, steps, features) */
    const std::uint8_t *seen; /* NULL: all are */
    std::size_t features;
    float *to;
    std::ptrdiff_t batch, time;
    bool add;
};
cudaError_t attn_put_launch(const attn_put &put, cudaStream_t stream);

/* From scores and the products of the contexts' gradients with H to the attention weights p and the scores' gradients
 *     p (gradient + given - product / weight + grad_lse),    product = sum of p (gradient + given),    weight = sum of p
 * so that what has the scores' gradients in common is taken from the very numbers that it is subtracted from. */
struct attn_weigh_back {
    attn_layer_tile tile;
    float *scores, *gradients;  /* rows of the tile; p and the scores' gradients in the end, zeros where hidden */
    const float *maximum, *sum; /* of the forward pass, for every query, as the next two */
    float *product, *weight;
    const float *given, *grad_lse; /* gradients of attention weights and log-sum-exp; either may be NULL */
    std::ptrdiff_t given_batch, given_row, lse_batch;
};
/* Adds the tile's steps to product and weight. */
cudaError_t attn_weigh_moments_launch(const attn_weigh_back &back, cudaStream_t stream);
/* The rest, with all steps in product and weight. */
cudaError_t attn_weigh_back_launch(const attn_weigh_back &back, cudaStream_t stream);

#endif

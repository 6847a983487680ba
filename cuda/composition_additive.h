/* SPDX-License-Identifier: Apache-2.0 */
/* The additive score of a tile, from H W2 of its steps: forward, and back to what is before the tanh. */
#ifndef ATTN_CUDA_COMPOSITION_ADDITIVE_H
#define ATTN_CUDA_COMPOSITION_ADDITIVE_H

#include "cuda/composition_tile.h"

/* With t = tanh(projected + H W2). */
struct attn_additive_in {
    attn_layer_tile tile;
    const float *product;       /* H W2: (items, steps, width) */
    const float *projected, *v; /* (queries of all items, width), (width) */
    std::size_t width;
};

/* Scores of all queries and steps where they stay: to be put there, and to be taken from there. */
struct attn_saved_scores {
    float *base; /* NULL: nowhere */
    std::ptrdiff_t batch, row;
};

/* v . t to the tile's rows and to what is saved; 0 where hidden. */
struct attn_tile_scores {
    attn_additive_in in;
    float *scores;
    attn_saved_scores saved;
};
cudaError_t attn_tile_scores_launch(const attn_tile_scores &scores, cudaStream_t stream);

/* What is saved, which is somewhere, to the tile's rows. */
cudaError_t attn_tile_scores_load(const attn_tile_scores &scores, cudaStream_t stream);

/* From the scores' gradients g, zeros where hidden. */
struct attn_tile_back {
    attn_additive_in in;
    const float *gradients; /* rows of the tile */
    bool add;               /* to dz: earlier queries of the same steps were here */
    float *dz;              /* (items, steps, width): sum over queries of g v (1 - t^2) */
    float *projected;       /* added to, for every query: sum over steps of g v (1 - t^2) */
    float *v;               /* added to, for every query: sum over steps of g t */
};
cudaError_t attn_tile_back_steps(const attn_tile_back &back, cudaStream_t stream);   /* dz */
cudaError_t attn_tile_back_queries(const attn_tile_back &back, cudaStream_t stream); /* the other two */

#endif

/* SPDX-License-Identifier: Apache-2.0
 * The IMDB workload: real reviews through a trained Keras model, Embedding -> LSTM -> attention -> Dense(1, sigmoid). */
#ifndef BENCH_IMDB_H
#define BENCH_IMDB_H

#include "attention/weights.h"
#include "bench/lstm.h"

#include <stdbool.h>

/* Results of the model on its first reviews; of Keras's only as many attention weights and outputs as it left us. */
typedef struct imdb_results {
    float *probability;       /* (reviews) */
    float *attention_weights; /* (reviews, steps) */
    float *attention_output;  /* (reviews, units) */
} imdb_results;

typedef struct imdb {
    size_t reviews, steps, traced; /* traced: how many reviews Keras's attention is known of */
    uint16_t *tokens;              /* (reviews, steps); 0 is padding, which stands in front */
    uint8_t *label;                /* (reviews): 1 positive */
    char **name;                   /* (reviews): the data set's names of the reviews */
    char **word;                   /* (lstm.words): NULL below 4, the tokens that are not words */
    lstm_weights lstm;
    attn_weights_layer attention;
    float *dense_kernel, *dense_bias; /* (units, 1), (1) */
    float *hidden;                    /* (reviews, steps, lstm.units), made by imdb_run */
    imdb_results keras, ours;
    double lstm_seconds, attention_seconds; /* of imdb_run */
} imdb;

/* Reads the files of bench/data. What is missing or does not fit ends the program. */
imdb *imdb_load(const char *folder);
void imdb_free(imdb *model);

/* Runs the whole model on all reviews: the LSTM on BLAS, the attention by the library. */
void imdb_run(imdb *model, attn_context *context);

/* How far ours is from Keras, as largest error over gate, and how often each is right. */
typedef struct imdb_agreement {
    double probability, attention_weights, attention_output; /* largest differences */
    double worst;                                            /* the largest of them over its gate */
    size_t right, keras_right;                               /* of `reviews` */
} imdb_agreement;

/* Keras sums in another order, and 500 LSTM steps carry it along: absolute for what lies in [-1, 1], relative for weights. */
#define IMDB_GATE 1e-4

imdb_agreement imdb_compare(const imdb *model);

#endif

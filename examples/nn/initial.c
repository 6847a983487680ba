/* SPDX-License-Identifier: Apache-2.0 */
/* Initial weights, by the distributions that Keras draws them from. */
#include "examples/nn/model.h"
#include "examples/nn/random.h"

#include <math.h>
#include <stdlib.h>

static const double pi = 3.14159265358979323846;

static void fill_uniform(float *w, size_t count, double limit, uint64_t seed, uint64_t stream) {
    for (size_t i = 0; i < count; i++) w[i] = (float)((2 * nn_uniform(seed, stream, i) - 1) * limit);
}

/* Box and Muller; 1 - u is never 0. */
static double normal(uint64_t seed, uint64_t stream, uint64_t index) {
    const double u = 1 - nn_uniform(seed, stream, 2 * index), angle = 2 * pi * nn_uniform(seed, stream, 2 * index + 1);
    return sqrt(-2 * log(u)) * cos(angle);
}

/* Makes the row orthogonal to `before` orthonormal ones above it, and of length 1. Twice, since the first pass leaves an
 * error where much is cancelled. */
static void orthonormalise(double *rows, size_t before, size_t width) {
    double *row = rows + before * width;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t k = 0; k < before; k++) {
            const double *other = rows + k * width;
            double dot = 0;
            for (size_t j = 0; j < width; j++) dot += row[j] * other[j];
            for (size_t j = 0; j < width; j++) row[j] -= dot * other[j];
        }
        double square = 0;
        for (size_t j = 0; j < width; j++) square += row[j] * row[j];
        for (size_t j = 0; j < width; j++) row[j] /= sqrt(square);
    }
}

/* The orthogonal factor, of positive diagonal, of a matrix of normal numbers. More columns than rows, as an LSTM has, give
 * orthonormal rows, any other matrix orthonormal columns. */
static bool fill_orthogonal(float *w, size_t rows, size_t columns, uint64_t seed, uint64_t stream) {
    const bool wide = columns > rows;
    const size_t vectors = wide ? rows : columns, width = wide ? columns : rows;
    double *q = malloc(vectors * width * sizeof *q);
    if (!q) return false;
    for (size_t i = 0; i < vectors; i++) {
        for (size_t j = 0; j < width; j++) q[i * width + j] = normal(seed, stream, i * width + j);
        orthonormalise(q, i, width);
    }
    for (size_t i = 0; i < vectors; i++)
        for (size_t j = 0; j < width; j++) w[wide ? i * columns + j : j * columns + i] = (float)q[i * width + j];
    free(q);
    return true;
}

static bool fill(float *w, const nn_parameter *p, uint64_t seed, uint64_t stream) {
    switch (p->initialiser) {
    case NN_ZEROS:
        break;
    case NN_FORGET_BIAS:
        for (size_t i = 0; i < p->count / 4; i++) w[p->count / 4 + i] = 1;
        break;
    case NN_EMBEDDING_UNIFORM:
        fill_uniform(w, p->count, 0.05, seed, stream);
        break;
    case NN_GLOROT:
        fill_uniform(w, p->count, sqrt(6 / (double)(p->rows + p->columns)), seed, stream);
        break;
    case NN_ORTHOGONAL:
        return fill_orthogonal(w, p->rows, p->columns, seed, stream);
    }
    return true;
}

bool nn_initialise(nn_model *model) {
    size_t stream = 0;
    for (size_t l = 0; l < model->layer_count; l++)
        for (size_t k = 0; k < model->layers[l].parameter_count; k++) {
            const nn_parameter *p = &model->layers[l].parameters[k];
            if (!fill(model->weights + p->offset, p, model->options.seed, nn_initial_stream(stream++))) return false;
        }
    return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/lstm.h"

#include "bench/program.h"
#include "bench/team.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

/* Items that step together: at 100 units their GEMM is just small enough for OpenBLAS's path without packing. */
static const size_t together = 24;

typedef struct pass {
    const lstm_weights *weights;
    const float *projected; /* (words, 4 units): what each word adds to the gates, wherever it stands */
    const uint16_t *tokens;
    size_t items, steps;
    float *hidden;
} pass;

static float *project_words(const lstm_weights *w) {
    const size_t gates = 4 * w->units;
    float *projected = allocate(w->words * gates * sizeof *projected);
    for (size_t i = 0; i < w->words; i++) memcpy(projected + i * gates, w->bias, gates * sizeof *projected);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)w->words, (int)gates, (int)w->embedding, 1,
                w->embeddings, (int)w->embedding, w->kernel, (int)gates, 1, projected, (int)gates);
    return projected;
}

static float sigmoid(float x) { return 1 / (1 + expf(-x)); }

/* One item's gates before their activations, to its next cell state and hidden state. */
static void activate(size_t units, const float *gates, float *cell, float *hidden) {
    const float *i = gates, *f = i + units, *g = f + units, *o = g + units;
    for (size_t j = 0; j < units; j++) {
        cell[j] = sigmoid(f[j]) * cell[j] + sigmoid(i[j]) * tanhf(g[j]);
        hidden[j] = sigmoid(o[j]) * tanhf(cell[j]);
    }
}

/* Items [first, first + n) through all steps. The hidden states of the step before are read where they were written. */
static void forward_together(const pass *p, size_t first, size_t n, float *gates, float *cell) {
    const size_t units = p->weights->units, width = 4 * units, item = p->steps * units;
    float *hidden = p->hidden + first * item;
    memset(cell, 0, n * units * sizeof *cell);
    for (size_t t = 0; t < p->steps; t++, hidden += units) {
        for (size_t i = 0; i < n; i++)
            memcpy(gates + i * width, p->projected + p->tokens[(first + i) * p->steps + t] * width,
                   width * sizeof *gates);
        if (t > 0)
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)n, (int)width, (int)units, 1, hidden - units,
                        (int)item, p->weights->recurrent_kernel, (int)width, 1, gates, (int)width);
        for (size_t i = 0; i < n; i++) activate(units, gates + i * width, cell + i * units, hidden + i * item);
    }
}

static void forward_share(void *argument, int thread, int threads) {
    const pass *p = argument;
    const size_t units = p->weights->units;
    size_t first, last;
    team_share(p->items, 1, thread, threads, &first, &last);
    float *gates = allocate(together * 4 * units * sizeof *gates), *cell = allocate(together * units * sizeof *cell);
    for (size_t i = first; i < last; i += together)
        forward_together(p, i, last - i < together ? last - i : together, gates, cell);
    release(gates);
    release(cell);
}

void lstm_forward(const lstm_weights *weights, const uint16_t *tokens, size_t items, size_t steps, float *hidden,
                  int threads) {
    const int before = openblas_get_num_threads();
    openblas_set_num_threads(1); /* each of our threads calls it by itself */
    float *projected = project_words(weights);
    pass p = {weights, projected, tokens, items, steps, hidden};
    team_run(threads, forward_share, &p);
    openblas_set_num_threads(before);
    release(projected);
}

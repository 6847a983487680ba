/* SPDX-License-Identifier: Apache-2.0 */
#include "examples/nn/cells.h"

#include "examples/nn/random.h"

#include <string.h>

#define REAL_BITS 32
#define SUFFIX f32
#include "cpu/vec.h"

/* The first n of VEC_LANES; n is a constant where the whole vector is meant. */
static ALWAYS_INLINE vec load(const float *p, size_t n) { return n == VEC_LANES ? v_load(p) : v_load_n(p, n); }
static ALWAYS_INLINE void store(float *p, vec a, size_t n) {
    if (n == VEC_LANES)
        v_store(p, a);
    else
        v_store_n(p, a, n);
}

static ALWAYS_INLINE vec logistic(vec x) {
    const vec half = v_set1(0.5f);
    return v_fma(half, v_tanh(v_mul(half, x)), half);
}

/* x (1 - x) */
static ALWAYS_INLINE vec logistic_slope(vec x) { return v_fnma(x, x, x); }

static ALWAYS_INLINE void forward_lanes(size_t units, size_t n, float *gates, const float *bias,
                                        const float *cell_before, float *cell, float *hidden, float *out) {
    vec sum[4];
    for (size_t k = 0; k < 4; k++) sum[k] = v_add(load(gates + k * units, n), load(bias + k * units, n));
    const vec i = logistic(sum[0]), f = logistic(sum[1]), g = v_tanh(sum[2]), o = logistic(sum[3]);
    const vec c = v_fma(f, load(cell_before, n), v_mul(i, g)), h = v_mul(o, v_tanh(c));
    store(gates, i, n);
    store(gates + units, f, n);
    store(gates + 2 * units, g, n);
    store(gates + 3 * units, o, n);
    store(cell, c, n);
    store(hidden, h, n);
    if (out) store(out, h, n);
}

static void lstm_forward(size_t units, float *gates, const float *bias, const float *cell_before, float *cell,
                         float *hidden, float *out) {
    for (size_t j = 0; j < units; j += VEC_LANES) {
        const size_t left = units - j;
        float *to = out ? out + j : NULL;
        if (left >= VEC_LANES)
            forward_lanes(units, VEC_LANES, gates + j, bias + j, cell_before + j, cell + j, hidden + j, to);
        else
            forward_lanes(units, left, gates + j, bias + j, cell_before + j, cell + j, hidden + j, to);
    }
}

static ALWAYS_INLINE void backward_lanes(size_t units, size_t n, const float *gates, const float *cell_before,
                                         const float *cell, const float *above, const float *later, float *grad_cell,
                                         float *grad_gates, float *grad_bias) {
    const vec i = load(gates, n), f = load(gates + units, n), g = load(gates + 2 * units, n),
              o = load(gates + 3 * units, n), c = v_tanh(load(cell, n)), dh = v_add(load(above, n), load(later, n)),
              one = v_set1(1);
    const vec dc = v_fma(v_mul(dh, o), v_fnma(c, c, one), load(grad_cell, n));
    const vec grad[4] = {
        v_mul(v_mul(dc, g), logistic_slope(i)),
        v_mul(v_mul(dc, load(cell_before, n)), logistic_slope(f)),
        v_mul(v_mul(dc, i), v_fnma(g, g, one)),
        v_mul(v_mul(dh, c), logistic_slope(o)),
    };
    store(grad_cell, v_mul(dc, f), n);
    for (size_t k = 0; k < 4; k++) {
        store(grad_gates + k * units, grad[k], n);
        store(grad_bias + k * units, v_add(load(grad_bias + k * units, n), grad[k]), n);
    }
}

static void lstm_backward(size_t units, const float *gates, const float *cell_before, const float *cell,
                          const float *above, const float *later, float *grad_cell, float *grad_gates,
                          float *grad_bias) {
    for (size_t j = 0; j < units; j += VEC_LANES) {
        const size_t left = units - j;
        if (left >= VEC_LANES)
            backward_lanes(units, VEC_LANES, gates + j, cell_before + j, cell + j, above + j, later + j, grad_cell + j,
                           grad_gates + j, grad_bias + j);
        else
            backward_lanes(units, left, gates + j, cell_before + j, cell + j, above + j, later + j, grad_cell + j,
                           grad_gates + j, grad_bias + j);
    }
}

enum { WORDS = 64 };

/* In two loops that compilers vectorise. The factor is 0 or scale: a choice among values, where a branch would be guessed wrong
 * half the time. */
static void dropout(size_t count, uint64_t key, uint32_t below, float scale, const float *restrict in,
                    float *restrict out) {
    for (size_t first = 0; first < count; first += 2 * WORDS, key += NN_GOLDEN * WORDS) {
        uint64_t words[WORDS];
        for (size_t k = 0; k < WORDS; k++) words[k] = nn_mix(key + NN_GOLDEN * k);
        uint32_t
            halves[2 * WORDS]; /* the lower one first: the machine is little-endian, as the library's files need it */
        memcpy(halves, words, sizeof halves);
        const size_t n = count - first < 2 * WORDS ? count - first : 2 * WORDS;
        for (size_t j = 0; j < n; j++) out[first + j] = in[first + j] * (halves[j] >= below ? scale : 0);
    }
}

#if defined(ATTN_ISA_AVX512)
#define TABLE nn_cells_avx512
#elif defined(ATTN_ISA_AVX2)
#define TABLE nn_cells_avx2
#else
#define TABLE nn_cells_scalar
#endif
extern const nn_cells TABLE;
const nn_cells TABLE = {lstm_forward, lstm_backward, dropout};

/* SPDX-License-Identifier: Apache-2.0 */
/* Adam and RMSprop with the defaults of Keras 2.15, in float32 and in its order of operations. What Keras computes in Python,
 * such as 1 - beta_2, is rounded once; the powers are those of the rounded betas. */
#include "examples/nn/model.h"

#include <math.h>

static const float learning_rate = 0.001f, epsilon = 1e-7f;
static const double beta_1 = 0.9, beta_2 = 0.999; /* adam */
static const double rho = 0.9;                    /* rmsprop */

/*  m += (g - m) (1 - beta_1)       v += (g^2 - v) (1 - beta_2)
 *  w -= m alpha / (sqrt(v) + epsilon),  alpha = rate sqrt(1 - beta_2^t) / (1 - beta_1^t) */
static void adam(uint64_t step, size_t count, const float *restrict g, float *restrict m, float *restrict v,
                 float *restrict w) {
    const float t = (float)step, taken_1 = (float)(1 - beta_1), taken_2 = (float)(1 - beta_2);
    const float alpha = learning_rate * sqrtf(1 - powf((float)beta_2, t)) / (1 - powf((float)beta_1, t));
    for (size_t i = 0; i < count; i++) {
        m[i] += (g[i] - m[i]) * taken_1;
        v[i] += (g[i] * g[i] - v[i]) * taken_2;
        w[i] -= m[i] * alpha / (sqrtf(v[i]) + epsilon);
    }
}

/*  v = rho v + (1 - rho) g^2,  w -= rate g / sqrt(v + epsilon) */
static void rmsprop(size_t count, const float *restrict g, float *restrict v, float *restrict w) {
    const float left = (float)rho, taken = (float)(1 - rho);
    for (size_t i = 0; i < count; i++) {
        v[i] = left * v[i] + taken * (g[i] * g[i]);
        w[i] -= learning_rate * g[i] / sqrtf(v[i] + epsilon);
    }
}

void nn_optimise(nn_model *model, size_t shards, size_t first, size_t count) {
    float *restrict sum = model->shards[0].gradients + first;
    for (size_t s = 1; s < shards; s++) {
        const float *restrict gradients = model->shards[s].gradients + first;
        for (size_t i = 0; i < count; i++) sum[i] += gradients[i];
    }
    float *m = model->moments[0] + first, *v = model->moments[1] + first, *w = model->weights + first;
    if (model->optimiser == NN_ADAM)
        adam(model->step + 1, count, sum, m, v, w);
    else
        rmsprop(count, sum, v, w);
}

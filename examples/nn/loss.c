/* SPDX-License-Identifier: Apache-2.0 */
#include "examples/nn/model.h"

#include <math.h>

/* sign(0) = 0, as TensorFlow differentiates |x|. */
static double absolute_error(double output, double target, double *slope) {
    const double difference = output - target;
    *slope = (difference > 0) - (difference < 0);
    return fabs(difference);
}

/* -y log p - (1 - y) log(1 - p) for p = 1 / (1 + exp(-x)), without forming p: finite for every logit. */
static double cross_entropy(double logit, double target, double *slope) {
    const double e = exp(-fabs(logit));
    *slope = (logit >= 0 ? 1 : e) / (1 + e) - target;
    return fmax(logit, 0) - logit * target + log1p(e);
}

double nn_loss_of(nn_loss loss, const nn_pass *pass, size_t width, size_t batch, const float *out, const float *logits,
                  float *grad) {
    const double mean = 1 / ((double)batch * (double)width);
    double sum = 0;
    for (size_t i = 0; i < pass->items; i++)
        for (size_t j = 0; j < width; j++) {
            const size_t at = i * width + j;
            const double target = (double)pass->data->y[nn_row(pass, i) * width + j];
            double slope;
            sum += loss == NN_MAE ? absolute_error((double)out[at], target, &slope)
                                  : cross_entropy((double)logits[at], target, &slope);
            grad[at] = (float)(slope * mean);
        }
    return sum * mean;
}

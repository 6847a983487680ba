/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EXAMPLES_EXPERIMENT_EPOCH_H
#define EXAMPLES_EXPERIMENT_EPOCH_H

#include "examples/nn/nn.h"

/* Told after each step, how many samples of the epoch are done and the mean loss so far. */
typedef void (*epoch_progress)(void *user, size_t done, size_t of, double loss);

/* Trains on all samples once, `batch` at a time, the last batch smaller where they do not divide, in an order that is a
 * function of seed and epoch and goes to `order` (all->items). Answers the mean of the samples' losses, each taken when
 * its batch came, as Keras reports it; NaN after an error. progress may be NULL. all->rows is not read. */
double epoch_train(nn_model *model, const nn_data *all, size_t *order, size_t batch, uint64_t seed, size_t epoch,
                   epoch_progress progress, void *user);

#endif

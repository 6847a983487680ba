/* SPDX-License-Identifier: Apache-2.0 */
#include "examples/experiment/epoch.h"

#include <math.h>

double epoch_train(nn_model *model, const nn_data *all, size_t *order, size_t batch, uint64_t seed, size_t epoch,
                   epoch_progress progress, void *user) {
    double sum = 0;
    nn_data part = *all;
    nn_shuffle(order, all->items, seed, epoch);
    for (size_t done = 0; done < all->items; done += part.items) {
        part.rows = order + done;
        part.items = all->items - done < batch ? all->items - done : batch;
        const double loss = nn_model_train_step(model, &part);
        if (isnan(loss)) return loss;
        sum += loss * (double)part.items;
        if (progress) progress(user, done + part.items, all->items, sum / (double)(done + part.items));
    }
    return sum / (double)all->items;
}

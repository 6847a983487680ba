/* SPDX-License-Identifier: Apache-2.0
 * What the training examples share: options, an epoch, and where their figures and pictures go. */
#ifndef EXAMPLES_EXPERIMENT_H
#define EXAMPLES_EXPERIMENT_H

#include "examples/nn/nn.h"

#include <stdio.h>

typedef struct experiment {
    const char *name;
    size_t epochs;
    uint64_t seed;
    const char *out; /* a folder, which exists */
    int threads;     /* 0: the processors this process may use */
    bool quick;      /* a tenth of the samples and few epochs: to see that it works */
} experiment;

/* Reads the command line. Ends the program after --help, and with status 2 on anything it does not know. */
experiment experiment_read(int argc, char **argv, const char *name, const char *about, size_t epochs);

/* Says why on stderr and ends the program with status 2. */
_Noreturn void experiment_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Zeroed memory for `count` elements; out of memory ends the program. Given back by free(). */
void *experiment_array(size_t count, size_t size);

/* Compiles a model that has its layers. What is wrong with it ends the program. */
void experiment_compile(nn_model *model, nn_loss loss, nn_optimiser optimiser);

/* One epoch over all samples in a new random order, a function of seed and epoch. Answers the mean loss; an error ends the program. */
double experiment_epoch(const experiment *e, nn_model *model, const nn_data *all, size_t batch, size_t epoch);

/* Predictions and attention weights (NULL: not wanted); an error ends the program. */
void experiment_predict(nn_model *model, const nn_data *data, float *y, float *attention);

/* Mean absolute error. */
double experiment_mae(const float *predicted, const float *wanted, size_t count);

/* The file `name` in the example's folder, in memory that is overwritten by the next call. */
const char *experiment_path(const experiment *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Random numbers of the samples: streams below NN_STREAMS, apart from those of the epochs' orders. */
#define EXPERIMENT_SAMPLES (UINT64_C(1) << 62)

#endif

/* SPDX-License-Identifier: Apache-2.0
 * What was learnt over the epochs: a table of figures and one picture, where the attention went and how the error fell. */
#ifndef EXAMPLES_EXPERIMENT_LEARNING_H
#define EXAMPLES_EXPERIMENT_LEARNING_H

#include "examples/experiment/experiment.h"

#include <time.h>

typedef struct learning {
    const experiment *of;
    const char *measure; /* the name of the third curve, a part of 1 */
    size_t columns, epochs;
    double *loss, *error, *part; /* (epochs): training loss, validation error, and the measure */
    float *attention;            /* (epochs, columns) */
    FILE *table;                 /* history.csv */
    struct timespec began;
} learning;

/* columns: of the attention that each epoch leaves in the picture. */
learning learning_begin(const experiment *of, const char *measure, size_t columns);

/* Takes an epoch: adds it to history.csv, and prints it as a line. */
void learning_add(learning *l, double loss, double error, double part, const float *attention);

/* Draws learning.png and gives the memory back. attention_title says what the columns are. */
void learning_end(learning *l, const char *attention_title);

#endif

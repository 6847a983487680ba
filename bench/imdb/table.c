/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/imdb/table.h"

#include "bench/program.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>

/* How many epochs, up to `most`, the run has whose first record this may be; 0 where it is none of that row. A run's
 * records stand one after the other. */
static size_t run_length(const records *all, size_t at, int row, size_t most) {
    const record *const first = &all->at[at];
    size_t length = 0;
    while (length < most && at + length < all->count && first[length].row == row && first[length].seed == first->seed &&
           first[length].epoch == length + 1)
        length++;
    return length;
}

static double best_of(const record *first, size_t epochs) {
    double best = 0;
    for (size_t i = 0; i < epochs; i++) best = fmax(best, 100 * first[i].test_accuracy);
    return best;
}

static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t count) {
    if (count == 0) return 0;
    qsort(values, count, sizeof *values, by_size);
    return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

table_row table_figures(const records *all, int row, size_t least, size_t most) {
    table_row made = {0};
    double sum = 0, squares = 0;
    double *const train = allocate(all->count * sizeof *train), *const test = allocate(all->count * sizeof *test);
    for (size_t at = 0; at < all->count; at++) {
        const size_t length = run_length(all, at, row, most);
        if (length < least) continue;
        const double best = best_of(&all->at[at], length);
        made.runs++, made.epochs += length;
        made.most = fmax(made.most, best), sum += best, squares += best * best;
        for (size_t i = 0; i < length; i++) {
            train[made.epochs - length + i] = all->at[at + i].train_seconds;
            test[made.epochs - length + i] = all->at[at + i].test_seconds;
        }
    }
    made.train_seconds = median(train, made.epochs), made.test_seconds = median(test, made.epochs);
    release(train);
    release(test);
    if (!made.runs) return made;
    made.mean = sum / (double)made.runs;
    made.deviation = sqrt(fmax(0, squares / (double)made.runs - made.mean * made.mean));
    return made;
}

static void print_line(FILE *file, const char *title, const char *who, size_t runs, double most, double mean,
                       double deviation) {
    fprintf(file, "%-30s %-9s %4zu  %6.2f  %6.2f  %5.2f", title, who, runs, most, mean, deviation);
}

void table_print(FILE *file, const records *ours, const records *keras, size_t epochs) {
    enum { PUBLISHED_RUNS = 10 };
    fprintf(file, "Best test accuracy of %zu epochs in each run, %%\n", epochs);
    fprintf(file, "%-30s %-9s %4s  %6s  %6s  %5s  %s\n", "", "", "runs", "max", "mean", "std",
            "an epoch, train + test");
    for (int i = 0; i < ROWS; i++) {
        const table_row made = table_figures(ours, i, epochs, epochs), reference = table_figures(keras, i, 1, epochs);
        const upstream_figures *const published = &rows[i].published;
        if (made.runs) {
            print_line(file, rows[i].title, "here", made.runs, made.most, made.mean, made.deviation);
            fprintf(file, "  %.1f + %.1f s\n", made.train_seconds, made.test_seconds);
        } else {
            fprintf(file, "%-30s %-9s %4d\n", rows[i].title, "here", 0);
        }
        if (reference.runs) {
            print_line(file, "", "Keras", reference.runs, reference.most, reference.mean, reference.deviation);
            fprintf(file, "  %.0f s to train\n", reference.train_seconds);
        }
        if (published->most > 0) {
            print_line(file, "", "published", PUBLISHED_RUNS, published->most, published->mean, published->deviation);
            fputc('\n', file);
        }
    }
}

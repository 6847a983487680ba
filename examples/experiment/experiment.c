/* SPDX-License-Identifier: Apache-2.0 */
#include "examples/experiment/experiment.h"

#include "examples/experiment/epoch.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { QUICK_EPOCHS = 3 };

_Noreturn void experiment_fail(const char *format, ...) {
    va_list arguments;
    fprintf(stderr, "%s: ", program_invocation_short_name);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(2);
}

void *experiment_array(size_t count, size_t size) {
    void *const made = calloc(count ? count : 1, size);
    if (!made) experiment_fail("out of memory");
    return made;
}

/* ---- Options ---------------------------------------------------------------------------------------------------------- */

static const char options_help[] = "\n"
                                   "  --epochs N    default %zu\n"
                                   "  --seed N      of weights, samples and their order; default 1\n"
                                   "  --out FOLDER  for pictures and figures; default %s-out\n"
                                   "  --threads N   default: the processors this process may use\n"
                                   "  --quick       a tenth of the samples, 3 epochs: to see that it works\n";

static uint64_t number_of(const char *option, const char *value, uint64_t least, uint64_t most) {
    char *end;
    errno = 0;
    const unsigned long long number = strtoull(value, &end, 10);
    if (errno || *end || end == value || *value == '-' || number < least || number > most)
        experiment_fail("--%s %s: a whole number from %" PRIu64 " to %" PRIu64 " is wanted", option, value, least,
                        most);
    return number;
}

static void make_folder(const char *path) {
    struct stat s;
    if (mkdir(path, 0777) && errno != EEXIST) experiment_fail("can't make the folder %s: %s", path, strerror(errno));
    if (stat(path, &s) || !S_ISDIR(s.st_mode)) experiment_fail("%s is no folder", path);
}

experiment experiment_read(int argc, char **argv, const char *name, const char *about, size_t epochs) {
    static const struct option known[] = {
        {"epochs", required_argument, NULL, 'e'},
        {"seed", required_argument, NULL, 's'},
        {"out", required_argument, NULL, 'o'},
        {"threads", required_argument, NULL, 't'},
        {"quick", no_argument, NULL, 'q'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    static char out[256];
    snprintf(out, sizeof out, "%s-out", name);
    experiment e = {.name = name, .seed = 1, .out = out};
    for (int id, at; (id = getopt_long(argc, argv, "", known, &at)) != -1;) switch (id) {
        case 'e':
            e.epochs = (size_t)number_of("epochs", optarg, 1, 1000000);
            break;
        case 's':
            e.seed = number_of("seed", optarg, 0, UINT64_MAX);
            break;
        case 'o':
            e.out = optarg;
            break;
        case 't':
            e.threads = (int)number_of("threads", optarg, 1, 1024);
            break;
        case 'q':
            e.quick = true;
            break;
        case 'h':
            fputs(about, stdout);
            printf(options_help, epochs, name);
            exit(0);
        default:
            exit(2);
        }
    if (optind < argc) experiment_fail("%s: no such argument; --help tells what there is", argv[optind]);
    if (!e.epochs) e.epochs = e.quick ? QUICK_EPOCHS : epochs;
    make_folder(e.out);
    return e;
}

const char *experiment_path(const experiment *e, const char *format, ...) {
    static char path[4096];
    const int length = snprintf(path, sizeof path, "%s/", e->out);
    va_list arguments;
    va_start(arguments, format);
    if (length < (int)sizeof path) vsnprintf(path + length, sizeof path - (size_t)length, format, arguments);
    va_end(arguments);
    return path;
}

/* ---- Training ----------------------------------------------------------------------------------------------------------- */

void experiment_compile(nn_model *model, nn_loss loss, nn_optimiser optimiser) {
    if (!model) experiment_fail("out of memory");
    if (!nn_model_compile(model, loss, optimiser)) experiment_fail("%s", nn_model_error(model));
}

double experiment_epoch(const experiment *e, nn_model *model, const nn_data *all, size_t batch, size_t epoch) {
    size_t *const order = experiment_array(all->items, sizeof *order);
    const double loss = epoch_train(model, all, order, batch, e->seed, epoch, NULL, NULL);
    free(order);
    if (isnan(loss))
        experiment_fail("epoch %zu: %s", epoch, *nn_model_error(model) ? nn_model_error(model) : "the loss is NaN");
    return loss;
}

void experiment_predict(nn_model *model, const nn_data *data, float *y, float *attention) {
    if (!nn_model_predict(model, data, y, attention)) experiment_fail("%s", nn_model_error(model));
}

double experiment_mae(const float *predicted, const float *wanted, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += fabs((double)predicted[i] - (double)wanted[i]);
    return sum / (double)count;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/imdb/options.h"

#include "bench/program.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

static const char help[] =
    "attention-imdb --data PATH [options]\n"
    "\n"
    "Learns the sentiment of IMDB reviews with and without attention, and with attention that is given each review's\n"
    "valid range; tests after each epoch. May be stopped at any time: the same command goes on where it was.\n"
    "Several processes may share the runs of a folder, each with some of the threads.\n"
    "\n"
    "  --data PATH       the Large Movie Review Dataset, aclImdb_v1.tar.gz from\n"
    "                    https://ai.stanford.edu/~amaas/data/sentiment/, or unpacked; default: " SOURCE_VARIABLE "\n"
    "  --runs N          trainings of each row, default 1; upstream's table has 10\n"
    "  --row NAME        with, without or ranges; may be repeated; default: all three\n"
    "  --epochs N        default 10\n"
    "  --stop-after N    end after N epochs of whatever run, to go on another time; default: when all is done\n"
    "  --seed N          of the first run, the following count on; default 1\n"
    "  --threads N       default: the processors this process may use\n"
    "  --out FOLDER      default imdb-out: a state file for each run, and what follows\n"
    "      results.jsonl   a line for each epoch\n"
    "      table.txt       best accuracies beside Keras's and upstream's\n"
    "      curves.png      test accuracy over the epochs\n"
    "      attended.txt    the words that the first run's models look at\n"
    "  --report          train nothing: write these again from the state files of the rows, runs and seeds named\n"
    "  --reviews N       reviews in attended.txt, default 6\n"
    "  --keras FILE      Keras's runs to compare with, default the project's\n"
    "  --per-folder N    reviews in each of the data set's folders, default 12500\n"
    "  --faults N        how many of all may be missing or damaged, default 16; each is named\n"
    "  --help\n";

static const struct option known[] = {
    {"data", required_argument, NULL, 'd'},
    {"runs", required_argument, NULL, 'n'},
    {"row", required_argument, NULL, 'r'},
    {"epochs", required_argument, NULL, 'e'},
    {"seed", required_argument, NULL, 's'},
    {"stop-after", required_argument, NULL, 'a'},
    {"threads", required_argument, NULL, 't'},
    {"out", required_argument, NULL, 'o'},
    {"report", no_argument, NULL, 'R'},
    {"reviews", required_argument, NULL, 'v'},
    {"keras", required_argument, NULL, 'k'},
    {"faults", required_argument, NULL, 'f'},
    {"per-folder", required_argument, NULL, 'p'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static size_t number(int at, size_t least, size_t most) {
    char *end;
    errno = 0;
    const unsigned long long value = strtoull(optarg, &end, 10);
    if (errno || *end || end == optarg || *optarg == '-' || value < least || value > most)
        fail("--%s %s: a whole number from %zu to %zu is wanted", known[at].name, optarg, least, most);
    return (size_t)value;
}

static void take(imdb_options *o, int id, int at) {
    switch (id) {
    case 'd':
        o->data = optarg;
        break;
    case 'n':
        o->runs = number(at, 1, 1000);
        break;
    case 'r':
        if (row_find(optarg) == ROWS) fail("--row %s: with, without or ranges is wanted", optarg);
        o->row[row_find(optarg)] = true;
        break;
    case 'e':
        o->epochs = number(at, 1, 1000);
        break;
    case 'a':
        o->stop_after = number(at, 1, 1000000);
        break;
    case 's':
        o->seed = number(at, 0, (size_t)1 << 48);
        break;
    case 't':
        o->threads = (int)number(at, 1, 1024);
        break;
    case 'o':
        o->out = optarg;
        break;
    case 'R':
        o->report = true;
        break;
    case 'v':
        o->reviews = number(at, 0, 1000);
        break;
    case 'k':
        o->keras = optarg;
        break;
    case 'f':
        o->faults = number(at, 0, 1000000);
        break;
    case 'p':
        o->per_folder = number(at, 1, 1000000);
        break;
    case 'h':
        fputs(help, stdout);
        exit(0);
    default:
        fputs("attention-imdb --help lists what there is\n", stderr);
        exit(2);
    }
}

imdb_options imdb_options_read(int argc, char **argv) {
    imdb_options o = {
        .data = getenv(SOURCE_VARIABLE), // NOLINT(concurrency-mt-unsafe): there is one thread yet
        .out = "imdb-out",
        .keras = BENCH_DATA "/keras_runs.jsonl",
        .runs = 1,
        .epochs = 10,
        .stop_after = SIZE_MAX,
        .per_folder = REVIEWS_PER_FOLDER,
        .faults = 16,
        .reviews = 6,
        .seed = 1,
    };
    for (int id, at = 0; (id = getopt_long(argc, argv, "", known, &at)) != -1;) take(&o, id, at);
    if (optind < argc) fail("%s: no such argument; --help tells what there is", argv[optind]);
    if (o.data && !*o.data) o.data = NULL;
    bool any = false;
    for (int i = 0; i < ROWS; i++) any |= o.row[i];
    for (int i = 0; i < ROWS; i++) o.row[i] |= !any;
    return o;
}

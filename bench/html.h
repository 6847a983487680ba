/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_HTML_H
#define BENCH_HTML_H

#include "bench/imdb.h"

/* Writes one self-contained page: every review, each word shaded by its attention weight, beside label and probability. */
void html_write(const imdb *model, const char *path);

#endif

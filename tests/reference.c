/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/reference.h"

#include <math.h>
#include <stdlib.h>

void reference_range(const reference_input *input, size_t item, size_t *start, size_t *end) {
    *start = input->starts ? (size_t)input->starts[item] : 0;
    *end = input->lengths ? *start + (size_t)input->lengths[item] : input->timesteps;
}

bool reference_attended(const reference_input *input, size_t item, size_t i, size_t s) {
    size_t start, end;
    reference_range(input, item, &start, &end);
    if (s < start || s >= end) return false;
    const size_t row = input->mask_per_query ? item * input->queries + i : item;
    return !input->mask || input->mask[row * input->timesteps + s];
}

const double *reference_query(const reference_input *input, size_t item, size_t i) {
    if (input->given_query) return input->query + (item * input->queries + i) * input->query_features;
    size_t start, end;
    reference_range(input, item, &start, &end);
    return start == end ? NULL : input->h + (item * input->timesteps + end - 1) * input->features;
}

#define REAL double
#define LAYER(part) reference_##part##_float64
#define EXP exp
#define TANH tanh
#define LOG log
#include "tests/reference_backward.h"
#include "tests/reference_layer.h"
#undef REAL
#undef LAYER
#undef EXP
#undef TANH
#undef LOG

/* Quadruple precision: long double where that is it (arm64), libquadmath elsewhere. Its header is gcc's own, so the three
 * functions are declared here and clang can build this too. */
#if __LDBL_MANT_DIG__ == 113
#define REAL long double
#define EXP expl
#define TANH tanhl
#define LOG logl
#else
__float128 expq(__float128 x);
__float128 tanhq(__float128 x);
__float128 logq(__float128 x);
#define REAL __float128
#define EXP expq
#define TANH tanhq
#define LOG logq
#endif
#define LAYER(part) reference_##part##_quad
#include "tests/reference_backward.h"
#include "tests/reference_layer.h"

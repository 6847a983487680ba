/* SPDX-License-Identifier: Apache-2.0 */
/* A case's values: read, checked where they are counts, and made a problem of the test kit. */
#include "tests/kit_content.h"
#include "tools/attention-check/case_file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How far, in gates, another float32 implementation may be from the float64 results before the file contradicts itself. */
static const double FARTHEST_SINGLE = 64;

static bool read_raw(const attn_weights_file *file, const attn_weights_tensor *t, attn_weights_dtype dtype,
                     void **values, char *error, size_t room) {
    const size_t size = t->elements * attn_weights_dtype_size(dtype);
    *values = kit_array(size, 1);
    if (attn_weights_read(file, t, dtype, *values, size) == ATTN_OK) return true;
    snprintf(error, room, "%s", attn_last_error_message());
    return false;
}

static bool read_inputs(const attn_weights_file *file, const file_case *c, kit_content *content, char *error,
                        size_t room) {
    const attn_weights_tensor *const *t = c->tensors;
    double **const to[] = {&content->h,           &content->query,      &content->luong_w, &content->bahdanau_w1,
                           &content->bahdanau_w2, &content->bahdanau_v, &content->w_c};
    for (int i = TENSOR_H; i <= TENSOR_W_C; i++) {
        void *values = NULL;
        const bool fine = !t[i] || read_raw(file, t[i], ATTN_WEIGHTS_F64, &values, error, room);
        *to[i] = values;
        if (!fine) return false;
    }
    void *starts = NULL, *lengths = NULL, *mask = NULL;
    const bool fine =
        (!t[TENSOR_STARTS] || read_raw(file, t[TENSOR_STARTS], ATTN_WEIGHTS_I32, &starts, error, room)) &&
        (!t[TENSOR_LENGTHS] || read_raw(file, t[TENSOR_LENGTHS], ATTN_WEIGHTS_I32, &lengths, error, room)) &&
        (!t[TENSOR_MASK] || read_raw(file, t[TENSOR_MASK], ATTN_WEIGHTS_BOOL, &mask, error, room));
    content->starts = starts, content->lengths = lengths, content->mask = mask;
    return fine;
}

/* The reference indexes by them, so nothing outside [0, T] may pass. */
static bool check_ranges(const file_case *c, const kit_content *content, char *error, size_t room) {
    const int64_t T = c->spec.timesteps;
    for (int64_t b = 0; b < c->spec.batch; b++) {
        const int64_t start = content->starts ? content->starts[b] : 0,
                      length = content->lengths ? content->lengths[b] : T - start;
        if (start >= 0 && length >= 0 && start + length <= T) continue;
        snprintf(error, room, "item %lld has the range %lld + %lld, past its %lld steps", (long long)b,
                 (long long)start, (long long)length, (long long)T);
        return false;
    }
    return true;
}

static bool fits_float32(const file_case *c, const kit_content *content) {
    const double *const from[] = {content->h,           content->query,      content->luong_w, content->bahdanau_w1,
                                  content->bahdanau_w2, content->bahdanau_v, content->w_c};
    for (int i = TENSOR_H; i <= TENSOR_W_C; i++)
        for (size_t j = 0; from[i] && j < c->tensors[i]->elements; j++)
            if ((double)(float)from[i][j] != from[i][j] && !isnan(from[i][j])) return false;
    return true;
}

/* Where the file holds another float32 implementation's results, twice their own distance is granted too. */
static bool widen_gates(const attn_weights_tensor *of, const attn_weights_tensor *other, const double *expected,
                        const float *single, double *gate, char *error, size_t room) {
    for (size_t i = 0; i < of->elements; i++) {
        const double distance = gates_error((long double)single[i], (long double)expected[i], 1);
        if (!(distance <= FARTHEST_SINGLE * gate[i])) {
            snprintf(error, room, "element %zu of %s is %.9g, of %s %.9g: they can't be the same layer's", i,
                     other->name, (double)single[i], of->name, expected[i]);
            return false;
        }
        gate[i] = 2 * (distance > gate[i] ? distance : gate[i]);
    }
    return true;
}

/* Expected results and their gates. What a file has in float64 is rounded like our own float64, so there both sides get a gate. */
static bool put_expected(const attn_weights_file *file, const file_case *c, kit_problem *problem, char *error,
                         size_t room) {
    long double **const to[RESULTS] = {&problem->expected.output, &problem->expected.context,
                                       &problem->expected.attention_weights, &problem->expected.lse};
    double **const limits[RESULTS] = {&problem->gates.output, &problem->gates.context,
                                      &problem->gates.attention_weights, &problem->gates.lse};
    const reference_input in = kit_problem_input(problem);
    const size_t rows = in.batch * in.queries,
                 counts[RESULTS] = {rows * in.units, rows * in.features, rows * in.timesteps, rows};
    void *values[RESULTS] = {0}, *single[RESULTS] = {0};
    bool fine = true;
    for (int i = 0; i < RESULTS; i++) {
        *to[i] = kit_array(counts[i], sizeof **to[i]);
        const attn_weights_tensor *t = c->tensors[TENSOR_OUTPUT + i];
        fine = fine && (!t || read_raw(file, t, ATTN_WEIGHTS_F64, &values[i], error, room)) &&
               (!c->single[i] || read_raw(file, c->single[i], ATTN_WEIGHTS_F32, &single[i], error, room));
        for (size_t j = 0; fine && t && j < counts[i]; j++) (*to[i])[j] = (long double)((double *)values[i])[j];
    }
    if (fine) kit_problem_gates(problem, problem->spec.dtype == ATTN_FLOAT64 ? 2 : 1);
    for (int i = 0; i < RESULTS; i++) {
        if (fine && single[i] && problem->spec.dtype == ATTN_FLOAT32)
            fine =
                widen_gates(c->tensors[TENSOR_OUTPUT + i], c->single[i], values[i], single[i], *limits[i], error, room);
        free(values[i]);
        free(single[i]);
    }
    return fine;
}

/* Incoming gradients, and what the file expects of them in place of what the reference does; its rounding gets a gate as above. */
static bool put_gradients(const attn_weights_file *file, const file_case *c, kit_problem *problem, char *error,
                          size_t room) {
    const unsigned incoming = file_case_incoming(c);
    const double factor = problem->spec.dtype == ATTN_FLOAT64 ? 2 : 1;
    bool fine = true;
    for (int i = 0; i < RESULTS && fine; i++) {
        void *values = NULL;
        fine = !c->incoming[i] || read_raw(file, c->incoming[i], ATTN_WEIGHTS_F64, &values, error, room);
        if (values) kit_problem_set_incoming(problem, 1u << i, values);
        free(values);
    }
    for (int i = 0; i < GRADIENTS && fine; i++) {
        const attn_weights_tensor *t = c->gradients[i], *other = c->single_gradients[i];
        void *values = NULL, *single = NULL;
        if (!t) continue;
        fine = read_raw(file, t, ATTN_WEIGHTS_F64, &values, error, room) &&
               (!other || read_raw(file, other, ATTN_WEIGHTS_F32, &single, error, room));
        size_t count;
        long double *expected = kit_problem_expected_gradient(problem, incoming, 1u << i, &count);
        double *limits = kit_problem_gradient_gates(problem, 1u << i);
        for (size_t j = 0; fine && j < count; j++) {
            expected[j] = (long double)((double *)values)[j];
            limits[j] *= factor;
        }
        if (fine && single && problem->spec.dtype == ATTN_FLOAT32)
            fine = widen_gates(t, other, values, single, limits, error, room);
        free(values);
        free(single);
    }
    return fine;
}

kit_problem *file_case_problem(const attn_weights_file *file, file_case *c, attn_dtype dtype, char *error,
                               size_t room) {
    kit_content content = {0};
    bool fine = read_inputs(file, c, &content, error, room) && check_ranges(c, &content, error, room);
    if (!fine) {
        void *const arrays[] = {content.h,           content.query,      content.luong_w, content.bahdanau_w1,
                                content.bahdanau_w2, content.bahdanau_v, content.w_c,     content.starts,
                                content.lengths,     content.mask};
        for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) free(arrays[i]);
        return NULL;
    }
    c->fits_float32 = fits_float32(c, &content);
    c->spec.dtype = dtype;
    kit_problem *problem = kit_problem_from(&c->spec, &content, KIT_GUARD_BEHIND);
    fine = put_expected(file, c, problem, error, room) && put_gradients(file, c, problem, error, room);
    if (fine) return problem;
    kit_problem_free(problem);
    return NULL;
}

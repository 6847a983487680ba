/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors of a problem in guarded memory: strides by the case's options, values converted in and out. */
#include "tests/kit_content.h"
#include "tests/kit_number.h"

#include <stdlib.h>
#include <string.h>

enum { GAP_FRONT = 2, GAP_ROW = 5, GAP_ITEM = 7 }; /* elements around the rows of a slice */

kit_tensor kit_tensor_make(const kit_tensor *shape, unsigned options, kit_guard guard) {
    kit_tensor t = *shape;
    const bool slices = options & KIT_SLICES;
    const size_t row = t.width + (slices ? GAP_ROW : 0), gap = slices ? GAP_ITEM : 0;
    t.front = slices ? GAP_FRONT : 0;
    if (options & KIT_TIME_MAJOR) {
        t.item_stride = row;
        t.row_stride = t.items * row + gap;
    } else {
        t.row_stride = row;
        t.item_stride = t.rows * row + gap;
    }
    const bool empty = !t.items || !t.rows || !t.width;
    t.elements = empty ? 0 : t.front + (t.items - 1) * t.item_stride + (t.rows - 1) * t.row_stride + t.width;
    t.memory = kit_alloc(t.elements * t.element, guard);
    t.data = (char *)t.memory + (empty ? 0 : t.front * t.element);
    return t;
}

static size_t offset(const kit_tensor *t, size_t item, size_t row) {
    return (item * t->item_stride + row * t->row_stride) * t->element;
}

void kit_tensor_put(const kit_tensor *t, size_t item, size_t row, const double *values) {
    char *at = t->data + offset(t, item, row);
    for (size_t i = 0; i < t->width; i++) {
        if (t->element == 2) {
            kit_put(t->short_dtype, at, i, values[i]);
        } else if (t->element == sizeof(float)) {
            const float value = (float)values[i];
            memcpy(at + i * sizeof value, &value, sizeof value);
        } else
            memcpy(at + i * sizeof(double), &values[i], sizeof(double));
    }
}

double kit_tensor_get(const kit_tensor *t, size_t item, size_t row, size_t i) {
    const char *at = t->data + offset(t, item, row) + i * t->element;
    float single;
    double value;
    if (t->element == 2) return kit_get(t->short_dtype, at, 0);
    if (t->element == sizeof single) {
        memcpy(&single, at, sizeof single);
        return (double)single;
    }
    memcpy(&value, at, sizeof value);
    return value;
}

void kit_tensor_poison(const kit_tensor *t) { memset(t->memory, 0xff, t->elements * t->element); }

bool kit_tensor_gaps_untouched(const kit_tensor *t) {
    if (!t->elements) return true;
    const size_t bytes = t->elements * t->element, width = t->width * t->element;
    unsigned char *copy = kit_array(bytes, 1);
    memcpy(copy, t->memory, bytes);
    for (size_t item = 0; item < t->items; item++)
        for (size_t row = 0; row < t->rows; row++)
            memset(copy + (t->data - (char *)t->memory) + offset(t, item, row), 0xff, width);
    bool untouched = true;
    for (size_t i = 0; i < bytes; i++) untouched = untouched && copy[i] == 0xff;
    free(copy);
    return untouched;
}

char *kit_tensor_copy(const kit_tensor *t, size_t *bytes) {
    char *copy = kit_array(t->items * t->rows * t->width, t->element);
    *bytes = 0;
    for (size_t item = 0; item < t->items; item++)
        for (size_t row = 0; row < t->rows && t->width; row++) {
            memcpy(copy + *bytes, t->data + offset(t, item, row), t->width * t->element);
            *bytes += t->width * t->element;
        }
    return copy;
}

/* FNV-1a over words: any changed byte changes it. */
uint64_t kit_tensor_hash(const kit_tensor *t, uint64_t hash) {
    const char *bytes = t->memory;
    const size_t size = t->elements * t->element;
    for (size_t i = 0; i < size; i += sizeof(uint64_t)) {
        uint64_t word = 0;
        memcpy(&word, bytes + i, size - i < sizeof word ? size - i : sizeof word);
        hash = (hash ^ word) * UINT64_C(0x100000001b3);
    }
    return hash;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/sizes.h"

#include "lib/names.h"
#include "lib/region.h"
#include "lib/status.h"

#include <float.h>
#include <math.h>

attn_status attn_check_sizes(const attn_size_rule *rules, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const attn_size_rule *rule = &rules[i];
        if (rule->size < rule->least)
            return attn_fail(ATTN_ERROR_SHAPE, "desc.%s: is %lld, want at least %lld", rule->name,
                             (long long)rule->size, (long long)rule->least);
        if (rule->size > PTRDIFF_MAX)
            return attn_fail(ATTN_ERROR_OVERFLOW, "desc.%s: is %lld, want at most %lld", rule->name,
                             (long long)rule->size, (long long)PTRDIFF_MAX);
    }
    return ATTN_OK;
}

attn_status attn_check_dtype(attn_dtype dtype) {
    if ((int)dtype >= ATTN_FLOAT32 && (int)dtype <= ATTN_BFLOAT16) return ATTN_OK;
    return attn_fail(ATTN_ERROR_UNSUPPORTED, "desc.dtype: is %d, want a value of attn_dtype", (int)dtype);
}

static bool product_fits(size_t size, const size_t factors[4]) {
    for (int i = 0; i < 4; i++)
        if (factors[i] > 1 && __builtin_mul_overflow(size, factors[i], &size)) return false;
    return size <= (size_t)ATTN_LARGEST_EXTENT;
}

attn_status attn_check_factor(const char *name, double factor, attn_dtype dtype) {
    const double least = dtype == ATTN_FLOAT64 ? DBL_MIN : (double)FLT_MIN;
    const double most = dtype == ATTN_FLOAT64 ? DBL_MAX : (double)FLT_MAX;
    if (factor == 0 || (fabs(factor) >= least && fabs(factor) <= most)) return ATTN_OK;
    return attn_fail(ATTN_ERROR_INVALID_ARGUMENT, "%s: is %g, want 0, or a finite number of %g to %g in magnitude", name,
                     factor, least, most);
}

attn_status attn_check_products(attn_dtype dtype, const attn_product_rule *rules, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!product_fits(attn_dtype_size(dtype), rules[i].factors))
            return attn_fail(ATTN_ERROR_OVERFLOW, "desc: %s elements of %zu bytes do not fit (at most %lld bytes)",
                             rules[i].what, attn_dtype_size(dtype), (long long)ATTN_LARGEST_EXTENT);
    return ATTN_OK;
}

attn_status attn_resolve_size(const char *name, int64_t given, size_t *size) {
    if (given == ATTN_PLANNED) return ATTN_OK;
    if (given < 0)
        return attn_fail(ATTN_ERROR_SHAPE, "args.%s: is %lld, want 0 or more, or ATTN_PLANNED", name, (long long)given);
    if ((uint64_t)given > *size)
        return attn_fail(ATTN_ERROR_RANGE, "args.%s: is %lld, want at most the planned %zu", name, (long long)given,
                         *size);
    *size = (size_t)given;
    return ATTN_OK;
}

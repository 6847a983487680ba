/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_INTRINSICS_AVX512_H
#define TESTS_INTRINSICS_AVX512_H

/* Runs every check of intrinsics_avx512.c, which is built for AVX-512; `page` ends a page that can be read and written, behind
 * which nothing is mapped. Answers NULL, or the intrinsic that is not what its definition says. */
const char *attn_check_intrinsics(char *page);

#endif

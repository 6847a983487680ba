/* SPDX-License-Identifier: Apache-2.0 */
/* Tensor cores by definition: which element of a matrix a lane has, and how sums are cut. */
#ifndef ATTN_TESTS_CUDA_PTX_TENSOR_H
#define ATTN_TESTS_CUDA_PTX_TENSOR_H

namespace ptx {

/* D(16 x 8) = A(16 x K) B(K x 8) + C: which element a lane's i-th is; with tf32 K is 8, else 16. */
struct element {
    unsigned row, column;
};

inline element of_a(unsigned lane, unsigned i, bool tf32) {
    const unsigned group = lane / 4, within = lane % 4;
    if (tf32) return {group + 8 * (i & 1), within + 4 * (i >> 1)};
    return {group + 8 * (i >> 1 & 1), 2 * within + (i & 1) + 8 * (i >> 2)};
}

inline element of_b(unsigned lane, unsigned i, bool tf32) {
    const unsigned group = lane / 4, within = lane % 4;
    if (tf32) return {within + 4 * i, group};
    return {2 * within + (i & 1) + 8 * (i >> 1), group};
}

inline element of_c(unsigned lane, unsigned i) { return {lane / 4 + 8 * (i >> 1), 2 * (lane % 4) + (i & 1)}; }

/* c += products, exact ones, so many as are added at once. */
float add_truncated(float c, const double *products, unsigned count);

/* The bits of the nearest number with 10 bits of fraction, ties away from zero. */
unsigned to_tf32(float value);
/* The number that a tensor core sees in 32 bits. */
float seen_as_tf32(unsigned bits);

/* c += a b; a[row][k], b[k][column]. With tf32 four of k are added at once, else eight. */
void multiply_add(unsigned depth, const double (*a)[16], const double (*b)[8], float (*c)[8]);

} // namespace ptx

#endif

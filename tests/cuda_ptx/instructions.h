/* SPDX-License-Identifier: Apache-2.0 */
/* The instructions by subject; opcodes.cpp lists them. */
#ifndef ATTN_TESTS_PTX_INSTRUCTIONS_H
#define ATTN_TESTS_PTX_INSTRUCTIONS_H

#include "tests/cuda_ptx/execute.h"

namespace ptx {

/* integers.cpp, reals.cpp: add, sub, mul and the like go by the instruction's type. */
void compute(machine &, thread &, const instruction &);
void compute_real(machine &, thread &, const instruction &);
void approximate(machine &, thread &, const instruction &);
void convert(machine &, thread &, const instruction &);
void compare(machine &, thread &, const instruction &);
void select(machine &, thread &, const instruction &);

/* movement.cpp */
void move(machine &, thread &, const instruction &);
void load(machine &, thread &, const instruction &);
void store(machine &, thread &, const instruction &);
void change_atomically(machine &, thread &, const instruction &);
void change_space(machine &, thread &, const instruction &);
void copy_later(machine &, thread &, const instruction &);

/* control.cpp */
void branch(machine &, thread &, const instruction &);
void leave(machine &, thread &, const instruction &);
void trap(machine &, thread &, const instruction &);
void nothing(machine &, thread &, const instruction &);

/* warps.cpp: for all lanes of the mask at once. */
void shuffle(machine &, thread &, const instruction &);
void vote(machine &, thread &, const instruction &);
void load_matrix(machine &, thread &, const instruction &);
void multiply_matrices(machine &, thread &, const instruction &);

} // namespace ptx

#endif

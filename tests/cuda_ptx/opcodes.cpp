/* SPDX-License-Identifier: Apache-2.0 */
/* The instructions that are known, and what may stand behind the first point besides types. What is not here is refused: a modifier that
 * changes what an instruction does must not be overlooked. */
#include "tests/cuda_ptx/instructions.h"
#include "tests/cuda_ptx/parse.h"

namespace ptx {

#define ROUNDINGS "rn rz rm rp ftz sat"
#define CACHES                                                                                                         \
    "ca cg cs lu cv nc wb wt volatile relaxed weak gpu cta sys L1::no_allocate L1::evict_last L1::evict_first "        \
    "L2::128B L2::256B"
#define SPACES "global shared local param v2 v4"

static const opcode opcodes[] = {
    {"mov", move, meeting::none, ""},
    {"ld", load, meeting::none, SPACES " " CACHES},
    {"st", store, meeting::none, SPACES " " CACHES},
    {"cvta", change_space, meeting::none, "to global shared"},
    {"atom", change_atomically, meeting::none, "global shared relaxed acq_rel gpu cta add exch cas min max or and"},
    {"red", change_atomically, meeting::none, "global shared relaxed gpu cta add min max or and"},
    {"cp", copy_later, meeting::none, "async ca cg shared global commit_group wait_group wait_all L2::128B L2::256B"},
    {"add", compute, meeting::none, ROUNDINGS},
    {"sub", compute, meeting::none, ROUNDINGS},
    {"mul", compute, meeting::none, "lo hi wide " ROUNDINGS},
    {"mad", compute, meeting::none, "lo hi wide " ROUNDINGS},
    {"fma", compute, meeting::none, ROUNDINGS},
    {"div", compute, meeting::none, "rn"},
    {"rem", compute, meeting::none, ""},
    {"min", compute, meeting::none, "ftz NaN"},
    {"max", compute, meeting::none, "ftz NaN"},
    {"neg", compute, meeting::none, "ftz"},
    {"abs", compute, meeting::none, "ftz"},
    {"and", compute, meeting::none, ""},
    {"or", compute, meeting::none, ""},
    {"xor", compute, meeting::none, ""},
    {"not", compute, meeting::none, ""},
    {"shl", compute, meeting::none, ""},
    {"shr", compute, meeting::none, ""},
    {"shf", compute, meeting::none, "l r clamp wrap"},
    {"lop3", compute, meeting::none, ""},
    {"prmt", compute, meeting::none, ""},
    {"bfe", compute, meeting::none, ""},
    {"bfi", compute, meeting::none, ""},
    {"popc", compute, meeting::none, ""},
    {"clz", compute, meeting::none, ""},
    {"brev", compute, meeting::none, ""},
    {"copysign", compute, meeting::none, ""},
    {"sqrt", compute, meeting::none, "rn"},
    {"ex2", approximate, meeting::none, "approx ftz"},
    {"lg2", approximate, meeting::none, "approx ftz"},
    {"rcp", approximate, meeting::none, "approx ftz rn"},
    {"rsqrt", approximate, meeting::none, "approx ftz"},
    {"tanh", approximate, meeting::none, "approx"},
    {"cvt", convert, meeting::none, "rn rz rni rzi rmi rpi rna ftz sat"},
    {"setp", compare, meeting::none, "eq ne lt le gt ge equ neu ltu leu gtu geu num nan and or xor ftz"},
    {"selp", select, meeting::none, ""},
    {"bra", branch, meeting::none, "uni"},
    {"ret", leave, meeting::none, ""},
    {"exit", leave, meeting::none, ""},
    {"trap", trap, meeting::none, ""},
    {"membar", nothing, meeting::none, "gl cta"},
    {"fence", nothing, meeting::none, "acq_rel sc gpu cta"},
    {"bar", nothing, meeting::block, "sync"},
    {"barrier", nothing, meeting::block, "sync aligned"},
    {"shfl", shuffle, meeting::warp, "sync bfly up down idx"},
    {"vote", vote, meeting::warp, "sync any all ballot"},
    {"ldmatrix", load_matrix, meeting::warp, "sync aligned m8n8 x1 x2 x4 trans shared"},
    {"mma", multiply_matrices, meeting::warp, "sync aligned m16n8k8 m16n8k16 row col"},
};

const opcode *find_opcode(const std::string &name) {
    for (const opcode &known : opcodes)
        if (name == known.name) return &known;
    return nullptr;
}

} // namespace ptx

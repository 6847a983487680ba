/* SPDX-License-Identifier: Apache-2.0 */
/* The words of opcodes that change what an instruction does. Others are known too (opcodes.cpp), but make no difference here. */
#ifndef ATTN_TESTS_PTX_WORDS_H
#define ATTN_TESTS_PTX_WORDS_H

#include <string>

namespace ptx {

/* clang-format off */
#define PTX_WORDS(X)                                                                                                   \
    X(mov) X(ld) X(st) X(cvta) X(atom) X(red) X(cp) X(add) X(sub) X(mul) X(mad) X(fma) X(div) X(rem) X(min) X(max)     \
    X(neg) X(abs) X(and) X(or) X(xor) X(not) X(shl) X(shr) X(shf) X(lop3) X(prmt) X(bfe) X(bfi) X(popc) X(clz)         \
    X(brev) X(copysign) X(sqrt) X(ex2) X(lg2) X(rcp) X(rsqrt) X(tanh) X(cvt) X(setp) X(selp) X(bra) X(ret) X(exit)     \
    X(trap) X(membar) X(fence) X(bar) X(barrier) X(shfl) X(vote) X(ldmatrix) X(mma) X(rn) X(rz) X(rm) X(rp) X(rni)     \
    X(rzi) X(rmi) X(rpi) X(rna) X(ftz) X(sat) X(NaN) X(lo) X(hi) X(wide) X(l) X(wrap) X(to) X(param) X(global)         \
    X(shared) X(local) X(async) X(commit_group) X(wait_group) X(wait_all) X(exch) X(cas) X(eq) X(ne) X(lt) X(le)       \
    X(gt) X(ge) X(equ) X(neu) X(ltu) X(leu) X(gtu) X(geu) X(num) X(nan) X(bfly) X(up) X(down) X(idx) X(any) X(all)     \
    X(ballot) X(x2) X(x4) X(trans) X(m16n8k8)
/* clang-format on */

enum class word : unsigned {
#define X(name) name##_,
    PTX_WORDS(X)
#undef X
        count
};

/* word::count where it makes no difference. */
word word_of(const std::string &text);

} // namespace ptx

#endif

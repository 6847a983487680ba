/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/cuda_ptx/instructions.h"

namespace ptx {

void branch(machine &, thread &t, const instruction &in) {
    if (in.operands[0].where != place::label) throw fault("the branch has no label");
    t.pc = in.operands[0].value;
}

void leave(machine &, thread &t, const instruction &) {
    for (const auto &group : t.copies)
        if (!group.empty()) throw fault("the thread leaves copies that nobody waited for");
    t.done = true;
}

void trap(machine &, thread &, const instruction &) { throw fault("a trap"); }

/* Memory is always seen in order here. */
void nothing(machine &, thread &, const instruction &) {}

} // namespace ptx

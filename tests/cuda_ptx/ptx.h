/* SPDX-License-Identifier: Apache-2.0 */
/* Executes the PTX that NVIDIA's compiler made of the CUDA backend, thread by thread on the CPU: what a compiler may break or an inline
 * assembly may mean is not seen when the sources are compiled for the CPU.
 *
 * Definitions are those of the PTX ISA 9.0. Whatever is not known is refused with the instruction's line. Faults beyond a wrong result:
 * a register read before it is written, an address that is not aligned, shared memory out of bounds, two threads at one word of shared
 * memory without a barrier between them, a barrier or an exchange that can't complete. Global addresses are the program's own. */
#ifndef ATTN_TESTS_PTX_H
#define ATTN_TESTS_PTX_H

#include "tests/cuda_ptx/words.h"

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace ptx {

struct fault : std::runtime_error {
    using runtime_error::runtime_error;
};

/* ---- A module -------------------------------------------------------------------------------------- */

enum class kind { none, unsigned_, signed_, bits, real, brain, predicate };

/* f32: {real, 4}; two 16-bit numbers side by side: {real, 2, true}. */
struct type {
    kind of = kind::none;
    unsigned bytes = 0;
    bool pair = false;
};

enum class place { immediate, reg, special, address, vector, label };

enum class special { tid, ntid, ctaid, nctaid, lane };

struct operand {
    place where = place::immediate;
    uint64_t value = 0; /* immediate; slot of a register; index of a label's instruction */
    int64_t offset = 0; /* of an address, from the register's value, or from `value` where there is none */
    bool has_base = false, negated = false;
    special name = special::tid;
    unsigned axis = 0;
    std::vector<operand> parts; /* of a vector; of d|p */
};

struct machine;
struct thread;
struct instruction;

typedef void (*handler)(machine &, thread &, const instruction &);

/* How an instruction goes on: by itself, with the other lanes of its mask, or with the block's other threads. */
enum class meeting { none, warp, block };

struct instruction {
    handler run = nullptr;
    meeting meets = meeting::none;
    word opcode = word::count;
    std::bitset<static_cast<size_t>(word::count)> modifiers;
    std::string text; /* opcode and modifiers as they stand there */
    std::vector<type> types;
    std::vector<operand> operands;
    bool guarded = false, guard_negated = false;
    unsigned guard = 0;
    unsigned line = 0;

    bool has(word modifier) const { return modifiers[static_cast<size_t>(modifier)]; }
};

/* A name with a place in a memory. */
struct symbol {
    size_t offset, bytes;
};

struct kernel {
    std::string name;
    std::vector<instruction> code;
    size_t registers = 0, parameter_bytes = 0, shared_bytes = 0, local_bytes = 0;
};

typedef std::map<std::string, kernel> module;

/* Throws a fault that names the line of what it does not understand. */
module parse(const std::string &text);

/* ---- A launch -------------------------------------------------------------------------------------- */

struct launch {
    unsigned blocks = 1, threads = 32;
    size_t shared_bytes = 0; /* the dynamic part */
    const void *parameters = nullptr;
    size_t parameter_bytes = 0;
    uint64_t seed = 1; /* of the order of blocks and threads, and of when copies happen */
};

/* Throws a fault that names the kernel, the block, the thread and the line. */
void run(const kernel &code, const launch &how);

} // namespace ptx

#endif

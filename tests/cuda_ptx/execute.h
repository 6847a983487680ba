/* SPDX-License-Identifier: Apache-2.0 */
/* A block's threads and memories while it runs, for what the instructions do to them. */
#ifndef ATTN_TESTS_PTX_EXECUTE_H
#define ATTN_TESTS_PTX_EXECUTE_H

#include "tests/cuda_ptx/ptx.h"

#include <array>
#include <functional>

namespace ptx {

enum : unsigned { WARP = 32, BARRIERS = 16 };

/* A copy that has been issued and may happen at any time until it is waited for. */
struct copy {
    uint64_t target, source;
    size_t bytes, taken; /* what is not taken from the source is zero */
};

struct thread {
    unsigned index = 0;
    size_t pc = 0;
    bool done = false, waits = false;
    unsigned mask = 0;    /* of the lanes that it waits for */
    unsigned barrier = 0; /* that it waits at, and of how many threads */
    unsigned barrier_count = 0;
    uint64_t *registers = nullptr;
    std::vector<bool> written;
    std::vector<char> local;
    std::vector<std::vector<copy>> copies; /* groups, the open one last */
};

/* Who last wrote and read a word of shared memory, and between which barriers. */
struct access {
    int32_t thread = -1;
    uint32_t block_epoch = 0, warp_epoch = 0;
    bool several = false; /* readers */
};

struct machine {
    const kernel *code = nullptr;
    const launch *how = nullptr;
    unsigned block = 0;
    uint64_t seed = 0;
    std::vector<thread> threads;
    std::vector<uint64_t> registers;
    std::vector<char> shared;
    std::vector<access> writers, readers; /* a word of shared memory each */
    uint32_t block_epoch = 1;
    std::vector<uint32_t> warp_epochs;
    std::array<unsigned, BARRIERS> arrived = {};

    uint64_t random(uint64_t below);

    /* ---- Operands ---- */
    uint64_t read(const thread &t, const operand &from) const;
    void write(thread &t, const operand &to, uint64_t value) const;
    bool test(const thread &t, const operand &from) const { return (read(t, from) != 0) != from.negated; }

    /* ---- Memory. Addresses of a space are offsets into it, generic ones the host's. ---- */
    char *at(thread &t, const instruction &in, uint64_t address, size_t bytes, bool writes);
    uint64_t address_of(const thread &t, const operand &from) const;
    char *shared_at(const thread &t, uint64_t offset, size_t bytes, bool writes);

    /* The warp's threads that a lane's instruction is for, absent ones NULL. */
    std::array<thread *, WARP> lanes(const thread &t, unsigned mask);
};

/* What values look like: sign or zeros above a type's bits. */
uint64_t extend(uint64_t value, type as);

} // namespace ptx

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Runs blocks one after the other in a shuffled order, a block's threads by turns of random length. */
#include "tests/cuda_ptx/execute.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace ptx {

namespace {

enum : uint64_t { LONGEST_TURN = 200 };
enum : unsigned char { POISON = 0xff }; /* a float made of it is not a number */

} // namespace

uint64_t machine::random(uint64_t below) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (seed >> 33) % below;
}

uint64_t extend(uint64_t value, type as) {
    if (as.pair || as.bytes == 8) return as.pair ? value & 0xffffffffu : value;
    const unsigned bits = 8 * as.bytes;
    const uint64_t low = value & ((uint64_t{1} << bits) - 1);
    const bool negative = as.of == kind::signed_ && low >> (bits - 1);
    return negative ? low | ~uint64_t{0} << bits : low;
}

/* ---- Operands -------------------------------------------------------------------------------------- */

uint64_t machine::read(const thread &t, const operand &from) const {
    switch (from.where) {
    case place::immediate:
    case place::label:
        return from.value;
    case place::reg:
        if (!t.written[from.value]) throw fault("a register is read before it is written");
        return t.registers[from.value];
    case place::special:
        break;
    default:
        throw fault("the operand has no value");
    }
    if (from.axis > 0) return from.name == special::ntid || from.name == special::nctaid ? 1 : 0;
    switch (from.name) {
    case special::tid:
        return t.index;
    case special::ntid:
        return how->threads;
    case special::ctaid:
        return block;
    case special::nctaid:
        return how->blocks;
    default:
        return t.index % WARP;
    }
}

void machine::write(thread &t, const operand &to, uint64_t value) const {
    if (to.where == place::label) return; /* _ */
    if (to.where != place::reg) throw fault("the result is not a register");
    t.registers[to.value] = value;
    t.written[to.value] = true;
}

/* ---- Memory ---------------------------------------------------------------------------------------- */

uint64_t machine::address_of(const thread &t, const operand &from) const {
    uint64_t base = from.value;
    if (from.has_base) {
        operand reg = from;
        reg.where = place::reg;
        base = read(t, reg);
    }
    return base + static_cast<uint64_t>(from.offset);
}

/* Whether what another thread did to the word is not known to be over. */
static bool is_open(const machine &m, const access &other, const thread &t) {
    if (other.thread < 0 || other.block_epoch != m.block_epoch) return false;
    if (other.several) return true;
    if (other.thread == static_cast<int32_t>(t.index)) return false;
    const unsigned warp = t.index / WARP;
    return static_cast<unsigned>(other.thread) / WARP != warp || other.warp_epoch == m.warp_epochs[warp];
}

char *machine::shared_at(const thread &t, uint64_t offset, size_t bytes, bool writes) {
    if (offset > shared.size() || shared.size() - offset < bytes)
        throw fault("shared memory has " + std::to_string(shared.size()) + " bytes, this is at " +
                    std::to_string(offset));
    const uint32_t warp_epoch = warp_epochs[t.index / WARP];
    for (size_t word = offset / 4; word <= (offset + bytes - 1) / 4; word++) {
        access &writer = writers[word], &reader = readers[word];
        if (is_open(*this, writer, t) || (writes && is_open(*this, reader, t)))
            throw fault("threads " + std::to_string(t.index) + " and " +
                        std::to_string(is_open(*this, writer, t) ? writer.thread : reader.thread) +
                        " meet in shared memory at " + std::to_string(4 * word) + " with no barrier between them");
        access now{static_cast<int32_t>(t.index), block_epoch, warp_epoch, false};
        if (writes)
            writer = now;
        else {
            const bool same_time = reader.thread >= 0 && reader.block_epoch == block_epoch;
            now.several =
                same_time && (reader.several ||
                              reader.thread / static_cast<int32_t>(WARP) != now.thread / static_cast<int32_t>(WARP) ||
                              (reader.thread != now.thread && reader.warp_epoch == warp_epoch));
            reader = now;
        }
    }
    return shared.data() + offset;
}

char *machine::at(thread &t, const instruction &in, uint64_t address, size_t bytes, bool writes) {
    if (address % bytes != 0) throw fault("the address is not aligned to " + std::to_string(bytes));
    if (in.has(word::param_)) {
        if (writes || address + bytes > how->parameter_bytes) throw fault("this is no parameter");
        return const_cast<char *>(static_cast<const char *>(how->parameters)) + address;
    }
    if (in.has(word::local_)) {
        if (address + bytes > t.local.size()) throw fault("this is not in local memory");
        return t.local.data() + address;
    }
    const uint64_t base = reinterpret_cast<uint64_t>(shared.data());
    if (in.has(word::shared_)) return shared_at(t, address, bytes, writes);
    const bool in_shared = address - base < shared.size();
    if (in_shared && in.has(word::global_)) throw fault("a global address is one of shared memory");
    return in_shared ? shared_at(t, address - base, bytes, writes) : reinterpret_cast<char *>(address);
}

/* ---- Meetings -------------------------------------------------------------------------------------- */

std::array<thread *, WARP> machine::lanes(const thread &t, unsigned mask) {
    std::array<thread *, WARP> found = {};
    const unsigned first = t.index / WARP * WARP;
    for (unsigned lane = 0; lane < WARP; lane++)
        if (mask >> lane & 1 && first + lane < threads.size()) found[lane] = &threads[first + lane];
    return found;
}

namespace {

/* Whether every lane of the mask has come to the same instruction. */
bool all_here(machine &m, const thread &t) {
    const auto lanes = m.lanes(t, t.mask);
    for (unsigned lane = 0; lane < WARP; lane++) {
        if (!(t.mask >> lane & 1)) continue;
        const thread *other = lanes[lane];
        if (!other || other->done) throw fault("lane " + std::to_string(lane) + " of the mask is not there");
        if (!other->waits || other->pc != t.pc || other->mask != t.mask) return false;
    }
    return true;
}

unsigned mask_of(const machine &m, const thread &t, const instruction &in) {
    /* The mask stands last where there is one; matrices and copies of a whole warp have none. */
    if (in.opcode == word::mma_ || in.opcode == word::ldmatrix_) return 0xffffffffu;
    return static_cast<unsigned>(m.read(t, in.operands.back()));
}

/* The last lane to come does it for all. */
void meet_warp(machine &m, thread &t, const instruction &in) {
    t.mask = mask_of(m, t, in);
    if (!(t.mask >> t.index % WARP & 1)) throw fault("the lane is not in its own mask");
    t.waits = true;
    if (!all_here(m, t)) return;
    in.run(m, t, in);
    m.warp_epochs[t.index / WARP]++;
    for (thread *lane : m.lanes(t, t.mask))
        if (lane) lane->waits = false, lane->pc++;
}

void meet_block(machine &m, thread &t, const instruction &in) {
    t.barrier = static_cast<unsigned>(m.read(t, in.operands[0]));
    t.barrier_count = in.operands.size() > 1 ? static_cast<unsigned>(m.read(t, in.operands[1])) : m.how->threads;
    if (t.barrier >= BARRIERS) throw fault("there is no such barrier");
    t.waits = true;
    if (++m.arrived[t.barrier] < t.barrier_count) return;
    m.arrived[t.barrier] = 0;
    m.block_epoch++;
    for (thread &other : m.threads) {
        if (other.done || !other.waits || m.code->code[other.pc].meets != meeting::block || other.barrier != t.barrier)
            continue;
        if (other.barrier_count != t.barrier_count) throw fault("threads wait at one barrier for different counts");
        other.waits = false, other.pc++;
    }
}

bool is_off(const machine &m, const thread &t, const instruction &in) {
    if (!in.guarded) return false;
    operand guard;
    guard.where = place::reg, guard.value = in.guard;
    return (m.read(t, guard) != 0) == in.guard_negated;
}

void step(machine &m, thread &t) {
    const instruction &in = m.code->code[t.pc];
    if (is_off(m, t, in)) {
        t.pc++;
    } else if (in.meets == meeting::warp) {
        meet_warp(m, t, in);
    } else if (in.meets == meeting::block) {
        meet_block(m, t, in);
    } else {
        t.pc++; /* a branch changes it again */
        in.run(m, t, in);
    }
    if (t.pc >= m.code->code.size()) t.done = true;
}

/* ---- Blocks ---------------------------------------------------------------------------------------- */

void prepare(machine &m) {
    const size_t shared = m.code->shared_bytes + m.how->shared_bytes;
    m.shared.assign(shared, static_cast<char>(POISON));
    m.writers.assign(shared / 4 + 1, access());
    m.readers.assign(shared / 4 + 1, access());
    m.warp_epochs.assign((m.how->threads + WARP - 1) / WARP, 1);
    m.arrived.fill(0);
    m.registers.assign(m.how->threads * m.code->registers, 0);
    m.threads.assign(m.how->threads, thread());
    for (unsigned i = 0; i < m.how->threads; i++) {
        thread &t = m.threads[i];
        t.index = i;
        t.registers = m.registers.data() + i * m.code->registers;
        t.written.assign(m.code->registers, false);
        t.local.assign(m.code->local_bytes, static_cast<char>(POISON));
        t.copies.assign(1, {});
    }
}

std::string where(const machine &m, const thread &t) {
    const instruction &in = m.code->code[t.pc < m.code->code.size() ? t.pc : m.code->code.size() - 1];
    return m.code->name + ", block " + std::to_string(m.block) + ", thread " + std::to_string(t.index) + ", line " +
           std::to_string(in.line) + " (" + in.text + "): ";
}

void run_turn(machine &m, thread &t) {
    size_t at = t.pc;
    try {
        for (uint64_t left = 1 + m.random(LONGEST_TURN); left > 0 && !t.done && !t.waits; left--) {
            at = t.pc;
            step(m, t);
        }
    } catch (const fault &what) {
        t.pc = at;
        throw fault(where(m, t) + what.what());
    }
}

void run_block(machine &m) {
    prepare(m);
    std::vector<unsigned> ready;
    for (;;) {
        ready.clear();
        for (const thread &t : m.threads)
            if (!t.done && !t.waits) ready.push_back(t.index);
        if (ready.empty()) break;
        /* A round: everybody once, in a shuffled order, some left out. */
        for (size_t i = ready.size(); i > 1; i--) std::swap(ready[i - 1], ready[m.random(i)]);
        for (const unsigned index : ready)
            if (!m.threads[index].waits && (ready.size() == 1 || m.random(4) > 0)) run_turn(m, m.threads[index]);
    }
    for (const thread &t : m.threads)
        if (!t.done) throw fault(where(m, t) + "waits for what never comes");
}

} // namespace

void run(const kernel &code, const launch &how) {
    if (how.parameter_bytes != code.parameter_bytes)
        throw fault(code.name + ": parameters of " + std::to_string(code.parameter_bytes) + " bytes, not " +
                    std::to_string(how.parameter_bytes));
    machine m;
    m.code = &code, m.how = &how, m.seed = how.seed;
    std::vector<unsigned> order(how.blocks);
    std::iota(order.begin(), order.end(), 0u);
    for (size_t i = order.size(); i > 1; i--) std::swap(order[i - 1], order[m.random(i)]);
    for (const unsigned block : order) {
        m.block = block;
        run_block(m);
    }
}

} // namespace ptx

/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/cuda_ptx/instructions.h"
#include "tests/cuda_ptx/values.h"

#include <cstring>

namespace ptx {

namespace {

uint64_t fetch(const char *from, type as) {
    uint64_t value = 0; /* the host is little-endian as the device is */
    std::memcpy(&value, from, as.bytes);
    return extend(value, as);
}

/* The parts of a vector operand, or the one operand. */
struct parts {
    const operand *first;
    size_t count;

    const operand &operator[](size_t i) const { return first[i]; }
};

parts parts_of(const operand &given) {
    return given.where == place::vector ? parts{given.parts.data(), given.parts.size()} : parts{&given, 1};
}

type element_of(const instruction &in) {
    if (in.types.size() != 1) throw fault("the instruction has not one type");
    type of = in.types[0];
    if (of.pair) of = {kind::bits, 4, false};
    return of;
}

/* mov.b64 {a, b}, c and back: halves, the lower one first. */
void unpack(machine &m, thread &t, const operand &to, uint64_t value, type whole) {
    const unsigned bits = 8 * whole.bytes / static_cast<unsigned>(to.parts.size());
    for (size_t i = 0; i < to.parts.size(); i++)
        m.write(t, to.parts[i], value >> (i * bits) & (~uint64_t{0} >> (64 - bits)));
}

uint64_t pack(const machine &m, const thread &t, const operand &from, type whole) {
    const unsigned bits = 8 * whole.bytes / static_cast<unsigned>(from.parts.size());
    uint64_t value = 0;
    for (size_t i = 0; i < from.parts.size(); i++)
        value |= (m.read(t, from.parts[i]) & (~uint64_t{0} >> (64 - bits))) << (i * bits);
    return value;
}

} // namespace

void move(machine &m, thread &t, const instruction &in) {
    const type of = element_of(in);
    const operand &to = in.operands[0], &from = in.operands[1];
    const uint64_t value = from.where == place::vector ? pack(m, t, from, of) : m.read(t, from);
    if (to.where == place::vector)
        unpack(m, t, to, value, of);
    else
        m.write(t, to, extend(value, of));
}

void load(machine &m, thread &t, const instruction &in) {
    const type of = element_of(in);
    const parts to = parts_of(in.operands[0]);
    const char *from = m.at(t, in, m.address_of(t, in.operands[1]), of.bytes * to.count, false);
    for (size_t i = 0; i < to.count; i++) m.write(t, to[i], fetch(from + i * of.bytes, of));
}

void store(machine &m, thread &t, const instruction &in) {
    const type of = element_of(in);
    const parts from = parts_of(in.operands[1]);
    char *to = m.at(t, in, m.address_of(t, in.operands[0]), of.bytes * from.count, true);
    for (size_t i = 0; i < from.count; i++) {
        const uint64_t value = m.read(t, from[i]);
        std::memcpy(to + i * of.bytes, &value, of.bytes);
    }
}

/* ---- Atomic changes -------------------------------------------------------------------------------- */

namespace {

uint64_t changed(const instruction &in, type of, uint64_t old, uint64_t given) {
    if (in.has(word::exch_)) return given;
    if (in.has(word::and_)) return old & given;
    if (in.has(word::or_)) return old | given;
    if (in.has(word::add_) && of.of == kind::real)
        return of.bytes == 8 ? double_bits(as_double(old) + as_double(given))
                             : float_bits(as_float(old) + as_float(given));
    if (in.has(word::add_)) return old + given;
    if (of.of == kind::real || of.of == kind::brain) throw fault("the atomic instruction is not known");
    const bool less = of.of == kind::signed_ ? static_cast<int64_t>(given) < static_cast<int64_t>(old) : given < old;
    return less == in.has(word::min_) ? given : old;
}

} // namespace

void change_atomically(machine &m, thread &t, const instruction &in) {
    const type of = element_of(in);
    const bool answers = in.opcode == word::atom_;
    const size_t first = answers ? 1 : 0;
    const uint64_t address = m.address_of(t, in.operands[first]);
    if (in.has(word::shared_)) throw fault("atomic changes of shared memory are not known");
    char *at = m.at(t, in, address, of.bytes, true);
    const uint64_t old = fetch(at, of), given = extend(m.read(t, in.operands[first + 1]), of);
    uint64_t value;
    if (in.has(word::cas_))
        value = old == given ? m.read(t, in.operands[first + 2]) : old;
    else
        value = changed(in, of, old, given);
    std::memcpy(at, &value, of.bytes);
    if (answers) m.write(t, in.operands[0], old);
}

/* ---- Spaces ---------------------------------------------------------------------------------------- */

void change_space(machine &m, thread &t, const instruction &in) {
    uint64_t address = m.read(t, in.operands[1]);
    const uint64_t base = reinterpret_cast<uint64_t>(m.shared.data());
    if (in.has(word::shared_))
        address = in.has(word::to_) ? address - base : address + base;
    else if (!in.has(word::global_))
        throw fault("the space is not known");
    m.write(t, in.operands[0], address);
}

/* ---- Asynchronous copies --------------------------------------------------------------------------- */

namespace {

void happen(machine &m, thread &t, const copy &one) {
    char *to = m.shared_at(t, one.target, one.bytes, true);
    std::memset(to, 0, one.bytes);
    std::memcpy(to, reinterpret_cast<const char *>(one.source), one.taken);
}

/* All but the newest groups are waited for. */
void wait_for(machine &m, thread &t, size_t newest) {
    while (t.copies.size() > newest) {
        for (const copy &one : t.copies.front()) happen(m, t, one);
        t.copies.erase(t.copies.begin());
    }
    if (t.copies.empty()) t.copies.emplace_back();
}

} // namespace

/* A copy happens at once or when it is waited for: each time another draw. */
void copy_later(machine &m, thread &t, const instruction &in) {
    if (!in.has(word::async_)) throw fault("the copy is not known");
    if (in.has(word::commit_group_)) return t.copies.emplace_back(), void();
    if (in.has(word::wait_all_)) return wait_for(m, t, 0);
    if (in.has(word::wait_group_)) return wait_for(m, t, static_cast<size_t>(m.read(t, in.operands[0])) + 1);
    copy one;
    one.target = m.address_of(t, in.operands[0]), one.source = m.address_of(t, in.operands[1]);
    one.bytes = m.read(t, in.operands[2]);
    one.taken = in.operands.size() > 3 ? m.read(t, in.operands[3]) : one.bytes;
    if ((one.bytes != 4 && one.bytes != 8 && one.bytes != 16) || one.taken > one.bytes)
        throw fault("a copy has 4, 8 or 16 bytes");
    if (one.target % one.bytes || (one.taken > 0 && one.source % one.bytes))
        throw fault("a copy's addresses are not aligned");
    if (m.random(2))
        happen(m, t, one);
    else
        t.copies.back().push_back(one);
}

} // namespace ptx

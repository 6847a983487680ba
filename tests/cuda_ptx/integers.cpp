/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/cuda_ptx/instructions.h"

namespace ptx {

namespace {

typedef unsigned __int128 wide_value;

struct inputs {
    uint64_t a, b, c, d;
    type of;
};

bool is_signed(type of) { return of.of == kind::signed_; }
unsigned bits_of(type of) { return 8 * of.bytes; }

wide_value widen(uint64_t value, type of) {
    return is_signed(of) ? static_cast<wide_value>(static_cast<__int128>(static_cast<int64_t>(value)))
                         : static_cast<wide_value>(value);
}

wide_value product(const inputs &in) { return widen(in.a, in.of) * widen(in.b, in.of); }

bool less(uint64_t a, uint64_t b, type of) {
    return is_signed(of) ? static_cast<int64_t>(a) < static_cast<int64_t>(b) : a < b;
}

uint64_t quotient(const inputs &in, bool remainder) {
    if (in.b == 0) throw fault("a division by zero");
    if (!is_signed(in.of)) return remainder ? in.a % in.b : in.a / in.b;
    if (in.b == ~uint64_t{0}) return remainder ? 0 : 0 - in.a;
    const int64_t a = static_cast<int64_t>(in.a), b = static_cast<int64_t>(in.b);
    return static_cast<uint64_t>(remainder ? a % b : a / b);
}

/* Shifts by more than the width leave zeros, or signs. */
uint64_t shift_right(const inputs &in, uint64_t by) {
    if (is_signed(in.of)) return static_cast<uint64_t>(static_cast<int64_t>(in.a) >> (by > 63 ? 63 : by));
    return by > 63 ? 0 : in.a >> by;
}

uint64_t shift_left(const inputs &in, uint64_t by) { return by > 63 ? 0 : in.a << by; }

/* shf: 32 bits out of the 64 that b:a are. */
uint64_t shift_funnel(const instruction &how, const inputs &in) {
    uint64_t by = in.c & 0xffffffffu;
    by = how.has(word::wrap_) ? by & 31 : by > 32 ? 32 : by;
    const uint64_t both = (in.b & 0xffffffffu) << 32 | (in.a & 0xffffffffu);
    return how.has(word::l_) ? (both << by) >> 32 : both >> by;
}

/* Bit i of the table is the result for the three bits that spell i. */
uint64_t look_up(const inputs &in) {
    uint64_t result = 0;
    for (unsigned bit = 0; bit < 32; bit++) {
        const uint64_t index = (in.a >> bit & 1) << 2 | (in.b >> bit & 1) << 1 | (in.c >> bit & 1);
        result |= (in.d >> index & 1) << bit;
    }
    return result;
}

/* Four bytes chosen out of b:a, or their signs. */
uint64_t permute(const inputs &in) {
    const uint64_t both = (in.b & 0xffffffffu) << 32 | (in.a & 0xffffffffu);
    uint64_t result = 0;
    for (unsigned byte = 0; byte < 4; byte++) {
        const uint64_t chosen = in.c >> (4 * byte) & 15;
        uint64_t value = both >> (8 * (chosen & 7)) & 0xff;
        if (chosen & 8) value = value & 0x80 ? 0xff : 0;
        result |= value << (8 * byte);
    }
    return result;
}

uint64_t extract_field(const inputs &in) {
    const uint64_t from = in.b & 0xff, length = in.c & 0xff, bits = bits_of(in.of);
    uint64_t result = 0;
    for (uint64_t i = 0; i < bits; i++) {
        uint64_t source = from + (i < length ? i : length - 1);
        if (i >= length && (!is_signed(in.of) || length == 0)) break;
        if (source >= bits) {
            if (!is_signed(in.of)) break;
            source = bits - 1;
        }
        result |= (in.a >> source & 1) << i;
    }
    return result;
}

uint64_t insert_field(const inputs &in) {
    const uint64_t from = in.c & 0xff, length = in.d & 0xff, bits = bits_of(in.of);
    uint64_t result = in.b;
    for (uint64_t i = 0; i < length && from + i < bits; i++) {
        result &= ~(uint64_t{1} << (from + i));
        result |= (in.a >> i & 1) << (from + i);
    }
    return result;
}

uint64_t reverse(const inputs &in) {
    uint64_t result = 0;
    for (unsigned i = 0; i < bits_of(in.of); i++) result |= (in.a >> i & 1) << (bits_of(in.of) - 1 - i);
    return result;
}

uint64_t leading_zeros(const inputs &in) {
    unsigned count = 0;
    while (count < bits_of(in.of) && !(in.a >> (bits_of(in.of) - 1 - count) & 1)) count++;
    return count;
}

/* mul and mad: .lo, .hi, or .wide, which has a result of twice the width. */
uint64_t multiply(const instruction &how, const inputs &in, bool adds) {
    if (how.has(word::wide_)) return static_cast<uint64_t>(product(in)) + (adds ? in.c : 0);
    const wide_value all = product(in);
    const uint64_t part =
        how.has(word::hi_) ? static_cast<uint64_t>(all >> bits_of(in.of)) : static_cast<uint64_t>(all);
    return part + (adds ? in.c : 0);
}

typedef uint64_t (*operation)(const instruction &, const inputs &);

const struct {
    word name;
    operation value;
} operations[] = {
    {word::add_, [](const instruction &, const inputs &in) { return in.a + in.b; }},
    {word::sub_, [](const instruction &, const inputs &in) { return in.a - in.b; }},
    {word::mul_, [](const instruction &how, const inputs &in) { return multiply(how, in, false); }},
    {word::mad_, [](const instruction &how, const inputs &in) { return multiply(how, in, true); }},
    {word::div_, [](const instruction &, const inputs &in) { return quotient(in, false); }},
    {word::rem_, [](const instruction &, const inputs &in) { return quotient(in, true); }},
    {word::min_, [](const instruction &, const inputs &in) { return less(in.a, in.b, in.of) ? in.a : in.b; }},
    {word::max_, [](const instruction &, const inputs &in) { return less(in.a, in.b, in.of) ? in.b : in.a; }},
    {word::neg_, [](const instruction &, const inputs &in) { return 0 - in.a; }},
    {word::abs_,
     [](const instruction &, const inputs &in) { return static_cast<int64_t>(in.a) < 0 ? 0 - in.a : in.a; }},
    {word::and_, [](const instruction &, const inputs &in) { return in.a & in.b; }},
    {word::or_, [](const instruction &, const inputs &in) { return in.a | in.b; }},
    {word::xor_, [](const instruction &, const inputs &in) { return in.a ^ in.b; }},
    {word::not_,
     [](const instruction &, const inputs &in) { return in.of.of == kind::predicate ? uint64_t{!in.a} : ~in.a; }},
    {word::shl_, [](const instruction &, const inputs &in) { return shift_left(in, in.b & 0xffffffffu); }},
    {word::shr_, [](const instruction &, const inputs &in) { return shift_right(in, in.b & 0xffffffffu); }},
    {word::shf_, [](const instruction &how, const inputs &in) { return shift_funnel(how, in); }},
    {word::lop3_, [](const instruction &, const inputs &in) { return look_up(in); }},
    {word::prmt_, [](const instruction &, const inputs &in) { return permute(in); }},
    {word::bfe_, [](const instruction &, const inputs &in) { return extract_field(in); }},
    {word::bfi_, [](const instruction &, const inputs &in) { return insert_field(in); }},
    {word::popc_,
     [](const instruction &, const inputs &in) { return static_cast<uint64_t>(__builtin_popcountll(in.a)); }},
    {word::clz_, [](const instruction &, const inputs &in) { return leading_zeros(in); }},
    {word::brev_, [](const instruction &, const inputs &in) { return reverse(in); }},
};

/* NULL where there is none for integers. */
operation find_operation(word name) {
    static const auto by_name = [] {
        std::array<operation, static_cast<size_t>(word::count)> all = {};
        for (const auto &one : operations) all[static_cast<size_t>(one.name)] = one.value;
        return all;
    }();
    return by_name[static_cast<size_t>(name)];
}

/* The type of a result: of twice the width, or a count. */
type result_of(const instruction &how) {
    type of = how.types[0];
    if (how.has(word::wide_)) of.bytes *= 2;
    if (how.opcode == word::popc_ || how.opcode == word::clz_) of = {kind::unsigned_, 4};
    return of;
}

} // namespace

void compute(machine &m, thread &t, const instruction &in) {
    if (in.types.empty()) throw fault("the instruction has no type");
    const type of = in.types[0];
    if (of.of == kind::real || of.of == kind::brain) return compute_real(m, t, in);
    uint64_t given[4] = {};
    for (size_t i = 1; i < in.operands.size() && i <= 4; i++) {
        const uint64_t value = m.read(t, in.operands[i]);
        given[i - 1] = in.operands[i].negated ? uint64_t{!value} : value;
    }
    /* Shift counts and fields have widths of their own; the addend of .wide has the result's. */
    const bool shifts =
        in.opcode == word::shl_ || in.opcode == word::shr_ || in.opcode == word::bfe_ || in.opcode == word::bfi_;
    inputs values = {extend(given[0], of), shifts && in.opcode != word::bfi_ ? given[1] : extend(given[1], of),
                     in.has(word::wide_) || shifts ? given[2] : extend(given[2], of), given[3], of};
    const operation value_of = find_operation(in.opcode);
    if (!value_of) throw fault("the instruction is not known for this type");
    m.write(t, in.operands[0], extend(value_of(in, values), result_of(in)));
}

} // namespace ptx

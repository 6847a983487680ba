/* SPDX-License-Identifier: Apache-2.0 */
/* Compiled with -frounding-math: roundings other than to nearest are the host's. */
#include "tests/cuda_ptx/instructions.h"
#include "tests/cuda_ptx/values.h"

#include <cfenv>
#include <cmath>
#include <limits>

namespace ptx {

namespace {

int rounding_of(const instruction &in) {
    if (in.has(word::rz_)) return FE_TOWARDZERO;
    if (in.has(word::rm_)) return FE_DOWNWARD;
    return in.has(word::rp_) ? FE_UPWARD : FE_TONEAREST;
}

class rounding {
  public:
    explicit rounding(const instruction &in) : other(rounding_of(in) != FE_TONEAREST) {
        if (other) std::fesetround(rounding_of(in));
    }
    ~rounding() {
        if (other) std::fesetround(FE_TONEAREST);
    }

  private:
    bool other;
};

template <typename real> real flush(const instruction &in, real value) {
    return in.has(word::ftz_) && std::fpclassify(value) == FP_SUBNORMAL ? std::copysign(real{0}, value) : value;
}

template <typename real> real saturate(const instruction &in, real value) {
    if (!in.has(word::sat_)) return value;
    return std::isnan(value) || value < 0 ? real{0} : value > 1 ? real{1} : value;
}

/* The number, where one of the two is none. */
template <typename real> real extreme(const instruction &in, real a, real b) {
    if (in.has(word::NaN_) && (std::isnan(a) || std::isnan(b))) return std::numeric_limits<real>::quiet_NaN();
    if (std::isnan(a) || std::isnan(b)) return std::isnan(a) ? b : a;
    if (a == b) return std::signbit(a) == (in.opcode == word::min_) ? a : b;
    return (a < b) == (in.opcode == word::min_) ? a : b;
}

template <typename real> real value_of(const instruction &in, real a, real b, real c) {
    const rounding as_told(in);
    const volatile real x = a, y = b, z = c; /* nothing is folded before the rounding is set */
    if (in.opcode == word::add_) return x + y;
    if (in.opcode == word::sub_) return x - y;
    if (in.opcode == word::mul_) return x * y;
    if (in.opcode == word::div_) return x / y;
    if (in.opcode == word::fma_ || in.opcode == word::mad_) return std::fma(x, y, z);
    if (in.opcode == word::min_ || in.opcode == word::max_) return extreme(in, a, b);
    if (in.opcode == word::neg_) return -a;
    if (in.opcode == word::abs_) return std::fabs(a);
    if (in.opcode == word::copysign_) return std::copysign(b, a);
    if (in.opcode == word::sqrt_) return std::sqrt(x);
    throw fault("the instruction is not known for floating point");
}

template <typename real> real as(uint64_t bits);
template <> float as(uint64_t bits) { return as_float(bits); }
template <> double as(uint64_t bits) { return as_double(bits); }
uint64_t bits_of(float value) { return float_bits(value); }
uint64_t bits_of(double value) { return double_bits(value); }

template <typename real> void compute_as(machine &m, thread &t, const instruction &in) {
    real given[3] = {};
    for (size_t i = 1; i < in.operands.size() && i <= 3; i++)
        given[i - 1] = flush(in, as<real>(m.read(t, in.operands[i])));
    const real value = value_of<real>(in, given[0], given[1], given[2]);
    m.write(t, in.operands[0], bits_of(saturate(in, flush(in, value))));
}

/* ---- Conversions ----------------------------------------------------------------------------------- */

double round_to_integer(const instruction &in, double value) {
    if (in.has(word::rzi_)) return std::trunc(value);
    if (in.has(word::rmi_)) return std::floor(value);
    return in.has(word::rpi_) ? std::ceil(value) : std::nearbyint(value);
}

bool is_real(type of) { return of.of == kind::real || of.of == kind::brain; }

uint64_t to_integer(const instruction &in, double value, type to) {
    if (std::isnan(value)) return 0;
    const bool is_signed = to.of == kind::signed_;
    const double limit = std::ldexp(1.0, static_cast<int>(8 * to.bytes) - is_signed),
                 rounded = round_to_integer(in, value);
    const uint64_t most = is_signed ? (uint64_t{1} << (8 * to.bytes - 1)) - 1 : extend(~uint64_t{0}, to);
    if (rounded >= limit) return most;
    if (rounded < (is_signed ? -limit : 0.0)) return is_signed ? extend(most + 1, to) : 0;
    return is_signed ? static_cast<uint64_t>(static_cast<int64_t>(rounded)) : static_cast<uint64_t>(rounded);
}

uint64_t from_integer(const instruction &in, uint64_t value, type from, type to) {
    const rounding as_told(in);
    const volatile uint64_t given = value;
    const bool is_signed = from.of == kind::signed_;
    if (to.bytes == 8)
        return double_bits(is_signed ? static_cast<double>(static_cast<int64_t>(given)) : static_cast<double>(given));
    if (to.bytes == 4)
        return float_bits(is_signed ? static_cast<float>(static_cast<int64_t>(given)) : static_cast<float>(given));
    throw fault("the conversion is not known");
}

/* 10 bits of fraction, ties away from zero, in the place of a float. */
uint64_t to_tf32(uint64_t bits) {
    const float value = as_float(bits);
    return std::isfinite(value) ? (bits + 0x1000) & ~uint64_t{0x1fff} : bits;
}

uint64_t convert_real(const instruction &in, uint64_t bits, type from, type to) {
    if (to.of == kind::brain && to.bytes == 4) {
        if (!in.has(word::rna_)) throw fault("the rounding to tf32 is not known");
        return to_tf32(bits);
    }
    double value = flush(in, 0.0);
    value = to_double(bits, from);
    if (from.bytes == 4) value = static_cast<double>(flush(in, as_float(bits)));
    if (in.has(word::rni_) || in.has(word::rzi_) || in.has(word::rmi_) || in.has(word::rpi_))
        value = round_to_integer(in, value);
    if (in.has(word::rm_) || in.has(word::rp_)) throw fault("the rounding is not known here");
    const uint64_t rounded = from_double(saturate(in, value), to, in.has(word::rz_));
    return to.bytes == 4 ? float_bits(flush(in, as_float(rounded))) : rounded;
}

} // namespace

void compute_real(machine &m, thread &t, const instruction &in) {
    const type of = in.types[0];
    if (of.pair || of.of == kind::brain || of.bytes == 2) throw fault("arithmetic of 16 bits is not known");
    if (of.bytes == 8) return compute_as<double>(m, t, in);
    compute_as<float>(m, t, in);
}

/* Their bits are the hardware's own; gates must have room for them. */
void approximate(machine &m, thread &t, const instruction &in) {
    const type of = in.types[0];
    if (of.of != kind::real || (of.bytes != 4 && !(of.bytes == 8 && in.has(word::rn_))))
        throw fault("the instruction is not known for this type");
    const double x = of.bytes == 8 ? as_double(m.read(t, in.operands[1]))
                                   : static_cast<double>(flush(in, as_float(m.read(t, in.operands[1]))));
    double value;
    if (in.opcode == word::ex2_)
        value = std::exp2(x);
    else if (in.opcode == word::lg2_)
        value = std::log2(x);
    else if (in.opcode == word::tanh_)
        value = std::tanh(x);
    else
        value = 1 / (in.opcode == word::rsqrt_ ? std::sqrt(x) : x);
    m.write(t, in.operands[0], of.bytes == 8 ? double_bits(value) : float_bits(flush(in, static_cast<float>(value))));
}

void convert(machine &m, thread &t, const instruction &in) {
    if (in.types.size() != 2) throw fault("a conversion has two types");
    const type to = in.types[0], from = in.types[1];
    if (to.pair) {
        /* d = {a above, b below} */
        const type half = {to.of, 2, false};
        const uint64_t high = convert_real(in, m.read(t, in.operands[1]), from, half);
        return m.write(t, in.operands[0], high << 16 | convert_real(in, m.read(t, in.operands[2]), from, half));
    }
    const uint64_t value = extend(m.read(t, in.operands[1]), from);
    if (is_real(from))
        return m.write(t, in.operands[0],
                       is_real(to) ? convert_real(in, value, from, to) : to_integer(in, to_double(value, from), to));
    if (is_real(to)) return m.write(t, in.operands[0], from_integer(in, value, from, to));
    if (in.has(word::sat_)) throw fault("saturation to an integer is not known");
    m.write(t, in.operands[0], extend(value, to));
}

/* ---- Comparisons ----------------------------------------------------------------------------------- */

namespace {

enum { LESS = 1, EQUAL = 2, GREATER = 4, UNORDERED = 8 };

const struct {
    word name;
    int holds;
} relations[] = {
    {word::eq_, EQUAL},
    {word::ne_, LESS | GREATER},
    {word::lt_, LESS},
    {word::le_, LESS | EQUAL},
    {word::gt_, GREATER},
    {word::ge_, GREATER | EQUAL},
    {word::equ_, EQUAL | UNORDERED},
    {word::neu_, LESS | GREATER | UNORDERED},
    {word::ltu_, LESS | UNORDERED},
    {word::leu_, LESS | EQUAL | UNORDERED},
    {word::gtu_, GREATER | UNORDERED},
    {word::geu_, GREATER | EQUAL | UNORDERED},
    {word::num_, LESS | EQUAL | GREATER},
    {word::nan_, UNORDERED},
};

template <typename number> int relation(number a, number b) {
    return a < b ? LESS : a == b ? EQUAL : a > b ? GREATER : UNORDERED;
}

int relation_of(const instruction &in, uint64_t a, uint64_t b) {
    const type of = in.types[0];
    if (of.of == kind::real && of.bytes == 4) return relation(flush(in, as_float(a)), flush(in, as_float(b)));
    if (is_real(of)) return relation(to_double(a, of), to_double(b, of));
    a = extend(a, of), b = extend(b, of);
    return of.of == kind::signed_ ? relation(static_cast<int64_t>(a), static_cast<int64_t>(b)) : relation(a, b);
}

bool combine(const instruction &in, bool value, bool with) {
    if (in.has(word::and_)) return value && with;
    return in.has(word::or_) ? value || with : value != with;
}

} // namespace

void compare(machine &m, thread &t, const instruction &in) {
    const int found = relation_of(in, m.read(t, in.operands[1]), m.read(t, in.operands[2]));
    bool value = false, known = false;
    for (const auto &one : relations)
        if (in.has(one.name)) value = found & one.holds, known = true;
    if (!known) throw fault("the comparison is not known");
    bool other = !value;
    if (in.operands.size() > 3) {
        const bool with = m.test(t, in.operands[3]);
        value = combine(in, value, with), other = combine(in, other, with);
    }
    const operand &to = in.operands[0];
    if (to.where != place::vector) return m.write(t, to, value);
    m.write(t, to.parts[0], value);
    m.write(t, to.parts[1], other);
}

void select(machine &m, thread &t, const instruction &in) {
    m.write(t, in.operands[0], m.read(t, in.operands[m.test(t, in.operands[3]) ? 1 : 2]));
}

} // namespace ptx

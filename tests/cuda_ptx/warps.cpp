/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/cuda_ptx/instructions.h"
#include "tests/cuda_ptx/tensor.h"
#include "tests/cuda_ptx/values.h"

#include <cmath>
#include <cstring>

namespace ptx {

namespace {

/* The lane that this one reads, as shfl defines it by its bound and segment. */
bool source_of(const instruction &in, unsigned lane, unsigned b, unsigned c, unsigned *source) {
    const unsigned bound = c & 31, segment = c >> 8 & 31, most = (lane & segment) | (bound & ~segment),
                   least = lane & segment;
    b &= 31;
    bool inside = true;
    if (in.has(word::bfly_))
        *source = lane ^ b, inside = *source <= most;
    else if (in.has(word::down_))
        *source = lane + b, inside = *source <= most;
    else if (in.has(word::up_))
        inside = lane >= b && lane - b >= most, *source = lane - b;
    else
        *source = least | (b & ~segment), inside = *source <= most;
    if (!inside) *source = lane;
    return inside;
}

} // namespace

void shuffle(machine &m, thread &t, const instruction &in) {
    const auto lanes = m.lanes(t, t.mask);
    uint64_t values[WARP] = {};
    for (unsigned lane = 0; lane < WARP; lane++)
        if (lanes[lane]) values[lane] = m.read(*lanes[lane], in.operands[1]);
    for (unsigned lane = 0; lane < WARP; lane++) {
        if (!lanes[lane]) continue;
        thread &self = *lanes[lane];
        unsigned source;
        const bool inside = source_of(in, lane, static_cast<unsigned>(m.read(self, in.operands[2])),
                                      static_cast<unsigned>(m.read(self, in.operands[3])), &source);
        if (!lanes[source]) throw fault("lane " + std::to_string(source) + " is read and not in the mask");
        const operand &to = in.operands[0];
        m.write(self, to.where == place::vector ? to.parts[0] : to, values[source]);
        if (to.where == place::vector) m.write(self, to.parts[1], inside);
    }
}

void vote(machine &m, thread &t, const instruction &in) {
    const auto lanes = m.lanes(t, t.mask);
    uint64_t ballot = 0;
    for (unsigned lane = 0; lane < WARP; lane++)
        if (lanes[lane] && m.test(*lanes[lane], in.operands[1])) ballot |= uint64_t{1} << lane;
    const uint64_t value = in.has(word::ballot_) ? ballot : in.has(word::any_) ? ballot != 0 : ballot == t.mask;
    for (thread *lane : lanes)
        if (lane) m.write(*lane, in.operands[0], value);
}

/* Lane 8j + r has the address of row r of matrix j; a lane receives two neighbours of row lane / 4, or of a column. */
void load_matrix(machine &m, thread &t, const instruction &in) {
    const auto lanes = m.lanes(t, t.mask);
    const unsigned count = in.has(word::x4_) ? 4 : in.has(word::x2_) ? 2 : 1;
    uint16_t matrices[4][8][8];
    for (unsigned row = 0; row < 8 * count; row++) {
        thread &owner = *lanes[row];
        const uint64_t address = m.address_of(owner, in.operands[1]);
        if (address % 16) throw fault("a matrix row is not aligned to 16");
        std::memcpy(matrices[row / 8][row % 8], m.shared_at(owner, address, 16, false), 16);
    }
    for (unsigned lane = 0; lane < WARP; lane++) {
        const operand &to = in.operands[0];
        for (unsigned j = 0; j < count; j++) {
            const unsigned row = lane / 4, column = lane % 4 * 2;
            const bool turned = in.has(word::trans_);
            const uint64_t low = turned ? matrices[j][column][row] : matrices[j][row][column];
            const uint64_t high = turned ? matrices[j][column + 1][row] : matrices[j][row][column + 1];
            m.write(*lanes[lane], to.where == place::vector ? to.parts[j] : to, high << 16 | low);
        }
    }
}

/* ---- Tensor cores ---------------------------------------------------------------------------------- */

namespace {

/* The operand's registers hold one float each, or two 16-bit numbers. */
double number_at(const machine &m, const thread &t, const operand &from, unsigned i, type of) {
    if (of.bytes == 4) return static_cast<double>(seen_as_tf32(static_cast<unsigned>(m.read(t, from.parts[i]))));
    return to_double(m.read(t, from.parts[i / 2]) >> (16 * (i & 1)) & 0xffff, of);
}

} // namespace

void multiply_matrices(machine &m, thread &t, const instruction &in) {
    if (in.types.size() != 4 || in.types[0].of != kind::real || in.types[0].bytes != 4)
        throw fault("the product is not known for these types");
    const type of = in.types[1];
    const bool tf32 = of.bytes == 4;
    if (tf32 != in.has(word::m16n8k8_)) throw fault("the product is not known for this shape");
    const unsigned depth = tf32 ? 8 : 16;
    const auto lanes = m.lanes(t, t.mask);
    double a[16][16], b[16][8];
    float c[16][8];
    for (unsigned lane = 0; lane < WARP; lane++) {
        const thread &self = *lanes[lane];
        for (unsigned i = 0; i < depth / 2; i++) {
            const element at = of_a(lane, i, tf32);
            a[at.row][at.column] = number_at(m, self, in.operands[1], i, of);
        }
        for (unsigned i = 0; i < depth / 4; i++) {
            const element at = of_b(lane, i, tf32);
            b[at.row][at.column] = number_at(m, self, in.operands[2], i, of);
        }
        for (unsigned i = 0; i < 4; i++) {
            const element at = of_c(lane, i);
            c[at.row][at.column] = as_float(m.read(self, in.operands[3].parts[i]));
        }
    }
    multiply_add(depth, a, b, c);
    for (unsigned lane = 0; lane < WARP; lane++)
        for (unsigned i = 0; i < 4; i++) {
            const element at = of_c(lane, i);
            m.write(*lanes[lane], in.operands[0].parts[i], float_bits(c[at.row][at.column]));
        }
}

} // namespace ptx

/* SPDX-License-Identifier: Apache-2.0 */
/* The interpreter against the PTX ISA's definitions, and what it must not let pass. */
#include "tests/cuda_ptx/ptx.h"

#include <cmath>
#include <criterion/criterion.h>
#include <cstring>

namespace {

/* A kernel of one pointer, which is in %rd0, with the thread's number in %r0 and its place among 8-byte numbers in %rd1. */
std::string kernel_of(const std::string &body) {
    return ".version 9.0\n.target sm_80\n.address_size 64\n.extern .shared .align 16 .b8 pool[];\n"
           ".entry k(.param .u64 p) {\n"
           ".reg .pred %p<8>; .reg .b16 %h<8>; .reg .b32 %r<40>; .reg .b64 %rd<16>; .reg .f32 %f<40>; .reg .f64 "
           "%d<8>;\n"
           "ld.param.u64 %rd0, [p]; mov.u32 %r0, %tid.x; mul.wide.u32 %rd1, %r0, 8; add.s64 %rd1, %rd1, %rd0;\n" +
           body + "\nret;\n}\n";
}

void run_text(const std::string &body, uint64_t *data, unsigned threads, uint64_t seed) {
    const ptx::module module = ptx::parse(kernel_of(body));
    ptx::launch how;
    how.threads = threads, how.shared_bytes = 4096, how.seed = seed;
    how.parameters = &data, how.parameter_bytes = sizeof data;
    ptx::run(module.at("k"), how);
}

/* What the fault says; empty where there is none under any of some orders. */
std::string fault_of(const std::string &body, unsigned threads) {
    for (uint64_t seed = 1; seed <= 8; seed++) {
        uint64_t data[256] = {};
        try {
            run_text(body, data, threads, seed);
        } catch (const ptx::fault &what) {
            return what.what();
        }
    }
    return "";
}

uint64_t bits(float value) {
    uint32_t low;
    std::memcpy(&low, &value, sizeof low);
    return low;
}

} // namespace

/* a, b and c are in %rd2, %rd3 and %rd4, their lower halves in %r2 to %r4, and in %f2 to %f4 as floats. */
static const struct {
    const char *text;
    uint64_t a, b, c, expected;
} operations[] = {
    {"add.s32 %r9, %r2, %r3;", 0xffffffff, 2, 0, 1},
    {"sub.s64 %rd9, %rd2, %rd3;", 1, 2, 0, ~uint64_t{0}},
    {"mul.lo.s32 %r9, %r2, %r3;", 0xfffffffd, 5, 0, 0xfffffff1},
    {"mul.hi.u32 %r9, %r2, %r3;", 0x80000000, 6, 0, 3},
    {"mul.wide.s32 %rd9, %r2, %r3;", 0xfffffffd, 5, 0, static_cast<uint64_t>(-15)},
    {"mad.lo.s32 %r9, %r2, %r3, %r4;", 3, 5, 0xffffffff, 14},
    {"mad.wide.u32 %rd9, %r2, %r3, %rd4;", 0xffffffff, 2, 3, 0x200000001},
    {"div.s32 %r9, %r2, %r3;", 0xfffffff9, 2, 0, 0xfffffffd},
    {"rem.s32 %r9, %r2, %r3;", 0xfffffff9, 2, 0, 0xffffffff},
    {"div.u64 %rd9, %rd2, %rd3;", ~uint64_t{0}, 2, 0, 0x7fffffffffffffff},
    {"min.s32 %r9, %r2, %r3;", 0xffffffff, 2, 0, 0xffffffff},
    {"min.u32 %r9, %r2, %r3;", 0xffffffff, 2, 0, 2},
    {"shl.b32 %r9, %r2, 32;", 1, 0, 0, 0},
    {"shr.s32 %r9, %r2, 40;", 0x80000000, 0, 0, 0xffffffff},
    {"shr.u32 %r9, %r2, 4;", 0x80000000, 0, 0, 0x08000000},
    {"shf.l.wrap.b32 %r9, %r2, %r3, %r4;", 0x80000000, 1, 33, 3},
    {"lop3.b32 %r9, %r2, %r3, %r4, 0x96;", 0xf0, 0xcc, 0xaa, 0x96},
    {"lop3.b32 %r9, %r2, %r3, %r4, 0xe8;", 0xf0, 0xcc, 0xaa, 0xe8},
    {"prmt.b32 %r9, %r2, %r3, 0x5410;", 0x44332211, 0x88776655, 0, 0x66552211},
    {"bfe.u32 %r9, %r2, 4, 8;", 0xabcd, 0, 0, 0xbc},
    {"bfe.s32 %r9, %r2, 4, 8;", 0xabcd, 0, 0, 0xffffffbc},
    {"bfi.b32 %r9, %r2, %r3, 8, 4;", 0xf, 0x12345678, 0, 0x12345f78},
    {"popc.b32 %r9, %r2;", 0xf0f, 0, 0, 8},
    {"clz.b32 %r9, %r2;", 0x10000, 0, 0, 15},
    {"cvt.s64.s32 %rd9, %r2;", 0xffffffff, 0, 0, ~uint64_t{0}},
    {"cvt.u64.u32 %rd9, %r2;", 0xffffffff, 0, 0, 0xffffffff},
    {"setp.lt.s32 %p1, %r2, %r3; selp.b32 %r9, 7, 8, %p1;", 0xffffffff, 0, 0, 7},
    {"setp.lt.u32 %p1, %r2, %r3; selp.b32 %r9, 7, 8, %p1;", 0xffffffff, 0, 0, 8},
    {"setp.eq.f32 %p1|%p2, %f2, %f3; selp.b32 %r9, 7, 8, %p2;", 0x7fc00000, 0, 0, 7},
    {"setp.ltu.f32 %p1, %f2, %f3; selp.b32 %r9, 7, 8, %p1;", 0x7fc00000, 0, 0, 7},
    {"setp.eq.s32 %p0, %r2, 0; setp.eq.and.s32 %p1, %r3, 0, !%p0; selp.b32 %r9, 7, 8, %p1;", 1, 0, 0, 7},
    {"fma.rn.f32 %f9, %f2, %f3, %f4;", bits(3), bits(5), bits(-1), bits(14)},
    {"add.f32 %f9, %f2, %f3;", bits(1), bits(0x1p-24f), 0, bits(1)},
    {"add.rp.f32 %f9, %f2, %f3;", bits(1), bits(0x1p-40f), 0, bits(1 + 0x1p-23f)},
    {"fma.rm.f32 %f9, %f2, %f3, %f4;", bits(1), bits(-0x1p-40f), bits(1), bits(1 - 0x1p-24f)},
    {"mul.ftz.f32 %f9, %f2, %f3;", bits(0x1p-130f), bits(1), 0, 0},
    {"div.rn.f32 %f9, %f2, %f3;", bits(1), bits(3), 0, bits(1.0f / 3)},
    {"max.f32 %f9, %f2, %f3;", 0x7fc00000, bits(2), 0, bits(2)},
    {"max.NaN.f32 %f9, %f2, %f3;", 0x7fc00000, bits(2), 0, 0x7fc00000},
    {"copysign.f32 %f9, %f2, %f3;", bits(-1), bits(2), 0, bits(-2)},
    {"cvt.sat.f32.f32 %f9, %f2;", bits(1.5f), 0, 0, bits(1)},
    {"cvt.rzi.s32.f32 %r9, %f2;", bits(-2.7f), 0, 0, 0xfffffffe},
    {"cvt.rni.s32.f32 %r9, %f2;", bits(2.5f), 0, 0, 2},
    {"cvt.rzi.u32.f32 %r9, %f2;", bits(-2.7f), 0, 0, 0},
    {"cvt.rn.f32.s32 %f9, %r2;", 0xffffffff, 0, 0, bits(-1)},
    {"cvt.rna.tf32.f32 %r9, %f2;", bits(1 + 0x1p-11f), 0, 0, bits(1 + 0x1p-10f)},
    {"cvt.rn.bf16x2.f32 %r9, %f2, %f3;", bits(1), bits(-2), 0, 0x3f80c000},
    {"cvt.rn.f16.f32 %h1, %f2; cvt.f32.f16 %f9, %h1;", bits(1 + 0x1p-11f), 0, 0, bits(1)},
    {"cvt.rn.f16.f32 %h1, %f2; cvt.u32.u16 %r9, %h1;", bits(65520), 0, 0, 0x7c00},
    {"cvt.rn.f16.f32 %h1, %f2; cvt.u32.u16 %r9, %h1;", bits(0x1.8p-24f), 0, 0, 2},
    {"cvt.u16.u32 %h1, %r2; cvt.f32.f16 %f9, %h1;", 1, 0, 0, bits(0x1p-24f)},
    {"cvt.u16.u32 %h1, %r2; cvt.f32.f16 %f9, %h1;", 0x8400, 0, 0, bits(-0x1p-14f)},
    {"cvt.u16.u32 %h1, %r2; cvt.f32.f16 %f9, %h1;", 0x7c00, 0, 0, bits(INFINITY)},
    {"cvt.u16.u32 %h1, %r2; cvt.f32.bf16 %f9, %h1;", 0x3fc0, 0, 0, bits(1.5f)},
    {"cvt.u16.u32 %h1, %r2; setp.ne.s16 %p1, %h1, 0; selp.b32 %r9, 7, 8, %p1;", 0x10000, 0, 0, 8},
    {"cvt.rn.f32.s64 %f9, %rd2;", (1 << 24) + 3, 0, 0, bits(0x1p24f + 4)},
    {"cvt.rn.f32.s64 %f9, %rd2;", ~uint64_t{0}, 0, 0, bits(-1)},
    {"abs.s64 %rd9, %rd2;", ~uint64_t{4}, 0, 0, 5},
    {"min.u64 %rd9, %rd2, %rd3;", ~uint64_t{0}, 2, 0, 2},
    {"ex2.approx.ftz.f32 %f9, %f2;", bits(-3), 0, 0, bits(0.125f)},
    {"ex2.approx.ftz.f32 %f9, %f2;", bits(-INFINITY), 0, 0, 0},
    {"setp.num.f32 %p1, %f2, %f3; selp.b32 %r9, 7, 8, %p1;", 0x7fc00000, 0, 0, 8},
    {"setp.nan.f32 %p1, %f2, %f3; selp.b32 %r9, 7, 8, %p1;", 0x7fc00000, 0, 0, 7},
    {"setp.neu.f32 %p1, %f2, %f3; selp.b32 %r9, 7, 8, %p1;", bits(1), bits(1), 0, 8},
    {"setp.eq.s32 %p0, %r2, 0; not.pred %p1, %p0; selp.b32 %r9, 7, 8, %p1;", 1, 0, 0, 7},
    {"mov.b64 {%r8, %r9}, %rd2;", 0x500000003, 0, 0, 5},
    {"{ .reg .b32 %r9; mov.u32 %r9, 1; } mov.u32 %r9, 2;", 0, 0, 0, 2},
};

Test(ptx, operations) {
    for (const auto &one : operations) {
        const std::string text = one.text;
        const std::string result = text.rfind("%rd9") != std::string::npos  ? "st.global.b64 [%rd0], %rd9;"
                                   : text.rfind("%f9") != std::string::npos ? "st.global.f32 [%rd0], %f9;"
                                                                            : "st.global.b32 [%rd0], %r9;";
        uint64_t data[] = {0, one.a, one.b, one.c};
        run_text("ld.global.b64 %rd2, [%rd0+8]; ld.global.b64 %rd3, [%rd0+16]; ld.global.b64 %rd4, [%rd0+24];\n"
                 "ld.global.b32 %r2, [%rd0+8]; ld.global.b32 %r3, [%rd0+16]; ld.global.b32 %r4, [%rd0+24];\n"
                 "ld.global.f32 %f2, [%rd0+8]; ld.global.f32 %f3, [%rd0+16]; ld.global.f32 %f4, [%rd0+24];\n" +
                     text + result,
                 data, 1, 1);
        cr_expect(data[0] == one.expected, "%s gives %#llx, not %#llx", one.text,
                  static_cast<unsigned long long>(data[0]), static_cast<unsigned long long>(one.expected));
    }
}

/* Every thread reads what its neighbour across the block wrote. */
static const char *const exchange =
    "mov.u32 %r1, pool; shl.b32 %r2, %r0, 2; add.s32 %r2, %r1, %r2; st.shared.u32 [%r2], %r0;\n"
    "bar.sync 0;\n"
    "mov.u32 %r4, %ntid.x; sub.s32 %r4, %r4, %r0; shl.b32 %r4, %r4, 2; add.s32 %r4, %r1, %r4;\n"
    "ld.shared.u32 %r5, [%r4+-4]; cvt.u64.u32 %rd2, %r5; st.global.u64 [%rd1], %rd2;\n";

Test(ptx, a_block_exchanges_through_shared_memory) {
    for (uint64_t seed = 1; seed <= 10; seed++) {
        uint64_t data[96] = {};
        run_text(exchange, data, 96, seed);
        for (uint64_t i = 0; i < 96; i++) cr_expect(data[i] == 95 - i);
    }
}

Test(ptx, lanes_exchange) {
    uint64_t data[64] = {};
    run_text("shfl.sync.bfly.b32 %r1, %r0, 5, 31, -1; shfl.sync.up.b32 %r2|%p0, %r0, 3, 0, -1;\n"
             "setp.gt.s32 %p1, %r0, 39; vote.sync.ballot.b32 %r3, %p1, -1; selp.b32 %r2, %r2, 1000, %p0;\n"
             "mad.lo.s32 %r1, %r2, 1000, %r1; cvt.u64.u32 %rd2, %r1; cvt.u64.u32 %rd3, %r3; shl.b64 %rd3, %rd3, 32;\n"
             "or.b64 %rd2, %rd2, %rd3; st.global.u64 [%rd1], %rd2;",
             data, 64, 3);
    for (uint64_t i = 0; i < 64; i++) {
        const uint64_t up = i % 32 < 3 ? 1000 : i - 3, ballot = i < 32 ? 0 : 0xffffff00;
        cr_expect(data[i] == ((up * 1000 + (i ^ 5)) | ballot << 32), "lane %d", static_cast<int>(i));
    }
}

/* A(i, k) = i - 2k and B(k, j) = 3k - j in the places of the ISA's fragments: small integers, exact in every format. */
Test(ptx, a_product_of_tf32) {
    uint64_t data[128] = {};
    run_text(
        "shr.u32 %r1, %r0, 2; and.b32 %r2, %r0, 3;\n" /* group, within */
        "shl.b32 %r3, %r2, 1; sub.s32 %r4, %r1, %r3; cvt.rn.f32.s32 %f0, %r4; add.s32 %r4, %r4, 8; cvt.rn.f32.s32 %f1, "
        "%r4;\n"
        "sub.s32 %r4, %r4, 16; cvt.rn.f32.s32 %f2, %r4; add.s32 %r4, %r4, 8; cvt.rn.f32.s32 %f3, %r4;\n"
        "mul.lo.s32 %r5, %r2, 3; sub.s32 %r5, %r5, %r1; cvt.rn.f32.s32 %f4, %r5; add.s32 %r5, %r5, 12; cvt.rn.f32.s32 "
        "%f5, %r5;\n"
        "mov.b32 %r10, %f0; mov.b32 %r11, %f1; mov.b32 %r12, %f2; mov.b32 %r13, %f3; mov.b32 %r14, %f4; mov.b32 %r15, "
        "%f5;\n"
        "mov.f32 %f6, 0f3f800000;\n"
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%f10,%f11,%f12,%f13}, {%r10,%r11,%r12,%r13}, {%r14,%r15}, "
        "{%f6,%f6,%f6,%f6};\n"
        "mul.wide.u32 %rd2, %r0, 16; add.s64 %rd2, %rd2, %rd0; st.global.v4.f32 [%rd2], {%f10,%f11,%f12,%f13};",
        data, 32, 1);
    float result[128];
    std::memcpy(result, data, sizeof result);
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 4; i++) {
            const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
            float expected = 1;
            for (int k = 0; k < 8; k++) expected += static_cast<float>((row - 2 * k) * (3 * k - column));
            cr_expect(result[4 * lane + i] == expected, "(%d, %d): %g, not %g", row, column,
                      static_cast<double>(result[4 * lane + i]), static_cast<double>(expected));
        }
}

/* The sum is cut, not rounded: 1 + 7/8 of the last place stays 1. */
Test(ptx, a_tensor_core_truncates) {
    uint64_t data[128] = {};
    run_text("mov.b32 %r1, 0x3f800000; mov.b32 %r2, 0x33e00000; mov.f32 %f1, 0f3f800000; setp.eq.s32 %p0, 0, 1;\n"
             "and.b32 %r3, %r0, 3; setp.eq.s32 %p0, %r3, 0; selp.b32 %r2, %r2, 0, %p0; mov.b32 %r4, 0;\n"
             "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%f10,%f11,%f12,%f13}, {%r1,%r1,%r4,%r4}, {%r2,%r4}, "
             "{%f1,%f1,%f1,%f1};\n"
             "mul.wide.u32 %rd2, %r0, 16; add.s64 %rd2, %rd2, %rd0; st.global.v4.f32 [%rd2], {%f10,%f11,%f12,%f13};",
             data, 32, 1);
    for (int i = 0; i < 64; i++) cr_expect(data[i] == 0x3f8000003f800000, "%d: %#llx", i, (unsigned long long)data[i]);
}

Test(ptx, a_copy_is_there_when_waited_for) {
    for (uint64_t seed = 1; seed <= 10; seed++) {
        uint64_t data[64];
        for (uint64_t i = 0; i < 64; i++) data[i] = i;
        run_text(
            "mov.u32 %r1, pool; shl.b32 %r2, %r0, 3; add.s32 %r2, %r1, %r2;\n"
            "cp.async.ca.shared.global [%r2], [%rd1], 8; cp.async.commit_group; cp.async.wait_group 0; bar.sync 0;\n"
            "mov.u32 %r3, 63; sub.s32 %r3, %r3, %r0; shl.b32 %r3, %r3, 3; add.s32 %r3, %r1, %r3; ld.shared.u64 %rd3, "
            "[%r3];\n"
            "st.global.u64 [%rd1], %rd3;",
            data, 64, seed);
        for (uint64_t i = 0; i < 64; i++) cr_expect(data[i] == 63 - i);
    }
}

/* A group of nothing, and a copy of nothing from wherever. */
Test(ptx, empty_copies) {
    uint64_t data[1] = {7};
    run_text("cp.async.commit_group; mov.u32 %r1, pool; add.s64 %rd1, %rd0, 1; mov.u32 %r2, 0;\n"
             "cp.async.ca.shared.global [%r1], [%rd1], 8, %r2; cp.async.commit_group; cp.async.wait_group 0;\n"
             "cp.async.commit_group; ld.shared.u64 %rd3, [%r1]; st.global.u64 [%rd0], %rd3;",
             data, 1, 1);
    cr_expect(data[0] == 0);
}

static std::string without(std::string text, const std::string &part) {
    return text.replace(text.find(part), part.size(), "");
}

Test(ptx, faults) {
    const std::string shared_read = "mov.u32 %r1, pool; ld.shared.u32 %r2, [%r1+4096];";
    const struct {
        std::string body;
        unsigned threads;
        const char *message;
    } cases[] = {
        {"frobnicate.b32 %r1, %r0;", 1, "frobnicate.b32 is not known"},
        {"add.wrapped.s32 %r1, %r0, 1;", 1, ".wrapped"},
        {"add.s32 %r1, %r2, 1;", 1, "read before it is written"},
        {"add.s32 %r99, %r0, 1;", 1, "the register %r99 is not known"},
        {"bra $nowhere;", 1, "'$nowhere' is not known"},
        {"div.u32 %r1, %r0, 0;", 1, "division by zero"},
        {shared_read, 1, "shared memory has 4096 bytes"},
        {"ld.global.u32 %r1, [%rd0+2];", 1, "not aligned"},
        {without(exchange, "bar.sync 0;"), 64, "no barrier between them"},
        {"setp.eq.s32 %p0, %r0, 5; @%p0 ret; bar.sync 0;", 64, "waits for what never comes"},
        {"setp.eq.s32 %p0, %r0, 5; @%p0 ret; shfl.sync.bfly.b32 %r1, %r0, 1, 31, -1;", 32, "is not there"},
        {"mov.u32 %r1, pool; cp.async.ca.shared.global [%r1], [%rd0], 8;", 1, "nobody waited for"},
        {"trap;", 1, "a trap"},
    };
    for (const auto &one : cases) {
        const std::string found = fault_of(one.body, one.threads);
        cr_expect(found.find(one.message) != std::string::npos, "%s: '%s'", one.body.c_str(), found.c_str());
    }
    cr_expect(fault_of(exchange, 64).empty());
}

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds that break what the kernels count on fail, each with words of its own; builds that do not pass. By CC and, where it is there, clang.
set -euo pipefail
cd "$(dirname "$0")/.."
source tests/checks.sh

# compile COMPILER FLAG...: as cpu/CMakeLists.txt does it for the scalar kernels.
compile() {
    local compiler=$1
    shift
    "$compiler" -std=c11 -D_GNU_SOURCE -DATTN_ISA_SCALAR -I. -Iinclude -ffp-contract=off "$@" -fsyntax-only cpu/kernels.c
}

refuses() {
    local words=$1
    shift
    program_ends 1 "$words" compile "$@"
}

for compiler in "${CC:-gcc}" clang; do
    command -v "$compiler" >/dev/null || { echo "not there: $compiler, whose builds are not tried" && continue; }
    check "$compiler: plain" compile "$compiler" -O3
    check "$compiler: -ffast-math" refuses "with -ffast-math" "$compiler" -O3 -ffast-math
    check "$compiler: -Ofast" refuses "with -ffast-math" "$compiler" -Ofast
    check "$compiler: -ffinite-math-only" refuses "with -ffinite-math-only" "$compiler" -O3 -ffinite-math-only
    if [ "$(uname -m)" = x86_64 ]; then
        check "$compiler: x87" refuses "not the x87 unit" "$compiler" -O3 -m32 -mno-sse
    fi
    # clang says nothing of the rest to its preprocessor; CMakeLists.txt and a pragma take them back there.
    "$compiler" --version | grep -q clang && continue
    check "$compiler: -funsafe-math-optimizations" refuses "with -fassociative-math" "$compiler" -O3 -funsafe-math-optimizations
    check "$compiler: -fassociative-math" refuses "with -fassociative-math" "$compiler" -O3 -fassociative-math \
        -fno-signed-zeros -fno-trapping-math
    check "$compiler: -freciprocal-math" refuses "with -freciprocal-math" "$compiler" -O3 -freciprocal-math
    check "$compiler: -fno-signed-zeros" refuses "with -fno-signed-zeros" "$compiler" -O3 -fno-signed-zeros
    check "$compiler: -fsingle-precision-constant" refuses "with -fsingle-precision-constant" "$compiler" -O3 \
        -fsingle-precision-constant
    check "$compiler: -ffp-contract=fast" refuses "needs -ffp-contract=off" "$compiler" -O3 -ffp-contract=fast
    if [ "$(uname -m)" = x86_64 ]; then
        check "$compiler: -mfpmath=387" refuses "not the x87 unit" "$compiler" -O3 -mfpmath=387
    fi
done

# 32-bit x86 has the processor's AVX-512 and none of the kernels: the set in use is scalar.
isa_of_32_bits() {
    cat >"$folder/isa.c" <<'END'
#include <cpuid.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#undef __x86_64__
#define __i386__ 1
#include "cpu/features.c"
int main(void) {
    attn_cpu_features features;
    attn_cpu_detect(&features);
    puts(attn_cpu_isa_name(features.best));
    return 0;
}
END
    "${CC:-gcc}" -std=c11 -D_GNU_SOURCE -I. -o "$folder/isa" "$folder/isa.c" && [ "$("$folder/isa")" = scalar ]
}
if [ "$(uname -m)" = x86_64 ]; then check "the set of a build without its kernels" isa_of_32_bits; fi

echo "arithmetic: $passed passed, $failed failed"
[ "$failed" = 0 ]

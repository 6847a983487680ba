#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Plants defects in a copy of the code, one at a time, and sees that the suite meant to find each does. A defect whose place is
# no longer in the code, or that does not compile, is a failure too: the list must be kept.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp -r "$root"/{CMakeLists.txt,cmake,include,lib,cpu,tests} "$scratch"
passed=0 failed=0

# file | what stands there | what is planted | suite that must fail
defects=(
    'cpu/fused_block.c|range.start + range.length - 1|range.start + (range.length > 1 ? range.length - 2 : 0)|values'
    'cpu/fused_block.c|(ptrdiff_t)(range.start + offset)|(ptrdiff_t)(offset)|special'
    'cpu/kernel_partial.h|m[q] = top;|m[q] = m2[q];|values'
    'cpu/kernel_partial.h|if (l == 0) {|if (l < 0) {|special'
    'cpu/kernel_dot.h|if (rows->mask && !NAMED(attended)(rows, s, queries)) continue;|(void)queries;|special'
    'cpu/vec_math.h|v_fnma(*n, v_set1(LN2_LOW), |(|math'
    'lib/layer_inputs.c|lengths[i] > timesteps - start|lengths[i] > timesteps|faults'
    'lib/dispatch.c|return "not batch-invariant, as the context'"'"'s flag demands";|return NULL;|choice'
    'lib/layer_problem.c|if (factors[i] > 1 && |if (factors[i] == 1 && |faults'
)

build() {
    cmake -S "$scratch" -B "$scratch/build" -G Ninja -DATTN_TOOLS=OFF -DATTN_BENCH=OFF -DATTN_EXAMPLES=OFF -DATTN_OPENBLAS=OFF -DATTN_WEIGHTS=OFF
    cmake --build "$scratch/build" --parallel "$(nproc)" --target "suite_$1"
}

for defect in "${defects[@]}"; do
    IFS='|' read -r file old new suite <<<"$defect"
    code=$(<"$scratch/$file")
    planted=${code/"$old"/"$new"}
    verdict=
    if [ "$planted" = "$code" ]; then
        verdict="its place is not in $file"
    else
        printf '%s\n' "$planted" >"$scratch/$file"
        if ! build "$suite" >"$scratch/log" 2>&1; then
            verdict="does not compile"
        elif timeout 300 "$scratch/build/tests/suite_$suite" >"$scratch/log" 2>&1; then
            verdict="suite $suite did not notice"
        fi
        printf '%s\n' "$code" >"$scratch/$file"
    fi
    if [ -z "$verdict" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL $file: $old: $verdict"
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]

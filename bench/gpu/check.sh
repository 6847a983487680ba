#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checks the GPU's benchmark without one: check.sh BUILD, a build with tests, whose emulated module and driver it runs on. Closes with
# 'N passed, M failed'.
set -euo pipefail
[ $# = 1 ] || { sed -n '3,4p' "$0" >&2; exit 2; }
build=$(cd "$1" && pwd)
module=$build/tests/cuda_emulation/libattention_cuda_emulated.so
. "$(dirname "${BASH_SOURCE[0]}")/../../tests/checks.sh"

# ends STATUS TEXT FOLDER ARGUMENT...: the program ends so and says so, with the driver of that folder.
ends() { LD_LIBRARY_PATH=$3 program_ends "$1" "$2" "$build/bench/attention-bench-gpu" "${@:4}"; }
emulated=$build/tests/cuda_driver/library

# has N REGEX: so many lines of what was written.
has() { [ "$(grep -cE -- "$2" "$folder/report")" = "$1" ]; }

check "a run" ends 0 "emulated device 0, driver for CUDA 13.0" "$emulated" "$module" --small --out "$folder/report"
check "the report is what was printed" cmp -s "$folder/output" "$folder/report"
check "what was built" has 1 '^libattention [0-9.]+, sources [^,]+, sm90, cuBLAS '
check "the device's peaks" has 1 '^copy [0-9]+ GB/s .*, products [0-9.]+ TFLOP/s in float32, [0-9.]+ in bfloat16$'
for score in luong dot; do
    check "$score" has 2 "^$score forward [0-9]+ x 5 f32 +cuda:simt:$score:forward:f32( +[0-9.]+){4} +[0-9.]+% +0\.[0-9]+ *$"
    check "$score, H in bfloat16" has 2 "^$score forward [0-9]+ x 5 bf16 +cuda:simt:$score:forward:f32 "
    check "$score, backward" has 2 "^$score backward [0-9]+ x 5 f32 +cuda:simt:$score:backward:f32 "
    check "$score, a training step's passes" has 2 "^$score both [0-9]+ x 5 f32 +cuda:simt:$score:backward:f32 "
done
for way in mma simt; do
    check "bahdanau on $way" has 2 "^bahdanau forward [0-9]+ x 5 f32 +cuda:$way:bahdanau:forward:f32 "
    check "bahdanau on $way, backward" has 2 "^bahdanau backward [0-9]+ x 5 f32 +cuda:$way:bahdanau:backward:f32 "
done
check "attention and its target" has 1 '^attention 2 x 8 x 4 bf16 +cuda:cublas:sdpa:forward:bf16 .* 1\.15 times the limit, (reached|missed)$'
check "masked softmax" has 2 '^softmax 2 x 8 x 8 (f32|bf16) +cuda:simt:softmax:forward:'
check "nothing wrong or refused" has 0 'wrong|refused'

mkdir "$folder/no_driver"
: >"$folder/no_driver/libcuda.so.1"
check "no driver" ends 3 "libcuda.so.1 can't be loaded" "$folder/no_driver" "$module" --small
check "no module" ends 1 "nowhere" "$emulated" "$folder/nowhere.so" --small
check "no argument" ends 2 usage "$emulated"
check "an unknown option" ends 2 usage "$emulated" "$module" --nonsense
check "a file that can't be written" ends 2 "$folder/none/x" "$emulated" "$module" --small --out "$folder/none/x"

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]

#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Takes the first program out of README.md, compiles it against a build and runs it.
set -euo pipefail
[ $# -eq 1 ] && [ -f "$1/CMakeCache.txt" ] || { echo "usage: tests/readme.sh BUILD" >&2; exit 2; }
build=$(cd "$1" && pwd)
root=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
passed=0 failed=0

check() {
    local name=$1
    shift
    if "$@" >"$scratch/log" 2>&1; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAIL $name"; cat "$scratch/log"; fi
}

awk '/^```c$/ {inside = 1; next} /^```$/ && inside {exit} inside' "$root/README.md" >"$scratch/hello.c"

# What the program's own numbers give, to six digits: computed apart from the library, by the definition in awk.
expected() {
    awk 'function tanh(x) { return (exp(2 * x) - 1) / (exp(2 * x) + 1) }
    BEGIN {
        B = 2; T = 5; D = 4; U = 3
        for (b = 0; b < B; b++) {
            for (i = 0; i < T * D; i++) h[i] = ((b * T * D + i) % 7) / 7
            for (s = 0; s < T; s++) { e[s] = 0; for (i = 0; i < D; i++) for (j = 0; j < D; j++) e[s] += h[s * D + i] * ((i * D + j) % 5) / 5 * h[(T - 1) * D + j] }
            m = e[0]; for (s = 1; s < T; s++) if (e[s] > m) m = e[s]
            z = 0; for (s = 0; s < T; s++) { p[s] = exp(e[s] - m); z += p[s] }
            for (d = 0; d < D; d++) { c[d] = 0; for (s = 0; s < T; s++) c[d] += p[s] / z * h[s * D + d]; c[D + d] = h[(T - 1) * D + d] }
            for (u = 0; u < U; u++) { a = 0; for (k = 0; k < 2 * D; k++) a += c[k] * ((k * U + u) % 3) / 3; printf "%.6f%s", tanh(a), u == U - 1 ? "\n" : " " }
        }
    }'
}

agrees() {
    "$scratch/hello" >"$scratch/got"
    expected >"$scratch/want"
    paste -d ' ' "$scratch/got" "$scratch/want" | awk 'NF != 6 { exit 1 } { for (i = 1; i <= 3; i++) { d = $i - $(i + 3); if (d > 2e-6 || d < -2e-6) exit 1 } } END { if (NR != 2) exit 1 }' ||
        { cat "$scratch/got" "$scratch/want"; return 1; }
}

check "at most 30 lines of C" test "$(grep -c . "$scratch/hello.c")" -gt 10 -a "$(wc -l <"$scratch/hello.c")" -le 30
check "compiles" "${CC:-cc}" -std=c11 -Wall -Wextra -Werror -I "$root/include" "$scratch/hello.c" -L "$build" -lattention -Wl,-rpath,"$build" -o "$scratch/hello"
check "gives what the definition gives" agrees
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]

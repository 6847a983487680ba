#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Programs that are linked in other ways than the suites: static, static and position-independent, against musl. The library is
# built for each, and must give the bits of BUILD there, refuse OpenBLAS where it can't be loaded, and outlive what hosts do.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: tests/hosts.sh BUILD

BUILD is a build folder of this project with tests, already built; further builds are made beside it. Prints one line for each check;
exit 0 when all passed. CC names the compiler (default: cc).
TEXT
}

[ "${1:-}" = --help ] && { usage; exit 0; }
[ $# -eq 1 ] && [ -x "$1/tests/host" ] || { usage >&2; exit 2; }

build=$(cd "$1" && pwd)
root=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cc=${CC:-cc}
passed=0 failed=0

check() {
    local name=$1
    shift
    if "$@" >"$scratch/log" 2>&1; then
        passed=$((passed + 1))
        echo "ok    $name"
        grep '^skipped: ' "$scratch/log" || true
    else
        failed=$((failed + 1))
        echo "FAIL  $name"
        cat "$scratch/log"
    fi
}

# library NAME COMPILER OPTION...: the library alone, in BUILD-NAME.
library() {
    local name=$1 compiler=$2
    shift 2
    cmake -S "$root" -B "$build-$name" -G Ninja -DCMAKE_BUILD_TYPE=Release -DATTN_WERROR=ON -DCMAKE_C_COMPILER="$compiler" \
        -DATTN_WEIGHTS=OFF -DATTN_TESTS=OFF -DATTN_BENCH=OFF -DATTN_TOOLS=OFF -DATTN_EXAMPLES=OFF -DATTN_IMDB=OFF "$@" &&
        cmake --build "$build-$name"
}

# host NAME LIBRARY COMPILER OPTION...: tests/host/host.c with the library of that name.
host() {
    local name=$1 from=$2 compiler=$3
    shift 3
    "$compiler" -std=c11 -D_GNU_SOURCE -O2 -I "$root/include" "$root/tests/host/host.c" "$build-$from/libattention.a" -lm -pthread \
        "$@" -o "$scratch/$name"
}

same_bits() { cmp <("$1" bits) <("$build/tests/host" bits); }

# silent PROGRAM CONDITION: says nothing, but for what the machine can't do.
silent() {
    local said
    said=$("$@" 2>&1) || { echo "$said"; return 1; }
    echo "$said"
    [ -z "$said" ] || [[ $said == skipped:* ]]
}

conditions() {
    local name=$1 condition
    shift
    check "$name: the same bits" same_bits "$scratch/$name"
    for condition in "$@" off cancel namespaces; do
        check "$name: $condition" silent "$scratch/$name" "$condition"
    done
}

check "the library as an archive" library archive "$cc" -DBUILD_SHARED_LIBS=OFF
for kind in static static-pie; do
    check "$kind" host "$kind" archive "$cc" "-$kind"
    conditions "$kind" static
done

if command -v musl-gcc >/dev/null; then
    check "musl: the library, shared" library musl-shared musl-gcc -DBUILD_SHARED_LIBS=ON
    check "musl: the library, without OpenBLAS" library musl-own musl-gcc -DBUILD_SHARED_LIBS=OFF -DATTN_OPENBLAS=OFF
    check "musl: the library as an archive" library musl musl-gcc -DBUILD_SHARED_LIBS=OFF
    check "musl" host musl musl musl-gcc
    conditions musl lazy threads
    check "musl-static" host musl-static musl musl-gcc -static
    conditions musl-static static
else
    echo "skipped: musl: musl-gcc is missing (Debian: musl-tools)"
fi

echo "hosts: $passed passed, $failed failed"
[ "$failed" -eq 0 ]

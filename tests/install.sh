#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Installs a build into a scratch folder and uses it as a stranger would: by find_package and by pkg-config, in C and in C++.
# Also: every public header compiles alone, and neither library has a name for others to meet but attn_ ones.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: tests/install.sh BUILD

BUILD is a build folder of this project, already built. Prints one line for each check; exit 0 when all passed.
CC and CXX name the compilers (default: cc and c++).
TEXT
}

[ "${1:-}" = --help ] && { usage; exit 0; }
[ $# -eq 1 ] && [ -f "$1/CMakeCache.txt" ] || { usage >&2; exit 2; }

build=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
prefix=$scratch/prefix
read -r -a cc <<<"${CC:-cc}"
read -r -a cxx <<<"${CXX:-c++}"
strict=(-Wall -Wextra -Werror -pedantic)
passed=0 failed=0

# check NAME COMMAND...: a command that must succeed; what it prints is shown only when it does not.
check() {
    local name=$1
    shift
    if "$@" >"$scratch/log" 2>&1; then
        passed=$((passed + 1))
        echo "ok    $name"
    else
        failed=$((failed + 1))
        echo "FAIL  $name"
        cat "$scratch/log"
    fi
}

only_attn_symbols() {
    local symbols
    symbols=$(nm "$2" --defined-only "$1" | awk 'NF == 3 { print $3 }')
    [ -n "$symbols" ] || { echo "no symbol in $1"; return 1; }
    ! grep -v '^attn_' <<<"$symbols"
}

# header_alone HEADER COMPILER...: the header, and each of its initialisers in use.
header_alone() {
    local header=$1 macro type
    shift
    {
        echo "#include <$header>"
        echo "int main(void) {"
        sed -n 's/^#define \(ATTN_[A-Z0-9_]*\)_INIT\b.*/\1/p' "$prefix/include/$header" | sort -u | while read -r macro; do
            type=$(tr '[:upper:]' '[:lower:]' <<<"$macro")
            echo "    $type of_$type = ${macro}_INIT; (void)of_$type;"
        done
        echo "    return 0; }"
    } | "$@" "${strict[@]}" -I "$prefix/include" -fsyntax-only -
}

by_cmake() {
    local generator # of the build: another's program may not be there
    generator=$(sed -n 's/^CMAKE_GENERATOR:INTERNAL=//p' "$build/CMakeCache.txt")
    cmake -G "$generator" -S "$here/consumer" -B "$scratch/cmake" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_C_COMPILER="${cc[0]}" \
        -DCMAKE_CXX_COMPILER="${cxx[0]}" -DCMAKE_C_FLAGS="${cc[*]:1} ${strict[*]}" -DCMAKE_CXX_FLAGS="${cxx[*]:1} ${strict[*]}"
    cmake --build "$scratch/cmake"
}

by_pkg_config() {
    local flags static=()
    [ -n "$library" ] || static=(--static)
    flags=$(pkg-config "${static[@]}" --cflags --libs attention)
    # shellcheck disable=SC2086 # the flags are words
    "${cc[@]}" -std=c11 "${strict[@]}" "$here/consumer/consumer.c" $flags -Wl,-rpath,"$libdir" -o "$scratch/pkg_c"
    # shellcheck disable=SC2086
    "${cxx[@]}" -std=c++17 "${strict[@]}" "$here/consumer/consumer.cpp" $flags -Wl,-rpath,"$libdir" -o "$scratch/pkg_cpp"
}

# With an absolute folder of libraries, as NixOS and hand-made prefixes have it: where pkg-config then looks for the headers.
absolute_folder() {
    local flags
    cmake -S "$here/.." -B "$scratch/absolute" -DCMAKE_C_COMPILER="${cc[0]}" -DATTN_WEIGHTS=OFF -DATTN_TESTS=OFF -DATTN_BENCH=OFF \
        -DATTN_TOOLS=OFF -DATTN_EXAMPLES=OFF -DATTN_IMDB=OFF "$@"
    flags=$(PKG_CONFIG_PATH=$scratch/absolute pkg-config --cflags --libs attention)
    echo "$flags"
    [ "$(xargs <<<"$flags")" = "-I$scratch/elsewhere/include -L$scratch/elsewhere/lib64 -lattention" ]
}

as_subproject() { cmake -S "$here/consumer/parent" -B "$scratch/parent" -DCMAKE_C_COMPILER="${cc[0]}" -DATTENTION="$here/.."; }

check "cmake --install" cmake --install "$build" --prefix "$prefix"
pc=$(find "$prefix" -name attention.pc)
libdir=$(dirname "$(dirname "$pc")")
library=$(find "$libdir" -maxdepth 1 -name 'libattention.so')
export PKG_CONFIG_PATH=$libdir/pkgconfig

archive=$(find "$libdir" -maxdepth 1 -name 'libattention.a')
if [ -n "$library" ]; then check "only attn_ symbols are exported" only_attn_symbols "$library" -D; fi
if [ -n "$archive" ]; then check "only attn_ symbols in the archive" only_attn_symbols "$archive" -g; fi
for header in "$prefix"/include/attention/*.h; do
    name=attention/$(basename "$header")
    for standard in c11 c17 c2x; do
        check "$name alone, $standard" header_alone "$name" "${cc[@]}" -std="$standard" -x c
    done
    for standard in c++11 c++14 c++17 c++20 c++2b; do
        check "$name alone, $standard" header_alone "$name" "${cxx[@]}" -std="$standard" -x c++
    done
done
check "build by find_package" by_cmake
check "build by pkg-config" by_pkg_config
for program in cmake/consumer_c cmake/consumer_cpp pkg_c pkg_cpp; do
    check "run $program" "$scratch/$program"
done
check "attention.pc, absolute library folder" absolute_folder \
    -DCMAKE_INSTALL_PREFIX="$scratch/elsewhere" -DCMAKE_INSTALL_LIBDIR="$scratch/elsewhere/lib64"
check "attention.pc, absolute folders" absolute_folder -DCMAKE_INSTALL_PREFIX=/usr \
    -DCMAKE_INSTALL_LIBDIR="$scratch/elsewhere/lib64" -DCMAKE_INSTALL_INCLUDEDIR="$scratch/elsewhere/include"
check "as a part of another project" as_subproject
for program in "$prefix"/bin/*; do
    check "$(basename "$program") --help" "$program" --help
done

echo "install: $passed passed, $failed failed"
[ "$failed" -eq 0 ]

#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Compiles and links the CUDA module with NVIDIA's compiler, which needs no GPU: warnings are errors, a kernel that spills registers or
# keeps anything in local memory fails, so does one that the assembler had to put right at a loss of speed, and a module that exports or
# lacks a symbol.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: tests/cuda_compile.sh [--compiler | --module FILE] [ARCHITECTURE...]

Prints a line for each kernel and architecture (default: 75 80 86 89 90 100 120) with registers, spilled bytes and bytes of local memory, then
'N passed, N failed'. The compiler is $NVCC, else nvcc, else one from Python packages, installed into build/nvcc.
--compiler only tells which that is; --module leaves the linked module behind. Exit status 3, with a line that
says why, when no compiler can be had.
TEXT
}

[ "${1:-}" = --help ] && { usage; exit 0; }
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
module=$scratch/module.so only_compiler=0
case ${1:-} in
--compiler) only_compiler=1; shift ;;
--module) module=$2; shift 2 ;;
esac
architectures=("$@")
[ $# -gt 0 ] || architectures=(75 80 86 89 90 100 120)

# The packages make a whole compiler: front end, back end, headers, runtime.
install_nvcc() {
    local package packages=()
    for package in cuda-nvcc cuda-crt cuda-runtime cuda-cccl nvvm; do packages+=("nvidia-$package==13.0.*"); done
    python3 -m venv build/nvcc && build/nvcc/bin/pip install -q "${packages[@]}"
}

packaged() { find build/nvcc -path '*/bin/nvcc' -type f 2>/dev/null | head -n 1 || true; }

# One that knows all of the architectures.
usable() { [ -n "$1" ] && "$1" --list-gpu-code 2>/dev/null | grep -q '^sm_120$'; }

find_nvcc() {
    local candidate
    for candidate in "${NVCC:-}" "$(command -v nvcc || true)" /usr/local/cuda/bin/nvcc "$(packaged)"; do
        if usable "$candidate"; then echo "$candidate"; return; fi
    done
}

nvcc=$(find_nvcc)
if [ -z "$nvcc" ]; then
    install_nvcc >&2 || { echo "skipped: no nvcc of CUDA 13, nor can Python's packages bring one"; exit 3; }
    nvcc=$(find_nvcc)
    [ -n "$nvcc" ] || { echo "skipped: the nvcc of Python's packages does not run"; exit 3; }
fi
[ "$only_compiler" = 0 ] || { echo "$nvcc"; exit 0; }

flags=(-std=c++17 -O3 -Werror all-warnings "-Xcompiler=-Wall,-Wextra,-Wshadow,-fPIC,-fvisibility=hidden" -Xptxas=-v -Iinclude -I.)
for architecture in "${architectures[@]}"; do
    flags+=(-gencode "arch=compute_$architecture,code=sm_$architecture")
done
# Where the packages keep the runtime that is linked: nvcc looks beside itself, in other folders.
libraries=()
for folder in "$(dirname "$(dirname "$nvcc")")"/{lib,lib64}; do [ ! -d "$folder" ] || libraries+=(-L"$folder"); done

# What ptxas -v says, a line for each kernel: architecture, registers, spilled bytes, bytes of local memory, name.
kernels() {
    awk '/Compiling entry function/ { split($0, quoted, "\047"); name = quoted[2]; architecture = quoted[4] }
         /spill stores/ { local = $1; spilled = $5 + $9 }
         /Used [0-9]+ registers/ {
             for (i = 2; i < NF; i++) if ($i == "registers,") registers = $(i - 1)
             print architecture, registers, spilled, local, name }' "$1" | c++filt
}

# Remarks of the assembler, which corrects what would be wrong and says by which number it lost speed: products of a warp group taken one by
# one, waits and arrivals added (C7510 to C7519), a wish for registers not granted (C7508).
remarks() { grep -E '\(C75[0-9]{2}\)|Potential Performance Loss' "$1"; }

passed=0 failed=0
verdict() { if [ "$2" = 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAIL  $1"; fi; }

objects=()
for source in cuda/*.cu; do
    object=$scratch/$(basename "$source" .cu).o status=0
    "$nvcc" "${flags[@]}" -c "$source" -o "$object" >"$scratch/log" 2>&1 || status=$?
    verdict "$source" "$status"
    if [ "$status" != 0 ]; then cat "$scratch/log"; continue; fi
    objects+=("$object")
    status=0
    remarks "$scratch/log" && status=1
    verdict "$source: the assembler's remarks" "$status"
    while read -r architecture registers spilled local name; do
        name=${name//(anonymous namespace)::/}
        printf '%-7s %4d registers %4d spilled %4d local  %s\n' "$architecture" "$registers" "$spilled" "$local" "${name:0:70}"
        verdict "$architecture $name spills, or has $local bytes in local memory" $((spilled + local))
    done < <(kernels "$scratch/log" | sort)
done

# Links, and looks at what it shows to the world.
links() {
    local exported
    "$nvcc" -shared -cudart static "${libraries[@]}" -Xlinker --no-undefined,--exclude-libs,ALL "${objects[@]}" -o "$module" || return 1
    exported=$(nm -D --defined-only "$module" | awk '{ print $3 }')
    [ "$exported" = attn_cuda_module ] || { echo "exports: $exported"; return 1; }
}
if [ "$failed" = 0 ]; then
    status=0
    links >"$scratch/log" 2>&1 || status=$?
    [ "$status" = 0 ] || cat "$scratch/log"
    verdict "linking" "$status"
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]

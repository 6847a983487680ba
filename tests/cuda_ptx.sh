#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs the CUDA backend's cases on the PTX that NVIDIA's compiler makes of its kernels, then on PTX with a defect planted in it, which
# the cases must find: cuda_ptx.sh BUILD. Closes with 'N passed, M failed'; exit status 3 when no compiler can be had.
set -euo pipefail
[ $# = 1 ] || { sed -n '3,4p' "$0" >&2; exit 2; }
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$(cd "$1" && pwd)
cd "$root"
nvcc=$(tests/cuda_compile.sh --compiler) || { echo "$nvcc"; exit 3; }
ptx=$(mktemp -d)
trap 'rm -rf "$ptx"' EXIT
for source in cuda/*.cu; do
    "$nvcc" -std=c++17 -O3 -Iinclude -I. -arch=compute_80 -ptx "$source" -o "$ptx/$(basename "$source" .cu).ptx"
done

# cases NAME...: they run on the PTX, with H stored as $stored says.
stored=
cases() {
    local case arguments=(${stored:+--storage "$stored"})
    for case in "$@"; do arguments+=(--case "$case"); done
    ATTN_CUDA_PTX=$ptx "$build/tests/attention_cases" --cuda "$build/tests/cuda_emulation/libattention_cuda_emulated.so" \
        "${arguments[@]}"
}

passed=0 failed=0
count() {
    if [ "$1" = 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAIL  $2"; fi
}

every=(luong_odd_f32 luong_d8_f32 luong_query_wider_f32 luong_d129_f32 dot_d3_f32 dot_range_mask_f32 dot_slices_all_f32 luong_no_steps_f32
    luong_mask_all_queries_f32 luong_context_only_f32 bahdanau_odd_f32 bahdanau_queries_f32)
for case in "${every[@]}"; do
    status=0
    cases "$case" >"$ptx/log" 2>&1 || status=$?
    [ $status = 0 ] || cat "$ptx/log"
    count $status "$case"
done

for stored in f16 bf16; do
    status=0
    cases luong_odd_f32 dot_d8_f32 dot_slices_all_f32 bahdanau_odd_f32 bahdanau_one_step_f32 >"$ptx/log" 2>&1 || status=$?
    [ $status = 0 ] || cat "$ptx/log"
    count $status "H in $stored"
done
stored=

# What is planted: name, file, and a sed program that changes one place; cases that must find it, if not those of products and softmax.
planted() {
    local name=$1 file=$ptx/$2.ptx status=0 finders=("${@:4}")
    [ $# -gt 3 ] || finders=(luong_odd_f32 luong_d8_f32 luong_d129_f32)
    cp "$file" "$ptx/sound"
    sed -i "$3" "$file"
    if cmp -s "$file" "$ptx/sound"; then
        count 1 "$name: there is nothing to change"
    else
        cases "${finders[@]}" >"$ptx/log" 2>&1 && status=1
        count $status "$name is not found"
    fi
    mv "$ptx/sound" "$file"
}

# The first in each kernel of a file.
first() { echo "/\\.entry/,/$1/s/$1/$2/"; }

planted 'a barrier less' product "$(first 'bar.sync[^;]*;' '')"
planted 'a barrier less behind the sums' product "$(first 'bar.sync' 'BAR'); $(first 'bar.sync[^;]*;' ''); s/BAR/bar.sync/"
planted 'a barrier less among the warps' attend 's/bar.sync[^;]*;//'
planted 'a shorter exchange' attend 's/\(mov.u32.*\), 16;/\1, 8;/'
planted 'an exchange of half a warp' attend 's/\(mov.u32.*\), -1;/\1, 65535;/'
planted 'a bound too far' product 's/setp.ge.u64/setp.gt.u64/'
planted 'a shared element too far' product 's/\[\(%r[0-9]*\)+128\]/[\1+136]/'
planted 'a sum that starts anew' product "$(first 'fma.rn.f32\(.*\), %f[0-9]*;' 'fma.rn.f32\1, 0f00000000;')"
planted 'two elements of a vector changed over' attend_back 's/\(st.global.v4.f32.*\){\([^,]*\), *\([^,]*\),/\1{\3, \2,/'
planted 'a maximum that is a minimum' attend 's/max.f32/min.f32/'
planted 'lanes of a tensor core mistaken' additive "$(first '\(mma[^{]*{[^}]*}, *{\)\([^,]*\), *\([^,]*\)' '\1\3, \2')" bahdanau_odd_f32
planted 'a product on tensor cores less' additive "$(first 'mma.sync[^;]*;' '')" bahdanau_odd_f32
planted 'low parts that are the whole' additive '/cvt.rna/,/sub.f32/s/sub.f32\(.*\), %f[0-9]*;/add.f32\1, 0f00000000;/' bahdanau_odd_f32

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]

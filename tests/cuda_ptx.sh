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
module=$build/tests/cuda_emulation/libattention_cuda_emulated.so
export ATTN_CUDA_PTX=$ptx

for source in cuda/*.cu; do echo "$source" "$ptx/$(basename "$source" .cu).ptx"; done |
    xargs -P "$(nproc)" -L 1 sh -c '"$0" -std=c++17 -O3 -Iinclude -I. -arch=compute_80 -ptx "$1" -o "$2"' "$nvcc"

# cases NAME...: they run on the PTX, with H stored as $stored says. SUITE/TESTS: tests of the blocks or of attention do.
stored=
cases() {
    local case arguments=(${stored:+--storage "$stored"})
    if [[ $1 = */* ]]; then
        ATTN_TEST_ON=$module "$build/tests/suite_${1%%/*}" --jobs "$(nproc)" --filter "$1"
    else
        for case in "$@"; do arguments+=(--case "$case"); done
        "$build/tests/attention_cases" --cuda "$module" "${arguments[@]}"
    fi
}

passed=0 failed=0
count() {
    if [ "$1" = 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAIL  $2"; fi
}

every=(luong_odd_f32 luong_d8_f32 luong_query_wider_f32 luong_d129_f32 dot_d3_f32 dot_range_mask_f32 dot_slices_all_f32 luong_no_steps_f32
    luong_mask_all_queries_f32 luong_context_only_f32 bahdanau_odd_f32 bahdanau_d8_f32 bahdanau_queries_f32
    'blocks/@(softmax*|nan*|products*)' 'sdpa/@(float32*|float16*|bfloat16*|one*|nan*|hidden*|empty*|a_bias*)')
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

# What is planted: name, file, and a sed program that changes one place; cases that must find it, if not those of products and softmax of the layer.
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
planted 'a shared element too far' product 's/\(st.shared.f32.*\)+2048\]/\1+2052]/'
planted 'a sum that starts anew' product "$(first 'fma.rn.f32\(.*\), %f[0-9]*;' 'fma.rn.f32\1, 0f00000000;')"
planted 'two elements of a vector changed over' attend_back 's/\(st.global.v4.f32.*\){\([^,]*\), *\([^,]*\),/\1{\3, \2,/'
planted 'a maximum that is a minimum' attend 's/max.f32/min.f32/'
planted 'lanes of a tensor core mistaken' additive "$(first '\(mma[^{]*{[^}]*}, *{\)\([^,]*\), *\([^,]*\)' '\1\3, \2')" bahdanau_odd_f32
planted 'a product on tensor cores less' additive "$(first 'mma.sync[^;]*;' '')" bahdanau_odd_f32
planted 'low parts that are the whole' additive '/and.b32.*-8192/,/sub.f32/s/sub.f32\(.*\), %f[0-9]*;/add.f32\1, 0f00000000;/' bahdanau_odd_f32
planted 'copies that are not awaited' additive 's/cp.async.wait_group 1;/cp.async.wait_group 2;/' bahdanau_d8_f32
planted 'a barrier less behind the copies' additive '/cp.async.wait_group/,/bar.sync/s/bar.sync[^;]*;//' bahdanau_d8_f32
planted 'copies of what is not there' additive 's/\(cp.async.*\), 16, %r[0-9]*;/\1, 16, 16;/' bahdanau_d64_f32
planted 'a barrier less behind the chunks' attend_finish "$(first 'bar.sync' 'BAR'); $(first 'bar.sync[^;]*;' ''); s/BAR/bar.sync/"

softmax='blocks/softmax*' sdpa='sdpa/float32*'
planted 'softmax: a barrier less' softmax 's/bar.sync[^;]*;//' "$softmax"
planted 'softmax: a barrier less behind the parts' softmax "$(first 'bar.sync' 'BAR'); $(first 'bar.sync[^;]*;' ''); s/BAR/bar.sync/" "$softmax"
planted 'softmax: a shorter exchange' softmax 's/\(mov.[ub]32.*\), 16;/\1, 8;/' "$softmax"
planted 'softmax: an exchange of half a warp' softmax 's/\(mov.[ub]32.*\), -1;/\1, 65535;/' "$softmax"
planted 'softmax: a bound too far' softmax 's/setp.ge.u64/setp.gt.u64/' "$softmax"
planted 'softmax: rows with a key more' softmax 's/setp.le.u64/setp.lt.u64/' "$softmax"
planted 'softmax: a maximum that is a minimum' softmax 's/max.f32/min.f32/' 'blocks/softmax_matches*'
planted 'softmax: halves that are bfloats' softmax 's/cvt.f32.f16/cvt.f32.bf16/' 'blocks/softmax_matches*'
planted 'softmax: rounding down' softmax 's/\(add.s32.*\), 32767;/\1, 0;/' 'blocks/softmax_matches*'
planted 'attention: a barrier less' sdpa_tile 's/bar.sync[^;]*;//' "$sdpa"
planted 'attention: a shorter exchange' sdpa_tile 's/\(mov.[ub]32.*\), 16;/\1, 8;/' "$sdpa"
planted 'attention: an exchange of half a warp' sdpa_tile 's/\(mov.[ub]32.*\), -1;/\1, 65535;/' "$sdpa"
planted 'attention: a bound too far' sdpa_tile 's/setp.ge.u64/setp.gt.u64/' "$sdpa"
planted 'attention: a maximum that is a minimum' sdpa_tile 's/max.f32/min.f32/' "$sdpa"
planted 'attention: rounding down' sdpa_tile 's/\(add.s32.*\), 32767;/\1, 0;/' 'sdpa/bfloat16*'
planted 'a product: the earlier values taken for zeros' matmul 's/setp.neu.f32/setp.eq.f32/' 'blocks/products*'
planted 'a product: a bound too far' matmul 's/setp.ge.u64/setp.gt.u64/' 'blocks/products*'

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]

#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Plants defects in a copy of the code, one at a time, and sees that the tests meant to find each do. A defect whose place is
# no longer in the code, or that does not compile, is a failure too: the list must be kept.
#
#     mutations.sh              all, some minutes
#     mutations.sh cpu/ nn      those whose line holds one of these words
#
# A defect's tests are first seen to pass on the healthy code. MUTATIONS_FOLDER names a folder to keep the build in.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
if [ -n "${MUTATIONS_FOLDER:-}" ]; then
    scratch=$MUTATIONS_FOLDER
    mkdir -p "$scratch"
else
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
fi
build=$scratch/build
bar=$'\x01' # a \| inside a field, while its line is cut

# file | what stands there | what is planted | the tests that must fail
# The tests: SUITE, SUITE/TEST or case/NAME, a case of tests/cases.def on all implementations.
defects=(
    # forward
    'cpu/fused_block.c|range.start + range.length - 1|range.start + (range.length > 1 ? range.length - 2 : 0)|case/luong_range_f32'
    'cpu/fused_block.c|(ptrdiff_t)(range.start + offset)|(ptrdiff_t)(offset)|special'
    'cpu/kernel_partial.h|m[q] = top;|m[q] = m2[q];|case/dot_t4099_f32'
    'cpu/kernel_partial.h|if (l == 0) {|if (l < 0) {|special'
    'cpu/kernel_dot.h|if (rows->mask && !NAMED(attended)(rows, s, queries)) continue;|(void)queries;|special'
    'cpu/kernel_dot.h|#define PART_ROWS 32 |#define PART_ROWS 512 |case/luong_repeated_f32'
    'cpu/vec_math.h|v_fnma(*n, v_set1(LN2_LOW), |(|math'
    'lib/layer_inputs.c|lengths[i] > timesteps - start|lengths[i] > timesteps|faults'
    'lib/dispatch.c|return "not batch-invariant, as the context'"'"'s flag demands";|return NULL;|choice'
    'cpu/sdpa.c|if (merging) a->products->kernels->merge|if (!merging) a->products->kernels->merge|sdpa'
    'cpu/sdpa.c|if (count < k->count) k->index|if (count > k->count) k->index|sdpa'
    'cpu/sdpa.c|clip(row->position + 1, u->length)|clip(row->position, u->length)|sdpa'
    'lib/tensor_heads.c|if ((size_t)stride[least] < reach) return false;|(void)reach;|sdpa'
    'cpu/softmax.c|-mean, to)|mean, to)|blocks'
    'lib/sizes.c|if (factors[i] > 1 && |if (factors[i] == 1 && |faults'
    # backward: what surrounds the kernels
    'cpu/fused_backward_block.c|range.start + range.length - 1)|range.start)|case/bahdanau_range_f32'
    'cpu/fused_backward_block.c|clear_rows(operands, item, range.start + range.length, call->sizes.timesteps);||case/luong_lengths_f32'
    'cpu/fused_backward_block.c|clear_rows(operands, item, step, step + rows.rows);|(void)step;|case/luong_mask_f32'
    'cpu/fused_backward_block.c|call->mask \|\| query > 0;|call->mask;|case/dot_queries_many_f32'
    'cpu/fused_backward_block.c|for (size_t chunk = 1; chunk < chunks|for (size_t chunk = 2; chunk < chunks|case/luong_t1000_f32'
    'cpu/fused_backward_block.c|for (size_t row = first; row < first + count; row++) gather(|static void *volatile block; block = __builtin_malloc(8); __builtin_free(block); for (size_t row = first; row < first + count; row++) gather(|memory/running_backward*'
    'lib/layer_gradients.c|if (weights[i].to && !grad->add_weights)|if (weights[i].to)|case/luong_no_items_f32'
    'lib/layer_gradients.c|"grad_h_time_stride"}, .written = true}|"grad_h_time_stride"}}|random/overlap_of_gradients*'
    'lib/layer_gradients.c|to->bahdanau_v && !bahdanau|false|backward/faulty*'
    'lib/layer_kept.c|if (found.fields[i] != wanted.fields[i])|if (found.fields[i] == UINT64_MAX)|backward/foreign*'
    'lib/layer_kept.c|if (found.mark != wanted.mark)|if (found.mark == 0)|backward/foreign*'
    # backward: kernels
    'cpu/kernel_dot_backward.h|v_mul(p, v_sub(v_sub(da, high), low));|v_mul(p, da);|case/luong_odd_f32'
    'cpu/kernel_dot_backward.h|v_exp(v_sub(v_load_n(scores + i, n), top))|v_exp(v_load_n(scores + i, n))|case/dot_scores_480_f32'
    'cpu/kernel_dot_backward.h|keep[i] = mask[(ptrdiff_t)(first + i) * segment->mask_time] != 0;|keep[i] = 1;|case/dot_queries_masks_f32'
    'cpu/kernel_dot_backward.h|if (given) da = v_add(da, v_load_n(given + i, n));||case/dot_odd_f64'
    'cpu/kernel_dot_backward.h|moments[0] += (double)v_sum(first);|moments[0] = (double)v_sum(first);|case/luong_t500_f64'
    'cpu/kernel_additive_backward.h|v_fnma(v_mul(v[j], x), x, v[j])|v[j]|case/bahdanau_few_terms_f32'
    'cpu/kernel_additive_backward.h|sum_v[j] = v_fma(s, x, sum_v[j]);|sum_v[j] = v_add(s, sum_v[j]);|case/bahdanau_odd_f32'
    'cpu/kernel_additive_backward.h|const bool add = query > 0;|const bool add = false;|case/bahdanau_queries_f32'
    'cpu/kernel_dot_backward.h|if (done % SEGMENT_ROWS == 0) NAMED(add_vectors)|if (done % SEGMENT_ROWS == 0 && done > 0) for (size_t j = 0; j <= full; j++) dq[j] = v_zero(); else if (done % SEGMENT_ROWS == 0) NAMED(add_vectors)|case/luong_t500_f32'
    # backward: the composition
    'cpu/composition_backward.c|shift -= value(c, g->means|shift += value(c, g->means|case/luong_odd_f64'
    'cpu/composition_backward.c|if (!here && !grad->add_h)|if (false)|case/dot_mask_f32'
    'cpu/composition_backward.c|end = least(c->sizes.features, first + ATTN_PANEL_COLUMNS);|end = least(c->sizes.features, first + 1);|case/bahdanau_d33_f32'
    # gates
    'tests/gates_backward.c|2 * u * (most + |256 * u * (most + |gates/tf32_fails_gradients'
    'tests/gates_backward.c|2 * u * (all + 4 * sqrt(largest(inner, rows)))|256 * u * (all + 4 * sqrt(largest(inner, rows)))|gates/tf32_fails_gradients'
    'tests/gates_backward.c|2 * u * (all + 4 * sqrt(largest(inner, queries)))|256 * u * (all + 4 * sqrt(largest(inner, queries)))|gates/bfloat16_fails_gradients'
    # the training kit
    'examples/nn/loss.c|(logit >= 0 ? 1 : e) / (1 + e)|(logit >= 0 ? 1 : 1 / (1 + e))|nn'
    'examples/nn/loss.c|(difference > 0) - (difference < 0)|difference > 0|nn'
    'examples/nn/optimiser.c|/ sqrtf(v[i] + epsilon)|/ (sqrtf(v[i]) + epsilon)|nn'
    'examples/nn/optimiser.c|learning_rate * sqrtf(1 - powf((float)beta_2, t))|learning_rate|nn'
    'examples/nn/optimiser.c|for (size_t s = 1; s < shards; s++)|for (size_t s = 2; s < shards; s++)|nn'
    'examples/nn/lstm.c|memset(m.grad_cell, 0, cells * sizeof(float));||nn'
    'examples/nn/lstm.c|steps - t < GRADIENT_STEPS ? steps - t : GRADIENT_STEPS|GRADIENT_STEPS|nn'
    'examples/nn/cells.c|v_fnma(c, c, one), load(grad_cell, n)|one, load(grad_cell, n)|nn'
    'examples/nn/cells.c|halves[j] >= below|halves[j] >= below / 2|nn'
    'examples/nn/dropout.c|(float)(1 / (1 - layer->rate))|1.0F|nn'
    'examples/nn/embedding.c|row[j] += grad_out[j]|row[j] = grad_out[j]|nn'
    'examples/nn/initial.c|w[p->count / 4 + i] = 1|w[i] = 1|nn'
    'examples/nn/dense.c|return y > 0;|return 1;|nn'
    'examples/nn/run.c|.first = w->first + first,|.first = first,|nn'
    'examples/nn/state.c|model->step = step, model->options.seed = seed|model->options.seed = seed|nn'
    'examples/nn/random.c|% i), last = order[i - 1]|% count), last = order[i - 1]|nn/shuffles*'
    'examples/experiment/epoch.c|part.rows = order + done;|part.rows = order;|nn/an_epoch*'
)

for part in CMakeLists.txt cmake include lib cpu cuda tests tools examples bench; do
    [ ! -e "$root/$part" ] || cp -r "$root/$part" "$scratch/"
done

configure() { # -O1: the kernels compile in a third of the time
    cmake -S "$scratch" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_FLAGS_RELEASE=-O1 \
        -DATTN_TESTS=ON -DATTN_EXAMPLES=ON -DATTN_TOOLS=OFF -DATTN_BENCH=OFF -DATTN_IMDB=OFF >"$scratch/log" 2>&1
}

# build TESTS
build() {
    local target=suite_${1%%/*}
    [ "$target" != suite_case ] || target=attention_cases
    cmake --build "$build" --parallel "$(nproc)" --target "$target" >"$scratch/log" 2>&1
}

# run TESTS
run() {
    case $1 in
    case/*) timeout 120 "$build/tests/attention_cases" --case "${1#*/}" ;;
    */*) timeout 300 "$build/tests/suite_${1%%/*}" --filter "$1" ;;
    *) timeout 300 "$build/tests/suite_$1" --jobs "$(nproc)" ;;
    esac >"$scratch/log" 2>&1
}

# Whether the tests pass on the healthy code; each is seen once.
declare -A healthy
is_healthy() {
    if [ -z "${healthy[$1]:-}" ]; then
        healthy[$1]=no
        if build "$1" && run "$1"; then healthy[$1]=yes; fi
    fi
    [ "${healthy[$1]}" = yes ]
}

wanted() {
    local line=$1 word
    shift
    [ $# != 0 ] || return 0
    for word; do [[ $line != *"$word"* ]] || return 0; done
    return 1
}

# try FILE OLD NEW TESTS: the verdict, empty where the tests found the defect.
try() {
    local code planted
    code=$(<"$scratch/$1")
    planted=${code/"$2"/"$3"}
    verdict=
    if [ "$planted" = "$code" ]; then
        verdict="its place is not in $1"
    elif ! is_healthy "$4"; then
        verdict="$4 fails on the healthy code, or does not build"
    else
        printf '%s\n' "$planted" >"$scratch/$1"
        if ! build "$4"; then
            verdict="does not compile"
        elif run "$4"; then
            verdict="$4 did not notice"
        fi
        printf '%s\n' "$code" >"$scratch/$1"
    fi
}

[ -e "$build/build.ninja" ] || configure || { cat "$scratch/log"; exit 1; }
passed=0 failed=0
for defect in "${defects[@]}"; do
    wanted "$defect" "$@" || continue
    IFS='|' read -r file old new tests <<<"${defect//'\|'/$bar}"
    try "$file" "${old//$bar/|}" "${new//$bar/|}" "$tests"
    if [ -z "$verdict" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL $file: $old: $verdict"
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]

#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Plants defects in the CUDA sources, one at a time, and sees that the emulation finds each: in a case, or where the case says
# "suite", in suite_cuda, where it says "gpu", in attention_gpu on the driver of tests/cuda_driver, or in the tests of a suite that it names with a slash. A defect whose place is no longer in the code, or that does not compile, is a failure too.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: tests/cuda_mutations.sh [--jobs N] BUILD [WORD...]

BUILD is a build folder of this project with its tests. With words, only defects whose line holds one of them. N defects are tried at a
time (default: as many as there are cores). Ends with 'N passed, N failed'. CXX names the compiler (default: c++).
TEXT
}

jobs=$(nproc)
while [ $# -gt 0 ]; do
    case $1 in
    --help) usage; exit 0 ;;
    --jobs) jobs=${2:-}; shift 2 ;;
    *) break ;;
    esac
done
[ $# -gt 0 ] && [ -x "$1/tests/attention_cases" ] || { usage >&2; exit 2; }
build=$(cd "$1" && pwd)
shift
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp -r "$root"/{include,lib,cuda} "$scratch"
mkdir "$scratch/tests" "$scratch/objects"
cp -r "$root"/tests/cuda_{driver,emulation,ptx} "$scratch/tests"
cd "$scratch"

barrier='__syncthreads();'
softmax='blocks/softmax*' products='blocks/products*' float32='sdpa/float32*' float16='sdpa/float16*'
# file | what stands there | what is planted | cases that must fail, behind the storage of H where it is another than float32
defects=(
    # barriers: one removed, one that not all threads reach
    "attend.cu|*share.sum += *share.rounds;"$'\n'"    $barrier|*share.sum += *share.rounds;|luong_d100_f32"
    "product_tile.h|fill(element, k0);"$'\n'"            $barrier|fill(element, k0);|luong_d100_f32"
    "product_tile.h|load(k0 + ATTN_PRODUCT_ROUND);"$'\n'"            $barrier|load(k0 + ATTN_PRODUCT_ROUND);|luong_d129_f32"
    'product.cu|tile.load(0);|if (tile.column0 + tile.column() >= p.columns) return; tile.load(0);|luong_d100_f32'
    "attend_finish.cu|weigh_chunks();"$'\n'"        $barrier|weigh_chunks();|luong_t500_f32"
    "attend_finish.cu|total(row);"$'\n'"        $barrier|total(row);|luong_d100_f32"
    # shuffles: too few steps, lanes that stay away
    'warp_row.h|distance > 0; distance /= 2|distance > 1; distance /= 2|dot_d100_f32'
    'attend.cu|score = rows.dot(q);|score = threadIdx.x % ATTN_WARP < 31 ? rows.dot(q) : 0.0f;|dot_odd_f32'
    'warp_row.h|upper ? value[i] : value[held + i]|upper ? value[held + i] : value[i]|dot_odd_f32'
    'warp_row.h|ATTN_WARP / COUNT * held|COUNT * held|dot_d129_f32'
    # groups of rows: what is of one row taken for another's, rows that are not seen taken for seen ones
    'row_group.h|static_cast<int>(g * LANES)|static_cast<int>(g)|dot_d129_f32'
    'row_group.h|threadIdx.x % LANES == 0|threadIdx.x % ATTN_WARP == 0|dot_d17_f32'
    'row_group.h|step + ROWS <= limit|step < limit|dot_lengths_f32'
    'row_group.h|h.whole && !items.mask|h.whole|dot_mask_d100_f32'
    'row_group.h|fmaxf(value, __shfl|(value, __shfl|dot_t500_f32'
    'attend_back.cu|to && whole_out && !adds|to && whole_out|luong_d100_f32'
    'attend_back.cu|!adds && rows.seen == rows.ALL|!adds|luong_d64_f32'
    # reads and writes past the end, of H and of shared memory
    'row_group.h|step + mine() < limit|step + mine() <= limit|dot_lengths_f32'
    'warp_row.h|place(v) + j < features ? attn|place(v) + j <= features ? attn|dot_odd_f32'
    'attend.cu|WARPS * (3 + attend.features)|WARPS * (2 + attend.features)|dot_odd_f32'
    'product_tile.h|inside && i < left ?|inside && i <= left ?|luong_odd_f32'
    'product_tile.h|group() * ATTN_PRODUCT_TERMS);|0);|luong_d129_f32'
    'product_tile.h|g < ATTN_PRODUCT_GROUPS; g++|g + 1 < ATTN_PRODUCT_GROUPS; g++|luong_d129_f32'
    # parts merged amiss
    'attend.cu|* context[i * features + feature]|* context[(WARPS - 1 - i) * features + feature]|dot_t500_f32'
    'attend.cu|query, step + 3 * stride, last|query, step + 2 * stride, last|dot_t500_f32'
    'attend_finish.cu|* part[i * p.features]|* part[(p.chunks - 1 - i) * p.features]|dot_t500_f32'
    'attend_finish.cu|if (sums[row] == 0.0f) return 0.0f;||dot_mask_all_f32'
    'attend_finish.cu|if (writes && p.context)|if (p.context && !writes)|dot_odd_f32'
    'attend_finish.cu|if (k < p.features) return|if (k <= p.features) return|luong_odd_f32'
    'attend_finish.cu|range.length && attn_unmasked(p.items, query, step)|range.length|luong_mask_f32'
    'attend_finish.cu|expf(*weight - p.maximum[query])|expf(*weight)|luong_t500_f32'
    'attend.cu|context.scale(kept);||dot_t500_f32'
    'attend.cu|sum *= kept;||dot_t500_f32'
    'attend.cu|more = kept * *share.sum|more = *share.sum|luong_growing_4097_f32'
    'attend.cu|context.add_to(share.context, features, kept, by)|context.add_to(share.context, features, 1.0f, by)|luong_growing_4097_f32'
    'warp_row.h|from == to ? 1.0f : |from != from ? 1.0f : |dot_mask_all_f32'
    "attend_back.cu|p.features, false);"$'\n'"        $barrier|p.features, false);|luong_t500_f32"
    "attend_back.cu|+ f] = sum;"$'\n'"        }"$'\n'"        $barrier|+ f] = sum; }|luong_queries_f32"
    'attend_back.cu|!first, plain|false, plain|luong_queries_f32'
    'attend_back.cu|(b.query * p.chunks + c.index)|(b.query * p.chunks)|luong_range_f32'
    'attend_back.cu|own *= rows.weight;||dot_odd_f32'
    'attend_back.cu|rows.total(products.total())|products.total()|luong_odd_f32'
    'attend_back.cu|step + g < c.last)|step + g <= c.last)|dot_d3_f32'
    'query_back.cu|c < p.chunks; c++) means|c + 1 < p.chunks; c++) means|dot_t500_f32'
    'query_back.cu|p.add ? row[i % p.width]|p.add && p.more ? row[i % p.width]|luong_odd_f32'
    "gram.cu|column0, right);"$'\n'"        $barrier|column0, right);|luong_d100_f32"
    'gram.cu|query < last && column|query <= last && column|luong_b65_f32'
    'gram.cu|? first + launch.share : p.count|? first + launch.share + 1 : p.count|luong_b65_f32'
    'gram.cu|share * width_of(p.left) * columns|0 * width_of(p.left) * columns|luong_b65_f32'
    'gram.cu|p.add && launch.shares == 1|p.add|luong_b65_f32'
    'gram.cu|gram.result, gram.add};|gram.result, false};|luong_b65_f32'
    # the additive score
    "additive_tile.h|attn_await_copies<STAGES - 1>();"$'\n'"            $barrier|attn_await_copies<STAGES - 1>();|bahdanau_d64_f32"
    'additive_tile.h|attn_await_copies<STAGES - 1>();|attn_await_copies<STAGES>();|bahdanau_d64_f32'
    'additive_tile.h|stage % STAGES|0 * stage|bahdanau_d64_f32'
    'additive_tile.h|k < terms; k += ATTN_MMA_DEPTH|k + ATTN_MMA_DEPTH < terms; k += ATTN_MMA_DEPTH|bahdanau_d17_f32'
    'additive_tile.h|if (n * ATTN_MMA_COLUMNS >= columns)|if ((n + PAIR) * ATTN_MMA_COLUMNS > columns)|bahdanau_d17_f32'
    "additive_tile.h|(columns) : +COLUMNS);"$'\n'"            $barrier|(columns) : +COLUMNS);|bahdanau_d100_f32"
    "additive_tile.h|1.0f : 0.0f;"$'\n'"        $barrier|1.0f : 0.0f;|bahdanau_range_mask_f32"
    'additive.cu|if (rows.count == 0) break;|if (threadIdx.x >= rows.count) break;|bahdanau_odd_f32'
    'additive.cu|attn_lane_sum<Tile::SHARERS>(part[i])|attn_lane_sum<Tile::SHARERS / 2>(part[i])|bahdanau_d17_f32'
    'additive.cu|column0 == 0 ? score|score == score ? score|bahdanau_d100_f32'
    'additive_tile.h|if (row >= count) return false;|if (row > count) return false;|bahdanau_t500_f32'
    'additive.cu|p.in.projected[query * p.in.width|p.in.projected[query / p.in.items.queries * p.in.width|bahdanau_queries_f32'
    "additive.cu|$barrier /* the scores|/* the scores|bahdanau_scores_1e4_additive_f32"
    "additive.cu|float weight = 0.0f;"$'\n'"        $barrier|float weight = 0.0f;|bahdanau_t500_f32"
    "additive.cu|= weight;"$'\n'"        }"$'\n'"        $barrier|= weight; }|bahdanau_d64_f32"
    "additive.cu|left, false);"$'\n'"        $barrier|left, false);|bahdanau_d64_f32"
    'additive.cu|if (attends(first + threadIdx.x)) weight|if (first + threadIdx.x < rows.count) weight|bahdanau_mask_f32'
    'additive.cu|h.base += feature, ||bahdanau_d300_f32'
    'additive.cu|if (feature == 0) exponentials|exponentials|bahdanau_d300_f32'
    'additive.cu|if (p.weights) softmax.write_weights();||bahdanau_odd_f32'
    'additive_tile.h|FLOATS = Tile::ROWS + |FLOATS = |bahdanau_d64_f32'
    "additive_back.cu|= of_warp;"$'\n'"        }"$'\n'"        $barrier|= of_warp; }|bahdanau_d64_f32"
    "additive_back.cu|to[column] + sum;"$'\n'"        }"$'\n'"        $barrier|to[column] + sum; }|bahdanau_d64_f32"
    "additive_back.cu|attn_await_copies<0>();"$'\n'"                $barrier|attn_await_copies<0>();|bahdanau_d64_f32"
    'additive_back.cu|attn_await_copies<0>();||bahdanau_d64_f32'
    "additive_back.cu|add_w2(d0);"$'\n'"                $barrier|add_w2(d0);|bahdanau_d64_f32"
    "additive_back.cu|tile.take();"$'\n'"            $barrier|tile.take();|bahdanau_lengths_f32"
    'additive_back.cu|*to = first_of_group ? |*to = true ? |bahdanau_d100_f32'
    'additive_back.cu|*to = from == 0 ? |*to = true ? |bahdanau_queries_many_f32'
    'additive_back.cu|first_of_group && from == 0|first_of_group|bahdanau_queries_many_f32'
    'additive_back.cu|if (column0 == 0) add_values|add_values|bahdanau_d100_f32'
    'additive_back.cu|column0 > 0;|false;|bahdanau_d100_f32'
    'additive_back.cu|if (tile.first_of_chunk) clear_chunk|if (false) clear_chunk|bahdanau_lengths_f32'
    'additive_back.cu|if (!tile.first_of_group) return;|return;|bahdanau_b65_f32'
    'additive_back.cu|* p.chunks + chunk) *|* p.chunks) *|bahdanau_lengths_f32'
    'additive_back.cu|if (gradients[i] == 0.0f) continue;|if (gradients[i] < 0.0f) continue;|bahdanau_odd_f32'
    'additive_back.cu|bool first) const {|bool) const { const bool first = true;|bahdanau_lengths_f32'
    'additive_back.cu|w2.p.part_v = w2.p.grad_h|w2.p.grad_h|bahdanau_d100_f32'
    # tensor cores: wrong lanes, one of the three products missing, sums that go on from chunk to chunk
    'additive_tile.h|row(i % 2) * a_row|row(i / 2) * a_row|bahdanau_odd_f32'
    'additive_tile.h|+ i * 4) * b_term|+ i * 2) * b_term|bahdanau_d17_f32'
    'additive_tile.h|sum[i / 2][2 * n + i % 2]|sum[i % 2][2 * n + i / 2]|bahdanau_odd_f32'
    'additive_tile.h|attn_mma_tf32(part[n + j], a_low, b_high[j]);||bahdanau_odd_f32'
    'additive_tile.h|attn_mma_tf32(part[n + j], a_high, b_low[j]);||bahdanau_odd_f32'
    'additive_tile.h|attn_mma_tf32(part[n + j], a_high, b_high[j]);|(void)b_high[j];|bahdanau_odd_f32'
    'additive_tile.h|float part[PRODUCTS][4] = {};|float part[PRODUCTS][4]; for (unsigned n = 0; n < PRODUCTS; n++) for (unsigned i = 0; i < 4; i++) part[n][i] = sum[i / 2][2 * n + i % 2], sum[i / 2][2 * n + i % 2] = 0.0f;|suite'
    'additive_tile.h|distance < ATTN_WARP; distance *= 2|distance < ATTN_WARP / 2; distance *= 2|bahdanau_d17_f32'
    'mma.h|value - attn_float_of(high)|value|bahdanau_odd_f32'
    'mma.h|0xffffe000u|0xfffff000u|bahdanau_odd_f32'
    'call.cu|device->capability < ATTN_MMA_ARCHITECTURE|device->capability > 100|suite'
    'moments.cu|if (own < limit|if (rows.sees(group::mine())|bahdanau_mask_f32'
    'moments.cu|c < p.chunks; c++|c + 1 < p.chunks; c++|bahdanau_t500_f32'
    'moments.cu|gradient += given|gradient -= given|bahdanau_odd_f32'
    'backward.cu|fold_weights, !p.folded|fold_weights, true|luong_query_wider_f32'
    'forward.cu|if (kept.scores) p.scores = kept.scores;||bahdanau_odd_f32'
    # ranges and masks
    'attend.cu|query, q, range.start + first + warp|query, q, first + warp|luong_range_f32'
    'items.h|range.length - 1|range.length - (range.length > 1 ? 2 : 1)|luong_lengths_f32'
    'items.h|row) * items.mask_query|item) * items.mask_query|luong_mask_all_queries_f32'
    'items.h|attn_clamp(items.lengths[item], range.length)|items.lengths[item]|suite'
    # the softmax of the blocks, and what its rows see and store
    'view.h|attn_clip(sight.position + 1, length)|attn_clip(sight.position, length)|'"$softmax"
    'view.h|static_cast<std::ptrdiff_t>(length) -|static_cast<std::ptrdiff_t>(view.keys) -|'"$softmax"
    'view.h|key < end && (|key <= end && (|'"$softmax"
    'softmax.cu|highest == -INFINITY ? 0.0f : highest|highest|'"$softmax"
    'softmax.cu|highest = fmaxf(|highest = fminf(|'"$softmax"
    'softmax.cu|0.0f : p.scale * weight|0.0f : weight|'"$softmax"
    'softmax.cu|if (weight != 0.0f) products|products|'"$softmax"
    'row_team.h|unsigned i = 1; i < WARPS|unsigned i = 2; i < WARPS|'"$softmax"
    "row_team.h|parts[i]);"$'\n'"        $barrier|parts[i]);|$softmax"
    'row_team.h|? attn_launch(kernel<element, ATTN_TEAM_WARPS>|? attn_launch(kernel<element, ATTN_TEAM_WARPS / 2>|'"$softmax"
    'storage.h|bits + 0x7fffu + (bits >> 16 & 1u)|bits|'"$softmax"
    'storage.h|magnitude + 0xfffu|magnitude + 0x1fffu|'"$softmax"
    'storage.h|* 0x1p112f|* 0x1p111f|'"$softmax"
    # products by cuBLAS
    'cublas.cu|FLOAT_WITHOUT_SHORT_SUMS = 16|FLOAT_WITHOUT_SHORT_SUMS = 3|'"$products"
    'cublas.cu|FLOAT_WITHOUT_SHORT_SUMS = 16|FLOAT_WITHOUT_SHORT_SUMS = 0|'"$products"
    'cublas.cu|COMPUTE_FLOAT = 68|COMPUTE_FLOAT = 77|'"$products"
    'cublas.cu|g.transpose_b ? TRANSPOSE : NO_TRANSPOSE, g.transpose_a|g.transpose_a ? TRANSPOSE : NO_TRANSPOSE, g.transpose_b|'"$products"
    'cublas.cu|last->b == count * d.b && ||'"$float32"
    'cublas.cu|i * outer.c + j * middle.c|i * outer.c|sdpa/float32*'
    'matmul.cu|p.beta != 0.0f ? p.beta|true ? p.beta|'"$products"
    'cublas.cu|reinterpret_cast<void *>(aligned)|workspace|'"$float32"
    'cublas.cu|if (previous_stream != stream) call.set_stream(blas->handle, previous_stream);||cublas/*'
    'cublas.cu|call.set_math_mode(blas->handle, previous_math);||cublas/*'
    'cublas.cu|if (previous_stream != stream) found|found|cublas/*'
    'cublas.cu|if (found == SUCCESS) found = call.set_atomics_mode(blas->handle, ATOMICS_NOT_ALLOWED);||cublas/*'
    'cublas.cu|!blas->foreign && same_process|!blas->foreign|cublas/*'
    'cublas.cu|if (found != SUCCESS) blas->call.destroy(handle);||cublas/*'
    'cublas.cu|if (version[0] < OLDEST) return false;||cublas/*'
    # attention between its products
    'sdpa.cu|!t.first ? 1.0f|false ? 1.0f|'"$float32"
    'sdpa.cu|const bool cleans = t.width > 0 &&|const bool cleans = false &&|'"$float32"
    'sdpa.cu|if (!status && !t.first) status|if (false) status|'"$float32"
    'sdpa.cu|if (single) g->a_row = a.head;||'"$float32"
    'sdpa.cu|(call->key_lengths ? 0 : keys) - queries|keys - queries|'"$float32"
    'sdpa.cu|highest + s.window_right + 1|highest + s.window_right|'"$float32"
    'sdpa.cu|least(limits.queries, s.queries - t.query)|limits.queries|'"$float32"
    'sdpa_tile.cu|if (more == -INFINITY) return -INFINITY;||'"$float32"
    'sdpa_tile.cu|(r / p.queries / p.group) * p.keys|(r / p.queries) * p.keys|'"$float32"
    'sdpa_tile.cu|whole = kept + sum|whole = sum|'"$float32"
    'sdpa_tile.cu|: p.context[i] * factor|: p.context[i]|'"$float32"
    'sdpa_tile.cu|context_factor *= kept;||'"$float32"
    'sdpa_tile.cu|p.softcap * tanhf(product / p.softcap)|tanhf(product / p.softcap)|'"$float32"
    'sdpa_tile.cu|p.head / p.group + pair|p.head + pair|'"$float32"
    'sdpa_tile.cu|attended ? p.context[i] * total|true ? p.context[i] * total|'"$float32"
    'sdpa_tile.cu|slope(p.slopes ? p.slopes[head] : 0.0f)|slope(p.slopes ? p.slopes[0] : 0.0f)|'"$float16"
    # the layer by composition: parts of products, ranges, rows that nobody sees, what tiles leave to one another
    'cublas.cu|if (term > 0) part.beta = 1.0f;||luong_d1030_f32'
    'cublas.cu|skipped * (gemm.transpose_a ? gemm.a_row : 1)|skipped|composition/luong*'
    'view.h|sight.begin += start, sight.end += start;|sight.begin += start;|composition/luong*'
    'sdpa.cu| composed.starts);| false);|composition/dot*'
    'sdpa.cu|t.all_maximum = composed.maximum, t.all_sum = composed.sum;||luong_d1030_f32'
    'sdpa_tile.cu|p.all_sum[item * p.view.queries + query]|p.all_sum[item * p.view.queries]|luong_d1030_all_f32'
    'composition_tile.cu|p.seen[row] != 0;|p.seen[row] == 0;|luong_d1030_all_f32'
    'composition_tile.cu|seen ? row[f] : 0.0f|row[f]|luong_d1030_all_f32'
    'composition_tile.cu|items.mask_query != 0 ? items.queries : 1|items.mask_query != 0 ? 1 : 1|luong_d1030_all_f32'
    'composition_tile.cu|step - range.start >= range.length) return false;|step - range.start > range.length) return false;|composition/luong*'
    'composition_tile.cu|gradients[i] + given[step]|gradients[i] + given[i]|luong_d1030_all_f32'
    'composition_tile.cu|p.weight[row.sight.query] += weight;|p.weight[row.sight.query] = weight;|dot_d1030_all_f32'
    'composition_tile.cu|if (p.grad_lse) shift +=|if (p.grad_lse) shift -=|dot_d1030_f32'
    'composition_additive.cu|tile.query_of(at), tile.step + step);|tile.query_of(at), step);|bahdanau_d1030_all_f32'
    'composition_additive.cu|at / tile.queries * tile.steps + step, column|step, column|composition/bahdanau*'
    'composition_additive.cu|p.add ? p.dz[i] + gradient : gradient|gradient|composition/bahdanau*'
    'composition_forward.cu|part.scores += item * t.queries * t.pitch + step;|part.scores += item * t.queries * t.pitch;|bahdanau_d1030_all_f32'
    'composition_forward.cu|if (again && s.saved.base)|if (s.saved.base)|bahdanau_d1030_f32'
    'composition_forward.cu|p.output, true);|p.output, false);|luong_d1030_f32'
    'composition_backward.cu|if (sizes().timesteps <= limits.steps) return|if (limits.steps > 0) return|luong_d1030_all_f32'
    'composition_backward.cu|p.scores, p.context, t.query > 0);|p.scores, p.context, false);|composition/bahdanau*'
    'composition_backward.cu|p.gradients, t.query > 0, p.dz|p.gradients, true, p.dz|bahdanau_d1030_f32'
    'composition_backward.cu|if (!status && what.moments) status|status|dot_d1030_all_f32'
    'composition_backward.cu|p.weights, 1, 1, elements, static_cast<float *>(to), true|p.weights, 1, 1, elements, static_cast<float *>(to), false|bahdanau_d1030_f32'
    # H in 16 bits: widened amiss, taken for float32's
    'row_group.h|const Element *const first = h.base +|const Element *const first = h.base + 1 +|f16:luong_odd_f32'
    'items.h|if (stored == ATTN_FLOAT16)|if (stored == ATTN_FLOAT16 && i > 0)|f16:dot_odd_f32'
    'items.h|if (stored == ATTN_BFLOAT16)|if (stored == ATTN_FLOAT64)|bf16:dot_d129_f32'
    'warp_row.h|attn_widen(four.element[2])|attn_widen(four.element[1])|bf16:dot_d100_f32'
    'warp_row.h|(stored) == ATTN_BFLOAT16 ? ATTN_BY_WIDTH(kernel, width, attn_bfloat)|(stored) == ATTN_BFLOAT16 ? ATTN_BY_WIDTH(kernel, width, attn_half)|bf16:dot_odd_f32'
    'call.cu|rows.last_step ? call->sizes.h_dtype : ATTN_FLOAT32|call->sizes.h_dtype|f16:luong_queries_masks_short_f32'
    'call.cu|additive.stored = call->sizes.h_dtype|additive.stored = ATTN_FLOAT32|f16:bahdanau_odd_f32'
    'backward.cu|b.stored = sizes().h_dtype|b.stored = ATTN_FLOAT32|bf16:luong_odd_f32'
    'backward_additive.cu|m.stored = call->sizes.h_dtype|m.stored = ATTN_FLOAT32|f16:bahdanau_odd_f32'
    'gram.cu|gram.left.second_width > 0 ? gram.left.second.stored : gram.right.second.stored|gram.left.second.stored|f16:luong_odd_f32'
    'gram.cu|gram.left.second_width > 0 ? gram.left.second.stored : gram.right.second.stored|gram.right.second.stored|f16:dot_odd_f32'
    'additive_tile.h|(stored) == ATTN_BFLOAT16 ? kernel<Tile, attn_bfloat>|(stored) == ATTN_BFLOAT16 ? kernel<Tile, attn_half>|bf16:bahdanau_odd_f32'
    'additive_tile.h|j < left ? from[j] : Held{}|j <= left ? from[j] : Held{}|f16:bahdanau_odd_f32'
    'additive_tile.h|j < left ? attn_widen|j <= left ? attn_widen|f16:bahdanau_odd_f32'
    'additive_tile.h|sizeof(Factor) < sizeof(float);|true;|bahdanau_odd_f32'
    'additive_back.cu|of_h.template add<float>|of_h.template add<Element>|f16:bahdanau_odd_f32'
    # the runtime's errors: left behind, swallowed, not looked at
    'device.cu|if (error != cudaSuccess) cudaGetLastError();||suite'
    'device.cu|status_of_pending(cudaPeekAtLastError())|status_of_pending(cudaGetLastError())|suite'
    'device.cu|const bool may_be_start = |const bool may_be_start = false && |suite'
    'device.cu|if (changed |if (!changed |suite'
    'device.cu|device->process != getpid() ? ATTN_ERROR_FORKED : ||suite'
    'softmax.cu|return attn_cuda_take(error);|attn_cuda_take(error); return ATTN_OK;|cublas/*'
    'forward.cu|if (!error) error = attn_attend_launch(|error = attn_attend_launch(|suite'
    'backward.cu|if (!error) error = clear_outside();|clear_outside();|suite'
    # streams: work on another one, and what no captured run may do
    'call.cu|attn_product_launch(product, stream)|attn_product_launch(product, nullptr)|gpu'
    'gram.cu|2 * DEPTH * TILE * sizeof(float), stream|2 * DEPTH * TILE * sizeof(float), nullptr|gpu'
    'cublas.cu|found = blas->call.set_stream(handle, device->stream());|found = SUCCESS;|gpu'
    'forward.cu|if (!error) error = attn_attend_launch(|if (!error) error = cudaStreamSynchronize(stream); if (!error) error = attn_attend_launch(|gpu'
    'backward.cu|return attn_cuda_take(current.error ? |void *more; if (cudaMalloc(&more, 64)) return ATTN_ERROR_OUT_OF_MEMORY; cudaFree(more); return attn_cuda_take(current.error ? |gpu'
)

# compile SOURCE OBJECT
compile() {
    "${CXX:-c++}" -std=c++17 -O1 -fPIC -fno-exceptions -fno-rtti -fvisibility=hidden -ffp-contract=off -DATTN_LOW_LIMITS \
        -Itests/cuda_emulation -I. -Iinclude -MMD -x c++ -c "$1" -o "$2"
}

link() { "${CXX:-c++}" -shared "$@" "$build/tests/cuda_ptx/libcuda_ptx.a" -o emulated.so; }

# run CHECK: on the module in this folder.
run() {
    if [ "$1" = suite ]; then
        ATTN_TEST_EMULATED=$PWD/emulated.so timeout 300 "$build/tests/suite_cuda"
    elif [ "$1" = gpu ]; then
        LD_LIBRARY_PATH=$build/tests/cuda_driver/library timeout 300 "$build/tests/attention_gpu" "$PWD/emulated.so" --quick
    elif [[ $1 = cublas/* ]]; then
        ATTN_TEST_EMULATED=$PWD/emulated.so timeout 300 "$build/tests/suite_cublas"
    elif [[ $1 = */* ]]; then
        ATTN_TEST_ON=$PWD/emulated.so timeout 300 "$build/tests/suite_${1%%/*}" --filter "$1"
    else
        local stored=()
        case $1 in *:*) stored=(--storage "${1%%:*}") ;; esac
        timeout 300 "$build/tests/attention_cases" --cuda "$PWD/emulated.so" ${stored[@]+"${stored[@]}"} --case "${1##*:}"
    fi
}

# plant FILE CODE: compiles what the file is part of with that as its content, and takes everything else as it is.
plant() {
    local source name objects=()
    printf '%s\n' "$2" >"cuda/$1"
    for source in cuda/*.cu tests/cuda_emulation/*.cpp; do
        name=$(basename "$source").o
        if grep -qF "cuda/$1" "$scratch/objects/${name%.o}.d"; then
            compile "$source" "$name" || return 1
            objects+=("$name")
        else
            objects+=("$scratch/objects/$name")
        fi
    done
    link "${objects[@]}"
}

# try DEFECT: a line that begins with ok where it is found.
try() {
    local file old new check code planted reason=
    IFS='|' read -r -d '' file old new check <<<"$1" || true
    check=${check%$'\n'}
    code=$(<"cuda/$file")
    planted=${code/"$old"/"$new"}
    if [ "$planted" = "$code" ]; then
        reason="its place is not there"
    elif ! plant "$file" "$planted" >log 2>&1; then
        reason="does not compile"
    elif run "$check" >log 2>&1; then
        reason="$check did not notice"
    fi
    printf '%s\n' "$code" >"cuda/$file"
    if [ -z "$reason" ]; then echo ok; else echo "FAIL $file: $old: $reason"; fi
}

wanted() {
    local line=$1 word
    shift
    [ $# != 0 ] || return 0
    for word; do [[ $line != *"$word"* ]] || return 0; done
    return 1
}

# A check must pass without a defect.
try_sound() {
    if run "$1" >log 2>&1; then echo ok; else echo "FAIL $1: fails without a defect"; fi
}

# work N: its share of the checks and of the defects, in a folder with a copy of the sources.
work() {
    mkdir -p "$scratch/work-$1/tests"
    cd "$scratch/work-$1"
    cp -r "$scratch"/{include,lib,cuda} .
    cp -r "$scratch"/tests/cuda_{emulation,ptx} tests
    cp "$scratch/emulated.so" .
    local i
    for ((i = $1; i < ${#checks[@]}; i += jobs)); do try_sound "${checks[i]}"; done
    for ((i = $1; i < ${#chosen[@]}; i += jobs)); do try "${chosen[i]}"; done
}

chosen=()
for defect in "${defects[@]}"; do
    if wanted "$defect" "$@"; then chosen+=("$defect"); fi
done
mapfile -t checks < <(printf '%s\n' "${chosen[@]##*|}" | sort -u)
expected=$((${#chosen[@]} + ${#checks[@]}))
export -f compile
printf '%s\n' cuda/*.cu tests/cuda_emulation/*.cpp | xargs -P "$jobs" -I '{}' bash -c 'compile "$1" "objects/$(basename "$1").o"' _ '{}'
link objects/*.o
for ((n = 0; n < jobs; n++)); do work "$n" >"verdicts-$n" 2>&1 & done
wait
cat verdicts* | grep -v '^ok$' || true
# One without a verdict was not found.
passed=$(cat verdicts* | grep -c '^ok$' || true)
echo "$passed passed, $((expected - passed)) failed"
[ "$passed" = "$expected" ]

#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checks the benchmark program: check.sh FOLDER, the folder of a build that holds attention-bench and bench_check_report.
# Nothing here depends on how long anything took. Closes with 'N passed, M failed'.
set -euo pipefail
[ $# = 1 ] || { sed -n '3,4p' "$0" >&2; exit 2; }
build=$(cd "$1" && pwd)
bench=$build/attention-bench
data=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/data
. "$(dirname "${BASH_SOURCE[0]}")/../tests/checks.sh"

# ends STATUS TEXT ARGUMENT...: the program ends so and says so.
ends() { program_ends "$1" "$2" "$bench" "${@:3}"; }

# counts N REGEX FILE
counts() { [ "$(grep -cE -- "$2" "$3")" = "$1" ]; }

# A tensor's first four bytes in a safetensors file replaced by the float 1.
spoil() {
    local header at
    header=$(od -An -t u8 -N 8 "$2" | tr -d ' ')
    at=$(grep -aoE "\"$1\":\{[^}]*\"data_offsets\":\[[0-9]+" "$2" | grep -oE '[0-9]+$')
    printf '\x00\x00\x80\x3f' | dd of="$2" bs=1 seek=$((8 + header + at)) conv=notrunc status=none
}

# A copy of the data with one tensor changed must be told from what Keras computed.
differs() {
    cp "$data"/*.safetensors "$data"/*.txt "$folder"
    spoil "$1" "$folder/$2"
    ends 1 FAILED --reviews-only --data "$folder"
}

# The most frequent word of the vocabulary replaced by one that means something in HTML.
escapes() {
    cp "$data"/* "$folder"
    sed "1s/.*/${1//&/\\&}/" "$data/imdb_vocab.txt" >"$folder/imdb_vocab.txt"
    ends 0 passed --reviews-only --data "$folder" --html "$folder/page" && grep -qF -- "$2" "$folder/page" && ! grep -qF -- "$1" "$folder/page"
}

check "agreement with Keras" ends 0 "agreement          passed" --reviews-only --html "$folder/page" --json "$folder/json"
check "accuracy" grep -q "(219 of 256)" "$folder/output"
check "every review on the page" counts 256 '<article>' "$folder/page"
check "markup among the words" escapes "<b>\"&" '&lt;b&gt;&quot;&amp;'
check "Keras's probability changed" differs probability imdb_reviews.safetensors
check "Keras's attention weights changed" differs attention_weights imdb_reviews.safetensors
check "Keras's output changed" differs attention_output imdb_reviews.safetensors
check "a weight of the layer changed" differs attention/luong_w imdb_luong.safetensors
head -c 300000 "$data/imdb_reviews.safetensors" >"$folder/imdb_reviews.safetensors"
check "cut data" ends 2 imdb_reviews.safetensors --reviews-only --data "$folder"

check "unknown option" ends 2 unrecognized --nonsense
check "unknown workload" ends 2 nonsense nonsense
check "unknown implementation" ends 2 nonsense --impl cpu:nonsense
check "unknown score" ends 2 nonsense --score luong,nonsense
check "unknown direction" ends 2 nonsense --direction forward,nonsense
check "unknown instruction set" ends 2 nonsense --isa nonsense
check "no number" ends 2 "--batch 12x" --batch 12x
check "a file that can't be written" ends 2 "$folder/none/x" --json "$folder/none/x"
check "help" ends 0 "--score-width" --help
check "bench/run's help" tells_help "$data/../run" "$bench"
check "lost output" loses_output 2 "$bench" --list
check "list" ends 0 imdb_stream --list

check "a run" ends 0 "* cpu:" find_max --threads 2 --seconds 0.05 --json "$folder/json" --csv "$folder/csv"
check "one chosen of each score" counts 2 '"chosen": true' "$folder/json"
check "one chosen of each score, csv" counts 2 '^layer,forward,find_max,.*,1,passed,' "$folder/csv"
check "backward and both" ends 0 "to write its gradient" find_max --direction backward,both --threads 2 --seconds 0.05 --csv "$folder/csv"
check "one chosen of each score and direction" counts 4 '^layer,(backward|both),find_max,.*,1,passed,' "$folder/csv"
check "any shape" ends 0 "3 x 7 x 5 -> 0, 2 queries, cold, prepared weights, with attention weights" --batch 3 --timesteps 7 \
    --features 5 --units 0 --queries 2 --score all --dtype f64 --cold --prepared --attention-weights --impl all --seconds 0.05

"$build/bench_check_report" "$folder/json" "$folder/csv" >"$folder/output"
check "a time for what passed" counts 1 'passed .* 12\.5 µs' "$folder/output"
check "no time outside the gate" counts 1 'missed +FAILED: error 1\.5 of its gate: output\[0\]' "$folder/output"
check "no time outside the gate, json" counts 1 '"median_s"' "$folder/json"
check "no time outside the gate, csv" counts 1 'missed,0,failed,1.5,+$' "$folder/csv"
check "the reason of a refusal" counts 1 'refused +refused: a reason' "$folder/output"

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]

#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs the training examples for a few epochs: check.sh FOLDER, the folder of a build that holds them. Nothing here
# depends on how long anything took. Closes with 'N passed, M failed'.
set -euo pipefail
[ $# = 1 ] || { sed -n '3,4p' "$0" >&2; exit 2; }
build=$(cd "$1" && pwd)
. "$(dirname "${BASH_SOURCE[0]}")/../tests/checks.sh"
cd "$folder"

# ends STATUS TEXT PROGRAM ARGUMENT...: the program ends so and says so.
ends() { program_ends "$1" "$2" "$build/$3" "${@:4}"; }

# falls FACTOR FILE: the training loss of the last epoch is below FACTOR times that of the first.
falls() {
    awk -F, -v factor="$1" 'NR == 2 { first = $2 } { last = $2 } END { exit !(NR > 2 && last < factor * first) }' "$2" ||
        { cat "$2"; return 1; }
}

is_png() { [ "$(od -An -t x1 -N 8 "$1" | tr -d ' ')" = 89504e470d0a1a0a ]; }

for program in add_two_numbers find_max; do
    check "$program" ends 0 "epoch   3 of 3" "$program" --quick --threads 1 --out "$program-1"
    check "$program: the loss falls" falls 0.9 "$program-1/history.csv"
    check "$program: a picture for each epoch" is_png "$program-1/epoch_003.png"
    check "$program: and one of the learning" is_png "$program-1/learning.png"
    check "$program, two threads" ends 0 "epoch   3 of 3" "$program" --quick --threads 2 --out "$program-2"
    check "$program: the same bits" cmp "$program-1/history.csv" "$program-2/history.csv"
    check "$program, another seed" ends 0 "epoch   1 of 1" "$program" --quick --epochs 1 --seed 2 --out "$program-3"
    check "$program: other bits" bash -c '! cmp -s <(sed -n 2p "$1") <(sed -n 2p "$2")' _ "$program-1/history.csv" "$program-3/history.csv"
done

check "save_and_reload" ends 0 "bahdanau  29281 parameters" save_and_reload --out reload
check "the same bits after a reload" [ "$(grep -c 'the same bits' output)" = 2 ]
check "the loss fell" awk '{ for (i = 1; i < NF; i++) if ($i == "loss" && !($(i + 3) + 0 < $(i + 1) + 0)) exit 1 }' output

check "help" ends 0 "--threads" find_max --help
for program in find_max add_two_numbers save_and_reload; do
    check "$program: lost output" loses_output 2 "$build/$program" --help
done
check "unknown option" ends 2 unrecognized find_max --nonsense
check "no number" ends 2 "--epochs 0" find_max --epochs 0
check "a folder that can't be made" ends 2 "can't make the folder" find_max --out none/none

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]

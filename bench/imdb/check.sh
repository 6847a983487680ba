#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checks the IMDB experiment on a small data set of its own making: check.sh FOLDER, the folder of a build that holds
# attention-imdb. Nothing here depends on how long anything took. Closes with 'N passed, M failed'.
set -euo pipefail
[ $# = 1 ] || { sed -n '3,4p' "$0" >&2; exit 2; }
imdb=$(cd "$1" && pwd)/attention-imdb
sources=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$(dirname "${BASH_SOURCE[0]}")/../../tests/checks.sh"
unset ATTN_IMDB
cd "$folder"

# ends STATUS TEXT ARGUMENT...: the program ends so and says so.
ends() { program_ends "$1" "$2" "$imdb" "${@:3}"; }

# make_reviews ROOT COUNT: COUNT reviews in each folder, of words that tell nothing and some that tell the label.
make_reviews() {
    local split label
    for split in train test; do
        for label in neg pos; do
            mkdir -p "$1/$split/$label"
            awk -v count="$2" -v where="$1/$split/$label" -v label="$label" -v seed="$split$label" '
                function next_number() { return state = (state * 69069 + 12345) % 4294967296 }
                BEGIN {
                    state = length(seed) * 7919 + (label == "pos")
                    split(label == "pos" ? "good great fine superb lovely" : "bad awful poor dull boring", telling)
                    for (i = 0; i < count; i++) {
                        text = ""
                        words = 20 + int(next_number() / 65536) % 60
                        for (w = 0; w < words; w++) {
                            n = int(next_number() / 65536)
                            text = text (n % 4 ? "word" n % 300 : telling[1 + n % 5]) " "
                        }
                        file = where "/" i "_" (label == "pos" ? 9 : 2) ".txt"
                        print text >file
                        close(file)
                    }
                }'
        done
    done
}

# The tensors of a state file, without the header, which holds times.
tensors() {
    local header
    header=$(od -An -t u8 -N 8 "$1" | tr -d ' ')
    tail -c +$((9 + header)) "$1"
}

# The records of a run without its times.
figures() { sed 's/, "train_s".*//' "$1/results.jsonl"; }

# same_run FOLDER FOLDER RUN: two folders hold the same run, bit for bit.
same_run() { [ -s "$1/results.jsonl" ] && [ -s "$2/$3.safetensors" ] && cmp <(figures "$1") <(figures "$2") && cmp <(tensors "$1/$3.safetensors") <(tensors "$2/$3.safetensors"); }

# field NAME LINE FILE
field() { sed -n "$2s/.*\"$1\": \([^,}]*\).*/\1/p" "$3"; }

falls() {
    local lines first last
    lines=$(wc -l <"$1/results.jsonl")
    first=$(field train_loss 1 "$1/results.jsonl") last=$(field train_loss "$lines" "$1/results.jsonl")
    awk -v a="$first" -v b="$last" 'BEGIN { exit !(b < 0.8 * a) }' || { echo "loss $first to $last"; return 1; }
}

# Killed as soon as the first epoch is told of, then started again.
killed_and_resumed() {
    local line pid status=0
    mkfifo told
    "$imdb" "$@" --out killed >told 2>/dev/null </dev/null &
    pid=$!
    exec 3<told
    read -r line <&3
    kill -9 "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || status=$?
    exec 3<&-
    [ "$status" = 137 ] || { echo "status $status: not killed in time"; return 1; }
    "$imdb" "$@" --out killed >/dev/null 2>&1 </dev/null
}

is_png() { [ "$(od -An -t x1 -N 8 "$1" | tr -d ' ')" = 89504e470d0a1a0a ]; }

make_reviews small 64
make_reviews more 192
small=(--data small --per-folder 64 --faults 0)

check "help" ends 0 "--per-folder" --help
check "bench/imdb/run's help" tells_help "$sources/run" "$imdb"
check "lost output" loses_output 2 "$imdb" --help
check "no folder to report on" ends 2 "can't report on the folder missing: No such file or directory" --report --out missing
check "it was not made" test ! -e missing
mkdir bare
check "no run to report on" ends 2 "bare holds no epoch of the rows, runs and seeds named" --report --out bare
check "no empty table" rmdir bare
check "no data" ends 2 "https://ai.stanford.edu/~amaas/data/sentiment/"
check "data that is not there" ends 2 "https://ai.stanford.edu/~amaas/data/sentiment/" --data none
check "data that is no archive" ends 2 "can't be read as an archive" --data "$imdb"
check "unknown option" ends 2 unrecognized --nonsense
check "unknown row" ends 2 "with, without or ranges" --row nonsense
check "no number" ends 2 "--runs 0" --runs 0

tar -czf small.tar.gz small
tar -cJf small.tar.xz small
check "a folder" ends 0 "seed 1" "${small[@]}" --row without --epochs 1 --out folder
check "tar.gz" ends 0 "seed 1" "${small[@]}" --data small.tar.gz --row without --epochs 1 --out gz
check "tar.xz" ends 0 "seed 1" "${small[@]}" --data small.tar.xz --row without --epochs 1 --out xz
check "the same from a folder and from archives" same_run folder gz without-1
check "the same from every archive" same_run xz gz without-1
head -c 6000 small.tar.gz >cut.tar.gz
check "an archive cut short" ends 2 "cut.tar.gz can't be read as an archive: truncated" "${small[@]}" --data cut.tar.gz
tar -cf small.tar small
head -c 150000 small.tar >cut.tar
check "an archive cut short, within a review" ends 2 "cut.tar is damaged at or after small/" "${small[@]}" --data cut.tar

cp -r small damaged
printf 'a \xff b' >damaged/train/pos/3_9.txt
rm damaged/test/neg/17_2.txt
check "damaged reviews are refused" ends 2 "train/pos/3_9.txt: not UTF-8 at byte 2" "${small[@]}" --data damaged
check "missing reviews are named" grep -q "test/neg/17: missing" output
check "or left out" ends 0 "left out: train/pos/3_9.txt" "${small[@]}" --data damaged --faults 2 --row without --epochs 1 --out left

for row in with without ranges; do
    check "$row: trains" ends 0 "epoch 12 of 12" --data more --per-folder 192 --row "$row" --epochs 12 --out "learns-$row"
    check "$row: the loss falls" falls "learns-$row"
done

run=("${small[@]}" --row with --row ranges --epochs 3)
check "two rows" ends 0 "with attention, valid ranges" "${run[@]}" --out whole --threads 1
check "a kill" killed_and_resumed "${run[@]}"
check "the same after a kill" same_run whole killed with-1
check "the same after a kill, ranges" same_run whole killed ranges-1
check "the same with two threads" ends 0 "epoch  3 of 3" "${run[@]}" --out two --threads 2
check "the same bits with two threads" same_run whole two with-1
check "a finished run" ends 0 "with attention" "${run[@]}" --out two
check "is not trained again" bash -c '! grep -q seed output'
check "a run goes on to more epochs" ends 0 "epoch  4 of 4" "${run[@]}" --epochs 4 --out two
check "not with other reviews" ends 2 "imdb_reviews was" --data more --per-folder 192 --row with --out two
check "in pieces" ends 0 "epoch  2 of 3" "${run[@]}" --stop-after 2 --out pieces
check "in pieces, the next" ends 0 "ranges   seed 1  epoch  1 of 3" "${run[@]}" --stop-after 2 --out pieces
check "no more than the pieces" [ "$(wc -l <pieces/results.jsonl)" = 4 ]
check "the same in pieces" cmp <(tensors whole/with-1.safetensors) <(tensors pieces/with-1.safetensors)
check "another seed" ends 0 "seed 2" "${run[@]}" --seed 2 --row with --epochs 1 --out seed
check "is another run" bash -c '! cmp -s <(sed 1q "$1/results.jsonl" | sed "s/.*train_loss//; s/, .*//") <(sed 1q "$2/results.jsonl" | sed "s/.*train_loss//; s/, .*//")' _ whole seed
check "a report alone" ends 0 "with attention" --report --row with --row ranges --epochs 3 --out killed
check "a report of ten epochs" ends 0 Keras --report --out folder
check "Keras's figures" grep -Eq 'Keras +2 +88\.17 +88\.09 +0\.07' folder/table.txt
check "Keras's figures, without" grep -Eq 'Keras +2 +87\.86 +87\.62 +0\.24' folder/table.txt
check "curves" is_png killed/curves.png
check "words" grep -q "of the attention on padding" killed/attended.txt
head -c 5000 two/with-1.safetensors >cut.safetensors
mv cut.safetensors two/with-1.safetensors
check "a damaged state is named" ends 2 "two/with-1.safetensors" "${run[@]}" --out two

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]

#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Counts the instructions that NVIDIA's compiler made of each kernel, and compares them with tests/cuda_counts.txt: a vector load that fell
# apart, a barrier or a product more or less, a loop unrolled no longer show there, and nothing may be loaded from local memory.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: tests/cuda_counts.sh [--write] MODULE | --tools

MODULE is what tests/cuda_compile.sh --module left, for some or all architectures. Ends with 'N passed, N failed'.
--write makes the table anew, of a module for all of them: least and most over the architectures. --tools only sees whether it could
count. Exit status 3, with a line that says why, where the table is another compiler's, or no disassembler can be had: cuobjdump and
nvdisasm come from the machine, else from Python packages, installed into build/cuobjdump.
TEXT
}

[ "${1:-}" = --help ] && { usage; exit 0; }
write=0
if [ "${1:-}" = --write ]; then write=1; shift; fi
[ $# = 1 ] || { usage >&2; exit 2; }
module=$(realpath -- "$1")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
table=tests/cuda_counts.txt
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

skip() { echo "skipped: $*"; exit 3; }

# Both programs in the search path: the first starts the second.
find_tools() {
    local packaged
    packaged=$(find build/cuobjdump -name cuobjdump -type f 2>/dev/null | head -n 1 || true)
    for PATH in "$PATH" "$PATH:/usr/local/cuda/bin" "$PATH${packaged:+:$(dirname "$(realpath "$packaged")")}"; do
        if command -v cuobjdump >/dev/null && command -v nvdisasm >/dev/null; then return 0; fi
    done
    return 1
}

install_tools() {
    python3 -m venv build/cuobjdump && build/cuobjdump/bin/pip install -q 'nvidia-cuda-cuobjdump==13.*' 'nvidia-cuda-nvdisasm==13.*'
}

nvcc=$(tests/cuda_compile.sh --compiler) || skip "${nvcc#skipped: }"
version=$("$nvcc" --version | grep -oE 'V[0-9.]+')
known=$(grep -oE '^# nvcc V[0-9.]+' "$table" 2>/dev/null | grep -oE 'V.*' || true)
[ "$write" = 1 ] || [ "$version" = "$known" ] || skip "the table was counted with nvcc $known, this is $version"
find_tools || { install_tools >&2 && find_tools; } || skip "no cuobjdump, nor can Python's packages bring one"
[ "$1" != --tools ] || exit 0

# Lines 'architecture|kernel|instruction|count' of the instructions that are counted, those that do not occur left out.
counted='LDG.128 STG.128 LDS.128 LDG STG LDGSTS LDS STS LDL STL FFMA MMA EX2 SHFL BAR'
count() {
    cuobjdump -sass "$1" | awk -v counted="$counted" '
        BEGIN { split(counted, names, " "); for (i in names) is_counted[names[i]] = 1 }
        /^\t*code for sm_/ { architecture = $3 }
        /Function : / { kernel = $3 }
        /^ *\/\*[0-9a-f]+\*\// {
            operation = $2 ~ /^@/ ? $3 : $2
            sub(/;$/, "", operation)
            split(operation, words, ".")
            name = words[1]
            if (name ~ /^(LDG|STG|LDS)$/ && operation ~ /\.128/) name = name ".128"
            if (name ~ /MMA$/ && operation !~ /^HFMA2/) name = "MMA"
            if (operation ~ /^MUFU\.EX2/) name = "EX2"
            seen[architecture "|" kernel] = 1
            if (name in is_counted) total[architecture "|" kernel "|" name]++
        }
        END { for (k in seen) print k "||0"; for (k in total) print k "|" total[k] }' |
        c++filt | sed -E 's/\(anonymous namespace\):://g; s/\|void /|/' | sort
}
count "$module" >"$scratch/counts"

if [ "$write" = 1 ]; then
    {
        echo "# SPDX-License-Identifier: Apache-2.0"
        echo "# Instructions of each kernel, the least and the most over all architectures; made by tests/cuda_counts.sh --write."
        echo "# nvcc $version"
        awk -F'|' -v counted="$counted" '
            BEGIN { n = split(counted, names, " ") }
            !($2 in architectures) { kernels[++many] = $2 }
            $3 == "" { architectures[$2]++; next }
            { key = $2 "|" $3; here[key]++
              if (!(key in least) || $4 < least[key]) least[key] = $4
              if ($4 > most[key]) most[key] = $4 }
            END { for (k = 1; k <= many; k++) {
                    line = kernels[k] ":"
                    for (i = 1; i <= n; i++) {
                        key = kernels[k] "|" names[i]
                        if (key in most) line = line " " names[i] "=" (here[key] < architectures[kernels[k]] ? 0 : least[key]) ".." most[key]
                    }
                    print line } }' "$scratch/counts" | sort -u
    } >"$scratch/table"
    mv "$scratch/table" "$table"
fi

# A verdict for each kernel and architecture; what the table does not have is not to be there.
awk -F'|' -v counted="$counted" '
    FNR == NR { if (/^#/) next
                split($0, halves, /: */); kernel = halves[1]; rows[kernel] = 1
                many = split(halves[2], words, " ")
                for (i = 1; i <= many; i++) { split(words[i], sides, /=|\.\./); least[kernel "|" sides[1]] = sides[2]; most[kernel "|" sides[1]] = sides[3] }
                next }
    $3 == "" { pairs[$1 "|" $2] = 1; met[$2] = 1; next }
    { found[$1 "|" $2 "|" $3] = $4 }
    function fail(text) { failed++; print "FAIL  " text }
    END { n = split(counted, names, " ")
          for (pair in pairs) {
              split(pair, part, "|"); bad = 0
              if (!(part[2] in rows)) { fail(part[2] " is not in the table"); continue }
              for (i = 1; i <= n; i++) {
                  here = found[pair "|" names[i]] + 0; key = part[2] "|" names[i];
                  if (here < least[key] + 0 || here > most[key] + 0 || (names[i] ~ /^(LDL|STL)$/ && here > 0)) {
                      bad = 1; print part[1] " " part[2] ": " names[i] " " here ", want " least[key] + 0 " to " most[key] + 0 } }
              if (bad) fail(part[1] " " part[2]); else passed++ }
          for (kernel in rows) if (!(kernel in met)) fail(kernel " is in the table alone")
          print passed + 0 " passed, " failed + 0 " failed"
          exit failed > 0 || !passed }' "$table" "$scratch/counts"

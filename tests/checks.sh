# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# For scripts that check programs, which source it: a scratch folder, the count of checks, and how to check.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
passed=0 failed=0

# check NAME COMMAND...
check() {
    local name=$1
    shift
    if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)) && echo "failed: $name"; fi
}

# program_ends STATUS TEXT PROGRAM ARGUMENT...: the program ends so and says so; what it says stays in $folder/output.
program_ends() {
    local wanted=$1 words=$2 status=0
    shift 2
    "$@" >"$folder/output" 2>&1 </dev/null || status=$?
    if [ "$status" = "$wanted" ] && grep -qF -- "$words" "$folder/output"; then return 0; fi
    echo "status $status:"
    cat "$folder/output"
    return 1
}

# loses_output STATUS PROGRAM ARGUMENT...: on a full device, and where standard output is closed, the program says so and ends
# so. It must have something to print.
loses_output() {
    local wanted=$1 status=0
    shift
    "$@" >/dev/full 2>"$folder/output" </dev/null || status=$?
    [ "$status" = "$wanted" ] && grep -qF "standard output: No space left on device" "$folder/output" || return 1
    status=0
    "$@" >&- 2>"$folder/output" <&- || status=$?
    [ "$status" = "$wanted" ] && grep -qF "standard output: Bad file descriptor" "$folder/output"
}

# tells_help SCRIPT PROGRAM: the script's help is the program's, and takes no compiler or installer to be told.
tells_help() {
    local tool
    mkdir -p "$folder/few"
    for tool in bash awk dirname; do ln -sf "$(command -v "$tool")" "$folder/few/$tool"; done
    diff <(PATH=$folder/few bash "$1" --help 2>&1) <("$2" --help)
}

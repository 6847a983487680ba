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

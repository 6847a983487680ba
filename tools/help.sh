# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Sourced by scripts that build a program before they run it: print_help SOURCE HEADER... prints the program's help as it
# stands in its source, the string `help`, so that nothing is built or installed to be told the options. A macro within it
# is looked up in the headers.

print_help() {
    awk '
        FNR == 1 { file++ }
        file < ARGC - 1 { # a header
            if ($1 == "#define" && match($0, /"[^"]*"/)) value[$2] = substr($0, RSTART + 1, RLENGTH - 2)
            next
        }
        /^static const char help\[\] =/ { inside = 1; next }
        !inside { next }
        {
            for (i = 1; i <= length($0); i++) {
                c = substr($0, i, 1)
                if (c == "\"") {
                    quoted = !quoted
                } else if (!quoted && c == ";") {
                    exit
                } else if (!quoted) {
                    word = ""
                    while (substr($0, i, 1) ~ /[A-Za-z0-9_]/) word = word substr($0, i++, 1)
                    if (word != "") { printf "%s", value[word]; i-- }
                } else if (c == "\\") {
                    c = substr($0, ++i, 1)
                    printf "%s", c == "n" ? "\n" : c
                } else
                    printf "%s", c
            }
        }' "${@:2}" "$1"
}

# asks_for_help ARGUMENT...: one of them is --help.
asks_for_help() {
    local argument
    for argument; do
        if [ "$argument" = --help ]; then return 0; fi
    done
    return 1
}

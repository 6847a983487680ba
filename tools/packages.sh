# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Sourced by the scripts that install what they need. Such a script defines
#     say WORDS            tells the user
#     missing_packages     prints the Debian packages of what is missing, nothing when all is there
# and calls install_packages: it asks nothing, and ends the script with a clear list where it can't install.

install_packages() {
    local packages before='' as_root=()
    # A package may show that another is missing.
    while :; do
        packages=$(missing_packages | tr '\n' ' ')
        [ -n "$packages" ] || return 0
        [ "$packages" != "$before" ] || { say "still missing: $packages"; exit 2; }
        before=$packages
        if ! command -v apt-get >/dev/null; then
            say "please install what these Debian packages hold: $packages"
            exit 2
        fi
        if [ "$(id -u)" != 0 ]; then
            command -v sudo >/dev/null || { say "please install, as root: apt-get install $packages"; exit 2; }
            as_root=(sudo)
        fi
        say "installing $packages"
        ${as_root[@]+"${as_root[@]}"} apt-get update -qq
        # shellcheck disable=SC2086 # the packages are words
        ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
    done
}

# SPDX-License-Identifier: Apache-2.0
# Toolchain file: a build for 64-bit ARM on another machine, whose programs run under qemu-user.
# On Debian: dpkg --add-architecture arm64, then gcc-aarch64-linux-gnu qemu-user libjansson-dev:arm64.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)

# SPDX-License-Identifier: Apache-2.0
# Toolchain file: a build for 64-bit ARM on another machine, whose programs run under qemu-user.
# On Debian: dpkg --add-architecture arm64, then gcc-aarch64-linux-gnu qemu-user libjansson-dev:arm64.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
# Static programs: with the dynamic C library of Debian 12's cross packages, qemu-user 7.2 loops for ever in the first pthread_create.
set(CMAKE_EXE_LINKER_FLAGS_INIT -static)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64)
set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)

#!/bin/sh
# No source that is compiled for one instruction set may share a function with another: the linker
# keeps one copy of each shared function, and it could be one that older processors cannot run.
# What nm says is kept before it is searched: a pipe would hide that nm failed.
set -e
for object in "$@"; do
    case "$object" in
    *avx*)
        symbols=$(nm -C "$object")
        if printf '%s\n' "$symbols" | grep -E ' [WVu] '; then exit 1; fi
        ;;
    esac
done

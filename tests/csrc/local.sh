#!/bin/sh
# No source that is compiled for one instruction set may share a function with another: the linker
# keeps one copy of each shared function, and it could be one that older processors cannot run.
for object in "$@"; do
    case "$object" in
    *avx*) if nm -C "$object" | grep -E ' [WVu] '; then exit 1; fi ;;
    esac
done

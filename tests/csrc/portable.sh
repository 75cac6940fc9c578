#!/bin/sh
# What runs before an instruction set is chosen, and the plain set itself, runs on every processor of
# the platform: no AVX in any object that is not named after it.
# What objdump says is kept before it is searched: a pipe would hide that objdump failed.
set -e
for object in "$@"; do
    case "$object" in
    *avx*) ;;
    *)
        code=$(objdump -d --no-show-raw-insn "$object")
        if printf '%s\n' "$code" | grep -E '[[:space:]]v[a-z0-9]+[[:space:]]+.*%[xyz]mm'; then
            echo "$object needs AVX"
            exit 1
        fi
        ;;
    esac
done

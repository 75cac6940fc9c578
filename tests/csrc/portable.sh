#!/bin/sh
# What runs before an instruction set is chosen, and the plain set itself, runs on every processor of
# the platform: no AVX in any object that is not named after it.
for object in "$@"; do
    case "$object" in
    *avx*) ;;
    *)
        if objdump -d --no-show-raw-insn "$object" | grep -E '[[:space:]]v[a-z0-9]+[[:space:]]+.*%[xyz]mm'; then
            echo "$object needs AVX"
            exit 1
        fi
        ;;
    esac
done

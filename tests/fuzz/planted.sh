#!/bin/sh
# Puts each bug of planted/ back, one at a time and in a copy, and says how long its target (the first word of
# the patch's name) takes to find it. Arguments: names of patches; none: all of them.
# MOST: seconds after which it counts as not found. CARGO_FUZZ: how cargo-fuzz is called.
set -eu
cd "$(dirname "$0")/../.."
repository=$PWD
most=${MOST:-600}
fuzz=${CARGO_FUZZ:-cargo fuzz}
# Not where the sources' own targets are: they would be replaced by those with a bug.
export CARGO_TARGET_DIR="$repository/target/fuzz-planted"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/copy"
lost=0
[ $# -gt 0 ] || set -- $(cd tests/fuzz/planted && ls -- *.patch | sed 's/\.patch$//')
for bug in "$@"; do
    rm -rf "$scratch/copy" && mkdir "$scratch/copy"
    git ls-files -z | xargs -0 cp --parents -t "$scratch/copy"
    (cd "$scratch/copy" && patch -s -p1) < "tests/fuzz/planted/$bug.patch"
    target=${bug%%-*}
    (
        cd "$scratch/copy/tests/fuzz"
        $fuzz build --fuzz-dir . --sanitizer none "$target" > "$scratch/log" 2>&1 ||
            { tail -n 20 "$scratch/log" >&2; exit 1; }
        mkdir -p corpus found
        rm -f found/*
        began=$(date +%s)
        if $fuzz run --fuzz-dir . --sanitizer none "$target" corpus "seeds/$target" -- \
            -dict=http1.dict -max_len=2048 -max_total_time="$most" -artifact_prefix=found/ \
            > "$scratch/log" 2>&1
        then
            echo "$bug: NOT FOUND in $most s"
            exit 2
        fi
        took=$(($(date +%s) - began))
        # The same input must be harmless without the bug, or something else was found.
        if ! (cd "$repository/tests/fuzz" && CARGO_TARGET_DIR="$repository/target/fuzz" \
            $fuzz run --fuzz-dir . --sanitizer none "$target" "$scratch/copy/tests/fuzz/found/"* \
            > "$scratch/control" 2>&1)
        then
            echo "$bug: something fails WITHOUT the bug too:"
            tail -n 20 "$scratch/control"
            exit 3
        fi
        tried=$(sed -n 's/^#\([0-9]*\).*/\1/p' "$scratch/log" | tail -n 1)
        why=$(grep -a -A1 'panicked at' "$scratch/log" | tail -n 1)
        echo "$bug: found after $took s, ${tried:-0} executions: $why"
    ) || lost=$?
done
exit "$lost"

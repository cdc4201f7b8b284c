#!/bin/bash
# usage: fuzz.sh SECONDS [TARGET]
# Looks for bytes that break a promise of broker/src/fuzzing.rs: one target, or each in turn, on one core.
# What is found lies in fuzz/artifacts; copied to fuzz/corpus/TARGET it is a test.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=$1 chosen=${2:-}

for command in "cargo +nightly --version" "cargo fuzz --version"; do
    if ! $command >/dev/null 2>&1; then
        echo "fuzzing needs a nightly compiler and cargo-fuzz: rustup toolchain install nightly && cargo install cargo-fuzz" >&2
        exit 1
    fi
done
targets=$(cd fuzz/fuzz_targets && printf '%s\n' *.rs | sed 's/\.rs$//')
if [ -n "$chosen" ] && ! grep -qx "$chosen" <<<"$targets"; then
    echo "there is no target $chosen; there is" $targets >&2
    exit 1
fi

# The versions that the broker is built with.
cp Cargo.lock fuzz/Cargo.lock
failed=()
for target in ${chosen:-$targets}; do
    echo "== $target"
    # New inputs go to a folder of their own: the committed ones stay few, each with a name.
    mkdir -p "fuzz/found/$target"
    cargo +nightly fuzz run "$target" "fuzz/found/$target" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -max_len=16384 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 ||
        failed+=("$target")
done
[ ${#failed[@]} = 0 ] || { echo "broken: ${failed[*]}; see fuzz/artifacts" >&2; exit 1; }

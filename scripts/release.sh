#!/bin/bash
# Builds the programs as they are installed, the shim for size and the rest for
# speed, and puts them beside each other in target/bin, where they find each other.
set -euo pipefail
cd "$(dirname "$0")/.."
quiet=$([ -t 2 ] || echo --quiet)
echo "building the release programs (the first time takes a few minutes)"
cargo build --locked $quiet --release -p natssh-broker -p natssh-lab
# Linking a shim at its start takes a third of its time. It looks up no host and no user, which is
# all that a static glibc is bad at; where there is no static libc, it does without.
static=()
if [ "$(uname -s)" = Linux ] && [ -f "$(cc -print-file-name=libc.a)" ]; then
  static=(-C target-feature=+crt-static)
fi
cargo rustc --locked $quiet --profile shim -p natssh -- ${static[@]+"${static[@]}"}
target=${CARGO_TARGET_DIR:-target}
mkdir -p target/bin
ln -f "$target/release/natssh-broker" "$target/release/natssh-lab" "$target/shim/natssh" target/bin/
